"""How records reach a handler: as bytes, in order, with nothing left out, in larger batches when
the handler is slow.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from streams.apps import BatchAgent, BatchApp, BatchHandler, add_batch_agent, make_app
from streams.batching import BatchLimits, FetchObservation, RecordBatch
from streams.config import EMBEDDED_TIMEOUTS, AppConfig, FetchLimits
from tests.batching_harness import Stage, eventually, running
from tests.brokers import create_topics, produce, unique


def app_on(
    stage: Stage,
    topic: str,
    handler: BatchHandler,
    records_max: int = 5_000,
    fetch: FetchLimits | None = None,
) -> BatchApp:
    """An app of the stage's group with one handler on one topic."""
    app = make_app(
        AppConfig(
            group_id=stage.group,
            bootstrap_servers=stage.broker.bootstrap,
            batch=BatchLimits(records_max=records_max),
            fetch=fetch or FetchLimits(),
            timeouts=EMBEDDED_TIMEOUTS,
            commit_interval_s=0.1,
        )
    )
    add_batch_agent(app, BatchAgent("under-test", frozenset({topic}), handler))
    return app


class Collector:
    """A handler that keeps what it got."""

    def __init__(self, effect_s: float = 0.0) -> None:
        self.batches: list[RecordBatch] = []
        self._effect_s = effect_s

    async def handle(self, batch: RecordBatch) -> None:
        """Keeps the batch once the effect is over."""
        await asyncio.sleep(self._effect_s)
        self.batches.append(batch)

    @property
    def offsets(self) -> list[int]:
        """Offsets of all records so far, in the order they came."""
        return [record.offset for batch in self.batches for record in batch.records]


async def next_observation(
    app: BatchApp, partition: TopicPartition, after_ms: int
) -> FetchObservation:
    """What a fetch that was sent after `after_ms` said."""

    def look() -> FetchObservation | None:
        seen = app.observation(partition)
        return seen if seen is not None and seen.fetched_at > after_ms else None

    found: FetchObservation = await eventually(look, bool, "an answered fetch")
    return found


async def test_bytes_pass_untouched(stage: Stage) -> None:
    """Whatever bytes a producer wrote reach the handler, null, empty, large or not text."""
    topic = unique("topic")
    create_topics(stage.broker, [topic], config={"max.message.bytes": "4000000"})
    values = [None, b"", b"\xff\xfe\x00", b"{not json", b"x" * 900_000]
    await produce(stage.broker, topic, 0, values, key=b"\xff\xfe")
    got = Collector()
    async with running(app_on(stage, topic, got.handle)):
        await eventually(lambda: got.offsets, lambda found: len(found) == 5, "all five records")
        await stage.wait_committed(topic, [5])
    records = [record for batch in got.batches for record in batch.records]
    assert [record.value for record in records] == values
    assert {record.key for record in records} == {b"\xff\xfe"}


async def test_a_batch_says_what_its_fetch_knew(stage: Stage) -> None:
    """The high watermark is the end of the log, and the clock was read before the fetch."""
    topic = unique("topic")
    create_topics(stage.broker, [topic])
    await produce(stage.broker, topic, 0, [b"value"] * 7)
    got = Collector()
    app = app_on(stage, topic, got.handle, records_max=3)
    async with running(app):
        await eventually(lambda: got.offsets, lambda found: len(found) == 7, "all records")
        assert [batch.high_watermark for batch in got.batches] == [7, 7, 7]
        assert [batch.offset_next for batch in got.batches] == [3, 6, 7]
        fetched_at = got.batches[0].fetched_at
        await produce(stage.broker, topic, 0, [b"later"])
        await eventually(lambda: got.offsets, lambda found: len(found) == 8, "the later record")
        last = got.batches[-1]
        assert last.fetched_at > fetched_at
        if stage.broker.log_append_time:
            assert last.high_watermark == 8


async def test_an_idle_partition_is_known_to_be_idle(stage: Stage) -> None:
    """Without a record to handle, the end of the log is seen again and again."""
    topic = unique("topic")
    create_topics(stage.broker, [topic], partitions=2)
    await produce(stage.broker, topic, 0, [b"value"] * 4)
    got = Collector()
    app = app_on(stage, topic, got.handle)
    async with running(app):
        await eventually(lambda: got.offsets, lambda found: len(found) == 4, "all records")
        for number, end in ((0, 4), (1, 0)):
            partition = TopicPartition(topic, number)
            first = await next_observation(app, partition, after_ms=0)
            later = await next_observation(app, partition, after_ms=first.fetched_at)
            assert later.high_watermark == app.positions()[partition] == end


async def test_few_records_are_followed_by_a_rest(stage: Stage) -> None:
    """The next fetch is sent after it, and not before."""
    topic = unique("topic")
    create_topics(stage.broker, [topic])
    got = Collector()
    app = app_on(stage, topic, got.handle, fetch=FetchLimits(rest_ms=700, rest_below_records=3))
    async with running(app):
        before_ms = time.time_ns() // 1_000_000
        await produce(stage.broker, topic, 0, [b"value"] * 2)
        await eventually(lambda: got.offsets, lambda found: len(found) == 2, "the first records")
        await produce(stage.broker, topic, 0, [b"later"])
        await eventually(lambda: got.offsets, lambda found: len(found) == 3, "the later record")
    # The clocks of the wait and of the observation differ by a few milliseconds.
    assert got.batches[-1].fetched_at >= before_ms + 690


