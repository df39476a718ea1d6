"""The kinds `window` and `day_ban`: wall-clock hours and weekdays at the called party.

A call must be inside of the hours in every candidate zone. Hours begin inclusive and end
exclusive, to the microsecond, by what the clocks there show: on a day on which they are changed
as on any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from consent.call_facts import CallFacts
from consent.closures import Closures, known_calendars
from consent.findings import Finding, Result
from consent.instants import MICROSECONDS
from consent.local_days import WEEKDAYS, days_between, midnights
from consent.rule_context import ParameterError, Path, RuleContext
from consent.zones import DAY_US, clock_reads, weekday_of, zone_names

Interval = tuple[int, int]
_MINUTE_US: Final = 60 * MICROSECONDS
_NO_ZONE: Final = Finding(Result.MISSING, (("zones", ()),))


@dataclass(frozen=True, slots=True)
class WindowCheck:
    """Open `intervals` of each weekday, Monday first, in microseconds after midnight."""

    intervals: tuple[tuple[Interval, ...], ...]
    closed_reason: str | None
    also_in: tuple[str, ...]
    holidays: Closures | None = None
    holiday_intervals: tuple[Interval, ...] = ()

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the clock of every zone; a closed day in one of them is named before hours."""
        if not zones:
            return _NO_ZONE
        if self.also_in:
            zones = (*zones, *self.also_in)
        outside = closed = False
        for name in zones:
            day, time = divmod(facts.on_clock(name), DAY_US)
            intervals = self._intervals(facts, day)
            for begins, ends in intervals:
                if begins <= time < ends:
                    break
            else:
                outside = True
                closed = closed or not intervals
        if outside:
            reason = self.closed_reason if closed else None
            return Finding(Result.FAILS, facts.clock_texts(zones), reason)
        return Finding(Result.HOLDS, facts.clock_texts(zones))

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where an interval begins or ends in one of the zones, and where a day of holiday may."""
        for name in (*facts.zones, *self.also_in):
            for day in days_between(after, until):
                if self.holidays is not None:
                    yield from midnights(facts, (day,), after, until)
                for interval in self._intervals(facts, day):
                    for time in interval:
                        for at in clock_reads(day * DAY_US + time, name):
                            if after < at <= until:
                                yield at

    def _intervals(self, facts: CallFacts, day: int) -> tuple[Interval, ...]:
        if self.holidays is not None and self.holidays.is_closed(facts, day):
            return self.holiday_intervals
        return self.intervals[weekday_of(day)]


@dataclass(frozen=True, slots=True)
class DayBan:
    """Weekdays, 0 is Monday, on which nobody is called."""

    weekdays: frozenset[int]

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the local date in every zone."""
        if not zones:
            return _NO_ZONE
        banned = any(weekday_of(day) in self.weekdays for day in facts.days(zones))
        return Finding(Result.FAILS if banned else Result.HOLDS, facts.clock_texts(zones))

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where such a day begins or ends in one of the zones."""
        for day in days_between(after, until):
            if weekday_of(day) in self.weekdays:
                yield from midnights(facts, (day, day + 1), after, until)


def compile_window(params: Mapping[str, Any], context: RuleContext) -> WindowCheck:
    """Check of the parameters in a rule file."""
    intervals: list[tuple[Interval, ...] | None] = [None] * 7
    for label, times in params["days"].items():
        for weekday in _weekdays(label):
            if intervals[weekday] is not None:
                message = f"{WEEKDAYS[weekday]} is there twice"
                raise ParameterError(("days", label), message, "Name every weekday once.")
            intervals[weekday] = _intervals(times, ("days", label))
    missing = [name for name, times in zip(WEEKDAYS, intervals, strict=True) if times is None]
    if missing:
        remedy = "Name every weekday once; [] is a closed day."
        raise ParameterError(("days",), f"{', '.join(missing)} missing in the window", remedy)
    also_in = tuple(params.get("also_in", ()))
    for index, name in enumerate(also_in):
        if name not in zone_names():
            raise ParameterError(("also_in", index), f"{name!r} is no IANA zone", "Correct it.")
    days = tuple(times or () for times in intervals)
    return WindowCheck(days, params.get("closed_reason"), also_in, *_on_holidays(params, context))


def _on_holidays(
    params: Mapping[str, Any], context: RuleContext
) -> tuple[Closures | None, tuple[Interval, ...]]:
    if "on_holidays" not in params:
        return None, ()
    given = params["on_holidays"]
    calendars = known_calendars(given.get("calendars", []), context, ("on_holidays", "calendars"))
    closed = Closures(calendars, given.get("declared", False), context.place)
    return closed, _intervals(given["hours"], ("on_holidays", "hours"))


def compile_day_ban(params: Mapping[str, Any], context: RuleContext) -> DayBan:
    """Check of the parameters in a rule file."""
    return DayBan(frozenset(WEEKDAYS.index(name) for name in params["days"]))


def _weekdays(label: str) -> Iterator[int]:
    """The weekdays of `mon` or `mon-sat`; a range may run over the end of the week."""
    first, _, last = label.partition("-")
    weekday, end = WEEKDAYS.index(first), WEEKDAYS.index(last or first)
    yield weekday
    while weekday != end:
        weekday = (weekday + 1) % 7
        yield weekday


def _intervals(times: list[list[str]], path: Path) -> tuple[Interval, ...]:
    intervals: list[Interval] = []
    for index, (begins, ends) in enumerate(times):
        interval = _time(begins), _time(ends)
        if interval[1] <= interval[0]:
            message = f"{begins} to {ends} ends before it begins"
            remedy = "Split a window that runs over midnight; 24:00 is the end of a day."
            raise ParameterError((*path, index), message, remedy)
        if intervals and interval[0] < intervals[-1][1]:
            message = f"{begins} to {ends} begins before the one before it ends"
            raise ParameterError((*path, index), message, "Put them in order, without overlap.")
        intervals.append(interval)
    return tuple(intervals)


def _time(text: str) -> int:
    hours, minutes = text.split(":")
    return (int(hours) * 60 + int(minutes)) * _MINUTE_US
