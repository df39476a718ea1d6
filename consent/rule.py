"""One revision of one rule, compiled: when it is in force, for which calls, what it checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from consent.call import (
    CALL_MODES,
    DIAL_MODES,
    MESSAGE_CLASSES,
    PROFILES,
    PURPOSES,
    SECTORS,
    UNKNOWN,
)
from consent.call_facts import CallFacts
from consent.conditions import compile_condition
from consent.findings import Check, Condition, UsedFacts
from consent.instants import parse_date
from consent.number_checks import RELYING_FACTS
from consent.rule_context import ParameterError, Path, RuleContext
from consent.rule_kinds import KINDS
from consent.zones import DAY_US, EARLIEST_MIDNIGHT_US, LATEST_MIDNIGHT_US, day_begins_at, local_day

IN_FORCE: Final = "in_force"
ALWAYS: Final = 1 << 62

TIMING: Final = frozenset({"window", "cap_expiry"})
"""Values of `next` of what passes with time alone."""

_LINES: Final = ("MOBILE", "LANDLINE", "VOIP", "TOLL_FREE", "PAGER", UNKNOWN)


Outcome = Literal["PASS", "DENY", "SHADOW", "NOT_APPLICABLE", "OBLIGE", "WARN", "UNKNOWN"]


class CallWords(NamedTuple):
    """The words of a call that rules tell apart. Of `lines` and the rest any one may be so."""

    purpose: str
    mode: str
    dial: str
    profile: str
    lines: tuple[str, ...]
    parties: tuple[str, ...]
    sectors: tuple[str, ...]
    message_classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """Calls that a rule is for: every named part must fit."""

    purposes: frozenset[str]
    modes: frozenset[str]
    dials: frozenset[str]
    profiles: frozenset[str]
    lines: frozenset[str]
    party: str | None
    sectors: frozenset[str]
    message_classes: frozenset[str]

    def fits(self, call: CallWords) -> bool:
        """True if the call may be one of these; an unknown word, or none at all, fits always."""
        return (
            (call.purpose in self.purposes or call.purpose == UNKNOWN)
            and (call.mode in self.modes or call.mode == UNKNOWN)
            and (call.dial in self.dials or call.dial == UNKNOWN)
            and call.profile in self.profiles
            and not self.lines.isdisjoint(call.lines)
            and (self.party is None or self._may_be(call.parties))
            and not (call.sectors and self.sectors.isdisjoint(call.sectors))
            and not (call.message_classes and self.message_classes.isdisjoint(call.message_classes))
        )

    def _may_be(self, parties: tuple[str, ...]) -> bool:
        """Who is not known is taken for a consumer."""
        return self.party in parties or (not parties and self.party == "CONSUMER")


@dataclass(frozen=True, slots=True)
class Exemption:
    """A named reason for which a rule that fails does not count, in some profiles."""

    code: str
    profiles: frozenset[str]
    condition: Condition

    def saves(self, facts: CallFacts) -> UsedFacts | None:
        """The facts by which the call is exempt, None if it is not."""
        return self.condition.saves(facts) if facts.profile in self.profiles else None


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One row of a rule file.

    `effective_from` and `effective_to` are local dates of the called party, in days since
    1970-01-01, both inclusive; None is not yet fixed, or open. `narrowness` orders jurisdictions:
    a subdivision before a country, a country before a group, a group before everywhere. A row
    that does not decide runs in shadow: it is evaluated and recorded, nothing more. A rule that
    `relies` is judged after all others, since it asks what they let the call pass by.
    """

    id: str
    rev: int
    name: str
    title: str
    citation: tuple[str, ...]
    country: str
    subdivision: str | None
    narrowness: int
    effective_from: int | None
    effective_to: int | None
    known_from: int
    known_to: int | None
    status: str
    decides: bool
    passed: Outcome
    scopes: tuple[Scope, ...]
    exemptions: tuple[Exemption, ...]
    kind: str
    check: Check
    relies: bool
    effect: str
    reason: str
    next: str
    on_missing: str
    confidence: str
    note: str

    @property
    def passes_with_time(self) -> bool:
        """True if a denial by this rule ends at an instant that can be computed."""
        return self.next in TIMING

    @property
    def turning_points(self) -> Iterator[int]:
        """Instants between which the revision is in force in all zones, or in none, or in some."""
        for day in self._turning_days():
            yield day * DAY_US + EARLIEST_MIDNIGHT_US
            yield day * DAY_US + LATEST_MIDNIGHT_US

    def zones_in_force(self, at: int, zones: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the zones in which the local date of `at` is one of the effective dates."""
        begins, ends = self.effective_from, self.effective_to
        if (begins is None or at >= begins * DAY_US + LATEST_MIDNIGHT_US) and (
            ends is None or at < (ends + 1) * DAY_US + EARLIEST_MIDNIGHT_US
        ):
            return zones
        if begins is not None and at < begins * DAY_US + EARLIEST_MIDNIGHT_US:
            return ()
        if ends is not None and at >= (ends + 1) * DAY_US + LATEST_MIDNIGHT_US:
            return ()
        return tuple(
            name
            for name in zones
            if (begins is None or local_day(at, name) >= begins)
            and (ends is None or local_day(at, name) <= ends)
        )

    def revision_edges(self, after: int, until: int, zones: tuple[str, ...]) -> list[int]:
        """Instants in (after, until] at which the revision comes into force or leaves it."""
        edges = []
        for day in self._turning_days():
            if day * DAY_US + EARLIEST_MIDNIGHT_US <= until and (
                day * DAY_US + LATEST_MIDNIGHT_US > after
            ):
                edges += [at for name in zones if after < (at := day_begins_at(day, name)) <= until]
        return edges

    def _turning_days(self) -> Iterator[int]:
        if self.effective_from is not None:
            yield self.effective_from
        if self.effective_to is not None:
            yield self.effective_to + 1


def compile_rule(entry: Mapping[str, Any], narrowness: int, context: RuleContext) -> Rule:
    """The rule of an entry that fits the JSON Schema and whose dates are dates.

    ParameterError if its parameters mean nothing, or name what the rulebook does not describe.
    """
    effective, known, on_fail = entry["effective"], entry["known"], entry["on_fail"]
    kind = entry["check"]["kind"]
    applies = entry["applies_when"]
    return Rule(
        id=entry["id"],
        rev=entry["rev"],
        name=f"{entry['id']}@{entry['rev']}",
        title=entry["title"],
        citation=tuple(entry["citation"]),
        country=entry["jurisdiction"]["country"],
        subdivision=entry["jurisdiction"]["subdivision"],
        narrowness=narrowness,
        effective_from=_day(effective["from"]),
        effective_to=_day(effective["to"]),
        known_from=parse_date(known["from"]),
        known_to=_day(known["to"]),
        status=entry["status"],
        decides=entry["status"] == IN_FORCE,
        passed="PASS" if entry["status"] == IN_FORCE else "SHADOW",
        scopes=tuple(
            _scope(scope) for scope in (applies if isinstance(applies, list) else [applies])
        ),
        exemptions=tuple(
            _exemption(unless, ("unless", index), context)
            for index, unless in enumerate(entry.get("unless", ()))
        ),
        kind=kind,
        check=_check(entry["check"], context),
        relies=entry["check"]["params"].get("fact") in RELYING_FACTS,
        effect=on_fail["effect"],
        reason=on_fail["reason"],
        next=on_fail.get("next", "on_event"),
        on_missing=entry["on_missing"],
        confidence=entry["confidence"],
        note=entry.get("note", ""),
    )


def _check(entry: Mapping[str, Any], context: RuleContext) -> Check:
    try:
        return KINDS[entry["kind"]](entry["params"], context)
    except ParameterError as problem:
        path = ("check", "params", *problem.path)
        raise ParameterError(path, problem.message, problem.remedy) from None


def _scope(entry: Mapping[str, Any]) -> Scope:
    party = entry.get("party", "any")
    return Scope(
        purposes=_words(entry, "purpose", PURPOSES),
        modes=_words(entry, "mode", CALL_MODES),
        dials=_words(entry, "dial", DIAL_MODES),
        profiles=_words(entry, "profile", PROFILES),
        lines=_words(entry, "line", _LINES),
        party=None if party == "any" else party.upper(),
        sectors=_words(entry, "sector", SECTORS),
        message_classes=_words(entry, "message_class", MESSAGE_CLASSES),
    )


def _exemption(entry: Mapping[str, Any], path: Path, context: RuleContext) -> Exemption:
    profiles = frozenset(profile.upper() for profile in entry["profiles"])
    try:
        condition = compile_condition(entry["when"], context)
    except ParameterError as problem:
        where = (*path, "when", *problem.path)
        raise ParameterError(where, problem.message, problem.remedy) from None
    return Exemption(entry["code"], profiles, condition)


def _words(entry: Mapping[str, Any], part: str, every: tuple[str, ...]) -> frozenset[str]:
    stated = entry.get(part)
    return frozenset(every if stated is None else (word.upper() for word in stated))


def _day(text: str | None) -> int | None:
    return None if text is None else parse_date(text)
