"""One partition of the log while it is recorded: what was taken, cut and not yet acknowledged.

Bookkeeping only, used from one event loop: no I/O, and clock readings come in as arguments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from consent.blocks import Block, Columns, CutterLimits, closed, cut, opened
from consent.facts import LogPartition
from consent.intake import RawRecord
from projections.history_rows import BlockWork

_LOG_APPEND_TIME: Final = 1


class TimedRecord(RawRecord, Protocol):
    """A fetched record that says whose clock stamped it."""

    @property
    def timestamp_type(self) -> int: ...


class Batch(Protocol):
    """Consecutive records of one partition, as `streams.batching.RecordBatch`; never empty."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def records(self) -> Sequence[TimedRecord]: ...
    @property
    def offset_next(self) -> int: ...


@dataclass(frozen=True, slots=True)
class LogEnd:
    """What is known about the end of a partition.

    `offset_delivered` follows the last batch that was handed out, `position` also the markers
    after it that are no records. `asked_at` (µs) was read before the fetch was sent that answered
    with `high_watermark`.
    """

    offset_delivered: int
    position: int
    high_watermark: int
    asked_at: int


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where recording goes on: the next offset, and what the store has from there on already.

    `recorded_at` are broker times in µs of stored facts by offset, which are kept; `offsets` the
    offsets that each other table holds; `recorded_at_last` is the broker time just before. Blocks
    that begin before `sealed_below` have their row already: they lost other rows.
    """

    position: int
    recorded_at_last: int = 0
    recorded_at: Mapping[int, int] = field(default_factory=dict)
    offsets: Mapping[str, frozenset[int]] = field(default_factory=dict)
    sealed_below: int = 0


@dataclass(frozen=True, slots=True)
class TailLimits:
    """When a block is closed for lack of records.

    `grace_ms` bounds how far this clock may be ahead of the broker's; `open_min_ms` keeps records
    with old timestamps from becoming a block each.
    """

    grace_ms: int = 500
    open_min_ms: int = 500


class OpenPartition:
    """Takes batches in the order of the log and gives out closed blocks in the same order."""

    def __init__(
        self, origin: LogPartition, partitions: int, resume: ResumePoint, limits: CutterLimits
    ) -> None:
        self.origin = origin
        self.resume = resume
        self.gaps = 0
        self._partitions = partitions
        self._limits = limits
        self._tail = opened(resume.position)
        self._tail_opened_ms = 0
        self._records: list[TimedRecord] = []
        self._recorded_at: list[int] = []
        self._recorded_at_last = resume.recorded_at_last
        self._unacknowledged: deque[Batch] = deque()
        self._offset_taken = 0
        self._durable = resume.position

    @property
    def pending_records(self) -> int:
        """Records in the open block."""
        return len(self._records)

    def take(self, batch: Batch, now_ms: int, now_monotonic_ms: int) -> list[BlockWork]:
        """Blocks that a batch completes. Records that are already durable are skipped."""
        self._unacknowledged.append(batch)
        self._offset_taken = batch.offset_next
        records = batch.records
        if records[0].offset < self._tail.position:
            records = [record for record in records if record.offset >= self._tail.position]
        if not records:
            return []
        recorded_at = self._times(records, now_ms * 1000)
        columns = Columns(
            [record.offset for record in records],
            recorded_at,
            [len(record.key or b"") + len(record.value or b"") for record in records],
        )
        cutting = cut(self._tail, columns, self._limits)
        self.gaps += cutting.gaps
        if not self._tail.records or cutting.blocks:
            self._tail_opened_ms = now_monotonic_ms
        works, start = [], 0
        for block, end in zip(cutting.blocks, cutting.ends, strict=True):
            self._extend(records[start:end], recorded_at[start:end])
            works.append(self._work(block))
            start = end
        self._extend(records[start:], recorded_at[start:])
        self._tail = cutting.tail
        if self._tail.full(self._limits):
            works.append(self._close())
        return works

    def close_tail(
        self, end: LogEnd, limits: TailLimits, now_monotonic_ms: int
    ) -> BlockWork | None:
        """The open block, if the log is known to hold no more records of it.

        Known is what a fetch said that was sent after the block's bucket of broker time was over.
        """
        tail = self._tail
        if not tail.records or end.offset_delivered != self._offset_taken:
            return None
        over_at = tail.bucket_ends_at(self._limits) + limits.grace_ms * 1000
        if end.position < end.high_watermark or end.asked_at < over_at:
            return None
        if now_monotonic_ms - self._tail_opened_ms < limits.open_min_ms:
            return None
        return self._close()

    def durable(self, block: Block) -> None:
        """Note that a block, and so all before it, is in the store."""
        self._durable = max(self._durable, block.offset_last + 1)

    def finished(self) -> list[Batch]:
        """Batches, in order, all of whose records are durable; each is given out once."""
        done = []
        while self._unacknowledged:
            batch = self._unacknowledged[0]
            if batch.records[-1].offset >= self._durable:
                break
            done.append(self._unacknowledged.popleft())
        return done

    def _times(self, records: Sequence[TimedRecord], arrived_at: int) -> list[int]:
        """Broker times in µs; without one, a time that never goes back within the partition."""
        stored = self.resume.recorded_at
        last = self._recorded_at_last
        times = []
        for record in records:
            if record.timestamp_type == _LOG_APPEND_TIME:
                last = record.timestamp * 1000
            elif (kept := stored.get(record.offset)) is not None:
                last = kept
            else:
                stamped = record.timestamp * 1000 if record.timestamp > 0 else arrived_at
                last = max(last, min(stamped, arrived_at))
            times.append(last)
        self._recorded_at_last = last
        return times

    def _extend(self, records: Sequence[TimedRecord], recorded_at: Sequence[int]) -> None:
        self._records.extend(records)
        self._recorded_at.extend(recorded_at)

    def _close(self) -> BlockWork:
        block = closed(self._tail)
        self._tail = opened(block.offset_last + 1)
        return self._work(block)

    def _work(self, block: Block) -> BlockWork:
        records, self._records = self._records, []
        recorded_at, self._recorded_at = self._recorded_at, []
        return BlockWork(block, self.origin, self._partitions, records, recorded_at)
