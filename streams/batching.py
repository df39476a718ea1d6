"""Cuts what a fetch returned into batches: the unit of work from broker to store.

Owns the shape of a batch, how it is cut, and how it travels through Faust: `BatchScheduler` is
Faust's setting `ConsumerScheduler`, `BatchSchema` hands a batch to an agent undecoded. Reads
nothing from a broker and commits nothing; it never looks into a record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiokafka.structs import TopicPartition
from faust import Schema
from faust.types.transports import SchedulingStrategyT


class Record(Protocol):
    """One record as the broker gave it; key and value are bytes or nothing, never decoded."""

    @property
    def offset(self) -> int:
        """Position in the partition."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch, by the clock that `timestamp_type` names."""

    @property
    def timestamp_type(self) -> int:
        """0: the producer's clock; 1: the broker's."""

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...

    @property
    def serialized_key_size(self) -> int:
        """Bytes of the key, -1 where there is none."""

    @property
    def serialized_value_size(self) -> int:
        """Bytes of the value, -1 where there is none."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Upper bounds of one batch; a single larger record is a batch of its own."""

    records_max: int = 5_000
    bytes_max: int = 4_194_304


@dataclass(frozen=True, slots=True)
class FetchObservation:
    """What one answered fetch said about a partition, with or without records.

    `fetched_at` (milliseconds since the epoch) was read before the fetch was sent: every record
    acknowledged to its producer before then lies below `high_watermark`. `offset` is where the
    fetch began to read.
    """

    offset: int
    high_watermark: int
    fetched_at: int


@dataclass(frozen=True, slots=True)
class FetchedRecords:
    """What one partition gave in one read, before it is cut.

    It covers the log from `offset_from` up to `offset_next`; `records` may be empty where only
    transaction markers or removed records lie between. `assignment_id` numbers the assignment
    under which it was read.
    """

    records: Sequence[Record] = field(repr=False)
    offset_from: int
    offset_next: int
    observation: FetchObservation
    assignment_id: int


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Consecutive records of one partition, in the order of the log. Never empty.

    The batches of a partition tile its log: `offset_from` is the `offset_next` of the batch
    before, or the committed offset after an assignment. Offsets between the two that have no
    record (transaction markers, compaction) will never have one. `high_watermark` and
    `fetched_at` (milliseconds since the epoch) are those of the fetch that brought the records:
    see `FetchObservation`. `bytes` counts keys and values.

    Records hold numbers, so they are kept out of `repr`.
    """

    topic: str
    partition: int
    records: tuple[Record, ...] = field(repr=False)
    offset_from: int
    offset_next: int
    high_watermark: int
    fetched_at: int
    bytes: int
    assignment_id: int

    @property
    def offset_first(self) -> int:
        """Offset of the first record."""
        return self.records[0].offset

    @property
    def offset_last(self) -> int:
        """Offset of the last record."""
        return self.records[-1].offset

    @property
    def topic_partition(self) -> TopicPartition:
        """The partition as aiokafka names it."""
        return TopicPartition(self.topic, self.partition)


def cut(
    partition: TopicPartition, fetched: FetchedRecords, limits: BatchLimits
) -> Iterator[RecordBatch]:
    """Yields `fetched` as batches within `limits`, in order, without a hole or an overlap."""
    observation = fetched.observation
    offset_from = fetched.offset_from
    for start, end, size in _slices(fetched.records, limits):
        ends_here = end == len(fetched.records)
        offset_next = fetched.offset_next if ends_here else fetched.records[end - 1].offset + 1
        yield RecordBatch(
            topic=partition.topic,
            partition=partition.partition,
            records=tuple(fetched.records[start:end]),
            offset_from=offset_from,
            offset_next=offset_next,
            high_watermark=observation.high_watermark,
            fetched_at=observation.fetched_at,
            bytes=size,
            assignment_id=fetched.assignment_id,
        )
        offset_from = offset_next


def _slices(records: Sequence[Record], limits: BatchLimits) -> Iterator[tuple[int, int, int]]:
    start = 0
    size = 0
    for position, record in enumerate(records):
        added = max(record.serialized_key_size, 0) + max(record.serialized_value_size, 0)
        too_many = position - start >= limits.records_max
        if position > start and (too_many or size + added > limits.bytes_max):
            yield start, position, size
            start, size = position, 0
        size += added
    if start < len(records):
        yield start, len(records), size


class BatchScheduler(SchedulingStrategyT):
    """Faust's `ConsumerScheduler`: one message for each batch instead of one for each record."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits

    def iterate(self, records: Mapping[Any, Any]) -> Iterator[tuple[Any, RecordBatch]]:
        """Yields `(partition, batch)`; partitions take turns, each stays in order."""
        waiting = {
            partition: cut(partition, fetched, self._limits)
            for partition, fetched in records.items()
        }
        while waiting:
            for partition, batches in list(waiting.items()):
                batch = next(batches, None)
                if batch is None:
                    del waiting[partition]
                else:
                    yield partition, batch


class BatchSchema(Schema[Any, Any]):
    """Hands a batch to the agent as it is: no key, no codec, and so nothing that can fail."""

    def compile(self, app: Any, **_: Any) -> Any:
        """Returns the decoder that Faust calls for every message."""
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, message.headers, message)

        return decode
