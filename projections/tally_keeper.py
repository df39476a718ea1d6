"""Keeps the tallies of the partitions that a project worker owns: counts, writes, and repairs.

Counts into the local cache first and appends what changed to the same partition of
`campaign-tallies` then; the caller acknowledges the batch after that. A crash in between leaves a
cache that is ahead: at the next assignment cache and topic are compared, and what differs is
written. Where the cache is behind, or gone, the source log is read from where it ends; what the log
does not hold any more is taken over from the topic's own counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import structlog
from aiokafka.structs import ConsumerRecord

from consent.contracts import RecordContract
from consent.intake import BatchReading, Origin, RawRecord, read_batch
from consent.programs import PROGRAM_TOPIC
from consent.tally_events import SOURCE_TOPIC, calls_of, tally_columns
from projections.suppression_log import LogConnection, Stretch, SuppressionLog
from projections.suppression_metrics import SuppressionMetrics
from projections.surroundings import (
    TALLIES_TOPIC,
    KnownEvent,
    SurroundingsBooks,
    SurroundingsConfig,
)
from projections.tally_partition import (
    CountedFrom,
    PartitionTallies,
    counted_as_marked,
    merged_rows,
)
from projections.tally_store import TallyStore, TallyStoreLimits
from projections.topic_follower import FollowingEnded, TopicFollower

log = structlog.get_logger(__name__)

STEP_STORED: Final = "tallies_stored"
STEP_APPENDED: Final = "tallies_appended"
_TOPICS: Final = (TALLIES_TOPIC, PROGRAM_TOPIC)


def _ignore(_step: str) -> None:
    """The default for `step_done`."""


class CallBatch(Protocol):
    """Consecutive records of one source partition; `offset_next` is the first one not covered."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def records(self) -> Sequence[RawRecord]: ...
    @property
    def offset_next(self) -> int: ...


@dataclass(slots=True, eq=False)
class _Owned:
    """A partition while it is ours.

    `read_to` is where its topic was read at the assignment, `appended` where we wrote since.
    `joined`: no record is missing between what is counted and the batches that come.
    """

    tallies: PartitionTallies
    read_to: int
    joined: bool = False
    settled: tuple[int, int, int] | None = None
    appended: list[Stretch] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TallyKeeping:
    """What a keeper needs beside its connection. `known`: events from before the log began.

    `step_done` is told after each durable step.
    """

    surroundings: SurroundingsConfig
    folder: Path
    known: Sequence[KnownEvent] = ()
    limits: TallyStoreLimits = field(default_factory=TallyStoreLimits)
    step_done: Callable[[str], None] = _ignore


