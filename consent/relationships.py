"""Business relationships and running contracts as exemptions, and the clocks that end them."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final

from consent.call_facts import CallFacts
from consent.findings import UsedFacts
from consent.instants import date_text
from consent.list_check import names_whole_party
from consent.local_days import midnights
from consent.state_entries import Relationship

_INTERNAL: Final = frozenset({"INTERNAL"})
_CONTRACT: Final = frozenset({"CONTRACT"})
_LASTING: Final = frozenset({"CONTRACT", "MEMBERSHIP"})
"""Kinds that run until they end; of all others the date is what counts."""
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_FOREVER: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class RelationshipCondition:
    """A relationship of one of the kinds with the seller, of which every given clock still runs.

    The last day of each clock is inclusive, by the local date of the zone that is furthest ahead.
    Clocks run from the relationship's date; of a contract or membership that has ended from its
    end, and while one runs they do not. Without clocks one that has ended does not count. A
    do-not-call request to the seller that stands ends it.
    """

    kinds: frozenset[str]
    months: int | None
    days: int | None
    statuses: frozenset[str]
    related: bool

    def saves(self, facts: CallFacts) -> UsedFacts | None:
        """The relationship that lasts longest."""
        if not facts.state.relationships:
            return None
        today = max(facts.days())
        lasting = [
            (self._last_day(kind, one), one.event_id, kind)
            for kind, one in self._fitting(facts)
            if one.on <= today <= self._last_day(kind, one)
        ]
        if not lasting or _asked_not_to_be_called(facts):
            return None
        last_day, event_id, kind = max(lasting)
        used = (("relationship", event_id), ("kind", kind))
        return used if last_day == _FOREVER else (*used, ("last_day", date_text(last_day)))

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where clocks begin and run out, and where do-not-call requests are removed."""
        for (seller, kind, _id), one in facts.state.relationships.items():
            if seller == facts.seller and kind in self.kinds:
                if after < one.at <= until:
                    yield one.at
                days = (one.on, self._last_day(kind, one) + 1)
                yield from midnights(facts, days, after, until)
        for _, entry in facts.listings(_INTERNAL, facts.state):
            if after < entry.at <= until:
                yield entry.at

    def _fitting(self, facts: CallFacts) -> Iterator[tuple[str, Relationship]]:
        for kind, one in facts.relationships(self.kinds):
            if one.status in self.statuses and (
                not self.related or facts.subject in one.related_subject_matters
            ):
                yield kind, one

    def _last_day(self, kind: str, one: Relationship) -> int:
        base = one.on
        ended = one.status == "ENDED" or one.ended_on is not None
        if kind in _LASTING and one.status != "UNKNOWN" and not ended:
            return _FOREVER
        if kind in _LASTING and one.ended_on is not None:
            base = one.ended_on
        clocks = []
        if self.months is not None:
            clocks.append(add_months(base, self.months))
        if self.days is not None:
            clocks.append(base + self.days)
        return min(clocks, default=base if ended else _FOREVER)


@dataclass(frozen=True, slots=True)
class OngoingContract:
    """A contract with the seller runs and is stated to be related to the subject of the call."""

    def saves(self, facts: CallFacts) -> UsedFacts | None:
        """The contract."""
        if facts.subject is None or not facts.state.relationships:
            return None
        today = max(facts.days())
        running = [
            (one.at, one.event_id)
            for _, one in facts.relationships(_CONTRACT)
            if one.status == "ACTIVE"
            and facts.subject in one.related_subject_matters
            and (one.ended_on is None or today <= one.ended_on)
        ]
        return (("relationship", max(running)[1]), ("kind", "CONTRACT")) if running else None

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where contracts begin and end."""
        for (seller, kind, _id), one in facts.state.relationships.items():
            if seller == facts.seller and kind == "CONTRACT":
                if after < one.at <= until:
                    yield one.at
                if one.ended_on is not None:
                    yield from midnights(facts, (one.ended_on + 1,), after, until)


def add_months(day: int, months: int) -> int:
    """The date so many calendar months after another; the last of a month that is too short.

    The date itself if no calendar has it, or what follows from it.
    """
    try:
        start = date.fromordinal(day + _EPOCH_DAY)
        year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
        number = min(start.day, calendar.monthrange(year, month + 1)[1])
        return date(year, month + 1, number).toordinal() - _EPOCH_DAY
    except (ValueError, OverflowError):
        return day


def grant_edges(facts: CallFacts, kinds: frozenset[str], after: int, until: int) -> Iterator[int]:
    """Where grants of these kinds begin and end."""
    for key, grant in facts.state.grants.items():
        if key[3] in kinds:
            for at in (grant.at, grant.expires_at):
                if at is not None and after < at <= until:
                    yield at


def _asked_not_to_be_called(facts: CallFacts) -> bool:
    """True if a request to the seller stands, on this number or for every number of the person."""
    if any(True for _ in facts.listings(_INTERNAL, facts.state)):
        return True
    return any(
        names_whole_party(key, entry)
        for state in facts.surroundings.linked
        for key, entry in facts.listings(_INTERNAL, state)
    )
