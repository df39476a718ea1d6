"""What the files of a rulebook must mean together, beyond the form of each.

Every refusal names the file and line of the row that has to change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple

from consent.calendar_days import compile_calendar, names_one_day
from consent.instants import parse_date
from consent.reasons import ENGINE_REASONS, Reason, ReasonCatalogue
from consent.rule import Rule, compile_rule
from consent.rule_context import EVERYWHERE, ParameterError, Place, RuleContext
from consent.rule_kinds import default_reasons
from consent.rule_source import Path, RulebookError, RuleFile
from consent.zones import zone_names

_NAMED_SECTIONS: Final = ("rulebook", "sources", "groups", "zones", "aliases", "calendars")
_LISTED_SECTIONS: Final = ("registries", "reasons", "obligations", "rules")


class Placed(NamedTuple):
    """An entry of a list, and where it stands."""

    entry: dict[str, Any]
    file: RuleFile
    path: Path

    def error(self, inside: Path, message: str, remedy: str) -> RulebookError:
        """An error at a value inside the entry."""
        return self.file.error((*self.path, *inside), message, remedy)


@dataclass(slots=True)
class MergedFiles:
    """The sections of all files as one."""

    version: str = ""
    title: str = ""
    sources: dict[str, str] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    zones: dict[str, list[str]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    calendars: dict[str, dict[str, Any]] = field(default_factory=dict)
    registries: list[Placed] = field(default_factory=list)
    reasons: list[Placed] = field(default_factory=list)
    obligations: list[Placed] = field(default_factory=list)
    rules: list[Placed] = field(default_factory=list)

    def content(self) -> dict[str, Any]:
        """The data of all files, rows in the order of their names; also one file's content."""
        rows = sorted(self.rules, key=lambda row: (row.entry["id"], row.entry["rev"]))
        sections = {
            "rulebook": {"version": self.version, "title": self.title},
            "sources": self.sources,
            "groups": self.groups,
            "zones": self.zones,
            "aliases": self.aliases,
            "calendars": self.calendars,
            "registries": sorted(
                (placed.entry for placed in self.registries), key=lambda entry: str(entry["id"])
            ),
            "reasons": [placed.entry for placed in self.reasons],
            "obligations": [placed.entry for placed in self.obligations],
            "rules": [placed.entry for placed in rows],
        }
        return {name: section for name, section in sections.items() if section}


def merge_files(files: Iterable[RuleFile]) -> MergedFiles:
    """All files as one; RulebookError if two say the same thing, or none names a version."""
    merged = MergedFiles()
    named: dict[Path, RuleFile] = {}
    for file in files:
        for section in _NAMED_SECTIONS:
            for key, value in file.data.get(section, {}).items():
                if (section, key) in named:
                    other = named[section, key].name
                    message = f"{section}.{key} is also in {other}"
                    raise file.error((section, key), message, "Keep one of them.")
                named[section, key] = file
                if section == "rulebook":
                    setattr(merged, key, value)
                else:
                    getattr(merged, section)[key] = value
        for section in _LISTED_SECTIONS:
            for index, entry in enumerate(file.data.get(section, ())):
                getattr(merged, section).append(Placed(entry, file, (section, index)))
    if not merged.version:
        remedy = "Add `rulebook: {version: ..., title: ...}` to one of the files."
        raise RulebookError("rulebook", 1, "no file names the rulebook's version", remedy)
    _check_places(merged, named)
    _check_calendars(merged, named)
    _check_registries(merged)
    return merged


def reason_catalogue(merged: MergedFiles) -> ReasonCatalogue:
    """Reasons and obligations in the order of the file; RulebookError for a code twice."""
    catalogue: dict[str, dict[str, Reason]] = {"reasons": {}, "obligations": {}}
    for section, placed_entries in (
        ("reasons", merged.reasons),
        ("obligations", merged.obligations),
    ):
        for rank, placed in enumerate(placed_entries):
            code = placed.entry["code"]
            if code in catalogue["reasons"] or code in catalogue["obligations"]:
                raise placed.error(("code",), f"code {code!r} is there twice", "Keep one of them.")
            group = placed.entry.get("group", "obligation")
            catalogue[section][code] = Reason(code, rank, group, placed.entry["text"])
    for code in ENGINE_REASONS:
        if code not in catalogue["reasons"]:
            message = f"reason {code!r}, which the engine gives, is not described"
            raise RulebookError("reasons", 1, message, "Add it to `reasons`.")
    return ReasonCatalogue(catalogue["reasons"], catalogue["obligations"])


def compile_rules(merged: MergedFiles, reasons: ReasonCatalogue) -> tuple[Rule, ...]:
    """Every row compiled, in the order of the names; RulebookError for the first that is wrong."""
    compiled: dict[str, tuple[Rule, Placed]] = {}
    calendars = {name: compile_calendar(entry) for name, entry in merged.calendars.items()}
    registries = frozenset(placed.entry["id"] for placed in merged.registries)
    for placed in merged.rules:
        context = RuleContext(_place(placed, merged), calendars, registries)
        rule = _compile(placed, merged, context)
        if rule.name in compiled:
            other = compiled[rule.name][1]
            message = f"{rule.name} is also in {other.file.name}"
            raise placed.error(("rev",), message, "Give each revision its own number.")
        _check_codes(placed, reasons)
        _check_sources(placed, merged)
        _check_dates(rule, placed)
        compiled[rule.name] = (rule, placed)
    _check_overlaps(compiled.values())
    return tuple(
        sorted((rule for rule, _ in compiled.values()), key=lambda rule: (rule.id, rule.rev))
    )