async def test_what_is_no_trickle_is_not_held(stage: Stage) -> None:
    """Neither what follows many records, nor a first record after a pause: here for an hour."""
    topic = unique("topic")
    create_topics(stage.broker, [topic])
    await produce(stage.broker, topic, 0, [b"value"] * 3)
    got = Collector()
    fetch = FetchLimits(rest_ms=3_600_000, rest_below_records=3)
    async with running(app_on(stage, topic, got.handle, fetch=fetch)):
        await eventually(lambda: got.offsets, lambda found: len(found) == 3, "many records")
        await produce(stage.broker, topic, 0, [b"later"])
        await eventually(lambda: got.offsets, lambda found: len(found) == 4, "the later record")


async def test_a_slow_handler_gets_larger_batches(stage: Stage) -> None:
    """What arrives while a handler is busy comes to it in a few large batches."""
    topic = unique("topic")
    create_topics(stage.broker, [topic])
    got = Collector()
    all_produced = asyncio.Event()

    async def wait_then_collect(batch: RecordBatch) -> None:
        await all_produced.wait()
        await got.handle(batch)

    async with running(app_on(stage, topic, wait_then_collect)):
        producer = AIOKafkaProducer(bootstrap_servers=stage.broker.bootstrap, linger_ms=0)
        await producer.start()
        for _ in range(300):
            await producer.send_and_wait(topic, b"value", partition=0)
        await producer.stop()
        all_produced.set()
        await eventually(lambda: len(got.offsets), lambda found: found == 300, "all records")
    assert got.offsets == list(range(300))
    # One in work, four in the buffer, one before it, one read ahead, and the rest.
    assert len(got.batches) <= 8, "small batches piled up"


async def test_batches_keep_the_order_of_each_partition(stage: Stage) -> None:
    """Partitions take turns, each tiled by its batches without a hole or a repeat."""
    topic = unique("topic")
    create_topics(stage.broker, [topic], partitions=3)
    for partition in range(3):
        await produce(stage.broker, topic, partition, [b"value"] * 500)
    got = Collector()
    async with running(app_on(stage, topic, got.handle, records_max=70)):
        await eventually(lambda: len(got.offsets), lambda found: found == 1_500, "all records")
        await stage.wait_committed(topic, [500, 500, 500])
    turns = [batch.partition for batch in got.batches]
    begun = max(turns.index(partition) for partition in range(3))
    assert begun < min(len(turns) - 1 - turns[::-1].index(partition) for partition in range(3))
    for partition in range(3):
        batches = [batch for batch in got.batches if batch.partition == partition]
        edges = [0, *(batch.offset_next for batch in batches)]
        assert [batch.offset_from for batch in batches] == edges[:-1]
        assert edges[-1] == 500
        assert max(len(batch.records) for batch in batches) <= 70


async def transactions(stage: Stage, topic: str, *aborted: bool) -> None:
    """Five records and a marker for each transaction; read only where it was not aborted."""
    producer = AIOKafkaProducer(
        bootstrap_servers=stage.broker.bootstrap, transactional_id=unique("writer")
    )
    await producer.start()
    for abort in aborted:
        await producer.begin_transaction()
        for _ in range(5):
            await producer.send_and_wait(topic, b"value", partition=0)
        await (producer.abort_transaction() if abort else producer.commit_transaction())
    await producer.stop()


@pytest.mark.kafka
async def test_gaps_do_not_hold_up_commits(kafka_stage: Stage) -> None:
    """Transaction markers and aborted records are passed over, and commits go on behind them."""
    stage, topic = kafka_stage, unique("topic")
    create_topics(stage.broker, [topic])
    got = Collector()
    app = app_on(stage, topic, got.handle)
    partition = TopicPartition(topic, 0)

    async def wait_until_done(end: int) -> None:
        await eventually(
            lambda: (app.positions().get(partition), app.observation(partition)),
            lambda seen: seen[0] == end and seen[1].high_watermark == end,
            f"the end of the log at {end}",
        )

    await transactions(stage, topic, False, True, False)
    async with running(app):
        await wait_until_done(18)
        assert got.offsets == [*range(5), *range(12, 17)]
        await stage.wait_committed(topic, [got.batches[-1].offset_next])
        # Nothing readable comes with these, and still the end is known to be reached.
        await transactions(stage, topic, True)
        await wait_until_done(24)
        await produce(stage.broker, topic, 0, [b"plain"] * 2)
        await stage.wait_committed(topic, [26])
    assert got.offsets == [*range(5), *range(12, 17), 24, 25]
    edges = [0, *(batch.offset_next for batch in got.batches)]
    assert [batch.offset_from for batch in got.batches] == edges[:-1]


@pytest.mark.kafka
async def test_compaction_does_not_hold_up_commits(kafka_stage: Stage, tmp_path: Path) -> None:
    """A compacted log is read to its end, whatever is missing in between."""
    stage, topic = kafka_stage, unique("topic")
    create_topics(
        stage.broker,
        [topic],
        config={
            "cleanup.policy": "compact",
            "segment.ms": "500",
            "min.cleanable.dirty.ratio": "0.01",
            "min.compaction.lag.ms": "0",
            "delete.retention.ms": "0",
        },
    )
    for _ in range(3):
        await produce(stage.broker, topic, 0, [b"value"] * 20)
        await asyncio.sleep(0.6)
    await produce(stage.broker, topic, 0, [b"last"], key=b"other")

    async def offsets_left() -> list[int]:
        got = Collector()
        reader = Stage(stage.broker, tmp_path)
        app = app_on(reader, topic, got.handle)
        async with running(app):
            await eventually(
                lambda: app.positions().get(TopicPartition(topic, 0)),
                lambda position: position == 61,
                "the end of the log",
            )
            await reader.wait_committed(topic, [61])
        return got.offsets

    left = await eventually(offsets_left, lambda found: len(found) < 30, "compaction", 60.0)
    assert left == sorted(left)
    assert left[-1] == 60
