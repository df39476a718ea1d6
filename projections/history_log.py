"""What the history says to Kafka and asks of it: block announcements, dead letters, log ends.

Owns its own producer and short-lived readers, beside the consumer that the records come from.
A broker that is away is waited for, with backoff and for as long as it takes; what is produced
twice after a crash is an identical repeat, which readers of `ledger-blocks` skip.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import (
    BrokerNotAvailableError,
    KafkaError,
    KafkaTimeoutError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import ConsumerRecord, TopicPartition

from consent.codec import decode, encode
from consent.errors import Corrupt
from consent.facts import LogPartition
from projections.history_blocks import SealedBlock

log = structlog.get_logger(__name__)

BLOCKS_TOPIC = "ledger-blocks"
DEAD_LETTERS_TOPIC = "dead-letters"
_CUTTER_KEY = b"cutter"
_FETCH_BYTES_MAX = 65_536
_REQUEST_BYTES_MAX = 5 * 1024 * 1024
"""A dead letter holds its original, which may be as large as a source topic allows."""
_PASSING = (KafkaTimeoutError, BrokerNotAvailableError)
"""Errors that pass although the client does not call them retriable."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LogConnection:
    """How brokers are reached; `options` are any aiokafka client's security arguments."""

    bootstrap: str
    client_id: str = "consent-ledger-history"
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    request_timeout_ms: int = 20_000
    backoff_first_ms: int = 100
    backoff_max_ms: int = 5_000


