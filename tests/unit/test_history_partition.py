"""The bookkeeping of one partition: broker times, tails, and what may be acknowledged."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from consent.blocks import CutterLimits
from consent.facts import LogPartition
from projections.history_partition import LogEnd, OpenPartition, ResumePoint, TailLimits
from projections.history_rows import BlockWork
from tests.strategies import Raw

LIMITS = CutterLimits(records_max=4, bytes_max=1_000, bucket_ms=1_000)
TAIL = TailLimits(grace_ms=100, open_min_ms=50)
START_MS = 1_790_000_000_000
ORIGIN = LogPartition(b"l" * 16, "consent-events", 0)


@dataclass(frozen=True)
class Fetched:
    """A batch as the consumer gives it."""

    records: tuple[Raw, ...]
    topic: str = "consent-events"
    partition: int = 0

    @property
    def offset_next(self) -> int:
        return self.records[-1].offset + 1


def batch(*offsets: int, at_ms: int = START_MS, kind: int = 1) -> Fetched:
    """Records at some offsets, stamped with one time."""
    return Fetched(tuple(Raw(offset, at_ms, b"k", b"v", (), kind) for offset in offsets))


def partition(resume: ResumePoint | None = None) -> OpenPartition:
    """A partition that begins at 0 unless told otherwise."""
    return OpenPartition(ORIGIN, 2, resume or ResumePoint(0), LIMITS)


def ranges(works: list[BlockWork]) -> list[tuple[int, int]]:
    """First and last offset of each block; its records must be exactly those."""
    for work in works:
        offsets = [record.offset for record in work.records]
        assert (offsets[0], offsets[-1]) == (work.block.offset_first, work.block.offset_last)
        assert len(work.recorded_at) == len(offsets) == work.block.records
    return [(work.block.offset_first, work.block.offset_last) for work in works]


def log_end(**changes: int) -> LogEnd:
    """An end that allows a tail of records 0 and 1 to be closed."""
    return replace(LogEnd(2, 2, 2, (START_MS + 1_100) * 1000), **changes)


def test_blocks_span_batches_and_batches_span_blocks() -> None:
    """Every record is in the block that its offset belongs to, whatever batch brought it."""
    open_partition = partition()
    works = [
        *open_partition.take(batch(0, 1, 2), START_MS, 0),
        *open_partition.take(batch(3, 4, 5, 6, 7, 8), START_MS, 0),
    ]
    assert ranges(works) == [(0, 3), (4, 7)]
    assert open_partition.pending_records == 1


def test_a_full_block_is_closed_at_once() -> None:
    """Its end does not wait for the record after it."""
    assert ranges(partition().take(batch(0, 1, 2, 3), START_MS, 0)) == [(0, 3)]


def test_batches_are_finished_when_their_last_record_is_durable() -> None:
    """A batch that reaches into a second block waits for that block; order is kept."""
    open_partition = partition()
    first, second = batch(0, 1), batch(2, 3, 4, 5, 6, 7)
    works = [*open_partition.take(first, START_MS, 0), *open_partition.take(second, START_MS, 0)]
    assert open_partition.finished() == []
    open_partition.durable(works[0].block)
    assert open_partition.finished() == [first]
    open_partition.durable(works[1].block)
    assert open_partition.finished() == [second]
    assert open_partition.finished() == []


def test_what_the_store_has_already_is_skipped() -> None:
    """Records below the resume point are finished without being written again."""
    open_partition = partition(ResumePoint(3))
    old, mixed = batch(0, 1), batch(2, 3, 4)
    assert open_partition.take(old, START_MS, 0) == []
    assert open_partition.finished() == [old]
    assert open_partition.take(mixed, START_MS, 0) == []
    assert open_partition.pending_records == 2
    assert open_partition.finished() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"offset_delivered": 3},
        {"high_watermark": 3},
        {"asked_at": (START_MS + 1_099) * 1000},
    ],
    ids=["a batch is on its way", "the log goes on", "asked before the bucket was over"],
)
def test_a_tail_stays_open_while_more_may_belong_to_it(changes: dict[str, int]) -> None:
    """Only a fetch begun after the bucket's end that shows the log's end closes a tail."""
    open_partition = partition()
    open_partition.take(batch(0, 1), START_MS, 0)
    assert open_partition.close_tail(log_end(**changes), TAIL, 1_000) is None
    closed = open_partition.close_tail(log_end(), TAIL, 1_000)
    assert closed is not None
    assert ranges([closed]) == [(0, 1)]


def test_a_tail_before_a_marker_of_a_transaction_is_closed() -> None:
    """Offsets that hold no record don't keep a block open."""
    open_partition = partition()
    open_partition.take(batch(0, 1), START_MS, 0)
    end = log_end(position=3, high_watermark=3)
    assert open_partition.close_tail(end, TAIL, 1_000) is not None
    assert open_partition.close_tail(end, TAIL, 2_000) is None


def test_a_tail_is_open_for_a_while() -> None:
    """Records with old timestamps don't become a block each."""
    open_partition = partition()
    open_partition.take(batch(0, 1, at_ms=START_MS - 60_000), START_MS, 1_000)
    assert open_partition.close_tail(log_end(), TAIL, 1_049) is None
    assert open_partition.close_tail(log_end(), TAIL, 1_050) is not None


def test_the_brokers_time_counts_where_it_has_one() -> None:
    """LogAppendTime is taken as it is, even where the broker's clock stepped back."""
    open_partition = partition()
    works = open_partition.take(batch(0, 1), START_MS, 0)
    works += open_partition.take(batch(2, at_ms=START_MS - 5_000), START_MS, 0)
    assert ranges(works) == [(0, 1)]
    assert works[0].recorded_at == [START_MS * 1000] * 2


def test_a_publishers_time_is_bounded_by_arrival_and_order() -> None:
    """Without a broker time: never after the arrival, never before the record before it."""
    open_partition = partition()
    stamps = (START_MS + 90, START_MS + 500_000, START_MS + 80, -1)
    records = tuple(Raw(offset, at, b"k", b"v", (), 0) for offset, at in enumerate(stamps))
    arrived_ms = START_MS + 100
    [work] = open_partition.take(Fetched(records), arrived_ms, 0)
    assert work.recorded_at == [(START_MS + 90) * 1000] + [arrived_ms * 1000] * 3


def test_a_stored_time_is_kept() -> None:
    """A record whose fact is stored keeps that fact's time when it is read again later."""
    stored = {0: START_MS * 1000 + 7, 1: START_MS * 1000 + 8}
    open_partition = partition(ResumePoint(0, recorded_at=stored))
    later_ms = START_MS + 400
    [work] = open_partition.take(batch(0, 1, 2, 3, at_ms=later_ms, kind=0), later_ms, 0)
    assert work.recorded_at == [stored[0], stored[1], later_ms * 1000, later_ms * 1000]


def test_times_do_not_go_back_over_a_restart() -> None:
    """The first time after a restart is not before the last one that was stored."""
    last = START_MS * 1000 + 5
    open_partition = partition(ResumePoint(0, recorded_at_last=last))
    [work] = open_partition.take(batch(0, 1, 2, 3, at_ms=START_MS - 900, kind=0), START_MS, 0)
    assert work.recorded_at == [last] * 4
