"""What surrounds the call of a scenario: lists, calendar, campaign, program, other numbers.

What is not mentioned is in order: every list is loaded, fresh and does not hold the number, nothing
was abandoned, the seller is registered everywhere and may show its number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, NamedTuple

from consent.call import (
    PERIODS,
    REGISTRATION_KINDS,
    Calendar,
    CallerId,
    CallRequest,
    Campaign,
    Emergency,
    Holiday,
    ListMembership,
    Program,
    Registration,
    Registries,
    Surroundings,
    Tally,
)
from consent.instants import MICROSECONDS
from consent.program_checks import CallerIdBegins
from consent.rulebook import Registry, Rulebook
from consent.scenario_facts import Defaults, Part, state_of_facts
from consent.state import SubjectState
from consent.yaml_source import suggestion

_CALLER_ID_ENDS: Final = "5550100"

LIST_AGE_DAYS: Final = 5
"""Age of a list that a scenario does not date."""

_DAY_US: Final = 86_400 * MICROSECONDS
_LONG_AGO_DAYS: Final = 10_957
_LONG_AGO_US: Final = _LONG_AGO_DAYS * _DAY_US
_LEVELS: Final = ("national", "state")
_RING_SECONDS: Final = 30
_RINGS: Final = 6


class ListGiven(NamedTuple):
    """What a scenario says of a list, or of every list of a level; `member` None: not loaded."""

    member: bool | None
    version_date: int | None
    listed_on: int | None


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists by level or id, and those that are not mentioned.

    `reported` are lists of which the number's own facts tell: one that is asked number by number
    then answers by them.
    """

    given: Mapping[str, ListGiven]
    otherwise: ListGiven
    reported: frozenset[str]
    place: Part

    def registries(self, rulebook: Rulebook) -> Registries:
        """Every list that the rulebook names; SourceError if the scenario names another one."""
        ids = {entry.id for entry in rulebook.registries}
        for key in self.given:
            if key not in ids and key not in _LEVELS:
                remedy = suggestion(key, [*_LEVELS, *sorted(ids)])
                raise self.place.error(key, "the rulebook names no such list", remedy)
        return Registries(
            tuple(_membership(entry.id, self._given(entry)) for entry in rulebook.registries)
        )

    def _given(self, entry: Registry) -> ListGiven:
        given = self.given.get(entry.id)
        if given is None and entry.wash and entry.id in self.reported:
            return ListGiven(None, None, None)
        return given or self.given.get(entry.level, self.otherwise)


class Stated(NamedTuple):
    """The surroundings but for the lists, which the rulebook names.

    Without a `caller_id` the number shown is one that the rulebook's rows accept.
    """

    calendar: Calendar
    campaign: Campaign
    program: Program
    linked: tuple[SubjectState, ...]
    caller_id: str | None

    def around(
        self, request: CallRequest, registries: Registries, rulebook: Rulebook
    ) -> tuple[CallRequest, Surroundings]:
        """The request with the number that is shown, and all of the surroundings."""
        program = self.program
        if self.caller_id is None:
            number = accepted_caller_id(rulebook, request.states)
            request = replace(request, caller_id_number=number)
            if program.caller_ids is None:
                shown = CallerId("caller-id", number, _LONG_AGO_US, None, "geographic", True)
                program = replace(program, caller_ids=(shown,))
        return request, Surroundings(registries, self.calendar, self.campaign, program, self.linked)


@lru_cache(maxsize=1024)
def accepted_caller_id(rulebook: Rulebook, states: tuple[str, ...]) -> str:
    """A number with a prefix that a row for one of these places asks for, else any number."""
    countries = {state[:2] for state in states}
    prefixes = [
        rule.check.prefixes[0]
        for rule in rulebook.rules
        if isinstance(rule.check, CallerIdBegins) and rule.country in countries
    ]
    return (prefixes[0] if prefixes else "+1212") + _CALLER_ID_ENDS


def lists_of(facts: Part, at: int) -> Lists:
    """What the facts say of lists; the rest is loaded, fresh and does not hold the number."""
    fresh = at // _DAY_US - LIST_AGE_DAYS
    place = facts.part("registries")
    given = {}
    for key, data in place.data.items():
        entry = place.part(key)
        dated = entry.day("version_date") if "version_date" in entry.data else fresh
        member = None if data is None else data.get("listed", False)
        given[key] = ListGiven(member, dated, entry.day("listed_on"))
    reported = {entry.data.get("list_id", "") for entry in facts.parts("listed")}
    return Lists(given, ListGiven(False, fresh, None), frozenset(reported), place)


