"""The suppression topic as its owner uses it: appending to a partition, and reading it in bulk.

Owns the producer and the reading of a known stretch. Decides nothing about states. An append is
awaited until all in-sync replicas have it; a broker that is away is waited for by the producer
itself, for as long as it takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import BrokerNotAvailableError, KafkaError, KafkaTimeoutError
from aiokafka.structs import ConsumerRecord, TopicPartition

from consent.partitioning import partition_of
from projections.consumer_stop import stop_consumer

log = structlog.get_logger(__name__)

TOPIC: Final = "suppression"
DEAD_LETTERS_TOPIC: Final = "dead-letters"
_PASSING: Final = (KafkaTimeoutError, BrokerNotAvailableError)
"""Errors that pass although the client does not call them retriable."""

T = TypeVar("T")
Row = tuple[bytes, bytes | None]
"""Key and value of a record; None as value is a tombstone."""


@dataclass(frozen=True, slots=True)
class LogLimits:
    """Bounds of what is sent and read at a time."""

    append_bytes_max: int = 512 << 10
    in_flight_max: int = 500
    read_records_max: int = 10_000
    partition_fetch_bytes_max: int = 4 << 20
    read_wait_ms: int = 200


@dataclass(frozen=True, slots=True)
class LogConnection:
    """How brokers are reached; `options` are any aiokafka client's security arguments.

    `idempotent` must be off for a broker that does not number producers. A repeat is harmless, but
    may then come after a newer state, to be found and repaired with the next append.
    """

    bootstrap: str
    client_id: str
    idempotent: bool = True
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    request_timeout_ms: int = 20_000
    backoff_first_ms: int = 100
    backoff_max_ms: int = 5_000
    limits: LogLimits = LogLimits()


@dataclass(frozen=True, slots=True)
class Stretch:
    """Offsets from `offset_first` up to, not including, `offset_next`."""

    offset_first: int
    offset_next: int


def passes(problem: KafkaError) -> bool:
    """True if doing the same again may help: a broker is away, slow or not leader any more."""
    return problem.retriable or isinstance(problem, _PASSING)


class SuppressionLog:
    """Appends to a topic and reads from it. Start it before appending; for one event loop."""

    def __init__(self, connection: LogConnection, topic: str = TOPIC) -> None:
        self._connection = connection
        self._topic = topic
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect; KafkaConnectionError if no broker answers."""
        connection = self._connection
        self._producer = AIOKafkaProducer(
            bootstrap_servers=connection.bootstrap,
            client_id=connection.client_id,
            acks="all",
            enable_idempotence=connection.idempotent,
            compression_type="lz4",
            linger_ms=0,
            max_batch_size=connection.limits.append_bytes_max,
            max_request_size=2 * connection.limits.append_bytes_max + (4 << 20),
            request_timeout_ms=connection.request_timeout_ms,
            **connection.options,
        )
        await self._producer.start()

    async def stop(self) -> None:
        """Disconnect. What was not awaited was not promised."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.stop()

    async def append(self, partition: int, rows: Sequence[Row]) -> list[Stretch]:
        """Append rows in order and wait until all are safe; where they are, as far as is known.

        The last rows are sent only when all before are safe, so that a watermark at the end never
        stands without the states that it speaks of. A stretch is missing where a repeated send
        hid its offset; other records may lie between.
        """
        return await self._patiently(partial(self._append_once, partition, rows))

    async def _append_once(self, partition: int, rows: Sequence[Row]) -> list[Stretch]:
        *before, last = self._batches(rows)
        sent = [(batch, await self._send_batch(batch, partition)) for batch in before]
        placed = await asyncio.gather(*(future for _batch, future in sent), return_exceptions=True)
        for failure in placed:
            if isinstance(failure, BaseException):
                raise failure
        stretches = [
            _stretch(batch, place) for (batch, _future), place in zip(sent, placed, strict=True)
        ]
        stretches.append(_stretch(last, await (await self._send_batch(last, partition))))
        return [stretch for stretch in stretches if stretch is not None]

    def _batches(self, rows: Sequence[Row]) -> list[Any]:
        producer = self._ready
        timestamp_ms = time.time_ns() // 1_000_000
        batches = [producer.create_batch()]
        for key, value in rows:
            if batches[-1].append(timestamp=timestamp_ms, key=key, value=value) is None:
                batches.append(producer.create_batch())
                batches[-1].append(timestamp=timestamp_ms, key=key, value=value)
        batches[-1].close()
        return batches

    async def send_keyed(self, records: Iterable[KeyedRecord]) -> None:
        """Send records of other topics, each to the partition of its key, and wait for all."""
        sends = [partial(self._patiently, partial(self._send_one, record)) for record in records]
        for start in range(0, len(sends), self._connection.limits.in_flight_max):
            stop = start + self._connection.limits.in_flight_max
            await asyncio.gather(*(send() for send in sends[start:stop]))

    async def _send_one(self, record: KeyedRecord) -> None:
        partition = None
        if record.partitions is not None:
            partition = partition_of(record.key or b"", record.partitions)
        await self._ready.send_and_wait(
            record.topic,
            key=record.key,
            value=record.value,
            partition=partition,
            headers=list(record.headers),
        )

    async def _send_batch(self, batch: Any, partition: int) -> Any:
        return await self._ready.send_batch(batch, self._topic, partition=partition)

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Do it until it is done: errors that pass are waited out, others are raised."""
        connection = self._connection
        backoff_ms = connection.backoff_first_ms
        while True:
            try:
                return await attempt()
            except KafkaError as problem:
                if not passes(problem):
                    raise
                log.warning("broker_unavailable", error=type(problem).__name__)
            await asyncio.sleep(backoff_ms / 1000)
            backoff_ms = min(backoff_ms * 2, connection.backoff_max_ms)

    @property
    def _ready(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise RuntimeError("the log is not started")
        return self._producer

    async def read(
        self, partition: int, offset_first: int, offset_next: int | None = None
    ) -> AsyncGenerator[ReadChunk, None]:
        """Read a partition from an offset up to another, or up to its end as found now.

        The end is the high watermark of a fetch that was sent after the call. The last chunk may
        be empty; its `offset_next` is where reading ended. Records that compaction removed are
        left out silently. If the log begins later, or ends before `offset_first`, reading starts
        at its beginning.
        """
        target = TopicPartition(self._topic, partition)
        consumer = await self._reader()
        try:
            consumer.assign([target])
            consumer.seek(target, offset_first)
            while True:
                found = await consumer.getmany(
                    target,
                    timeout_ms=self._connection.limits.read_wait_ms,
                    max_records=self._connection.limits.read_records_max,
                )
                position = await consumer.position(target)
                end = consumer.highwater(target) if offset_next is None else offset_next
                if end is None:
                    continue
                if end < position == offset_first:
                    # Apache Kafka would have refused the offset and been read from its beginning.
                    consumer.seek(target, 0)
                    continue
                records = found.get(target, [])
                if offset_next is not None:
                    records = [record for record in records if record.offset < offset_next]
                if records or position >= end:
                    yield ReadChunk(records, min(position, offset_next or position))
                if position >= end:
                    return
        finally:
            await stop_consumer(consumer)

    async def _reader(self) -> AIOKafkaConsumer:
        connection = self._connection

        async def connect() -> AIOKafkaConsumer:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=connection.bootstrap,
                client_id=connection.client_id,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=connection.limits.partition_fetch_bytes_max,
                fetch_max_wait_ms=connection.limits.read_wait_ms,
                request_timeout_ms=connection.request_timeout_ms,
                **connection.options,
            )
            try:
                await consumer.start()
            except BaseException:
                await stop_consumer(consumer)
                raise
            return consumer

        return await self._patiently(connect)


@dataclass(frozen=True, slots=True)
class KeyedRecord:
    """A record for another topic. `partitions` None leaves the choice to the producer."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    partitions: int | None = None


@dataclass(frozen=True, slots=True)
class ReadChunk:
    """Some records of a partition, in order, all below `offset_next`."""

    records: Sequence[ConsumerRecord]
    offset_next: int


def _stretch(batch: Any, metadata: Any) -> Stretch | None:
    offset = metadata.offset
    return Stretch(offset, offset + batch.record_count()) if offset >= 0 else None
