"""What surrounded a call at an earlier moment, from the facts that had been recorded by then.

Program, calendar and the campaign's counts follow from facts. Registries are not kept number by
number: what is known of a list is what a decision about the number wrote down, as long as no newer
version of that list had been published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from consent.calendars_declared import CALENDAR_TOPIC, CalendarBook
from consent.call import Campaign, ListMembership, Registries, Tally
from consent.programs import PROGRAM_TOPIC, ProgramBook
from consent.reconstruction import KnownFact
from consent.recorded_surroundings import registries_of
from consent.tallies import (
    NO_CALLS,
    PERIOD_KINDS,
    Call,
    CampaignCounts,
    period_of,
)
from consent.tally_events import call_of

REGISTRY_TOPIC: Final = "registry-versions"


class ActiveRulebook(NamedTuple):
    """A rulebook that was put into use, and when the log said so."""

    digest: bytes
    version: str
    profile: str | None
    recorded_at: int


def active_rulebook(facts: Sequence[KnownFact]) -> ActiveRulebook | None:
    """The last one put into use by these facts, which are in the log's order; None before any."""
    for fact in reversed(facts):
        if fact.name == "RulebookActivated" and fact.fields is not None and not fact.test:
            return ActiveRulebook(
                fact.fields["rulebook_digest"],
                fact.fields["rulebook_version"],
                fact.fields["profile"],
                fact.position.recorded_at,
            )
    return None


def books_of(facts: Iterable[KnownFact]) -> tuple[ProgramBook, CalendarBook]:
    """What sellers filed and declared, and what calendars say, by facts in the log's order."""
    programs, calendars = ProgramBook(), CalendarBook()
    for fact in facts:
        if fact.fields is None:
            continue
        if fact.position.topic == PROGRAM_TOPIC:
            programs.take(fact.name, fact.fields, fact.effective_at)
        elif fact.position.topic == CALENDAR_TOPIC:
            calendars.take(fact.name, fact.fields, fact.effective_at)
    return programs, calendars


def campaign_counts(calls: Iterable[KnownFact], at: int, counted_from: int | None) -> Campaign:
    """A campaign's counts in the periods that hold `at`, by the events of its calls.

    `counted_from` is its declared start, else its first call; None if it has neither. A call is
    known by its number and its id.
    """
    begun = at if counted_from is None else counted_from
    counts = CampaignCounts(begun)
    known: dict[tuple[bytes | None, str], Call] = {}
    for fact in calls:
        if fact.fields is None:
            continue
        said = call_of(fact.name, fact.fields, fact.effective_at, fact.position.offset)
        if said is not None:
            key = (fact.subject, said.call_id)
            known[key] = counts.take(known.get(key), said.call)
    found = counts.counts
    tallies = []
    for kind in PERIOD_KINDS:
        period = period_of(kind, at, begun)
        numbers = found.get(period, NO_CALLS)
        tallies.append(Tally(kind, numbers.live_answered, numbers.abandoned, period.start))
    return Campaign(tuple(tallies))


class KnownRegistries(NamedTuple):
    """Lists as a decision about the number recorded them, and by which decision that was."""

    registries: Registries
    decision_id: str | None


def recorded_registries(facts: Sequence[KnownFact], around: Iterable[KnownFact]) -> KnownRegistries:
    """What the newest decision among a number's facts says of lists; not loaded is not known.

    A list of which a newer version had been published is left out.
    """
    newest = _newest_versions(around)
    for fact in reversed(facts):
        if fact.name != "DialDecision" or fact.fields is None or not fact.fields["lists"]:
            continue
        lists = registries_of(fact.fields["lists"]).lists
        kept = tuple(one for one in lists if one.member is not None and _holds(one, newest))
        return KnownRegistries(Registries(kept), fact.event_id)
    return KnownRegistries(Registries(), None)


def _newest_versions(around: Iterable[KnownFact]) -> Mapping[tuple[str, str | None], str]:
    newest: dict[tuple[str, str | None], str] = {}
    for fact in around:
        if fact.name == "RegistryVersionPublished" and fact.fields is not None:
            newest[fact.fields["list_id"], fact.fields["area"] or None] = fact.fields["version"]
    return newest


def _holds(one: ListMembership, newest: Mapping[tuple[str, str | None], str]) -> bool:
    published = newest.get((one.list_id, one.area or None))
    return published is None or published == one.version
