"""Facts about the seller's program and the time: registrations, caller ids, sectors, emergencies.

What nobody stated is missing, and left to the rule to judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from consent.call import CallerId, Emergency, Program, Registration
from consent.call_facts import CallFacts
from consent.findings import Check, Finding, Result, Timeless, UsedFacts
from consent.local_days import midnights
from consent.rule_context import Place, RuleContext


@dataclass(frozen=True, slots=True)
class NoEmergency:
    """No emergency is declared where the called party may be."""

    place: Place

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the declarations that are in force."""
        emergencies = facts.surroundings.calendar.emergencies
        if not emergencies:
            return _NO_EMERGENCY
        for one in emergencies:
            if _stands(one, facts.at) and self._concerns(facts, one):
                used = (("emergency", one.declaration_id), ("jurisdiction", one.jurisdiction))
                return Finding(Result.FAILS, used)
        return _NO_EMERGENCY

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where declared emergencies begin and end."""
        for one in facts.surroundings.calendar.emergencies:
            for at in (one.from_at, one.until_at):
                if at is not None and after < at <= until:
                    yield at

    def _concerns(self, facts: CallFacts, one: Emergency) -> bool:
        return self.place.covers(one.jurisdiction) and facts.concerns(
            one.jurisdiction, one.counties
        )


def _stands(one: Emergency, at: int) -> bool:
    return one.from_at <= at and (one.until_at is None or at < one.until_at)


_NO_EMERGENCY: Final = Finding(Result.HOLDS, (("emergencies", 0),))


@dataclass(frozen=True, slots=True)
class Registered:
    """The seller has filed each of the kinds where the rule holds, valid on the local date.

    A rule for a subdivision needs those of that subdivision, any other one those of every
    candidate country. Without kinds any registration will do. One that is filed for a campaign, or
    a subscription for an area, counts for that campaign, and for lists of that area.
    """

    kinds: tuple[str, ...] | None
    place: Place

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the registrations."""
        filed = facts.surroundings.program.registrations
        if filed is None:
            return _NOT_STATED
        days = facts.days(zones)
        used: list[tuple[str, object]] = []
        result = Result.HOLDS
        for jurisdiction in self.place.jurisdictions(facts.states):
            here = [
                one
                for one in filed
                if one.jurisdiction == jurisdiction and _is_on_file(facts, one, days)
            ]
            for kind in self.kinds or (None,):
                held = [one.registration_id for one in here if kind in (None, one.kind)]
                if not held:
                    result = Result.FAILS
                what = jurisdiction if kind is None else f"{jurisdiction} {kind}"
                used.append((what, min(held, default=None)))
        return Finding(result, tuple(used))

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where registrations begin and run out."""
        for one in facts.surroundings.program.registrations or ():
            ends = () if one.valid_until is None else (one.valid_until + 1,)
            yield from midnights(facts, (one.valid_from, *ends), after, until)


def _is_on_file(facts: CallFacts, one: Registration, days: list[int]) -> bool:
    return (
        one.campaign_id in (None, facts.request.campaign_id)
        and one.valid_from <= min(days)
        and (one.valid_until is None or max(days) <= one.valid_until)
        and (
            one.area in (None, "*")
            or any(found.area == one.area for found in facts.surroundings.registries.lists)
        )
    )


@dataclass(frozen=True, slots=True)
class CallerIdAuthorised:
    """The number to be shown is one that the seller may show now."""

    answers_opt_outs: bool

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the authorisations."""
        number, known = facts.request.caller_id_number, facts.surroundings.program.caller_ids
        if number is None or known is None:
            return _NOT_STATED
        valid = [one for one in known if one.number == number and _is_valid(one, facts.at)]
        if not valid:
            return Finding(Result.FAILS, (("authorisation", None),))
        if self.answers_opt_outs and not any(one.answers_opt_outs for one in valid):
            return Finding(Result.FAILS, (("answers_opt_outs", False),))
        used = (("authorisation", min(one.authorisation_id for one in valid)),)
        return Finding(Result.HOLDS, used)

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where authorisations begin and run out."""
        for one in facts.surroundings.program.caller_ids or ():
            for at in (one.valid_from_at, one.valid_until_at):
                if at is not None and after < at <= until:
                    yield at


@dataclass(frozen=True, slots=True)
class CallerIdNotMobile(Timeless):
    """The number to be shown is not a mobile one, by what its authorisations state."""

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the kind of number; where none is stated it is missing."""
        number, known = facts.request.caller_id_number, facts.surroundings.program.caller_ids
        kinds = {one.number_kind for one in known or () if one.number == number}
        if "mobile" in kinds:
            return Finding(Result.FAILS, (("number_kind", "mobile"),))
        stated = sorted(kind for kind in kinds if kind is not None)
        if not stated:
            return _NOT_STATED
        return Finding(Result.HOLDS, (("number_kind", " ".join(stated)),))


