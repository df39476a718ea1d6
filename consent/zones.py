"""Local dates and midnights of IANA zones, from the packaged time-zone data only.

The data is that of the `tzdata` package of this release, never the machine's own, so that a
decision can be repeated elsewhere; its version is recorded on every decision.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import import_module, resources
from typing import Final
from zoneinfo import ZoneInfo

from consent.instants import MICROSECONDS

DAY_US: Final = 86_400 * MICROSECONDS
EARLIEST_MIDNIGHT_US: Final = -14 * 3600 * MICROSECONDS
"""Somewhere on earth a day begins this long after its midnight in UTC, that is 14 hours before."""
LATEST_MIDNIGHT_US: Final = 12 * 3600 * MICROSECONDS
"""And everywhere on earth it has begun this long after its midnight in UTC."""

ANYWHERE: Final = ("Etc/GMT-14", "Etc/GMT+12")
"""The zones in which a day begins first and last: together they stand for an unknown place."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = _EPOCH.toordinal()


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


def local_day(at: int, name: str) -> int:
    """Local date, in days since 1970-01-01, of an instant in microseconds UTC."""
    local = (_EPOCH + timedelta(microseconds=at)).astimezone(zone(name))
    return local.toordinal() - _EPOCH_DAY


def day_begins_at(day: int, name: str) -> int:
    """The first instant, in microseconds UTC, that has this local date in the zone.

    Where a change of clocks skips midnight, the day begins when the clocks stand after it.
    """
    wall = datetime.fromordinal(day + _EPOCH_DAY).replace(tzinfo=zone(name))
    at = (wall - _EPOCH) // timedelta(microseconds=1)
    if local_day(at, name) < day:
        offset = zone(name).utcoffset(wall.replace(fold=1))
        at = ((wall.replace(tzinfo=UTC) - _EPOCH) - (offset or timedelta())) // timedelta(
            microseconds=1
        )
    return at