def stated_surroundings(facts: Part, request: CallRequest, defaults: Defaults) -> Stated:
    """The surroundings that the facts state; SourceError for what is none."""
    return Stated(
        calendar=_calendar(facts),
        campaign=_campaign(facts, defaults.at),
        program=_program(facts.part("program"), request),
        linked=tuple(state_of_facts(part, defaults) for part in facts.parts("linked")),
        caller_id=request.caller_id_number,
    )


def counties_of(counties: Iterable[str], states: Iterable[str]) -> tuple[str, ...]:
    """Counties with their state, US-NY/Erie; one without is taken in every candidate state."""
    among = tuple(states)
    return tuple(
        sorted(
            {
                full
                for county in counties
                for full in (
                    [county] if "/" in county else [f"{state}/{county}" for state in among]
                )
            }
        )
    )


def _membership(list_id: str, given: ListGiven) -> ListMembership:
    if given.member is None:
        return ListMembership(list_id)
    return ListMembership(
        list_id=list_id,
        version="scenario",
        version_date=given.version_date,
        member=given.member,
        listed_on=given.listed_on,
    )


def _calendar(facts: Part) -> Calendar:
    holidays, emergencies = [], []
    for part in facts.parts("holidays"):
        day, jurisdiction = part.day("date"), part.data["jurisdiction"]
        assert day is not None
        counties = counties_of(part.data.get("counties", ()), (jurisdiction,))
        name = part.data.get("name", "declared")
        holidays.append(Holiday(jurisdiction, day, name, counties))
    for index, part in enumerate(facts.parts("emergencies")):
        from_at, jurisdiction = part.instant("from"), part.data["jurisdiction"]
        assert from_at is not None
        counties = counties_of(part.data.get("counties", ()), (jurisdiction,))
        until_at = part.instant("to")
        emergencies.append(
            Emergency(f"emergencies[{index}]", jurisdiction, from_at, until_at, counties)
        )
    return Calendar(tuple(holidays), tuple(emergencies))


def _campaign(facts: Part, at: int) -> Campaign:
    """One pair of counts, for whatever period a rule counts, or for the one that is named."""
    part = facts.part("campaign")
    live, abandoned = part.data.get("live_answered", 0), part.data.get("abandoned", 0)
    begun_at = part.instant("period_start") if "period_start" in part.data else at
    counted = (part.data["period"],) if "period" in part.data else PERIODS
    return Campaign(
        tuple(
            Tally(period, live, abandoned, begun_at)
            if period in counted
            else Tally(period, 0, 0, begun_at)
            for period in PERIODS
        )
    )


def _program(part: Part, request: CallRequest) -> Program:
    data = part.data
    return Program(
        registrations=_registrations(part, request),
        caller_ids=_caller_ids(part, request),
        seller_type=data.get("seller_type"),
        sectors=() if request.sector == "UNKNOWN" else (request.sector,),
        message_class=request.message_class,
        ring_seconds_min=data.get("ring_seconds", _RING_SECONDS),
        ring_count_min=data.get("rings", _RINGS),
        recording_notice_available=data.get("recording_notice", True),
        free_to_recipient=data.get("free_to_recipient", True),
        answering_machine_detection=data.get("machine_detection", False),
        machine_detection_false_positives_ppm=data.get("machine_detection_false_positives_ppm"),
    )


def _registrations(part: Part, request: CallRequest) -> tuple[Registration, ...]:
    if "registrations" not in part.data:
        places = sorted({place for state in request.states for place in (state, state[:2])})
        return tuple(
            Registration(f"{place}/{kind}", place, kind, _LONG_AGO_DAYS)
            for place in places
            for kind in REGISTRATION_KINDS
        )
    return tuple(
        Registration(
            registration_id=f"registrations[{index}]",
            jurisdiction=entry.data["jurisdiction"],
            kind=entry.data["kind"],
            valid_from=_or(entry.day("valid_from"), _LONG_AGO_DAYS),
            valid_until=entry.day("valid_until"),
            campaign_id=entry.data.get("campaign"),
        )
        for index, entry in enumerate(part.parts("registrations"))
    )


def _caller_ids(part: Part, request: CallRequest) -> tuple[CallerId, ...] | None:
    """None where the number shown is settled with the rulebook."""
    if "caller_ids" not in part.data:
        number = request.caller_id_number
        if number is None:
            return None
        return (CallerId("caller-id", number, _LONG_AGO_US, None, "geographic", True),)
    return tuple(
        CallerId(
            authorisation_id=f"caller_ids[{index}]",
            number=entry.data["number"],
            valid_from_at=_or(entry.instant("valid_from"), _LONG_AGO_US),
            valid_until_at=entry.instant("valid_until"),
            number_kind=entry.data.get("kind"),
            answers_opt_outs=entry.data.get("answers_opt_outs", True),
        )
        for index, entry in enumerate(part.parts("caller_ids"))
    )


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value
