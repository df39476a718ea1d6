"""Worked cases of the law, for pytest and for the mutation run: one file format, one reader.

`tests/unit/rules/cases/*.yaml` are scenario files with some conveniences, which are written out
here into plain scenarios before anything is decided:

- `defaults: {request, facts, grant, relationship, attempt}` at the top of a file: under every
  scenario of it, and under every grant, relationship and attempt;
- `variants: {label: {request, facts, expect}}`: the same case with something else, each with what
  follows: `allow`, its primary reason, or an `expect` in full;
- `profiles: [strict, statutory]`: the same in each of these profiles;
- `instants: {"2026-11-24T01:00:00Z": allow, "2026-11-24T01:30:00Z": QUIET_HOURS}`: the same call
  at several instants, each with `allow` or its primary reason;
- `hours: {week_of, zone, open, closed, reason}`: hours as a law states them. Of every weekday the
  second before and at each start, and before and at each end, is decided; of a closed day, noon;
- `expect: {trace: {RULE-ID: outcome}}`: what single rows say, also those in shadow. An outcome may
  name the reason or the exemption after a colon, `absent` is a row that is not in the trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from consent.decision import Decision, decide
from consent.rulebook import Rulebook
from consent.scenario import Scenario, scenarios_of
from consent.scenario_results import _differences, arguments
from consent.yaml_source import SourceError, read_source

ROOT: Final = Path(__file__).parents[1]
CASES: Final = ROOT / "tests" / "unit" / "rules" / "cases"
EXAMPLES: Final = ROOT / "examples" / "scenarios"
_PARTS: Final = ("request", "facts")
_ITEMS: Final = {"grants": "grant", "relationships": "relationship", "attempts": "attempt"}
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One decision that must follow. `source` is the file and line that states it."""

    id: str
    source: str
    scenario: Scenario
    trace: Mapping[str, str] = field(default_factory=dict)

    def differences(self, rulebook: Rulebook) -> list[str]:
        """In words, what this rulebook decides otherwise; empty if all is as stated."""
        return self.compared(decide(*arguments(self.scenario, rulebook)))

    def compared(self, decision: Decision) -> list[str]:
        """In words, what a decision of this case says otherwise than stated."""
        expected = self.scenario.expectation
        stated = () if expected is None else _differences(expected, decision)
        return [*stated, *_trace_differences(self.trace, decision)]


@cache
def worked_cases() -> tuple[Case, ...]:
    """Every case of the tests and of the examples, in the order of file names."""
    folders = (CASES, EXAMPLES)
    paths = [path for folder in folders for path in sorted(folder.glob("*.yaml"))]
    return tuple(case for path in paths for case in cases_of(path))


def cases_of(path: Path) -> list[Case]:
    """The cases of one file, written out; SourceError or ValueError for what is none."""
    file = read_source(path.name, path.read_text(), SourceError, "Begin with `scenarios:`.")
    defaults = file.data.get("defaults", {})
    written: list[tuple[str, Data, Mapping[str, str]]] = []
    for index, entry in enumerate(file.data["scenarios"]):
        source = f"{path.relative_to(ROOT)}:{file.line_of(('scenarios', index))}"
        for scenario in _written_out(_under(defaults, entry), defaults):
            expect = dict(scenario.get("expect", {}))
            trace = expect.pop("trace", {})
            written.append((source, scenario | {"expect": expect}, trace))
    scenarios = scenarios_of({"scenarios": [scenario for _, scenario, _ in written]}, path.name)
    return [
        Case(f"{path.stem}/{scenario.id}", source, scenario, trace)
        for scenario, (source, _, trace) in zip(scenarios, written, strict=True)
    ]


def _under(defaults: Data, entry: Data) -> Data:
    """An entry over its file's defaults: of request and facts, key by key."""
    return {**entry, **{part: _merged(defaults.get(part), entry.get(part)) for part in _PARTS}}


def _merged(under: Data | None, over: Data | None) -> Data:
    """Key by key, the upper one; a key that is null there is left out."""
    merged = {**(under or {}), **(over or {})}
    return {key: value for key, value in merged.items() if value is not None}


