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
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from consent.contracts import contracts
from consent.dead_letters import dead_letter
from consent.errors import Retryable
from consent.folding import Log, lift_batch, needed_columns
from consent.intake import FORWARDED_HEADER, BatchReading, Origin, RawRecord, read_batch
from consent.lift import Position
from consent.privacy import Keys
from consent.state import AppliedOffset, merge_applied
from consent.state_codec import Watermark, encode_watermark
from projections.suppression_fold import (
    NOTHING_LATER,
    Known,
    Pending,
    States,
    TakenIn,
    TopicRow,
    fold_batch,
    framed_state,
    take_in,
    token_key_of,
    watermark_key,
)
from projections.suppression_log import (
    DEAD_LETTERS_TOPIC,
    TOPIC,
    KeyedRecord,
    ReadChunk,
    Row,
    Stretch,
    SuppressionLog,
)
from projections.suppression_metrics import SuppressionMetrics
from projections.suppression_store import ChangelogPlace, StoreFolder, SuppressionStore
from projections.watermark import SourceEnd, TrueAt

log = structlog.get_logger(__name__)

LogIds = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]
StepDone = Callable[[str], None]

STEP_APPENDED: Final = "states_appended"
STEP_STORED: Final = "states_stored"
_REWRITE_ROWS: Final = 5_000
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


@dataclass(slots=True, eq=False)
class _Partition:
    """One partition while it is ours."""

    number: int
    store: SuppressionStore
    log_id: bytes
    truth: TrueAt
    applied: dict[tuple[str, bytes], AppliedOffset] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    written_at: int = 0
    true_at_written: int = 0
    left: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def offset_next(self) -> int:
        place = self.store.place
        return 0 if place is None else place.offset_next


