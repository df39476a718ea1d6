"""Declared holidays and emergencies, looked up for a call.

Each declaration counts as its newest event says; of two at one instant the stricter: a day stays
barred, an emergency stands. What a declaration in force takes back needs an event after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from consent.call import Calendar, Emergency, Holiday
from consent.tallies import DAY_US

CALENDAR_TOPIC: Final = "calendar-events"
HOLIDAY_DAYS_BEFORE: Final = 2
HOLIDAY_DAYS_AFTER: Final = 60
"""Days that may matter for a call: its own in every zone, and until when the next is searched."""

Event = Mapping[str, Any]


class _Said(NamedTuple):
    """An event by what orders it; at one instant `holds` before not."""

    effective_at: int
    holds: bool
    event_id: str
    event: Event


class _Declaration(NamedTuple):
    """Which one; a rehearsal's never meets a real one."""

    test: bool
    jurisdiction: str
    declaration_id: str


@dataclass(slots=True)
class _Emergency:
    declared: _Said | None = None
    lifted: _Said | None = None


class CalendarBook:
    """Every declaration, whoever it was published for: they bind all sellers."""

    def __init__(self) -> None:
        self._holidays: dict[_Declaration, _Said] = {}
        self._emergencies: dict[_Declaration, _Emergency] = {}

    def take(self, name: str, event: Event, effective_at: int) -> None:
        """Take one event in; order and repetition don't matter."""
        if name not in ("HolidayDeclared", "EmergencyDeclared", "EmergencyLifted"):
            return
        key = _Declaration(event["test"], event["jurisdiction"], event["declaration_id"])
        said = _Said(effective_at, not event.get("withdrawn", False), event["event_id"], event)
        if name == "HolidayDeclared":
            self._holidays[key] = _newer(self._holidays.get(key), said)
            return
        emergency = self._emergencies.setdefault(key, _Emergency())
        if name == "EmergencyDeclared":
            emergency.declared = _newer(emergency.declared, said)
        else:
            emergency.lifted = _newer(emergency.lifted, said)

    def calendar(self, states: Iterable[str], at: int, *, test: bool) -> Calendar:
        """What is declared for these jurisdictions and may matter for a call at an instant."""
        places = tuple(states)
        day = at // DAY_US
        holidays = [
            _holiday(said.event)
            for key, said in sorted(self._holidays.items(), key=lambda item: item[0])
            if said.holds
            and _concerns(key, places, test)
            and day - HOLIDAY_DAYS_BEFORE <= said.event["date"] <= day + HOLIDAY_DAYS_AFTER
        ]
        emergencies = [
            emergency
            for key, held in sorted(self._emergencies.items(), key=lambda item: item[0])
            if _concerns(key, places, test)
            and (emergency := _standing(held)) is not None
            and (emergency.until_at is None or emergency.until_at > at)
        ]
        return Calendar(tuple(holidays), tuple(emergencies))


def _newer(held: _Said | None, said: _Said) -> _Said:
    return said if held is None or said[:3] > held[:3] else held


def _concerns(key: _Declaration, states: tuple[str, ...], test: bool) -> bool:
    """True for a declaration of a state, of its country, or of a part of a country alone."""
    jurisdiction = key.jurisdiction
    return key.test == test and any(
        jurisdiction in (state, state[:2]) or jurisdiction[:2] == state for state in states
    )


def _holiday(event: Event) -> Holiday:
    counties = tuple(event["counties"])
    return Holiday(event["jurisdiction"], event["date"], event["name"], counties)


def _standing(held: _Emergency) -> Emergency | None:
    """The emergency as it stands; None if it was over before it began."""
    if held.declared is None:
        return None
    event = held.declared.event
    until_at = event["until_at"]
    if held.lifted is not None and held.lifted.effective_at > held.declared.effective_at:
        lifted_at = held.lifted.event["lifted_at"]
        until_at = lifted_at if until_at is None else min(until_at, lifted_at)
    if until_at is not None and until_at <= event["from_at"]:
        return None
    return Emergency(
        event["declaration_id"],
        event["jurisdiction"],
        event["from_at"],
        until_at,
        tuple(event["counties"]),
    )
