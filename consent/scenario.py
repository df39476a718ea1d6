"""Scenario files: a call, the facts known about the number, and the decision that must follow.

Reading is strict, as with rule files: what is malformed is refused with file, line, field and
remedy. What a scenario does not mention is in order, so that a case says only what it is about.
Places that are given replace those that follow from the number.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import jsonschema

from consent.call import CallRequest
from consent.contracts import data_path
from consent.errors import Rejected
from consent.instants import MICROSECONDS, parse_date, parse_instant
from consent.numbers import canonical_number
from consent.places import replaced
from consent.scenario_facts import Defaults, Part, state_of_facts
from consent.scenario_surroundings import (
    Lists,
    Stated,
    counties_of,
    lists_of,
    stated_surroundings,
)
from consent.state import SubjectState
from consent.yaml_source import SourceError, SourceFile, read_source, schema_errors

SCHEMA_FILE: Final = "scenarios.schema.json"
NEXT_WORDS: Final = ("never", "on_event", "campaign_period_end")

_ABOUT: Final = "See the JSON Schema of scenario files."
_FIELDS: Final = {
    "seller_id": "seller",
    "call_mode": "mode",
    "dial_mode": "dial",
    "campaign_id": "campaign",
    "caller_id_number": "caller_id",
}
"""Names of a request in a scenario, where they differ from those of a decision's."""

_DAY_US: Final = 86_400 * MICROSECONDS


class ScenarioError(SourceError):
    """A scenario file can't be used: where, why, and what to do about it."""

    reason_code = "SCENARIO_INVALID"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must follow; only what is stated is compared.

    `next_allowed` is an instant in µs, or one of NEXT_WORDS. `stated` names what the file says, so
    that a stated null differs from nothing.
    """

    stated: frozenset[str]
    verdict: str | None
    reason: str | None
    reasons: tuple[str, ...]
    next_allowed: int | str | None
    obligations: tuple[str, ...]
    rule: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """One case, ready to be decided under any rulebook.

    `known_on` leaves out rows whose text was collected after that day. `expectation` is None where
    the file expects nothing.
    """

    id: str
    why: str
    request: CallRequest
    state: SubjectState
    at: int
    stated: Stated
    lists: Lists
    known_on: int | None
    expectation: Expectation | None
    place: Part


def read_scenarios(name: str, text: str) -> list[Scenario]:
    """The scenarios of one file, in its order; ScenarioError for the first thing that is wrong."""
    file = read_source(name, text, ScenarioError, "Begin with `scenarios:`.")
    return _scenarios(file)


def scenarios_of(content: Mapping[str, Any], name: str = "scenarios") -> list[Scenario]:
    """The same of a content that is data already, and so has no lines."""
    return _scenarios(SourceFile(name, dict(content), {}, ScenarioError))


def _scenarios(file: SourceFile) -> list[Scenario]:
    _unify(file)
    problems = schema_errors(file, _validator(), _ABOUT)
    if problems:
        raise problems[0]
    scenarios = [_scenario(part) for part in Part(file, (), file.data).parts("scenarios")]
    met: set[str] = set()
    for scenario in scenarios:
        if scenario.id in met:
            raise scenario.place.error("id", f"{scenario.id!r} is there twice", "Rename one.")
        met.add(scenario.id)
    return scenarios


def _unify(file: SourceFile) -> None:
    """Profiles are taken in any case."""
    entries = file.data.get("scenarios")
    for entry in entries if isinstance(entries, list) else ():
        asked = entry.get("request") if isinstance(entry, dict) else None
        if isinstance(asked, dict) and isinstance(asked.get("profile"), str):
            asked["profile"] = asked["profile"].lower()


@cache
def _validator() -> Any:
    schema = json.loads((data_path("schemas") / SCHEMA_FILE).read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def _scenario(part: Part) -> Scenario:
    asked, facts = part.part("request"), part.part("facts")
    at = asked.instant("at")
    assert at is not None
    number = _number(asked)
    states, zones = _places(asked, number)
    request = _request(asked, states, zones, counties_of(facts.data.get("counties", ()), states))
    defaults = Defaults(request.seller_id, request.purpose, at)
    return Scenario(
        id=part.data["id"],
        why=part.data.get("why", ""),
        request=request,
        state=state_of_facts(facts, defaults),
        at=at,
        stated=stated_surroundings(facts, request, defaults),
        lists=lists_of(facts, at),
        known_on=_known_on(asked),
        expectation=_expectation(part),
        place=part,
    )


def _number(asked: Part) -> str:
    try:
        return canonical_number(asked.data["number"])
    except Rejected as problem:
        raise asked.error("number", "no telephone number", f"{problem.remedy}.") from None


def _places(asked: Part, number: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Candidate states and zones: as given, also where that is nothing, else from the number."""
    states, zones = asked.data.get("states"), asked.data.get("zones")
    if states is not None and zones is not None:
        return tuple(states), tuple(zones)
    places = replaced(
        number,
        None if states is None else tuple(states),
        None if zones is None else tuple(zones),
    )
    return places.states, places.zones


def _request(
    asked: Part, states: Iterable[str], zones: Iterable[str], counties: Iterable[str]
) -> CallRequest:
    data = asked.data
    marketing = data["purpose"] == "MARKETING"
    ordinary = "ADVERTISING" if marketing else "COMMERCIAL_WITHOUT_ADVERTISING"
    try:
        return CallRequest(
            seller_id=data["seller"],
            purpose=data["purpose"],
            call_mode=data["mode"],
            dial_mode=data.get("dial", "MANUAL"),
            party=data.get("party", "UNKNOWN"),
            profile=data.get("profile", "strict").upper(),
            states=tuple(states),
            zones=tuple(zones),
            counties=tuple(counties),
            campaign_id=data.get("campaign"),
            subject_matter=data.get("subject_matter"),
            sector=data.get("sector", "OTHER"),
            message_class=data.get("message_class", ordinary),
            emergency_purpose=data.get("emergency_purpose", False),
            caller_id_number=data.get("caller_id"),
            shipment_id=data.get("shipment_id"),
            failed_signature_attempts=data.get("failed_signature_attempts"),
        )
    except Rejected as problem:
        key = _FIELDS.get(problem.field, problem.field)
        message = f"{problem.value_shown!r} can't be used ({problem.reason})"
        raise asked.error(key, message, f"{problem.remedy}.") from None


def _known_on(asked: Part) -> int | None:
    text = asked.data.get("known_at")
    if text is None:
        return None
    try:
        return parse_date(text)
    except ValueError:
        pass
    try:
        return parse_instant(text) // _DAY_US
    except ValueError:
        remedy = "Write it like 2026-11-24, or 2026-11-24T01:30:00Z."
        raise asked.error("known_at", f"{text!r} is neither date nor instant", remedy) from None


def _expectation(part: Part) -> Expectation | None:
    expect = part.part("expect")
    data = expect.data
    if not data:
        return None
    following: int | str | None = data.get("next_allowed")
    if following is not None and following not in NEXT_WORDS:
        following = expect.instant("next_allowed")
    return Expectation(
        stated=frozenset(data),
        verdict=data.get("verdict"),
        reason=data.get("reason"),
        reasons=tuple(data.get("reasons", ())),
        next_allowed=following,
        obligations=tuple(data.get("obligations", ())),
        rule=data.get("rule"),
    )