class SuppressionProjection:
    """Owns the partitions that it was assigned. For one event loop."""

    def __init__(
        self,
        topic_log: SuppressionLog,
        folder: StoreFolder,
        log_ids: LogIds,
        settings: ProjectionSettings,
        metrics: SuppressionMetrics,
    ) -> None:
        self._log = topic_log
        self._folder = folder
        self._read_log_ids = log_ids
        self._settings = settings
        self._metrics = metrics
        self._token_key = token_key_of(settings.keys.suppression)
        self._topics = contracts().keyed_source_topics
        self._log_ids: Mapping[str, bytes] = {}
        self._partitions: dict[int, _Partition] = {}
        self._leaving: dict[int, _Partition] = {}

    @property
    def owned(self) -> Collection[int]:
        """Partitions that are recovered and ours now."""
        return self._partitions.keys()

    async def assigned(self, partitions: Iterable[int]) -> None:
        """Recover each partition from the topic; afterwards its batches can be applied."""
        self._log_ids = await self._known_log_ids()
        for number in sorted(partitions):
            former = self._leaving.pop(number, None)
            if former is not None:
                # A batch may still be at work that the group took from us; it ends harmlessly.
                async with former.lock:
                    former.store.close()
            store = self._folder.open(number)
            log_id = self._log_ids[TOPIC]
            partition = _Partition(number, store, log_id, TrueAt(self._topics))
            self._leaving[number] = partition
            await self._recover(partition)
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
        for number, partition in list(self._leaving.items()):
            partition.left = True
            if not partition.lock.locked():
                partition.store.close()
                del self._leaving[number]

    async def apply(self, batch: SourceBatch) -> None:
        """Fold one batch; on return its effect is safe and it may be acknowledged.

        Batches of one source partition must come in order. What can't be used is a dead letter by
        then, what belongs elsewhere has been forwarded.
        """
        partition = self._partitions[batch.partition]
        source = Log(batch.topic, self._log_ids[batch.topic], batch.partition)
        origin = Origin(batch.topic, batch.partition, self._settings.partitions)
        async with partition.lock:
            started = time.perf_counter()
            recorded_at = [record.timestamp * 1000 for record in batch.records]
            reading = read_batch(batch.records, origin, self._settings.nonce, needed_columns)
            await self._send_elsewhere(source, batch.records, recorded_at, reading)
            lifted = lift_batch(reading, batch.records, recorded_at, source)
            changed = fold_batch(partition.store, lifted, self._token_key)
            self._metrics.fold_seconds.observe(time.perf_counter() - started)
            partition.positions[batch.topic] = batch.offset_next
            offset = AppliedOffset(batch.offset_next - 1, recorded_at[-1])
            self._note_applied(partition, {(source.topic, source.log_id): offset})
            partition.truth.reached(partition.positions)
            await self._write(partition, changed)
            self._metrics.states_written.inc(len(changed))

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
        if partition.lock.locked():
            # A batch is at work, and writes a watermark of its own.
            return
        async with partition.lock:
            self._note_positions(partition, positions)
            if not partition.left and _now_us() - partition.written_at >= idle_us:
                await self._write(partition, {})

    def truth(self, number: int) -> int | None:
        """As of when a partition was true, as last written (µs); None if it is not ours."""
        partition = self._partitions.get(number)
        return None if partition is None else partition.true_at_written

    async def _write(self, partition: _Partition, changed: States) -> None:
        """Append states and watermark, take in what others wrote, and write the local cache."""
        place = partition.offset_next
        rows = _rows(changed)
        watermark = self._watermark(partition)
        rows.append((watermark_key(partition.number), encode_watermark(watermark)))
        while rows:
            started = time.perf_counter()
            stretches = await self._log.append(partition.number, rows)
            self._metrics.append_seconds.observe(time.perf_counter() - started)
            self._settings.step_done(STEP_APPENDED)
            later, rows = dict(rows), []
            for gap in gaps(stretches, place, len(later)):
                known = Pending(partition.store, changed)
                async for chunk in self._log.read(partition.number, *gap):
                    taken = self._take_in(partition, known, chunk, later)
                    changed.update(taken.states)
                    rows += _rows({key: body for key, (_offset, body) in taken.behind.items()})
                    place = max(place, chunk.offset_next)
            place = max([place, *(stretch.offset_next for stretch in stretches)])
            self._note_repairs(partition, rows)
        if not partition.left:
            partition.store.write(changed, ChangelogPlace(partition.log_id, place))
            partition.written_at, partition.true_at_written = _now_us(), watermark.true_at
            self._metrics.true_at.labels(str(partition.number)).set(watermark.true_at / 1e6)
        self._settings.step_done(STEP_STORED)

    async def _recover(self, partition: _Partition) -> None:
        """Read the topic from where the cache ends, and write again what is behind in it."""
        store = partition.store
        if store.place is not None and store.place.log_id != partition.log_id:
            log.warning("suppression_topic_is_another", partition=partition.number)
            store.clear()
        start = partition.offset_next
        while True:
            behind: dict[bytes, tuple[int, bytes | None]] = {}
            end = start
            async for chunk in self._log.read(partition.number, start):
                self._take_in_recovered(partition, chunk, behind)
                end = chunk.offset_next
            if end < start:
                log.error("suppression_topic_lost_records", partition=partition.number)
                behind = {key: (0, body) for key, body in store.items()}
            if not behind:
                return
            rows = _rows({key: body for key, (_offset, body) in behind.items()})
            self._note_repairs(partition, rows)
            for first in range(0, len(rows), _REWRITE_ROWS):
                await self._log.append(partition.number, rows[first : first + _REWRITE_ROWS])
            start = end

    def _take_in_recovered(
        self,
        partition: _Partition,
        chunk: ReadChunk,
        behind: dict[bytes, tuple[int, bytes | None]],
    ) -> None:
        store = partition.store
        taken = self._take_in(partition, store, chunk)
        for record in chunk.records:
            behind.pop(record.key, None)
        behind.update(taken.behind)
        # Until it is written again, the cache claims no more than what is before it.
        place = min([chunk.offset_next, *(offset for offset, _body in behind.values())])
        store.write(taken.states, ChangelogPlace(partition.log_id, place))
        self._metrics.records_recovered.inc(len(chunk.records))

    def _take_in(
        self,
        partition: _Partition,
        known: Known,
        chunk: ReadChunk,
        later: Mapping[bytes, bytes | None] = NOTHING_LATER,
    ) -> TakenIn:
        rows = [TopicRow(record.offset, record.key, record.value) for record in chunk.records]
        taken = take_in(known, partition.number, rows, self._token_key, later)
        for watermark in taken.watermarks:
            self._note_applied(partition, watermark.applied)
            if watermark.true_at <= _now_us():
                # One from the future comes from a clock that was wrong.
                partition.truth.at_least(watermark.true_at)
        return taken

    def _watermark(self, partition: _Partition) -> Watermark:
        return Watermark(
            partition=partition.number,
            true_at=partition.truth.true_at,
            written_at=_now_us(),
            applied=partition.applied,
            owner=self._settings.owner,
        )

    def _note_positions(self, partition: _Partition, positions: Mapping[str, int]) -> None:
        """Take note of what is acknowledged, also where no record is in what was passed."""
        for topic, position in positions.items():
            partition.positions[topic] = max(partition.positions.get(topic, 0), position)
            if position > 0:
                key = (topic, self._log_ids[topic])
                self._note_applied(partition, {key: AppliedOffset(position - 1, 0)})
        partition.truth.reached(partition.positions)

    def _note_applied(
        self, partition: _Partition, applied: Mapping[tuple[str, bytes], AppliedOffset]
    ) -> None:
        partition.applied = dict(merge_applied(partition.applied, applied))

    def _note_repairs(self, partition: _Partition, rows: Sequence[Row]) -> None:
        if rows:
            self._metrics.states_repaired.inc(len(rows))
            log.warning("states_repaired", partition=partition.number, states=len(rows))

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
        for problem in reading.unreadable:
            index = problem.index
            record = records[index]
            position = Position(
                source.topic, source.log_id, source.partition, record.offset, recorded_at[index]
            )
            letter = dead_letter(record, problem, position, self._settings.keys.dead_letters)
            outgoing.append(KeyedRecord(DEAD_LETTERS_TOPIC, record.key, letter))
            self._metrics.dead_letters.labels(source.topic, problem.reason).inc()
            log.warning(
                "record_unreadable",
                topic=source.topic,
                partition=source.partition,
                offset=record.offset,
                reason=problem.reason,
                applied=problem.restricts,
            )
        for forward in reading.forwards:
            headers = [*(records[forward.index].headers or ()), (FORWARDED_HEADER, b"1")]
            partitions = self._settings.partitions
            outgoing.append(
                KeyedRecord(source.topic, forward.key, forward.value, headers, partitions)
            )
            self._metrics.forwards.labels(source.topic, forward.reason).inc()
        await self._log.send_keyed(outgoing)


def gaps(stretches: Sequence[Stretch], place: int, rows: int) -> list[tuple[int, int | None]]:
    """Where others wrote, as (first offset, offset after); up to the end if that is not known.

    `place` is up to where the topic is known, `stretches` is where `rows` records of ours are.
    """
    found: list[tuple[int, int | None]] = []
    for stretch in sorted(stretches, key=lambda stretch: stretch.offset_first):
        if stretch.offset_first > place:
            found.append((place, stretch.offset_first))
        place = max(place, stretch.offset_next)
    if sum(stretch.offset_next - stretch.offset_first for stretch in stretches) < rows:
        found.append((place, None))
    return found


def _rows(states: States) -> list[Row]:
    """As records; tombstones last, so that a reader never sees a subject without a state."""
    kept = [(key, framed_state(body)) for key, body in states.items() if body is not None]
    return [*kept, *((key, None) for key, body in states.items() if body is None)]


def _now_us() -> int:
    return time.time_ns() // 1000
