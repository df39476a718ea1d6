"""Producing records to the log, and knowing for each one whether the broker has it.

Owns the producer's settings and what becomes of an unreachable broker; knows nothing of documents
or decisions. The only writer of events and decisions in this product.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    RecordTooLargeError,
)

from consent.codec import Fields, cloudevents_headers, encode
from consent.contracts import RecordContract
from consent.errors import Rejected, Retryable
from consent.partitioning import partition_of

log = structlog.get_logger(__name__)

Headers = Sequence[tuple[str, bytes]]
_TOO_LARGE: Final = (MessageSizeTooLargeError, RecordTooLargeError)


class PublisherUnavailable(Retryable):
    """The broker did not take the records in time. They may still arrive: send the same again."""


@dataclass(frozen=True, slots=True)
class PublisherConfig:
    """Where and how to produce. `security` holds aiokafka's own security arguments.

    `idempotent` must be off for the embedded broker, which refuses to number producers: there a
    retry may write a record twice, which counts once like every event sent twice.
    """

    bootstrap: str
    client_id: str = "consent-ledger"
    idempotent: bool = True
    linger_ms: int = 0
    request_timeout_ms: int = 10_000
    acknowledge_timeout_ms: int = 10_000
    start_timeout_ms: int = 30_000
    records_in_flight_max: int = 20_000
    record_bytes_max: int = 1_000_000
    batch_bytes_max: int = 262_144
    compression: str | None = "lz4"
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    """One record to produce. Its partition is the one that its key belongs to."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class Published:
    """Where the broker put a record; `timestamp_ms` is broker time where the topic has it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


Outcome = Published | PublisherUnavailable | Rejected


def outgoing(record: RecordContract, fields: Fields, key: bytes) -> OutgoingRecord:
    """The record that carries an event, with CloudEvents headers."""
    return OutgoingRecord(
        record.topic, key, encode(record.name, fields), cloudevents_headers(record, fields)
    )


class EventPublisher:
    """An idempotent producer with `acks=all` whose every record has a known outcome.

    Records of one call reach each partition in the order given. After a fatal error of the
    producer (the broker no longer knows it) a new one takes its place.
    """

    def __init__(self, config: PublisherConfig) -> None:
        self._config = config
        self._producer: AIOKafkaProducer | None = None
        self._renewal = asyncio.Lock()
        self._partitions: dict[str, int] = {}
        self._in_flight = 0
        self._room = asyncio.Condition()
        self._acknowledging: set[asyncio.Future[Any]] = set()

    @property
    def in_flight(self) -> int:
        """Records handed to the producer that the broker has not acknowledged."""
        return self._in_flight

    async def start(self) -> None:
        """Connect; tries again until `start_timeout_ms`, then PublisherUnavailable."""
        deadline = asyncio.get_running_loop().time() + self._config.start_timeout_ms / 1000
        while self._producer is None:
            try:
                self._producer = await self._new_producer()
            except (KafkaError, OSError) as problem:
                if asyncio.get_running_loop().time() >= deadline:
                    raise PublisherUnavailable(
                        f"no broker answers at {self._config.bootstrap}"
                    ) from problem
                await asyncio.sleep(0.2)

    async def stop(self) -> None:
        """Wait for what is in flight, at most `acknowledge_timeout_ms`, then disconnect."""
        if self._acknowledging:
            timeout_s = self._config.acknowledge_timeout_ms / 1000
            await asyncio.wait(set(self._acknowledging), timeout=timeout_s)
        if self._in_flight:
            log.error("records_left_unacknowledged", records=self._in_flight)
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop_quietly(producer)

    async def publish(
        self, records: Sequence[OutgoingRecord], timeout_ms: int | None = None
    ) -> list[Outcome]:
        """Produce records and wait until each is acknowledged, refused or out of time.

        One outcome per record, in order. An outcome PublisherUnavailable leaves open whether the
        record is in the log; producing the same event again is harmless.
        """
        timeout_s = (timeout_ms or self._config.acknowledge_timeout_ms) / 1000
        deadline = asyncio.get_running_loop().time() + timeout_s
        waiting: list[asyncio.Future[Any] | Rejected | None] = [None] * len(records)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._hand_over(records, waiting)
        futures = [entry for entry in waiting if isinstance(entry, asyncio.Future)]
        if futures:
            left_s = max(0.0, deadline - asyncio.get_running_loop().time())
            await asyncio.wait(futures, timeout=left_s)
        outcomes = [_outcome(entry) for entry in waiting]
        if any(isinstance(outcome, PublisherUnavailable) for outcome in outcomes):
            await self._renew_if_dead()
        return outcomes

    async def _hand_over(
        self,
        records: Sequence[OutgoingRecord],
        waiting: list[asyncio.Future[Any] | Rejected | None],
    ) -> None:
        for position, record in enumerate(records):
            too_large = _too_large(record, self._config.record_bytes_max)
            if too_large is not None:
                waiting[position] = too_large
                continue
            await self._wait_for_room()
            producer = self._producer
            if producer is None:
                return
            try:
                partition = partition_of(record.key, await self._partition_count(record.topic))
                future = await producer.send(
                    record.topic,
                    value=record.value,
                    key=record.key,
                    partition=partition,
                    headers=list(record.headers),
                )
            except KafkaError as problem:
                log.warning("produce_failed", topic=record.topic, error=type(problem).__name__)
                return
            waiting[position] = future
            self._in_flight += 1
            self._acknowledging.add(future)
            future.add_done_callback(self._acknowledged)

    def _acknowledged(self, future: asyncio.Future[Any]) -> None:
        self._in_flight -= 1
        self._acknowledging.discard(future)
        if not future.cancelled():
            future.exception()
        if self._in_flight == self._config.records_in_flight_max - 1:
            asyncio.ensure_future(self._announce_room())  # noqa: RUF006 - it only notifies

    async def _announce_room(self) -> None:
        async with self._room:
            self._room.notify_all()

    async def _wait_for_room(self) -> None:
        if self._in_flight < self._config.records_in_flight_max:
            return
        async with self._room:
            await self._room.wait_for(lambda: self._in_flight < self._config.records_in_flight_max)

    async def _partition_count(self, topic: str) -> int:
        count = self._partitions.get(topic)
        if count is None:
            if self._producer is None:
                raise PublisherUnavailable("the producer is stopped")
            count = len(await self._producer.partitions_for(topic))
            self._partitions[topic] = count
        return count

    async def _new_producer(self) -> AIOKafkaProducer:
        config = self._config
        producer = AIOKafkaProducer(
            bootstrap_servers=config.bootstrap,
            client_id=config.client_id,
            acks="all",
            enable_idempotence=config.idempotent,
            linger_ms=config.linger_ms,
            request_timeout_ms=config.request_timeout_ms,
            max_batch_size=config.batch_bytes_max,
            max_request_size=max(config.record_bytes_max + 4_096, config.batch_bytes_max),
            compression_type=config.compression,
            retry_backoff_ms=50,
            **config.security,
        )
        try:
            await producer.start()
        except BaseException:
            await _stop_quietly(producer)
            raise
        return producer

    async def _renew_if_dead(self) -> None:
        """Replace a producer whose sender ended; what it held is failed already."""
        async with self._renewal:
            producer = self._producer
            if producer is None or not _dead(producer):
                return
            log.warning("producer_renewed")
            await _stop_quietly(producer)
            self._partitions.clear()
            with contextlib.suppress(KafkaError, OSError):
                self._producer = await self._new_producer()


def _dead(producer: AIOKafkaProducer) -> bool:
    task = producer._sender.sender_task  # noqa: SLF001 - aiokafka tells it nowhere else
    return task is None or task.done()


def _too_large(record: OutgoingRecord, bytes_max: int) -> Rejected | None:
    size = len(record.key) + len(record.value)
    if size <= bytes_max:
        return None
    remedy = f"keep an event under {bytes_max} bytes; give references instead of documents"
    return Rejected("TOO_LARGE", "", f"{size} bytes", remedy)


def _outcome(entry: asyncio.Future[Any] | Rejected | None) -> Outcome:
    if isinstance(entry, Rejected):
        return entry
    if entry is None or not entry.done() or entry.cancelled():
        return PublisherUnavailable("the broker did not acknowledge in time")
    problem = entry.exception()
    if isinstance(problem, _TOO_LARGE):
        return Rejected("TOO_LARGE", "", "more than the broker takes", "send a smaller event")
    if problem is not None:
        return PublisherUnavailable(f"the broker refused the record: {type(problem).__name__}")
    metadata = entry.result()
    return Published(metadata.topic, metadata.partition, metadata.offset, int(metadata.timestamp))


async def _stop_quietly(producer: AIOKafkaProducer) -> None:
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        await asyncio.wait_for(producer.stop(), timeout=5)
