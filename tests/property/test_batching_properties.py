"""What holds for every read and every history of assignments."""

from __future__ import annotations

from collections import deque
from typing import Any

from aiokafka.structs import ConsumerRecord, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.acknowledgement import Acknowledgements
from streams.batching import BatchLimits, FetchedRecords, FetchObservation, RecordBatch, cut

PARTITIONS = [TopicPartition("topic", number) for number in range(3)]


def record(offset: int, size: int) -> Any:
    """A record of `size` bytes."""
    return ConsumerRecord("topic", 0, offset, 0, 0, None, b"v" * size, None, -1, size, ())


@st.composite
def reads(draw: st.DrawFn) -> FetchedRecords:
    """A read with gaps before, between and after its records."""
    offset_from = draw(st.integers(0, 1_000))
    offset = offset_from
    records = []
    for gap, size in draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), min_size=1)):
        offset += gap
        records.append(record(offset, size))
        offset += 1
    offset_next = offset + draw(st.integers(0, 3))
    observation = FetchObservation(offset_from, offset_next, 0)
    return FetchedRecords(records, offset_from, offset_next, observation, 1)


@given(reads(), st.integers(1, 20), st.integers(1, 200))
def test_batches_tile_what_was_read(read: FetchedRecords, records_max: int, size: int) -> None:
    """Every record is in one batch, in order; the batches cover the stretch; caps hold."""
    limits = BatchLimits(records_max=records_max, bytes_max=size)
    batches = list(cut(PARTITIONS[0], read, limits))
    assert [one for batch in batches for one in batch.records] == list(read.records)
    edges = [batches[0].offset_from, *(batch.offset_next for batch in batches)]
    assert (edges[0], edges[-1]) == (read.offset_from, read.offset_next)
    assert [batch.offset_from for batch in batches] == edges[:-1]
    for batch in batches:
        assert batch.offset_from <= batch.offset_first
        assert batch.offset_last < batch.offset_next
        assert len(batch.records) <= records_max
        assert batch.bytes <= size or len(batch.records) == 1


class Commits(RuleBasedStateMachine):
    """A worker whose group moves on at any moment, whose commits fail at any moment, and whose
    handlers finish long after their partitions are gone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.acknowledgements = Acknowledgements()
        self.committed = dict.fromkeys(PARTITIONS, 0)
        self.readable: dict[TopicPartition, set[int]] = {one: set() for one in PARTITIONS}
        self.log_end = dict.fromkeys(PARTITIONS, 0)
        self.done: dict[TopicPartition, set[int]] = {one: set() for one in PARTITIONS}
        self.cursors: dict[TopicPartition, int] = {}
        self.assignments = 0
        self.queue: deque[RecordBatch] = deque()
        self.abandoned: list[RecordBatch] = []

    @rule(partition=st.sampled_from(PARTITIONS), readable=st.lists(st.booleans(), min_size=1))
    def produce(self, partition: TopicPartition, readable: list[bool]) -> None:
        """The log grows by records and by offsets that nobody will read."""
        for is_record in readable:
            if is_record:
                self.readable[partition].add(self.log_end[partition])
            self.log_end[partition] += 1

    @rule(partitions=st.sets(st.sampled_from(PARTITIONS), min_size=1))
    def assign(self, partitions: set[TopicPartition]) -> None:
        """A rebalance: what waits is dropped, reading begins at what the broker has committed."""
        self.revoke()
        self.assignments += 1
        self.cursors = {partition: self.committed[partition] for partition in partitions}
        self.acknowledgements.start(self.assignments, self.cursors)

    @rule()
    def revoke(self) -> None:
        """The partitions are given up; what was read is still in somebody's hands."""
        self.acknowledgements.stop()
        self.abandoned += self.queue
        self.queue.clear()
        self.cursors = {}

    @precondition(lambda self: self.cursors)
    @rule(data=st.data(), count=st.integers(1, 5))
    def read(self, data: st.DataObject, count: int) -> None:
        """A stretch of one partition is read and delivered, or found to be empty."""
        partition = data.draw(st.sampled_from(sorted(self.cursors)))
        cursor = self.cursors[partition]
        end = min(cursor + count, self.log_end[partition])
        offsets = [one for one in range(cursor, end) if one in self.readable[partition]]
        if not offsets:
            self.acknowledgements.exhaust(partition, end, self.assignments)
            return
        observation = FetchObservation(cursor, self.log_end[partition], 0)
        read = FetchedRecords(
            [record(one, 1) for one in offsets], cursor, end, observation, self.assignments
        )
        for batch in cut(partition, read, BatchLimits(records_max=2)):
            assert self.acknowledgements.deliver(batch)
            self.queue.append(batch)
        self.cursors[partition] = end

    @precondition(lambda self: self.queue)
    @rule()
    def handle(self) -> None:
        """The handler finishes the next batch."""
        batch = self.queue.popleft()
        self.done[batch.topic_partition].update(one.offset for one in batch.records)
        assert self.acknowledgements.acknowledge(batch)

    @precondition(lambda self: self.abandoned)
    @rule(data=st.data())
    def handle_late(self, data: st.DataObject) -> None:
        """A batch of a past assignment is neither delivered nor acknowledged."""
        batch = data.draw(st.sampled_from(self.abandoned))
        before = self.acknowledgements.pending(), self.acknowledgements.positions()
        assert not self.acknowledgements.deliver(batch)
        assert not self.acknowledgements.acknowledge(batch)
        assert (self.acknowledgements.pending(), self.acknowledgements.positions()) == before

    @rule(answered=st.booleans(), taken=st.booleans(), moved_on=st.booleans())
    def commit(self, answered: bool, taken: bool, moved_on: bool) -> None:
        """A commit is taken or not, and the answer may be lost or come after a rebalance."""
        pending = self.acknowledgements.pending()
        assignment_id = self.acknowledgements.assignment_id
        if taken:
            self.committed.update(pending)
        if moved_on and pending:
            self.assign(set(pending))
        if taken and answered:
            self.acknowledgements.committed(pending, assignment_id)

    @invariant()
    def nothing_is_committed_that_is_not_done(self) -> None:
        """Every readable record below a committed offset had its effect."""
        for partition in PARTITIONS:
            self._all_done_below(partition, self.committed[partition])
        for partition, position in self.acknowledgements.positions().items():
            self._all_done_below(partition, position)

    @invariant()
    def what_is_done_gets_committed(self) -> None:
        """Whenever all that was read is handled, one commit brings the group to the cursor."""
        if not self.queue:
            pending = self.acknowledgements.pending()
            for partition, cursor in self.cursors.items():
                assert pending.get(partition, self.committed[partition]) == cursor or (
                    self.committed[partition] >= cursor
                )

    def _all_done_below(self, partition: TopicPartition, offset: int) -> None:
        below = {one for one in self.readable[partition] if one < offset}
        assert below <= self.done[partition]


Commits.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestCommits = Commits.TestCase