class TallyKeeper:
    """Start it, give it every batch of the partitions that it was assigned, stop it.

    For one event loop, and one call at a time for each partition.
    """

    def __init__(
        self, connection: LogConnection, keeping: TallyKeeping, metrics: SuppressionMetrics
    ) -> None:
        self._tallies_log = SuppressionLog(connection, TALLIES_TOPIC)
        self._calls_log = SuppressionLog(connection, SOURCE_TOPIC)
        self._keeping = keeping
        self._metrics = metrics
        config = keeping.surroundings
        self._books = SurroundingsBooks(config.nonce, keeping.known, self._seen, marks_only=True)
        self._follower = TopicFollower(config.follower(_TOPICS), self._books)
        self._owned: dict[int, _Owned] = {}

    async def start(self) -> None:
        """Connect; KafkaConnectionError if no broker answers."""
        await self._tallies_log.start()
        await self._follower.start()

    async def stop(self) -> None:
        """Disconnect. What was not awaited was not promised."""
        await self._follower.stop()
        await self._tallies_log.stop()
        for number in list(self._owned):
            self.released(number)

    def columns(self, record: RecordContract) -> Sequence[str]:
        """Columns that `take` wants in the frames of a reading."""
        return tally_columns(record)

    async def assigned(self, number: int, log_ids: Mapping[str, bytes]) -> None:
        """Bring cache and topic of a partition together; afterwards its batches can be taken."""
        await self._follower.wait_until_loaded()
        log_id = log_ids[SOURCE_TOPIC]
        rows: list[tuple[bytes, bytes | None]] = []
        read_to = 0
        async with aclosing(self._tallies_log.read(number, 0)) as chunks:
            async for chunk in chunks:
                rows += [(record.key, record.value) for record in chunk.records]
                read_to = chunk.offset_next
        best, last = merged_rows(rows, log_id)
        store = TallyStore(self._keeping.folder / str(number), self._keeping.limits)
        owned = _Owned(PartitionTallies(number, store, log_id), read_to)
        self._owned[number] = owned
        reach = max((one.offset_last for one in best.values() if one.log_id == log_id), default=-1)
        cold = owned.tallies.cold
        wanted = counted_as_marked(best, self._books.counted_from)
        if await self._catch_up(owned, reach + 1, wanted) or cold:
            owned.tallies.adopt(best)
        owned.tallies.settle(self._books.counted_from)
        owned.tallies.compare(last)
        await self._append(owned)

    def released(self, number: int) -> None:
        """Give a partition up; nothing of it may be at work."""
        owned = self._owned.pop(number, None)
        if owned is not None:
            owned.tallies.close()

    async def take(self, batch: CallBatch, reading: BatchReading, recorded_at: int) -> None:
        """Count the calls of a batch; on return the topic says so.

        Batches of one partition must come in order. `recorded_at` is the last record's broker time.
        """
        owned = self._owned.get(batch.partition)
        if owned is None or batch.topic != SOURCE_TOPIC:
            return
        if not owned.joined:
            await self._catch_up(owned, batch.records[0].offset, self._books.counted_from)
            owned.joined = True
        said = calls_of(reading, batch.records)
        owned.tallies.fold(
            said, batch.offset_next, _not_ahead(recorded_at), self._books.counted_from
        )
        self._keeping.step_done(STEP_STORED)
        await self._settle(owned)

    async def beat(self, number: int) -> None:
        """Write what a declaration moved, or somebody else got wrong."""
        owned = self._owned.get(number)
        if owned is not None:
            await self._settle(owned)

    async def _settle(self, owned: _Owned) -> None:
        if self._follower.failed:
            raise FollowingEnded(f"{', '.join(_TOPICS)}: see the log")
        version = self._books.version
        if owned.settled != version:
            owned.tallies.settle(self._books.counted_from)
            owned.settled = version
        await self._append(owned)

    async def _append(self, owned: _Owned) -> None:
        rows = owned.tallies.take_rows()
        if rows:
            owned.appended += await self._tallies_log.append(owned.tallies.number, rows)
            self._metrics.tallies_written.inc(len(rows))
            self._keeping.step_done(STEP_APPENDED)

    async def _catch_up(self, owned: _Owned, to: int, wanted: CountedFrom) -> bool:
        """Count what the log holds from where counting is, up to `to`.

        True if the log did not hold all of it any more.
        """
        tallies = owned.tallies
        start = place = tallies.offset_next
        lost = False
        if start >= to:
            return False
        async with aclosing(self._calls_log.read(tallies.number, start)) as chunks:
            async for chunk in chunks:
                records = [record for record in chunk.records if record.offset < to]
                if records:
                    lost = lost or (place == start and records[0].offset > start)
                    self._fold(tallies, records, wanted)
                    place = tallies.offset_next
                if chunk.offset_next >= to:
                    break
        if place == start:
            lost = True
        if lost:
            log.warning("calls_taken_over", partition=tallies.number, offset_first=start)
        tallies.fold((), to, 0, wanted)
        return lost

    def _fold(
        self, tallies: PartitionTallies, records: Sequence[ConsumerRecord], wanted: CountedFrom
    ) -> None:
        partitions = self._keeping.surroundings.keyed_partitions
        origin = Origin(SOURCE_TOPIC, tallies.number, partitions)
        nonce = self._keeping.surroundings.nonce
        reading = read_batch(records, origin, nonce, tally_columns)
        last = records[-1]
        recorded_at = _not_ahead(last.timestamp * 1_000)
        tallies.fold(calls_of(reading, records), last.offset + 1, recorded_at, wanted)

    def _seen(self, partition: int, record: ConsumerRecord) -> None:
        """Check a record that somebody else appended to a partition of ours."""
        owned = self._owned.get(partition)
        if owned is None or record.offset < owned.read_to:
            return
        owned.appended = [one for one in owned.appended if one.offset_next > record.offset]
        if not any(one.offset_first <= record.offset for one in owned.appended):
            owned.tallies.seen(record.key or b"", record.value)


def _not_ahead(recorded_at: int) -> int:
    """Broker time, where the publishers' clocks make it; one that is ahead must not age calls."""
    return min(recorded_at, time.time_ns() // 1_000)
