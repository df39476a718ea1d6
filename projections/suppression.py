"""The suppression projection: the owner's side of the compacted topic that dialers consume.

For every batch of a source partition: fold it, append all changed states and the watermark to the
same partition of the suppression topic, wait until they are safe, write the local cache, return.
Whoever calls may acknowledge the batch then. Repeating a batch changes nothing, so a crash at any
point is harmless. So is a former owner who writes late: the offsets of our own appends show that
somebody else wrote in between, those records are read and merged, and where the topic's last word
on a number is behind what is known, it is written again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from consent.contracts import RecordContract, contracts
from consent.dead_letters import dead_letter
from consent.errors import Retryable
from consent.folding import Log, lift_batch, needed_columns
from consent.intake import FORWARDED_HEADER, BatchReading, Origin, RawRecord, read_batch
from consent.lift import Position
from consent.privacy import Keys
from consent.state import AppliedOffset
from consent.state_codec import encode_watermark
from projections.suppression_fold import (
    Pending,
    States,
    fold_batch,
    token_key_of,
    watermark_key,
)
from projections.suppression_log import (
    DEAD_LETTERS_TOPIC,
    TOPIC,
    KeyedRecord,
    Row,
    SuppressionLog,
)
from projections.suppression_metrics import SuppressionMetrics
from projections.suppression_partition import (
    OwnedPartition,
    behind_rows,
    gaps,
    note_repairs,
    now_us,
    recover,
    rows_of,
)
from projections.suppression_store import ChangelogPlace, StoreFolder
from projections.watermark import SourceEnd, TrueAt

log = structlog.get_logger(__name__)

LogIds = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]
StepDone = Callable[[str], None]

STEP_APPENDED: Final = "states_appended"
STEP_STORED: Final = "states_stored"
_LOG_IDS_RETRY_S: Final = 1.0


class SourceBatch(Protocol):
    """Consecutive records of one source partition; `offset_next` is the first one not covered."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def records(self) -> Sequence[RawRecord]: ...
    @property
    def offset_next(self) -> int: ...


class Companion(Protocol):
    """Another effect of the same batches, made before their watermark says that they are folded.

    It is assigned a partition after that is recovered, and gives it up when nothing is at work.
    """

    def columns(self, record: RecordContract) -> Sequence[str]: ...
    async def assigned(self, number: int, log_ids: Mapping[str, bytes]) -> None: ...
    async def take(self, batch: SourceBatch, reading: BatchReading, recorded_at: int) -> None: ...
    async def beat(self, number: int) -> None: ...
    def released(self, number: int) -> None: ...


def ignore_step(_name: str) -> None:
    """The default for `step_done`."""


@dataclass(frozen=True, slots=True)
class ProjectionSettings:
    """`partitions` is the count of every number-keyed topic; `owner` names this writer.

    `nonce` is 16 random bytes of this process. `step_done` is told after each durable step.
    """

    partitions: int
    owner: str
    keys: Keys = field(repr=False)
    nonce: bytes = field(repr=False)
    step_done: StepDone = ignore_step


