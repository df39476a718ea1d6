"""Local dates of the candidate zones in a stretch of time, and the instants at which they begin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from consent.call_facts import CallFacts
from consent.zones import DAY_US, EARLIEST_MIDNIGHT_US, LATEST_MIDNIGHT_US, clock_reads

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""As rule files name them, in the order of `zones.weekday_of`."""


def midnights(facts: CallFacts, days: Iterable[int], after: int, until: int) -> Iterator[int]:
    """Instants in (after, until] at which one of the days begins in a candidate zone."""
    for day in days:
        if day * DAY_US + EARLIEST_MIDNIGHT_US <= until and (
            day * DAY_US + LATEST_MIDNIGHT_US > after
        ):
            for name in facts.zones:
                yield from (at for at in clock_reads(day * DAY_US, name) if after < at <= until)


def days_between(after: int, until: int) -> range:
    """Every local date that some zone may have in (after, until]."""
    first, last = after - LATEST_MIDNIGHT_US, until - EARLIEST_MIDNIGHT_US
    return range(first // DAY_US, last // DAY_US + 1)
