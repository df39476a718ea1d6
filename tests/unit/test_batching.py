"""How fetched records are cut into batches, and what an app's configuration promises."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition
from faust.types import TP
from faust.types.enums import ProcessingGuarantee

from consent.errors import Rejected
from streams.apps import BatchAgent, add_batch_agent, check_copartitioned, make_app
from streams.batching import (
    BatchLimits,
    BatchScheduler,
    BatchSchema,
    FetchedRecords,
    FetchObservation,
    cut,
)
from streams.config import EMBEDDED_TIMEOUTS, AppConfig, BrokerSecurity, GroupTimeouts
from streams.errors import NotCopartitioned
from streams.transport import BatchConsumer, BatchTransport

PARTITION = TopicPartition("topic", 3)
OBSERVATION = FetchObservation(offset=0, high_watermark=1_000, fetched_at=77)


def record(offset: int, key: bytes | None = b"+1", value: bytes | None = b"v" * 8) -> Any:
    """A record as aiokafka makes it."""
    return ConsumerRecord(
        topic=PARTITION.topic,
        partition=PARTITION.partition,
        offset=offset,
        timestamp=1_700_000_000_000 + offset,
        timestamp_type=0,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=-1 if key is None else len(key),
        serialized_value_size=-1 if value is None else len(value),
        headers=(),
    )


def fetched(offsets: list[int], offset_from: int, offset_next: int) -> FetchedRecords:
    """What one read brought."""
    return FetchedRecords(
        [record(offset) for offset in offsets], offset_from, offset_next, OBSERVATION, 1
    )


def test_a_read_within_the_limits_is_one_batch() -> None:
    """The batch covers the whole stretch, also offsets without a record at either end."""
    (batch,) = cut(PARTITION, fetched([5, 6, 9], 4, 12), BatchLimits())
    assert (batch.offset_from, batch.offset_first, batch.offset_last, batch.offset_next) == (
        4,
        5,
        9,
        12,
    )
    assert (batch.high_watermark, batch.fetched_at, batch.bytes) == (1_000, 77, 30)
    assert batch.topic_partition == PARTITION


def test_batches_hold_at_most_the_records_and_bytes_allowed() -> None:
    """A cap is never exceeded, except by a single record that is larger by itself."""
    by_records = list(cut(PARTITION, fetched(list(range(7)), 0, 7), BatchLimits(records_max=3)))
    assert [len(batch.records) for batch in by_records] == [3, 3, 1]
    by_bytes = list(cut(PARTITION, fetched(list(range(5)), 0, 5), BatchLimits(bytes_max=20)))
    assert [len(batch.records) for batch in by_bytes] == [2, 2, 1]
    assert all(batch.bytes <= 20 for batch in by_bytes)
    too_large = list(cut(PARTITION, fetched([0, 1], 0, 2), BatchLimits(bytes_max=1)))
    assert [len(batch.records) for batch in too_large] == [1, 1]


def test_a_record_without_key_or_value_counts_no_bytes() -> None:
    """Null keys and values pass, and take nothing from the cap."""
    read = FetchedRecords([record(0, None, None)], 0, 1, OBSERVATION, 1)
    (batch,) = cut(PARTITION, read, BatchLimits())
    assert (batch.bytes, batch.records[0].key, batch.records[0].value) == (0, None, None)


def test_a_batch_shows_no_record_in_its_repr() -> None:
    """A number in a key must not reach a log line through a traceback."""
    read = FetchedRecords([record(0, b"+14155550123")], 0, 1, OBSERVATION, 1)
    (batch,) = cut(PARTITION, read, BatchLimits())
    assert "4155550123" not in repr(batch) + repr(read)


def test_partitions_take_turns() -> None:
    """A partition with many batches does not hold up the others, and stays in order."""
    reads = {
        TP("topic", 0): fetched([0, 1, 2], 0, 3),
        TP("topic", 1): fetched([7], 7, 8),
    }
    order = [
        (partition.partition, batch.offset_first)
        for partition, batch in BatchScheduler(BatchLimits(records_max=1)).iterate(reads)
    ]
    assert order == [(0, 0), (1, 7), (0, 1), (0, 2)]


async def test_a_batch_passes_undecoded() -> None:
    """The agent gets the very object that the consumer made, whatever is in it."""
    app = SimpleNamespace(create_event=lambda key, value, headers, message: (key, value))
    decode = BatchSchema().compile(app)
    batch = object()
    assert await decode(SimpleNamespace(value=batch, headers=None)) == (None, batch)


def test_copartitioned_topics_must_be_assigned_alike() -> None:
    """Equal partitions pass, also none at all; anything else is refused, with the numbers."""
    topics = frozenset({"a", "b"})
    check_copartitioned(topics, [TP("a", 1), TP("b", 1), TP("other", 5)])
    check_copartitioned(topics, [])
    with pytest.raises(NotCopartitioned) as caught:
        check_copartitioned(topics, [TP("a", 1), TP("a", 2), TP("b", 1)])
    assert caught.value.partitions == {"a": (1, 2), "b": (1,)}


def test_no_environment_variable_changes_an_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust would let names as common as WEB_PORT overrule the program."""
    for name, value in {
        "BROKER_URL": "kafka://elsewhere:1",
        "BROKER_COMMIT_INTERVAL": "99",
        "PROCESSING_GUARANTEE": "exactly_once",
        "STREAM_BUFFER_MAXSIZE": "9999",
        "STREAM_WAIT_EMPTY": "1",
        "TABLE_STANDBY_REPLICAS": "3",
        "WEB_PORT": "tcp://10.0.0.1:80",
        "WEB_ENABLED": "1",
    }.items():
        monkeypatch.setenv(name, value)
    app = make_app(AppConfig(group_id="group", bootstrap_servers="one:9092,two:9093"))
    app.finalize()
    conf = app.conf
    assert [url.authority for url in conf.broker] == ["one:9092", "two:9093"]
    assert (conf.broker_commit_interval, conf.stream_buffer_maxsize) == (1.0, 4)
    assert (conf.stream_wait_empty, conf.table_standby_replicas) == (False, 0)
    assert conf.web_enabled is False
    assert str(conf.processing_guarantee) == str(ProcessingGuarantee.AT_LEAST_ONCE)


