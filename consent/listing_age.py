"""Exemptions by the date on which a number was listed: listed lately, or agreed to since."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from consent.call_facts import CallFacts
from consent.findings import UsedFacts
from consent.instants import date_text
from consent.local_days import midnights
from consent.relationships import grant_edges
from consent.zones import ANYWHERE, day_begins_at

_NATIONAL: Final = frozenset({"NATIONAL"})


@dataclass(frozen=True, slots=True)
class ListedLessThan:
    """The number is listed since less than so many days, by the dates that the lists give.

    Every listing by the registry, and every national one that reached the number's state, must
    be so young; a listing without a date never is.
    """

    registry: str
    days: int

    def saves(self, facts: CallFacts) -> UsedFacts | None:
        """The date of the oldest listing."""
        listed_on = _listed_on(facts, self.registry)
        if not listed_on:
            return None
        dates = [day for day in listed_on if day is not None]
        if len(dates) < len(listed_on) or max(facts.days()) - min(dates) >= self.days:
            return None
        return (("registry", self.registry), ("listed_on", date_text(min(dates))))

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where a listing becomes old enough, and where one is removed."""
        days = [day + self.days for day in _listed_on(facts, self.registry) if day is not None]
        yield from midnights(facts, days, after, until)
        yield from _removals(facts, after, until)


@dataclass(frozen=True, slots=True)
class ConsentSinceListing:
    """A consent that covers the call is newer than every listing: newer than its whole day."""

    registry: str
    kinds: frozenset[str]

    def saves(self, facts: CallFacts) -> UsedFacts | None:
        """The newest such grant."""
        listed_on = _listed_on(facts, self.registry)
        if not listed_on or None in listed_on:
            return None
        last = max(day for day in listed_on if day is not None)
        ended_at = max(day_begins_at(last + 1, name) for name in facts.zones or ANYWHERE) - 1
        agreed = facts.agreed_since(max(facts.revoked_at, ended_at), self.kinds)
        if agreed is None:
            return None
        used = (("grant", agreed[1].event_id), ("granted_at", agreed[1].at))
        return (*used, ("listed_on", date_text(last)))

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where grants of these kinds begin and end, and where a listing is removed."""
        yield from grant_edges(facts, self.kinds, after, until)
        yield from _removals(facts, after, until)


def _listed_on(facts: CallFacts, registry: str) -> list[int | None]:
    """Dates of the listings by a registry and of national ones in the state, None unknown."""
    found = facts.membership(registry)
    dates = [found.listed_on] if found is not None and found.member else []
    dates += [entry.listed_on for _, entry in facts.listings(_NATIONAL, facts.state)]
    return dates


def _removals(facts: CallFacts, after: int, until: int) -> Iterator[int]:
    for _, entry in facts.listings(_NATIONAL, facts.state):
        if after < entry.at <= until:
            yield entry.at
