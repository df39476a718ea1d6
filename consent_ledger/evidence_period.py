"""The period of a bundle as it is asked for: instants, or days of a zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

from consent.errors import Rejected
from consent.instants import parse_instant
from consent.zones import zone, zone_names

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class EvidencePeriod(NamedTuple):
    """From `begin` to before `end`, in µs; `begin_given` False: it has no beginning."""

    begin: int
    end: int
    begin_given: bool


def period_of(begin: str | None, end: str | None, zone_name: str, now: int) -> EvidencePeriod:
    """The period; a day, as 2026-11-01, is its midnight in the zone. Without `end`, up to now.

    Rejected for what is no time, for an unknown zone, and for an end that is not after the start.
    """
    if zone_name not in zone_names():
        remedy = "give an IANA zone, e.g. America/New_York"
        raise Rejected("INVALID_ZONE", "zone", zone_name[:40], remedy)
    first = 0 if begin is None else _instant("from", begin, zone_name)
    last = now if end is None else _instant("to", end, zone_name)
    if last <= first:
        raise Rejected("NOT_LATER", "to", (end or "now")[:40], "give a time after the beginning")
    return EvidencePeriod(first, last, begin is not None)


def _instant(field: str, text: str, zone_name: str) -> int:
    try:
        if len(text) == len("2026-11-01"):
            day = date.fromisoformat(text)
            midnight = datetime(day.year, day.month, day.day, tzinfo=zone(zone_name))
            return (midnight - _EPOCH) // timedelta(microseconds=1)
        return parse_instant(text)
    except (ValueError, OverflowError):
        remedy = "write it as 2026-11-01, or with its zone as 2026-11-01T15:00:00Z"
        raise Rejected("INVALID_TIME", field, text[:40], remedy) from None
