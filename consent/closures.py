"""Days on which the called party's place is closed, by a calendar or by declaration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from consent.calendar_days import ClosedDay, ClosedDays
from consent.call_facts import CallFacts
from consent.rule_context import ParameterError, Path, Place, RuleContext


@dataclass(frozen=True, slots=True)
class Closures:
    """Closed days of some calendars and, if `declared`, of declarations where a rule holds.

    A day that is closed in some counties counts, unless the called party's counties are known
    and are others.
    """

    calendars: tuple[ClosedDays, ...]
    declared: bool
    place: Place

    def on(self, facts: CallFacts, day: int) -> Iterator[ClosedDay]:
        """Why a date is closed; nothing if it is not."""
        for calendar in self.calendars:
            for closed in calendar.on(day):
                if not closed.counties or facts.in_counties(closed.counties):
                    yield closed
        if self.declared:
            for holiday in facts.surroundings.calendar.holidays:
                if (
                    holiday.date == day
                    and self.place.covers(holiday.jurisdiction)
                    and facts.concerns(holiday.jurisdiction, holiday.counties)
                ):
                    yield ClosedDay(holiday.name, holiday.counties)

    def is_closed(self, facts: CallFacts, day: int) -> bool:
        """True if a date is closed."""
        return any(True for _ in self.on(facts, day))


def known_calendars(names: list[str], context: RuleContext, path: Path) -> tuple[ClosedDays, ...]:
    """The calendars that a check names; ParameterError for one that nobody describes."""
    for index, name in enumerate(names):
        if name not in context.calendars:
            message = f"calendar {name!r} is not described"
            raise ParameterError((*path, index), message, "Add it to `calendars`.")
    return tuple(context.calendars[name] for name in names)
