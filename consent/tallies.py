"""Counting a campaign's calls, each once, in the periods in which laws cap abandoned calls.

A call is known by its id. What its events say is merged, so that order and repetition don't
matter: it has the earliest of their times, and was answered live, or abandoned, if any of them
says so. A count is thus a function of the events alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from operator import add
from typing import Final, NamedTuple

THIRTY_DAYS: Final = "THIRTY_DAYS"
CALENDAR_MONTH: Final = "CALENDAR_MONTH"
TWENTY_FOUR_HOURS: Final = "TWENTY_FOUR_HOURS"
PERIOD_KINDS: Final = (THIRTY_DAYS, CALENDAR_MONTH, TWENTY_FOUR_HOURS)

KEPT_DAYS: Final = 35
"""Calls and periods are kept so long after their time, a few days more than any period takes."""

DAY_US: Final = 86_400 * 1_000_000
KEPT_US: Final = KEPT_DAYS * DAY_US
_THIRTY_DAYS_US: Final = 30 * DAY_US


class CampaignId(NamedTuple):
    """One campaign of one seller; that of a rehearsal has TEST_PREFIX before the seller."""

    seller_id: str
    campaign_id: str


class Period(NamedTuple):
    """A period of one kind, from its first instant (µs) on."""

    kind: str
    start: int

    @property
    def end(self) -> int:
        """The first instant after it."""
        if self.kind == THIRTY_DAYS:
            return self.start + _THIRTY_DAYS_US
        if self.kind == TWENTY_FOUR_HOURS:
            return self.start + DAY_US
        return _month_start(self.start // DAY_US + 31)


class Call(NamedTuple):
    """What is known of one call. Whoever abandons a call was answered live before."""

    at: int
    live: bool
    abandoned: bool


class Counts(NamedTuple):
    """Calls of one period: placed, answered by a person, and of these the abandoned ones."""

    live_answered: int = 0
    abandoned: int = 0
    attempts: int = 0


NO_CALLS: Final = Counts()


def merge_calls(known: Call | None, said: Call) -> Call:
    """Both together; commutative, associative and idempotent."""
    if known is None:
        return said
    return Call(min(known.at, said.at), known.live or said.live, known.abandoned or said.abandoned)


def period_of(kind: str, at: int, counted_from: int) -> Period:
    """The period of this kind that an instant lies in.

    Periods of thirty days follow one another from `counted_from`, also backwards. Months and days
    are those of UTC: every worker must count alike, whatever its time-zone data.
    """
    if kind == THIRTY_DAYS:
        return Period(kind, at - (at - counted_from) % _THIRTY_DAYS_US)
    if kind == TWENTY_FOUR_HOURS:
        return Period(kind, at - at % DAY_US)
    return Period(kind, _month_start(at // DAY_US))


def periods_of(at: int, counted_from: int) -> tuple[Period, ...]:
    """The periods that a call at this instant counts in, one of each kind."""
    return tuple(period_of(kind, at, counted_from) for kind in PERIOD_KINDS)


@lru_cache(maxsize=1024)
def _month_start(day: int) -> int:
    """First instant of the month of a day, which is counted from 1970-01-01."""
    first = datetime.fromtimestamp(day * 86_400, UTC).replace(day=1)
    return int(first.timestamp()) * 1_000_000


class CampaignCounts:
    """One campaign's calls, counted. `unlisted` are counted too, but nobody knows them one by one.

    `changed` collects the periods whose counts have changed, until the caller clears it.
    """

    __slots__ = ("_found", "_numbers", "_since", "_until", "changed", "counted_from", "unlisted")

    def __init__(
        self,
        counted_from: int,
        counts: Mapping[Period, Counts] | None = None,
        unlisted: Mapping[Period, Counts] | None = None,
    ) -> None:
        self.counted_from = counted_from
        self.unlisted = dict(unlisted or {})
        self.changed: set[Period] = set()
        self._numbers = {period: list(found) for period, found in (counts or {}).items()}
        self._since = self._until = 0
        self._found: list[tuple[Period, list[int]]] = []

    @property
    def known(self) -> bool:
        """True if any period is known."""
        return bool(self._numbers)

    @property
    def counts(self) -> dict[Period, Counts]:
        """Counts of every period that is known, also of those without a call."""
        return {period: Counts(*numbers) for period, numbers in self._numbers.items()}

    def take(self, known: Call | None, said: Call) -> Call:
        """Count what one more event says of a call; returns the call as it is known then."""
        call = merge_calls(known, said)
        if call != known:
            if known is not None:
                self._count(known, -1)
            self._count(call, 1)
        return call

    def count_from(self, counted_from: int, calls: Iterable[Call]) -> None:
        """Count in other periods of thirty days; `calls` are all that are known one by one.

        Calls that are not are moved by whole days of UTC, each with its day's end. The former
        periods stay known, empty: whoever wrote them has to write that.
        """
        if counted_from == self.counted_from:
            return
        self.counted_from = counted_from
        self.unlisted = _moved(self.unlisted, counted_from)
        before = self.counts
        for period, numbers in self._numbers.items():
            if period.kind == THIRTY_DAYS:
                numbers[:] = NO_CALLS
        for period, counts in self.unlisted.items():
            if period.kind == THIRTY_DAYS:
                self._add(period, counts)
        for call in calls:
            self._add(period_of(THIRTY_DAYS, call.at, counted_from), _counts_of(call))
        after = self.counts
        self.changed |= {period for period in after if before.get(period) != after[period]}
        self._forget_found()

    def add_unlisted(self, period: Period, counts: Counts) -> None:
        """Count calls that nobody knows one by one any more."""
        self.unlisted[period] = _sum(self.unlisted.get(period, NO_CALLS), counts)
        self._add(period, counts)

    def add_empty(self, period: Period) -> None:
        """Know of a period in which there is no call."""
        self._numbers.setdefault(period, list(NO_CALLS))

    def forget_before(self, instant: int) -> list[Period]:
        """Leave out periods that were over at an instant; returns those."""
        over = [period for period in self._numbers if period.end <= instant]
        for period in over:
            del self._numbers[period]
            self.unlisted.pop(period, None)
            self.changed.discard(period)
        self._forget_found()
        return over

    def _count(self, call: Call, sign: int) -> None:
        """Most calls lie in the periods of the call before; those are kept at hand."""
        if not self._since <= call.at < self._until:
            periods = periods_of(call.at, self.counted_from)
            self._since = max(period.start for period in periods)
            self._until = min(period.end for period in periods)
            self._found = [
                (period, self._numbers.setdefault(period, list(NO_CALLS))) for period in periods
            ]
        live, abandoned, attempts = _counts_of(call)
        for period, numbers in self._found:
            numbers[0] += sign * live
            numbers[1] += sign * abandoned
            numbers[2] += sign * attempts
            self.changed.add(period)

    def _add(self, period: Period, counts: Counts) -> None:
        numbers = self._numbers.setdefault(period, list(NO_CALLS))
        numbers[:] = _sum(Counts(*numbers), counts)
        self.changed.add(period)

    def _forget_found(self) -> None:
        self._since = self._until = 0
        self._found = []


def _counts_of(call: Call) -> Counts:
    return Counts(int(call.live or call.abandoned), int(call.abandoned), 1)


def _sum(one: Counts, other: Counts) -> Counts:
    return Counts(*map(add, one, other))


def _moved(unlisted: Mapping[Period, Counts], counted_from: int) -> dict[Period, Counts]:
    moved = {period: counts for period, counts in unlisted.items() if period.kind != THIRTY_DAYS}
    for period, counts in unlisted.items():
        if period.kind == TWENTY_FOUR_HOURS:
            into = period_of(THIRTY_DAYS, period.end - 1, counted_from)
            moved[into] = _sum(moved.get(into, NO_CALLS), counts)
    return moved