class SuppressionProjection:
    """Owns the partitions that it was assigned. For one event loop."""

    def __init__(
        self,
        topic_log: SuppressionLog,
        folder: StoreFolder,
        log_ids: LogIds,
        settings: ProjectionSettings,
        metrics: SuppressionMetrics,
        companion: Companion | None = None,
    ) -> None:
        self._companion = companion
        self._log = topic_log
        self._folder = folder
        self._read_log_ids = log_ids
        self._settings = settings
        self._metrics = metrics
        self._token_key = token_key_of(settings.keys.suppression)
        self._topics = contracts().keyed_source_topics
        self._log_ids: Mapping[str, bytes] = {}
        self._partitions: dict[int, OwnedPartition] = {}
        self._leaving: dict[int, OwnedPartition] = {}

    @property
    def owned(self) -> frozenset[int]:
        """Partitions that are recovered and ours now."""
        return frozenset(self._partitions)

    async def assigned(self, partitions: Iterable[int]) -> None:
        """Recover each partition from the topic; afterwards its batches can be applied."""
        self._log_ids = await self._known_log_ids()
        for number in sorted(partitions):
            former = self._leaving.get(number)
            if former is not None:
                # A batch may still be at work that the group took from us; it ends harmlessly.
                async with self._at_work(former):
                    pass
            store = self._folder.open(number)
            log_id = self._log_ids[TOPIC]
            partition = OwnedPartition(number, store, log_id, self._token_key, TrueAt(self._topics))
            self._leaving[number] = partition
            await recover(partition, self._log, self._metrics)
            if self._companion is not None:
                await self._companion.assigned(number, self._log_ids)
            del self._leaving[number]
            self._partitions[number] = partition

    async def _known_log_ids(self) -> Mapping[str, bytes]:
        while True:
            try:
                return await self._read_log_ids([*self._topics, TOPIC])
            except Retryable as problem:
                log.warning("log_ids_unknown", error=type(problem).__name__)
            await asyncio.sleep(_LOG_IDS_RETRY_S)

    def revoked(self) -> None:
        """Give up every partition. A batch at work finishes without an effect on what follows."""
        self._leaving.update(self._partitions)
        self._partitions = {}
        for partition in list(self._leaving.values()):
            partition.left = True
            if not partition.lock.locked():
                self._release(partition)

    def _release(self, partition: OwnedPartition) -> None:
        partition.store.close()
        if self._companion is not None:
            self._companion.released(partition.number)
        if self._leaving.get(partition.number) is partition:
            del self._leaving[partition.number]

    @contextlib.asynccontextmanager
    async def _at_work(self, partition: OwnedPartition) -> AsyncIterator[None]:
        """One at a time; the last one out of a partition that was taken away closes it."""
        async with partition.lock:
            try:
                yield
            finally:
                if partition.left:
                    self._release(partition)

    async def apply(self, batch: SourceBatch) -> None:
        """Fold one batch; on return its effect is safe and it may be acknowledged.

        Batches of one source partition must come in order. What can't be used is a dead letter by
        then, what belongs elsewhere has been forwarded.
        """
        partition = self._partitions[batch.partition]
        source = Log(batch.topic, self._log_ids[batch.topic], batch.partition)
        origin = Origin(batch.topic, batch.partition, self._settings.partitions)
        async with self._at_work(partition):
            if partition.left:
                return
            started = time.perf_counter()
            recorded_at = [record.timestamp * 1000 for record in batch.records]
            reading = read_batch(batch.records, origin, self._settings.nonce, self._columns)
            await self._send_elsewhere(source, batch.records, recorded_at, reading)
            lifted = lift_batch(
                reading, batch.records, recorded_at, source, self._settings.keys.suppression
            )
            changed = fold_batch(partition.store, lifted, self._token_key)
            self._metrics.fold_seconds.observe(time.perf_counter() - started)
            partition.positions[batch.topic] = batch.offset_next
            offset = AppliedOffset(batch.offset_next - 1, recorded_at[-1])
            partition.note_applied({(source.topic, source.log_id): offset})
            partition.truth.reached(partition.positions)
            if self._companion is not None:
                await self._companion.take(batch, reading, recorded_at[-1])
            await self._write(partition, changed)
            self._metrics.states_written.inc(len(changed))

    def _columns(self, record: RecordContract) -> Sequence[str]:
        needed = needed_columns(record)
        if self._companion is None:
            return needed
        return [*needed, *self._companion.columns(record)]

    async def beat(
        self,
        number: int,
        positions: Mapping[str, int],
        ends: Mapping[str, SourceEnd],
        idle_us: int = 0,
    ) -> None:
        """Write the partition's watermark, if nothing was written to it for `idle_us`.

        `positions` says up to where each source topic is acknowledged, `ends` where it ended.
        """
        partition = self._partitions.get(number)
        if partition is None:
            return
        for topic, end in ends.items():
            partition.truth.asked(topic, end)
        if partition.lock.locked() and not partition.purge_is_due(now_us()):
            # A batch is at work, and writes a watermark of its own.
            return
        async with self._at_work(partition):
            if self._companion is not None and not partition.left:
                await self._companion.beat(number)
            partition.note_positions(positions, self._log_ids)
            if not partition.left and now_us() - partition.written_at >= idle_us:
                await self._write(partition, {})
            if not partition.left and partition.purge_is_due(now_us()):
                await asyncio.to_thread(partition.purge)

    async def _write(self, partition: OwnedPartition, changed: States) -> None:
        """Append states and watermark, take in what others wrote, and write the local cache."""
        watermark = partition.watermark(self._settings.owner)
        rows = rows_of(changed)
        rows.append((watermark_key(partition.number), encode_watermark(watermark)))
        try:
            place = await self._append(partition, rows, changed)
        except BaseException:
            # What is noted of this partition may be ahead of the topic now: it must not be written.
            partition.left = True
            raise
        if not partition.left:
            partition.store.write(changed, ChangelogPlace(partition.log_id, place))
            partition.written_at = now_us()
            self._metrics.true_at.labels(str(partition.number)).set(watermark.true_at / 1e6)
        self._settings.step_done(STEP_STORED)

    async def _append(self, partition: OwnedPartition, rows: list[Row], changed: States) -> int:
        """Append until the topic's last words are what is known; up to where it is known then."""
        place = partition.offset_next
        while rows:
            started = time.perf_counter()
            stretches = await self._log.append(partition.number, rows)
            self._metrics.append_seconds.observe(time.perf_counter() - started)
            self._settings.step_done(STEP_APPENDED)
            later, rows = dict(rows), []
            for gap in gaps(stretches, place, len(later)):
                known = Pending(partition.store, changed)
                async with contextlib.aclosing(self._log.read(partition.number, *gap)) as chunks:
                    async for chunk in chunks:
                        taken = partition.take_in(known, chunk, later)
                        changed.update(taken.states)
                        rows += behind_rows(taken.behind)
                        place = max(place, chunk.offset_next)
            place = max([place, *(stretch.offset_next for stretch in stretches)])
            note_repairs(partition, rows, self._metrics)
        return place

    async def _send_elsewhere(
        self,
        source: Log,
        records: Sequence[RawRecord],
        recorded_at: Sequence[int],
        reading: BatchReading,
    ) -> None:
        """Dead letters and forwards; on return they are safe. Repeating them is harmless."""
        for alarm, count in reading.alarms.items():
            self._metrics.alarms.labels(source.topic, alarm).inc(count)
            log.warning("records_to_look_at", topic=source.topic, alarm=alarm, records=count)
        outgoing = []
        for reason, count in Counter(problem.reason for problem in reading.unreadable).items():
            self._metrics.dead_letters.labels(source.topic, reason).inc(count)
            log.warning(
                "records_unreadable",
                topic=source.topic,
                partition=source.partition,
                offset_first=records[0].offset,
                reason=reason,
                records=count,
            )
        for problem in reading.unreadable:
            index = problem.index
            record = records[index]
            position = Position(
                source.topic, source.log_id, source.partition, record.offset, recorded_at[index]
            )
            letter = dead_letter(record, problem, position, self._settings.keys.dead_letters)
            outgoing.append(KeyedRecord(DEAD_LETTERS_TOPIC, record.key, letter))
        for forward in reading.forwards:
            headers = [*(records[forward.index].headers or ()), (FORWARDED_HEADER, b"1")]
            partitions = self._settings.partitions
            outgoing.append(
                KeyedRecord(source.topic, forward.key, forward.value, headers, partitions)
            )
            self._metrics.forwards.labels(source.topic, forward.reason).inc()
        await self._log.send_keyed(outgoing)