@dataclass(frozen=True, slots=True)
class CallerIdBegins(Timeless):
    """The number to be shown begins with one of the prefixes."""

    prefixes: tuple[str, ...]

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the number that the request names."""
        number = facts.request.caller_id_number
        if number is None:
            return _NOT_STATED
        prefix = next((one for one in self.prefixes if number.startswith(one)), None)
        found = Result.FAILS if prefix is None else Result.HOLDS
        return Finding(found, (("prefix", prefix),))


@dataclass(frozen=True, slots=True)
class RingFloor(Timeless):
    """The dialer lets it ring for so many seconds at least, or so many times."""

    seconds: int
    rings: int | None

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge what the campaign declares."""
        program = facts.surroundings.program
        seconds, rings = program.ring_seconds_min, program.ring_count_min
        if not seconds and not rings:
            return _NOT_STATED
        enough_rings = self.rings is not None and rings >= self.rings
        used = (("ring_seconds_min", seconds), ("ring_count_min", rings))
        return Finding(
            Result.HOLDS if seconds >= self.seconds or enough_rings else Result.FAILS, used
        )


@dataclass(frozen=True, slots=True)
class Declared(Timeless):
    """The campaign declares something that is either so or not."""

    name: str
    stated: Callable[[Program], bool | None]

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge what it declares."""
        stated = self.stated(facts.surroundings.program)
        if stated is None:
            return _NOT_STATED
        return Finding(Result.HOLDS if stated else Result.FAILS, ((self.name, stated),))


@dataclass(frozen=True, slots=True)
class SectorNot(Timeless):
    """What is offered is of none of these branches."""

    sectors: frozenset[str]

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge every branch that request and campaign state."""
        if not facts.sectors:
            return _NOT_STATED
        banned = not self.sectors.isdisjoint(facts.sectors)
        used: UsedFacts = (("sectors", " ".join(facts.sectors)),)
        return Finding(Result.FAILS if banned else Result.HOLDS, used)


_NOT_STATED: Final = Finding(Result.MISSING, (("stated", None),))


def _is_valid(one: CallerId, at: int) -> bool:
    return one.valid_from_at <= at and (one.valid_until_at is None or at < one.valid_until_at)


def _registered(params: Mapping[str, Any], context: RuleContext) -> Check:
    kinds = params.get("kinds")
    wanted = None if kinds is None else tuple(kind.upper() for kind in kinds)
    return Registered(wanted, context.place)


PROGRAM_FACTS: Final[Mapping[str, Callable[[Mapping[str, Any], RuleContext], Check]]] = {
    "no_emergency": lambda params, context: NoEmergency(context.place),
    "registered": _registered,
    "caller_id_authorised": lambda params, context: CallerIdAuthorised(
        params.get("answers_opt_outs", False)
    ),
    "caller_id_not_mobile": lambda params, context: CallerIdNotMobile(),
    "caller_id_begins": lambda params, context: CallerIdBegins(tuple(params["prefixes"])),
    "ring_floor": lambda params, context: RingFloor(params["seconds"], params.get("rings")),
    "recording_notice_available": lambda params, context: Declared(
        "recording_notice_available", lambda program: program.recording_notice_available
    ),
    "free_to_recipient": lambda params, context: Declared(
        "free_to_recipient", lambda program: program.free_to_recipient
    ),
    "sector_not": lambda params, context: SectorNot(
        frozenset(word.upper() for word in params["sectors"])
    ),
}
