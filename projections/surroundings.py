"""What surrounds a call beside its number: campaigns' counts, what sellers filed, calendars.

Follows the three small topics that say so, from their beginnings. A broker that forgets its log
does not have what was published before it was last started; the caller hands that in as `known`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiokafka.structs import ConsumerRecord, TopicPartition

from consent.calendars_declared import CALENDAR_TOPIC, CalendarBook
from consent.call import Calendar, Campaign, Program, Tally
from consent.codec import decode_body
from consent.errors import Unreadable
from consent.intake import Origin, read_batch
from consent.programs import PROGRAM_TOPIC, Activation, ProgramBook, ProgramQuestion
from consent.tallies import CampaignId
from consent.tally_events import SOURCE_TOPIC
from consent.tally_records import TallyBook, may_be_mark
from projections.topic_follower import FollowerConfig, LogIds, TopicFollower

log = structlog.get_logger(__name__)

TALLIES_TOPIC: Final = "campaign-tallies"


@dataclass(frozen=True, slots=True)
class KnownEvent:
    """An event from before the log began: its type, its fields, and from when on it counts."""

    topic: str
    name: str
    fields: Mapping[str, Any]
    effective_at: int


KnownEvents = Callable[[], Awaitable[Sequence[KnownEvent]]]
TallySeen = Callable[[int, ConsumerRecord], None]


def _ignore(_partition: int, _record: ConsumerRecord) -> None:
    """The default for `tally_seen`."""


class SurroundingsBooks:
    """Receives the topics' records. `tally_seen` is told of every tally's record, with its place.

    `nonce` is 16 random bytes of this process. A tally that can't be read is passed over: what was
    known before stays, and its partition's owner writes it again. `marks_only`: of tallies only
    those are kept that say from when campaigns are counted.
    """

    def __init__(
        self,
        nonce: bytes,
        known: Sequence[KnownEvent] = (),
        tally_seen: TallySeen = _ignore,
        *,
        marks_only: bool = False,
    ) -> None:
        self._nonce = nonce
        self._known = known
        self._tally_seen = tally_seen
        self._marks_only = marks_only
        self._begun = 0
        self.begin({})

    def begin(self, log_ids: Mapping[str, bytes]) -> None:
        """Forget all but what was known from the start."""
        self._begun += 1
        self.tallies = TallyBook(log_ids.get(SOURCE_TOPIC, b""))
        self.programs = ProgramBook()
        self.calendars = CalendarBook()
        for event in self._known:
            self._event(event.topic, event.name, event.fields, event.effective_at)

    @property
    def version(self) -> tuple[int, int, int]:
        """Changes whenever an instant that a campaign is counted from may have changed."""
        return self._begun, self.tallies.version, self.programs.version

    def counted_from(self, campaign: CampaignId, first_at: int) -> int:
        """From when to count: the declared start, else the earliest call that is known."""
        declared = self.programs.declared_start(campaign)
        if declared is not None:
            return declared
        marked = self.tallies.counted_from(campaign)
        return first_at if marked is None else min(marked, first_at)

    def take(self, target: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        """Take records in, in their order."""
        if target.topic == TALLIES_TOPIC:
            for record in records:
                self._tally(target.partition, record)
        else:
            self._events(target, records)

    def _tally(self, partition: int, record: ConsumerRecord) -> None:
        key = record.key or b""
        try:
            if not self._marks_only or may_be_mark(key):
                self.tallies.take(key, record.value)
        except Unreadable as problem:
            place = {"partition": partition, "offset": record.offset}
            log.error("tally_unreadable", reason=problem.reason, **place)
        self._tally_seen(partition, record)

    def _events(self, target: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        origin = Origin(target.topic, target.partition, target.partition + 1)
        reading = read_batch(records, origin, self._nonce)
        for problem in reading.unreadable:
            # It is kept as a dead letter by who records; here there is nothing to apply.
            offset = records[problem.index].offset
            log.warning(
                "event_unreadable", topic=target.topic, offset=offset, reason=problem.reason
            )
        found = sorted(
            (index, group.record, body, at)
            for group in reading.groups
            for index, body, at in zip(group.indexes, group.bodies, group.effective_at, strict=True)
        )
        for _index, record, body, at in found:
            self._event(target.topic, record.name, decode_body(record.parsed, body), at)

    def _event(self, topic: str, name: str, fields: Mapping[str, Any], effective_at: int) -> None:
        if topic == PROGRAM_TOPIC:
            self.programs.take(name, fields, effective_at)
        elif topic == CALENDAR_TOPIC:
            self.calendars.take(name, fields, effective_at)


@dataclass(frozen=True, slots=True)
class SurroundingsConfig:
    """How the topics are followed; see `FollowerConfig`. `max_age_ms` bounds what is relied on."""

    bootstrap: str
    keyed_partitions: int
    log_ids: LogIds
    nonce: bytes = field(repr=False)
    client_id: str = "consent-ledger-surroundings"
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    max_age_ms: int = 15_000
    request_timeout_ms: int = 20_000

    def follower(self, topics: tuple[str, ...]) -> FollowerConfig:
        """To follow these topics."""
        return FollowerConfig(
            bootstrap=self.bootstrap,
            topics=topics,
            keyed_partitions=self.keyed_partitions,
            log_ids=self.log_ids,
            client_id=self.client_id,
            watched=(SOURCE_TOPIC,),
            options=self.options,
            request_timeout_ms=self.request_timeout_ms,
        )


class SurroundingsView:
    """Start it, ask, stop it; answers don't wait. For one event loop.

    `known` gives what was published before the log began; it is waited for.
    """

    def __init__(self, config: SurroundingsConfig, known: KnownEvents | None = None) -> None:
        self._config = config
        self._known = known
        self._topics = (TALLIES_TOPIC, PROGRAM_TOPIC, CALENDAR_TOPIC)
        self._follow(())
        self._beginning: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()

    def _follow(self, known: Sequence[KnownEvent]) -> None:
        self._books = SurroundingsBooks(self._config.nonce, known)
        self._follower = TopicFollower(self._config.follower(self._topics), self._books)

    async def start(self) -> None:
        """Begin to follow; returns at once. Brokers that are away are waited for."""
        self._beginning = asyncio.create_task(self._begin())

    async def _begin(self) -> None:
        if self._known is not None:
            self._follow(await self._known())
        await self._follower.start()
        self._begun.set()

    async def stop(self) -> None:
        """Stop following; what is known grows stale."""
        if self._beginning is not None:
            self._beginning.cancel()
            await asyncio.gather(self._beginning, return_exceptions=True)
        await self._follower.stop()

    @property
    def loaded(self) -> bool:
        """True if every topic was read to its end; nothing may be answered before."""
        return self._follower.loaded

    def stale(self, at: int) -> bool:
        """True if what is known is older at an instant (µs) than may be relied on."""
        true_at_ms = self._follower.true_at_ms()
        return true_at_ms is None or at // 1_000 - true_at_ms > self._config.max_age_ms

    async def wait_until_loaded(self) -> None:
        """Return once every topic was read to its end; set a time-out around it."""
        await self._begun.wait()
        await self._follower.wait_until_loaded()

    def campaign(self, campaign: CampaignId | None, at: int) -> Campaign:
        """Counts of the campaign's periods at an instant; none where it has no call, or no id."""
        if campaign is None:
            return Campaign()
        declared = self._books.programs.declared_start(campaign)
        return Campaign(
            tuple(
                Tally(
                    period=one.period.kind,
                    period_start_at=one.period.start,
                    live_answered=one.counts.live_answered,
                    abandoned=one.counts.abandoned,
                )
                for one in self._books.tallies.tallies(campaign, at, declared)
            )
        )

    @property
    def activation(self) -> Activation | None:
        """The rulebook that was put into use last; ask once loaded."""
        return self._books.programs.activation

    def program(self, question: ProgramQuestion) -> Program:
        """What bears on a call of what its seller filed and declared."""
        return self._books.programs.program(question)

    def calendar(self, states: Sequence[str], at: int, *, test: bool) -> Calendar:
        """What is declared for these jurisdictions around an instant."""
        return self._books.calendars.calendar(states, at, test=test)
