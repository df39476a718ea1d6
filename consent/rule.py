"""One revision of one rule, compiled: when it is in force, for which calls, what it checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from consent.call import CALL_MODES, DIAL_MODES, PROFILES, PURPOSES
from consent.call_facts import CallFacts
from consent.findings import Check
from consent.instants import parse_date
from consent.rule_kinds import CONDITIONS, KINDS, Condition
from consent.zones import DAY_US, EARLIEST_MIDNIGHT_US, LATEST_MIDNIGHT_US, day_begins_at, local_day

EVERYWHERE: Final = "*"
IN_FORCE: Final = "in_force"
ALWAYS: Final = 1 << 62

TIMING: Final = frozenset({"window", "cap_expiry"})
"""Values of `next` of what passes with time alone."""

_VOCABULARY: Final[Mapping[str, frozenset[str]]] = {
    "purpose": frozenset(PURPOSES),
    "mode": frozenset(CALL_MODES),
    "dial": frozenset(DIAL_MODES),
    "profile": frozenset(PROFILES),
}


@dataclass(frozen=True, slots=True)
class Remainder:
    """What of a rule's scope depends on the number: its line and its party. None is any."""

    lines: frozenset[str] | None
    party: str | None

    def covers(self, facts: CallFacts) -> bool:
        """True if the number may be of this line and party."""
        return (self.lines is None or facts.any_line(self.lines)) and (
            self.party is None or facts.is_party(self.party)
        )


@dataclass(frozen=True, slots=True)
class Scope:
    """Calls that a rule is for: every named part must fit."""

    purposes: frozenset[str]
    modes: frozenset[str]
    dials: frozenset[str]
    profiles: frozenset[str]
    remainder: Remainder | None

    def fits(self, purpose: str, mode: str, dial: str, profile: str) -> bool:
        """True for the words of a request; UNKNOWN, which is in no vocabulary, fits always."""
        return (
            _fits(purpose, self.purposes, "purpose")
            and _fits(mode, self.modes, "mode")
            and _fits(dial, self.dials, "dial")
            and profile in self.profiles
        )


@dataclass(frozen=True, slots=True)
class Exemption:
    """A named reason for which a rule that fails does not count, in some profiles."""

    code: str
    profiles: frozenset[str]
    condition: Condition

    def saves(self, facts: CallFacts) -> bool:
        """True if the call is exempt."""
        return facts.profile in self.profiles and self.condition(facts)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One row of a rule file.

    `effective_from` and `effective_to` are local dates of the called party, in days since
    1970-01-01, both inclusive; None is not yet fixed, or open. `narrowness` orders jurisdictions:
    a subdivision before a country, a country before a group, a group before everywhere. A row
    that does not decide runs in shadow: it is evaluated and recorded, nothing more.
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
    scopes: tuple[Scope, ...]
    exemptions: tuple[Exemption, ...]
    kind: str
    check: Check
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
        for day in (
            self.effective_from,
            None if self.effective_to is None else self.effective_to + 1,
        ):
            if day is None or not (
                day * DAY_US + EARLIEST_MIDNIGHT_US <= until
                and day * DAY_US + LATEST_MIDNIGHT_US > after
            ):
                continue
            edges += [at for name in zones if after < (at := day_begins_at(day, name)) <= until]
        return edges


def compile_rule(entry: Mapping[str, Any], narrowness: int) -> Rule:
    """The rule of an entry that fits the JSON Schema and whose dates are dates."""
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
        scopes=tuple(
            _scope(scope) for scope in (applies if isinstance(applies, list) else [applies])
        ),
        exemptions=tuple(_exemption(unless) for unless in entry.get("unless", ())),
        kind=kind,
        check=KINDS[kind](entry["check"]["params"]),
        effect=on_fail["effect"],
        reason=on_fail["reason"],
        next=on_fail.get("next", "on_event"),
        on_missing=entry["on_missing"],
        confidence=entry["confidence"],
        note=entry.get("note", ""),
    )


def _scope(entry: Mapping[str, Any]) -> Scope:
    lines, party = entry.get("line"), entry.get("party", "any")
    remainder = Remainder(
        None if lines is None else frozenset(line.upper() for line in lines),
        None if party == "any" else party.upper(),
    )
    return Scope(
        purposes=_words(entry, "purpose"),
        modes=_words(entry, "mode"),
        dials=_words(entry, "dial"),
        profiles=_words(entry, "profile"),
        remainder=None if remainder == Remainder(None, None) else remainder,
    )


def _exemption(entry: Mapping[str, Any]) -> Exemption:
    ((name, params),) = entry["when"].items()
    profiles = frozenset(profile.upper() for profile in entry["profiles"])
    return Exemption(entry["code"], profiles, CONDITIONS[name](params))


def _words(entry: Mapping[str, Any], part: str) -> frozenset[str]:
    stated = entry.get(part)
    return _VOCABULARY[part] if stated is None else frozenset(word.upper() for word in stated)


def _fits(word: str, words: frozenset[str], part: str) -> bool:
    return word in words or word not in _VOCABULARY[part]


def _day(text: str | None) -> int | None:
    return None if text is None else parse_date(text)
