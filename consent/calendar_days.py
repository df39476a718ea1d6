"""Closed days as a statute names them: dates, nth weekdays, days around Easter, moved weekends."""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final, NamedTuple

from consent.zones import weekday_of

_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_YEARS_CACHED_MAX: Final = 400

DayOfYear = Callable[[int], int | None]
"""The day, since 1970-01-01, that falls in a year; None if the year has no such day."""


class ClosedDay(NamedTuple):
    """Why a day is closed, and in which counties; none means all of them."""

    name: str
    counties: tuple[str, ...]


class DayRule(NamedTuple):
    """A day that comes round: when, in which years, where, and how it is moved."""

    closed: ClosedDay
    of_year: DayOfYear
    years: tuple[int, int]
    every: int
    shift: Mapping[int, int]
    keep: bool

    def days_of(self, year: int) -> Iterable[int]:
        """The days that are closed for this one in a year, at most two."""
        first, last = self.years
        if not first <= year <= last or (self.every and (year - first) % self.every):
            return
        day = self.of_year(year)
        if day is None:
            return
        moved = self.shift.get(weekday_of(day), 0)
        if moved:
            yield day + moved
        if self.keep or not moved:
            yield day


@dataclass(frozen=True, slots=True, eq=False)
class ClosedDays:
    """The closed days of one calendar. Equal days give equal answers, for ever."""

    rules: tuple[DayRule, ...]
    _years: dict[int, dict[int, tuple[ClosedDay, ...]]] = field(default_factory=dict)

    def on(self, day: int) -> tuple[ClosedDay, ...]:
        """Why a day, since 1970-01-01, is closed; nothing if it is not."""
        year = date.fromordinal(day + _EPOCH_DAY).year
        days = self._years.get(year)
        if days is None:
            if len(self._years) >= _YEARS_CACHED_MAX:
                self._years.clear()
            days = self._years[year] = self._of_year(year)
        return days.get(day, ())

    def _of_year(self, year: int) -> dict[int, tuple[ClosedDay, ...]]:
        """Days by date; those of the years around it too, which may be moved into this one."""
        days: dict[int, tuple[ClosedDay, ...]] = {}
        for rule in self.rules:
            for near in (year - 1, year, year + 1):
                for day in rule.days_of(near):
                    days[day] = (*days.get(day, ()), rule.closed)
        return days


def compile_calendar(entry: Mapping[str, Any]) -> ClosedDays:
    """The closed days of a calendar that fits the JSON Schema."""
    return ClosedDays(tuple(_day_rule(day, entry) for day in entry["days"]))


_WAYS: Final = (
    {"on"},
    {"nth", "weekday", "month"},
    {"last", "month"},
    {"easter"},
    {"after", "days"},
)


def names_one_day(day: Mapping[str, Any]) -> bool:
    """True if an entry says in exactly one way when the day is."""
    return set(day) & set[str]().union(*_WAYS) in _WAYS


def _day_rule(day: Mapping[str, Any], entry: Mapping[str, Any]) -> DayRule:
    first, last = day.get("years", (None, None))
    shift = day.get("shift", entry.get("shift", {}))
    return DayRule(
        closed=ClosedDay(day["name"], tuple(day.get("counties", ()))),
        of_year=_of_year(day),
        years=(0 if first is None else first, 9999 if last is None else last),
        every=day.get("every", 0),
        shift={_WEEKDAYS.index(name): days for name, days in shift.items()},
        keep=day.get("keep", entry.get("keep", False)),
    )


def _of_year(day: Mapping[str, Any]) -> DayOfYear:
    if "on" in day:
        month, number = (int(part) for part in day["on"].split("-"))
        return lambda year: _date(year, month, number)
    if "easter" in day:
        offset = day["easter"]
        return lambda year: _easter(year) + offset
    if "last" in day:
        month, weekday = day["month"], _WEEKDAYS.index(day["last"])
        return lambda year: _last(year, month, weekday)
    if "after" in day:
        start, days = _nth(day["after"]), day["days"]
        return lambda year: None if (found := start(year)) is None else found + days
    return _nth(day)


def _nth(day: Mapping[str, Any]) -> DayOfYear:
    nth, weekday, month = day["nth"], _WEEKDAYS.index(day["weekday"]), day["month"]

    def of_year(year: int) -> int | None:
        first = date(year, month, 1)
        number = 1 + (weekday - first.weekday()) % 7 + 7 * (nth - 1)
        return _date(year, month, number)

    return of_year


def _date(year: int, month: int, number: int) -> int | None:
    if not 1 <= year <= 9999 or number > calendar.monthrange(year, month)[1]:
        return None
    return date(year, month, number).toordinal() - _EPOCH_DAY


def _last(year: int, month: int, weekday: int) -> int:
    last = date(year, month, calendar.monthrange(year, month)[1])
    return (last - timedelta((last.weekday() - weekday) % 7)).toordinal() - _EPOCH_DAY


def _easter(year: int) -> int:
    """Easter Sunday of the Gregorian calendar (Meeus, Jones, Butcher)."""
    century, rest = divmod(year, 100)
    moon = (19 * (year % 19) + century - century // 4 - (8 * century + 13) // 25 + 15) % 30
    weekday = (32 + 2 * (century % 4) + 2 * (rest // 4) - moon - rest % 4) % 7
    late = (year % 19 + 11 * moon + 22 * weekday) // 451
    month, number = divmod(moon + weekday - 7 * late + 114, 31)
    return date(year, month, number + 1).toordinal() - _EPOCH_DAY
