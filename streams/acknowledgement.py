"""Says up to where each partition is done, and so what may be committed.

Pure bookkeeping of one consumer, used from its event loop only: it knows no broker and no clock.
The rule it guards: an offset is committed only if the effect of every record below it was
acknowledged, by us, since the assignment began.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka.structs import TopicPartition

from streams.batching import RecordBatch
from streams.errors import BatchOutOfOrder


@dataclass(slots=True)
class _Partition:
    committed: int
    acknowledged: int
    delivered: int
    exhausted: int


class Acknowledgements:
    """What of an assignment was delivered, acknowledged and committed.

    Between `stop` and the next `start` there is no assignment: nothing is delivered, and an
    acknowledgement that comes late is ignored. A batch belongs to the assignment it was read
    under and means nothing to a later one, even where the partition came back.
    """

    def __init__(self) -> None:
        self._assignment_id: int | None = None
        self._partitions: dict[TopicPartition, _Partition] = {}

    @property
    def assignment_id(self) -> int | None:
        """The current assignment, None while there is none."""
        return self._assignment_id

    def start(self, assignment_id: int, positions: Mapping[TopicPartition, int]) -> None:
        """Begins an assignment whose partitions are read from `positions` on."""
        self._assignment_id = assignment_id
        self._partitions = {
            partition: _Partition(offset, offset, offset, offset)
            for partition, offset in positions.items()
        }

    def stop(self) -> None:
        """Ends the assignment: what is not acknowledged by now never will be."""
        self._assignment_id = None
        self._partitions = {}

    def holds(self, batch: RecordBatch) -> bool:
        """True if `batch` was read under the current assignment."""
        return (
            batch.assignment_id == self._assignment_id and batch.topic_partition in self._partitions
        )

    def deliver(self, batch: RecordBatch) -> bool:
        """Notes that `batch` goes to its handler; False if it is not to: it is of the past.

        Raises BatchOutOfOrder if records before it were never delivered.
        """
        if not self.holds(batch):
            return False
        state = self._partitions[batch.topic_partition]
        if batch.offset_from != state.delivered:
            raise _out_of_order("delivered", batch, state.delivered)
        state.delivered = batch.offset_next
        state.exhausted = max(state.exhausted, batch.offset_next)
        return True

    def acknowledge(self, batch: RecordBatch) -> bool:
        """Notes that the effect of `batch` is durable; False if that came after a revocation.

        Raises BatchOutOfOrder if a batch before it was not acknowledged.
        """
        if not self.holds(batch):
            return False
        state = self._partitions[batch.topic_partition]
        if batch.offset_from != state.acknowledged:
            raise _out_of_order("acknowledged", batch, state.acknowledged)
        state.acknowledged = batch.offset_next
        return True

    def exhaust(self, partition: TopicPartition, offset: int, assignment_id: int) -> None:
        """Notes that the log holds nothing readable between what was delivered and `offset`.

        This is not committed: the next batch covers the stretch, so that batches tile the log.
        """
        if assignment_id == self._assignment_id and partition in self._partitions:
            state = self._partitions[partition]
            state.exhausted = max(state.exhausted, offset)

    def pending(self) -> dict[TopicPartition, int]:
        """Offsets to commit: the next to read after what is acknowledged, where that is news."""
        return {
            partition: state.acknowledged
            for partition, state in self._partitions.items()
            if state.acknowledged > state.committed
        }

    def committed(self, offsets: Mapping[TopicPartition, int], assignment_id: int | None) -> None:
        """Notes that the broker took `offsets`, which were pending under `assignment_id`."""
        if assignment_id != self._assignment_id:
            return
        for partition, offset in offsets.items():
            self._partitions[partition].committed = offset

    def positions(self) -> dict[TopicPartition, int]:
        """Up to where each partition is done: every readable record below is acknowledged.

        At least what is acknowledged; more where only transaction markers or removed records
        follow. A partition is handled to its end when this reaches the high watermark.
        """
        return {
            partition: state.exhausted
            if state.acknowledged == state.delivered
            else state.acknowledged
            for partition, state in self._partitions.items()
        }


def _out_of_order(step: str, batch: RecordBatch, expected: int) -> BatchOutOfOrder:
    return BatchOutOfOrder(step, batch.topic, batch.partition, expected, batch.offset_from)