async def persist(connection: LogConnection, name: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Do it until it is done: retriable broker errors are waited out, others are raised."""
    backoff_ms = connection.backoff_first_ms
    while True:
        try:
            return await attempt()
        except KafkaError as problem:
            if not (problem.retriable or isinstance(problem, _PASSING)):
                raise
            log.warning("broker_unavailable", operation=name, error=type(problem).__name__)
        await asyncio.sleep(backoff_ms / 1000)
        backoff_ms = min(backoff_ms * 2, connection.backoff_max_ms)


class HistoryProducer:
    """Announces blocks and produces dead letters, each acknowledged by all in-sync replicas."""

    def __init__(self, connection: LogConnection) -> None:
        self._connection = connection
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect; KafkaConnectionError if no broker answers."""
        connection = self._connection
        producer = AIOKafkaProducer(
            bootstrap_servers=connection.bootstrap,
            client_id=connection.client_id,
            # Readers skip identical repeats, so an idempotent producer would add nothing.
            acks="all",
            max_request_size=_REQUEST_BYTES_MAX,
            request_timeout_ms=connection.request_timeout_ms,
            **connection.options,
        )
        await producer.start()
        self._producer = producer

    async def stop(self) -> None:
        """Disconnect; what was not awaited may be lost, and nothing unawaited was promised."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.stop()

    async def announce(self, origin: LogPartition, block: SealedBlock) -> None:
        """Produce a block's BlockSealed and wait until it is safe."""
        key = f"{origin.topic}/{origin.partition}".encode()
        await self.send(BLOCKS_TOPIC, key, encode("BlockSealed", block.header(origin)))

    async def seal_entry(self, entry: Mapping[str, Any]) -> None:
        """Produce an entry that is no block, for the proof log, and wait until it is safe."""
        key = str(entry["entry_kind"]).lower().encode()
        await self.send(BLOCKS_TOPIC, key, encode("LogEntry", entry))

    async def bury(self, letters: Iterable[tuple[bytes | None, bytes]]) -> None:
        """Produce dead letters, one after the other, and wait until they are safe."""
        for key, value in letters:
            await self.send(DEAD_LETTERS_TOPIC, key, value)

    async def freeze(self, entry: Mapping[str, Any]) -> None:
        """Propose an entry with the cutter's limits as the first of `ledger-blocks`."""
        await self.send(BLOCKS_TOPIC, _CUTTER_KEY, encode("LogEntry", entry))

    async def send(self, topic: str, key: bytes | None, value: bytes) -> None:
        """Produce one record and wait until it is safe; a broker that is away is waited for."""
        producer = self._producer
        if producer is None:
            raise RuntimeError("the producer is not started")
        await persist(
            self._connection, topic, lambda: producer.send_and_wait(topic, value, key=key)
        )


class LogReader:
    """Reads single places of the log, outside the consumer group. Open it for a moment only."""

    def __init__(self, connection: LogConnection) -> None:
        self._connection = connection
        self._consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> LogReader:
        connection = self._connection

        async def connect() -> AIOKafkaConsumer:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=connection.bootstrap,
                client_id=connection.client_id,
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                fetch_max_wait_ms=50,
                max_partition_fetch_bytes=_FETCH_BYTES_MAX,
                request_timeout_ms=connection.request_timeout_ms,
                **connection.options,
            )
            try:
                await consumer.start()
            except BaseException:
                await consumer.stop()
                raise
            return consumer

        self._consumer = await persist(connection, "connect", connect)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._consumer is not None
        await self._consumer.stop()

    async def starts(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """First offset that the log still has, of each partition."""
        assert self._consumer is not None
        consumer = self._consumer
        found = await persist(
            self._connection, "starts", lambda: consumer.beginning_offsets(list(partitions))
        )
        return {partition: int(offset) for partition, offset in found.items()}

    async def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last record of each partition.

        By the fetch's own high watermark: the embedded broker answers ListOffsets wrongly.
        """
        assert self._consumer is not None
        consumer = self._consumer
        starts = await self.starts(partitions)
        consumer.assign(list(partitions))
        for partition, offset in starts.items():
            consumer.seek(partition, offset)
        found: dict[TopicPartition, int] = {}
        while missing := [partition for partition in partitions if partition not in found]:
            await persist(
                self._connection,
                "ends",
                lambda missing=missing: consumer.getmany(*missing, timeout_ms=200),  # type: ignore[misc]
            )
            for partition in missing:
                high_watermark = consumer.highwater(partition)
                if high_watermark is not None:
                    found[partition] = int(high_watermark)
        return found

    async def records_at(
        self, offsets: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, ConsumerRecord | None]:
        """The record at one offset of each partition; None where the log ends before it.

        The offsets must not lie before the log's start.
        """
        assert self._consumer is not None
        consumer = self._consumer
        found: dict[TopicPartition, ConsumerRecord | None] = {}
        consumer.assign(list(offsets))
        for partition, offset in offsets.items():
            consumer.seek(partition, offset)
        while missing := [partition for partition in offsets if partition not in found]:
            try:
                fetched = await persist(
                    self._connection,
                    "fetch",
                    lambda missing=missing: consumer.getmany(*missing, timeout_ms=200),  # type: ignore[misc]
                )
            except OffsetOutOfRangeError as beyond:
                for partition in beyond.args[0]:
                    found[TopicPartition(*partition)] = None
                consumer.pause(*found)
                continue
            for partition, records in fetched.items():
                at_offset = records[0].offset == offsets[partition]
                found[partition] = records[0] if at_offset else None
                consumer.pause(partition)
            for partition in missing:
                high_watermark = consumer.highwater(partition)
                if high_watermark is not None and high_watermark <= offsets[partition]:
                    found.setdefault(partition, None)
        return found

    async def entries(self, topic: str, records_max: int = 1_000) -> list[ConsumerRecord]:
        """The first records of a topic of one partition, up to where it ends now."""
        partition = TopicPartition(topic, 0)
        start = (await self.starts([partition]))[partition]
        return await self._read(partition, start, records_max)

    async def _read(
        self, partition: TopicPartition, offset: int, records_max: int
    ) -> list[ConsumerRecord]:
        """Records from an offset on, until the fetch's own high watermark or `records_max`.

        ListOffsets is not asked for the end: the embedded broker answers it wrongly.
        """
        assert self._consumer is not None
        consumer = self._consumer
        consumer.assign([partition])
        consumer.seek(partition, offset)
        records: list[ConsumerRecord] = []
        while len(records) < records_max:
            found = await persist(
                self._connection,
                "fetch",
                lambda: consumer.getmany(partition, timeout_ms=200, max_records=records_max),
            )
            records += found.get(partition, [])
            high_watermark = consumer.highwater(partition)
            if high_watermark is not None and await consumer.position(partition) >= high_watermark:
                break
        return records[:records_max]


async def frozen_entry(
    connection: LogConnection,
    producer: HistoryProducer,
    stored: Mapping[str, Any] | None,
    proposed: Mapping[str, Any],
) -> dict[str, Any]:
    """The entry with the cutter's limits, which is the first of `ledger-blocks`.

    `stored` is the store's copy. Where the topic is empty, that copy is written to it, or
    `proposed` where there is none; of several written at the same moment the first counts, for
    every reader. Raises Corrupt if topic and store differ, or if both have lost the entry.
    """
    while True:
        async with LogReader(connection) as reader:
            records = await reader.entries(BLOCKS_TOPIC)
        found = next((entry for entry in map(_cutter_entry, records) if entry is not None), None)
        if found is not None:
            if stored is not None and stored["content_sha256"] != found["content_sha256"]:
                raise Corrupt("the store and ledger-blocks freeze different cutter limits")
            return found
        if records:
            if stored is None:
                raise Corrupt("ledger-blocks does not begin with the cutter's limits")
            return dict(stored)
        await producer.freeze(stored if stored is not None else proposed)


def _cutter_entry(record: ConsumerRecord) -> dict[str, Any] | None:
    contract, entry = decode(record.value)
    return entry if contract.name == "LogEntry" and entry["entry_kind"] == "CUTTER" else None
