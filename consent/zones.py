"""Local dates and midnights of IANA zones, from the packaged time-zone data only.

The data is that of the `tzdata` package of this release, never the machine's own, so that a
decision can be repeated elsewhere; its version is recorded on every decision.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib import import_module, resources
from typing import Final
from zoneinfo import ZoneInfo

from consent.instants import MICROSECONDS, date_text

DAY_US: Final = 86_400 * MICROSECONDS
EARLIEST_MIDNIGHT_US: Final = -14 * 3600 * MICROSECONDS
"""Somewhere on earth a day begins this long after its midnight in UTC, that is 14 hours before."""
LATEST_MIDNIGHT_US: Final = 12 * 3600 * MICROSECONDS
"""And everywhere on earth it has begun this long after its midnight in UTC."""

ANYWHERE: Final = ("Etc/GMT-14", "Etc/GMT+12")
"""The zones in which a day begins first and last: together they stand for an unknown place."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@cache
def tzdata_version() -> str:
    """Version of the time-zone data in use, e.g. 2026f."""
    return str(import_module("tzdata").IANA_VERSION)


@cache
def zone_names() -> frozenset[str]:
    """Every zone name that the data knows."""
    names = resources.files("tzdata").joinpath("zones").read_text(encoding="ascii")
    return frozenset(names.split())


@cache
def zone(name: str) -> ZoneInfo:
    """The zone of a known name; KeyError for any other, so the cache stays bounded."""
    if name not in zone_names():
        raise KeyError(name)
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as data:
        return ZoneInfo.from_file(data, key=name)


def offset_at(at: int, name: str) -> int:
    """How far the zone's clock is ahead of UTC at an instant, in microseconds."""
    day = at // DAY_US
    offsets = _OFFSETS.get(name)
    if offsets is None:
        zone(name)
        offsets = _OFFSETS[name] = {}
    try:
        offset = offsets[day]
    except KeyError:
        begins, ends = _offset(day * DAY_US, name), _offset((day + 1) * DAY_US, name)
        if len(offsets) >= _DAYS_CACHED_MAX:
            offsets.clear()
        offset = offsets[day] = begins if begins == ends else None
    return _offset(at, name) if offset is None else offset


_OFFSETS: Final[dict[str, dict[int, int | None]]] = {}
"""Per zone and day in UTC the one offset of that day, None if the clocks are changed in it.

No zone changes its clocks twice in one day.
"""
_DAYS_CACHED_MAX: Final = 2_000


def _offset(at: int, name: str) -> int:
    local = (_EPOCH + timedelta(microseconds=at)).astimezone(zone(name))
    return (local.utcoffset() or timedelta()) // _MICROSECOND


def local_day(at: int, name: str) -> int:
    """Local date, in days since 1970-01-01, of an instant in microseconds UTC."""
    return (at + offset_at(at, name)) // DAY_US


def clock_reads(wall: int, name: str) -> list[int]:
    """Instants at which the zone's clock may come to show a time, or jump over it.

    `wall` is the local time as if it were UTC. All instants at which the clock is set to a time at
    or after it, having been before it, or back again, are among them; there may be others.
    """
    earliest, latest = wall + EARLIEST_MIDNIGHT_US, wall + LATEST_MIDNIGHT_US
    first, last = offset_at(earliest, name), offset_at(latest, name)
    if first == last:
        return [wall - first]
    return [wall - first, wall - last, _change_between(earliest, latest, name)]


def _change_between(before: int, after: int, name: str) -> int:
    """The first instant after a change of clocks between two instants with different offsets."""
    offset = offset_at(before, name)
    while after - before > 1:
        middle = (before + after) // 2
        if offset_at(middle, name) == offset:
            before = middle
        else:
            after = middle
    return after


def day_begins_at(day: int, name: str) -> int:
    """The first instant, in microseconds UTC, that has this local date in the zone.

    Where a change of clocks skips midnight, the day begins when the clocks stand after it.
    """
    return min(
        at
        for at in clock_reads(day * DAY_US, name)
        if local_day(at, name) >= day > local_day(at - 1, name)
    )


def weekday_of(day: int) -> int:
    """Day of the week of a date, Monday is 0."""
    return (day + 3) % 7


def clock_text(local: int) -> str:
    """What a clock shows, as in `Mon 2026-11-23 20:30:00`; `local` is as if it were UTC."""
    day, time = divmod(local // MICROSECONDS, 86_400)
    minutes, seconds = divmod(time, 60)
    weekday = _WEEKDAYS[(day + 3) % 7]
    return f"{weekday} {day_text(day)} {minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


@lru_cache(maxsize=4_096)
def day_text(day: int) -> str:
    """A date like 2026-11-22, of the days that are asked for again and again."""
    return date_text(day)


_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