def _place(placed: Placed, merged: MergedFiles) -> Place:
    jurisdiction = placed.entry["jurisdiction"]
    country, subdivision = jurisdiction["country"], jurisdiction["subdivision"]
    if subdivision and (country == EVERYWHERE or country in merged.groups):
        message = f"{country} has no subdivisions"
        raise placed.error(("jurisdiction",), message, "Name one country, or leave it null.")
    if country == EVERYWHERE:
        return Place(None, None)
    return Place(frozenset(merged.groups.get(country, (country,))), subdivision)


def _compile(placed: Placed, merged: MergedFiles, context: RuleContext) -> Rule:
    country = placed.entry["jurisdiction"]["country"]
    if context.place.subdivision:
        narrowness = 3
    elif country == EVERYWHERE:
        narrowness = 0
    else:
        narrowness = 1 if country in merged.groups else 2
    _check_days(placed)
    try:
        return compile_rule(placed.entry, narrowness, context)
    except ParameterError as problem:
        raise placed.error(problem.path, problem.message, problem.remedy) from None


def _check_days(placed: Placed) -> None:
    for section in ("effective", "known"):
        for end in ("from", "to"):
            text = placed.entry[section][end]
            try:
                _ = text is None or parse_date(text)
            except ValueError:
                message = f"{text!r} is no date"
                raise placed.error((section, end), message, "Write it like 2026-11-22.") from None


def _check_codes(placed: Placed, reasons: ReasonCatalogue) -> None:
    on_fail, params = placed.entry["on_fail"], placed.entry["check"]["params"]
    if on_fail["effect"] == "oblige":
        if on_fail["reason"] not in reasons.obligations:
            message = f"{on_fail['reason']!r} is no obligation"
            raise placed.error(("on_fail", "reason"), message, "Add it to `obligations`.")
    elif not reasons.denies(on_fail["reason"]):
        message = f"{on_fail['reason']!r} is no reason to deny a call"
        raise placed.error(("on_fail", "reason"), message, "Add it to `reasons`, with a group.")
    for name in params:
        if name.endswith("_reason") and not reasons.denies(params[name]):
            message = f"{params[name]!r} is no reason to deny a call"
            raise placed.error(("check", "params", name), message, "Add it to `reasons`.")
    for name in default_reasons(placed.entry["check"]):
        if not reasons.denies(name):
            message = f"the check gives {name!r}, which is no reason to deny a call"
            raise placed.error(("check",), message, "Add it to `reasons`.")


def _check_sources(placed: Placed, merged: MergedFiles) -> None:
    for index, source in enumerate(placed.entry["source"]):
        if source not in merged.sources:
            message = f"source {source!r} is not described"
            raise placed.error(("source", index), message, "Add it to `sources`.")


def _check_dates(rule: Rule, placed: Placed) -> None:
    begins, ends = rule.effective_from, rule.effective_to
    if rule.decides and begins is None:
        message = f"{rule.name} is in force but has no date"
        raise placed.error(("effective",), message, "Give `from`, or make it pending.")
    if begins is not None and ends is not None and ends < begins:
        message = f"{rule.name} ends before it begins"
        raise placed.error(("effective",), message, "Both dates are inclusive.")


def _check_overlaps(compiled: Iterable[tuple[Rule, Placed]]) -> None:
    """Deciding revisions of one id must follow each other; those in shadow may overlap."""
    deciding = sorted(
        ((rule, placed) for rule, placed in compiled if rule.decides),
        key=lambda pair: (pair[0].id, pair[0].effective_from or 0),
    )
    for (earlier, _), (later, placed) in pairwise(deciding):
        if earlier.id == later.id and (
            earlier.effective_to is None or earlier.effective_to >= (later.effective_from or 0)
        ):
            message = f"{later.name} and {earlier.name} are in force on the same days"
            remedy = "End the earlier revision the day before the later one begins."
            raise placed.error(("effective",), message, remedy)


def _check_places(merged: MergedFiles, named: dict[Path, RuleFile]) -> None:
    for place, zones in merged.zones.items():
        for index, zone in enumerate(zones):
            if zone not in zone_names():
                message = f"{zone!r} is no IANA zone"
                raise named["zones", place].error(("zones", place, index), message, "Correct it.")


def _check_calendars(merged: MergedFiles, named: dict[Path, RuleFile]) -> None:
    for name, entry in merged.calendars.items():
        for index, day in enumerate(entry["days"]):
            path, file = ("calendars", name, "days", index), named["calendars", name]
            if not names_one_day(day):
                message = f"when {day['name']!r} is, is not said in exactly one way"
                remedy = (
                    "Give `on`; `nth`, `weekday` and `month`; `last` and `month`; `easter`; "
                    "or `after` and `days`."
                )
                raise file.error(path, message, remedy)
            first, last = day.get("years", (None, None))
            if first is not None and last is not None and last < first:
                message = f"{day['name']!r} ends before it begins"
                raise file.error((*path, "years"), message, "Both years are inclusive.")


def _check_registries(merged: MergedFiles) -> None:
    met: dict[str, Placed] = {}
    for placed in merged.registries:
        list_id = placed.entry["id"]
        if list_id in met:
            message = f"registry {list_id!r} is also in {met[list_id].file.name}"
            raise placed.error(("id",), message, "Keep one of them.")
        met[list_id] = placed
