"""What surrounded a decision as named values, and back. Plain data: nothing of a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Final

from consent.call import (
    Calendar,
    CallerId,
    Campaign,
    Emergency,
    Holiday,
    ListMembership,
    Program,
    Registration,
    Registries,
    Tally,
)

NamedValue = tuple[str, Any]
"""A name and a value that JSON can hold."""

_FILED: Final = "registrations_known"
_SHOWN: Final = "caller_ids_known"
_DECLARED: Final = tuple(
    field.name for field in fields(Program) if field.name not in ("registrations", "caller_ids")
)
_NOTHING: Final = Program()


def list_fields(registries: Registries) -> list[dict[str, Any]]:
    """The lists that were looked up, as records."""
    return [_plain(one) for one in registries.lists]


def registries_of(lists: Iterable[Mapping[str, Any]]) -> Registries:
    """The lists of such records."""
    return Registries(tuple(ListMembership(**one) for one in lists))


def calendar_facts(calendar: Calendar) -> tuple[NamedValue, ...]:
    """Declared holidays and emergencies."""
    return (
        *(("holiday", _plain(day)) for day in calendar.holidays),
        *(("emergency", _plain(one)) for one in calendar.emergencies),
    )


def calendar_of(values: Iterable[NamedValue]) -> Calendar:
    """The calendar of such values."""
    holidays: list[Holiday] = []
    emergencies: list[Emergency] = []
    for name, value in values:
        entry = {**value, "counties": tuple(value["counties"])}
        if name == "holiday":
            holidays.append(Holiday(**entry))
        else:
            emergencies.append(Emergency(**entry))
    return Calendar(tuple(holidays), tuple(emergencies))


def campaign_facts(campaign: Campaign) -> tuple[NamedValue, ...]:
    """Counts of the campaign, by period."""
    return tuple(("tally", _plain(tally)) for tally in campaign.tallies)


def campaign_of(values: Iterable[NamedValue]) -> Campaign:
    """The campaign of such values."""
    return Campaign(tuple(Tally(**value) for _, value in values))


def program_facts(program: Program) -> tuple[NamedValue, ...]:
    """What the seller filed and declared; what was not stated is left out."""
    if program == _NOTHING:
        return ()
    facts: list[NamedValue] = []
    if program.registrations is not None:
        facts.append((_FILED, True))
        facts += (("registration", _plain(one)) for one in program.registrations)
    if program.caller_ids is not None:
        facts.append((_SHOWN, True))
        facts += (("caller_id", _plain(one)) for one in program.caller_ids)
    for name in _DECLARED:
        value = getattr(program, name)
        if value != getattr(_NOTHING, name):
            facts.append((name, value))
    return tuple(facts)


def program_of(values: Iterable[NamedValue]) -> Program:
    """The program of such values."""
    registrations: list[Registration] = []
    caller_ids: list[CallerId] = []
    declared: dict[str, Any] = {}
    for name, value in values:
        if name == "registration":
            registrations.append(Registration(**value))
        elif name == "caller_id":
            caller_ids.append(CallerId(**value))
        else:
            declared[name] = tuple(value) if isinstance(value, list) else value
    known = {_FILED: declared.pop(_FILED, False), _SHOWN: declared.pop(_SHOWN, False)}
    return Program(
        registrations=tuple(registrations) if known[_FILED] else None,
        caller_ids=tuple(caller_ids) if known[_SHOWN] else None,
        **declared,
    )


_NAMES: Final[Mapping[type, tuple[str, ...]]] = {
    kind: tuple(field.name for field in fields(kind))
    for kind in (ListMembership, Holiday, Emergency, Tally, Registration, CallerId)
}


def _plain(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in _NAMES[type(one)]}