def test_an_app_reads_through_our_transport() -> None:
    """The transport and scheduler that hold the promises are the ones in use."""
    app = make_app(AppConfig(group_id="group", bootstrap_servers="one:9092"))
    app.finalize()
    assert isinstance(app.transport, BatchTransport)
    assert isinstance(app.conf.ConsumerScheduler(), BatchScheduler)  # type: ignore[operator]


async def test_a_topic_has_one_agent() -> None:
    """Two handlers on one topic would share its offsets, so the second is refused."""

    async def handle(_: object) -> None: ...

    app = make_app(AppConfig(group_id="group", bootstrap_servers="one:9092"))
    add_batch_agent(app, BatchAgent("first", frozenset({"a", "b"}), handle))
    with pytest.raises(ValueError, match="topics taken: \\['b'\\]"):
        add_batch_agent(app, BatchAgent("second", frozenset({"b", "c"}), handle))


async def test_only_our_acknowledgement_moves_a_commit() -> None:
    """Faust acknowledges messages that it skips or can't decode; that must commit nothing."""
    app = make_app(AppConfig(group_id="group", bootstrap_servers="one:9092"))
    app.finalize()
    consumer = app.consumer
    assert isinstance(consumer, BatchConsumer)
    consumer.acknowledgements.start(1, {PARTITION: 0})
    (batch,) = cut(PARTITION, fetched([0, 1], 0, 2), BatchLimits())
    assert consumer.acknowledgements.deliver(batch)
    message = consumer._to_message(TP(*PARTITION), batch)
    message.incref()
    assert message.ack(consumer)
    assert consumer.acknowledgements.pending() == {}
    assert consumer.acknowledge(batch)
    assert consumer.acknowledgements.pending() == {PARTITION: 2}


def test_a_drain_longer_than_a_rebalance_is_refused() -> None:
    """Such a worker would be put out of its group at every rebalance."""
    with pytest.raises(Rejected, match="drain_timeout_s"):
        AppConfig(
            group_id="group",
            bootstrap_servers="one:9092",
            drain_timeout_s=3.0,
            timeouts=GroupTimeouts(rebalance_s=6.0),
        )
    AppConfig(group_id="group", bootstrap_servers="one:9092", timeouts=EMBEDDED_TIMEOUTS)


def test_credentials_go_to_the_client_and_nowhere_else() -> None:
    """The password reaches aiokafka and no `repr`; a protocol that needs one is refused without."""
    security = BrokerSecurity(protocol="SASL_PLAINTEXT", username="worker", password="secret-word")
    assert security.aiokafka_options() == {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "worker",
        "sasl_plain_password": "secret-word",
    }
    assert "secret-word" not in repr(security)
    assert "ssl_context" in BrokerSecurity(protocol="SSL").aiokafka_options()
    with pytest.raises(Rejected, match="protocol"):
        BrokerSecurity(protocol="SASL_SSL")