def _written_out(entry: Data, defaults: Data) -> Iterator[Data]:
    """Plain scenarios: every variant, in every profile, at every instant."""
    variants, profiles = entry.pop("variants", {"": {}}), entry.pop("profiles", (None,))
    for label, variant in variants.items():
        parts = {part: _merged(entry[part], variant.get(part)) for part in _PARTS}
        expect = {**entry.get("expect", {}), **_expected(variant.get("expect", {}))}
        named = {**entry, **parts, "id": f"{entry['id']} {label}".strip(), "expect": expect}
        for profile in profiles:
            given = named
            if profile is not None:
                request = {**named["request"], "profile": profile}
                given = {**named, "id": f"{named['id']} {profile}", "request": request}
            for scenario in _at_instants(given):
                yield {**scenario, "facts": _filled(scenario["facts"], defaults)}


def _filled(facts: Data, defaults: Data) -> Data:
    """The facts with what every grant, relationship and attempt of the file has in common."""
    filled = dict(facts)
    for name, part in _ITEMS.items():
        if name in facts:
            filled[name] = [_merged(defaults.get(part), item) for item in facts[name]]
    return filled


def _at_instants(entry: Data) -> Iterator[Data]:
    entry = dict(entry)
    instants, hours = entry.pop("instants", None), entry.pop("hours", None)
    if instants is None and hours is None:
        yield entry
        return
    stated = instants.items() if instants is not None else _instants_of(hours)
    for at, outcome in stated:
        request = {**entry["request"], "at": at}
        expect = {**entry["expect"], **_expected(outcome)}
        yield {**entry, "id": f"{entry['id']} {at}", "request": request, "expect": expect}


def _expected(outcome: str | Data) -> Data:
    if isinstance(outcome, dict):
        return outcome
    return {"verdict": "allow"} if outcome == "allow" else {"verdict": "deny", "reason": outcome}


def _instants_of(hours: Data) -> Iterator[tuple[str, str]]:
    """The edges of every day of one week, as instants with what follows at them."""
    monday, zone = date.fromisoformat(hours["week_of"]), ZoneInfo(hours["zone"])
    if monday.weekday() != 0:
        raise ValueError(f"{monday} is no Monday")
    reason, closed = hours.get("reason", "QUIET_HOURS"), hours.get("closed", {})
    open_days = dict(_by_weekday(hours["open"]))
    if set(open_days) != set(WEEKDAYS):
        raise ValueError(f"hours must name every weekday once, not {sorted(open_days)}")
    for offset, weekday in enumerate(WEEKDAYS):
        day = monday + timedelta(days=offset)
        if not open_days[weekday]:
            yield _utc(day, 12 * 3600, zone), closed.get(weekday, reason)
        for window in open_days[weekday]:
            begins, ends = (_seconds(text) for text in window.split("-"))
            if begins:
                yield _utc(day, begins - 1, zone), reason
            yield _utc(day, begins, zone), "allow"
            yield _utc(day, ends - 1, zone), "allow"
            if ends < 86_400:
                yield _utc(day, ends, zone), reason


def _by_weekday(by_range: Mapping[str, list[str]]) -> Iterable[tuple[str, list[str]]]:
    for days, windows in by_range.items():
        first, _, last = days.partition("-")
        for position in range(WEEKDAYS.index(first), WEEKDAYS.index(last or first) + 1):
            yield WEEKDAYS[position], windows


def _seconds(text: str) -> int:
    hour, minute = text.split(":")
    return int(hour) * 3600 + int(minute) * 60


def _utc(day: date, seconds: int, zone: ZoneInfo) -> str:
    wall = datetime.combine(day, time(), zone) + timedelta(seconds=seconds)
    return f"{wall.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _trace_differences(wanted: Mapping[str, str], decision: Decision) -> Iterator[str]:
    for name, outcome in wanted.items():
        found = [
            _shown(line.outcome, line.reason, line.exemption)
            for line in decision.outcomes
            if name in (line.rule.id, line.rule.name)
        ]
        if outcome == "absent" and not found:
            continue
        word, _, detail = outcome.partition(":")
        if not any(
            found_word == word and (not detail or found_detail == detail)
            for found_word, found_detail in found
        ):
            shown = ", ".join(":".join(filter(None, one)) for one in found) or "absent"
            yield f"trace of {name}: {outcome} expected, {shown} found"


def _shown(outcome: str, reason: str | None, exemption: str | None) -> tuple[str, str]:
    """The outcome in lower case and what stands after the colon; a shadow row that holds: pass."""
    detail = reason or exemption or ("pass" if outcome == "SHADOW" else "")
    return outcome.lower(), detail
