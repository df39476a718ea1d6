"""What holds while workers come and go: no early, late or lost commit, and equal partitions."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Any

from aiokafka.structs import TopicPartition

from streams.apps import BatchAgent, BatchApp, add_batch_agent, make_app
from streams.batching import RecordBatch
from streams.config import EMBEDDED_TIMEOUTS, AppConfig
from streams.errors import NotCopartitioned
from tests.batching_harness import Stage, Worker, eventually, open_gate, running
from tests.brokers import create_topics, produce, unique, wait_until

TEN = [b"value"] * 10


def place(event: dict[str, Any]) -> tuple[str, int]:
    """Partition of a journalled batch."""
    return event["topic"], event["partition"]


async def test_a_late_acknowledgement_commits_nothing(stage: Stage) -> None:
    """A worker that is still inside a batch when its partitions are revoked may finish the
    effect; that commits nothing, and the batch is done again.
    """
    topic = unique("topic")
    create_topics(stage.broker, [topic], partitions=2)
    for partition in range(2):
        await produce(stage.broker, topic, partition, TEN)
    gates = stage.gate(), stage.gate()
    first = stage.start(topic, gate=str(gates[0]))
    in_work = place(first.wait_for("began")[0])
    second = stage.start(topic, gate=str(gates[1]))
    second.wait_for("began")
    first.wait_for("revoked")
    first.wait_for("assigned", 2)

    open_gate(gates[0], 1)
    assert place(first.wait_for("done")[0]) == in_work
    first.wait_for("began", 2)
    await asyncio.sleep(0.6)
    assert await stage.committed(topic, 2) == [None, None]

    open_gate(gates[0], 2, 3)
    open_gate(gates[1], 1, 2)
    await stage.wait_committed(topic, [10, 10])
    done = first.events("done") + second.events("done")
    assert [place(event) for event in done].count(in_work) == 2


async def test_a_batch_in_work_gets_a_moment_at_a_rebalance(stage: Stage) -> None:
    """A rebalance waits briefly for the handler, so that a quick batch is not repeated."""
    topic = unique("topic")
    create_topics(stage.broker, [topic], partitions=2)
    for partition in range(2):
        await produce(stage.broker, topic, partition, [b"value"] * 150)
    quick = {"effect_s": 0.1, "records_max": 5, "drain_timeout_s": 1.5}
    first = stage.start(topic, **quick)
    first.wait_for("done", 3)
    second = stage.start(topic, **quick)
    second.wait_for("done")
    await stage.wait_committed(topic, [150, 150])
    for partition in range(2):
        assert stage.done(topic, partition) == list(range(150))


async def test_a_paused_worker_does_not_move_what_it_lost(stage: Stage) -> None:
    """A worker stopped past its session and continued neither commits for its old partitions
    nor goes on with them, and finds back into the group.
    """
    topic = unique("topic")
    create_topics(stage.broker, [topic])
    await produce(stage.broker, topic, 0, TEN)
    first = stage.start(topic, effect_s=0.5)
    first.wait_for("began")
    first.signal(signal.SIGSTOP)
    second = stage.start(topic)
    await stage.wait_committed(topic, [10])
    await produce(stage.broker, topic, 0, TEN)
    await stage.wait_committed(topic, [20])

    first.signal(signal.SIGCONT)
    first.wait_for("done")
    first.wait_for("revoked")
    first.wait_for("assigned", 2)
    assert await stage.committed(topic) == [20]
    second.signal(signal.SIGTERM)
    assert second.exit_code() == 0
    await produce(stage.broker, topic, 0, TEN)
    await stage.wait_committed(topic, [30])
    assert set(stage.done(topic)) == set(range(30))
    assert len(first.events("done")) + len(second.events("done")) >= 4


async def test_a_spare_worker_takes_over(stage: Stage) -> None:
    """A worker without a partition stays in the group and takes over from one that was killed."""
    topic = unique("topic")
    create_topics(stage.broker, [topic])
    workers = [stage.start(topic), stage.start(topic)]
    for worker in workers:
        worker.wait_for("assigned")

    def owners() -> list[Worker]:
        return [one for one in workers if one.events("assigned")[-1]["partitions"]]

    # The second one to join made the first give up its partition and ask again.
    owner = wait_until(
        lambda: owners() if sum(len(one.events("assigned")) for one in workers) >= 2 else [],
        what="one owner",
    )[0]
    await produce(stage.broker, topic, 0, TEN)
    await stage.wait_committed(topic, [10])
    owner.signal(signal.SIGKILL)
    await produce(stage.broker, topic, 0, TEN)
    await stage.wait_committed(topic, [20])


async def test_a_handler_is_prepared_before_its_first_batch(stage: Stage) -> None:
    """No batch is handled before the listener is done preparing, however long that takes."""
    topic = unique("topic")
    create_topics(stage.broker, [topic])
    await produce(stage.broker, topic, 0, TEN)
    worker = stage.start(topic, prepare_s=1.0)
    worker.wait_for("preparing")
    assert worker.events("began") == []
    (began,) = worker.wait_for("began")
    (assigned,) = worker.events("assigned")
    assert assigned["partitions"] == [[topic, 0]]
    assert began["at"] >= assigned["at"]


async def test_a_preparation_ends_when_its_partitions_go(stage: Stage) -> None:
    """A rebalance does not wait for a worker that is still preparing, which then starts again."""
    topic = unique("topic")
    create_topics(stage.broker, [topic], partitions=2)
    first = stage.start(topic, prepare_s=300.0)
    first.wait_for("preparing")
    second = stage.start(topic)
    second.wait_for("assigned")
    first.wait_for("revoked")
    first.wait_for("preparing", 2)
    assert first.events("assigned") == []


class Member:
    """An app of a group, and what it was assigned and handled."""

    def __init__(self, stage: Stage, topics: frozenset[str]) -> None:
        self.handled: dict[str, set[int]] = {topic: set() for topic in topics}
        self.app: BatchApp = make_app(
            AppConfig(
                group_id=stage.group,
                bootstrap_servers=stage.broker.bootstrap,
                copartitioned_topics=topics,
                timeouts=EMBEDDED_TIMEOUTS,
            )
        )
        add_batch_agent(self.app, BatchAgent("member", topics, self.handle))

    async def handle(self, batch: RecordBatch) -> None:
        """Notes the partition."""
        self.handled[batch.topic].add(batch.partition)

    def partitions(self) -> list[tuple[int, ...]]:
        """What is assigned of each topic."""
        return [
            tuple(sorted(tp.partition for tp in self.app.assigned if tp.topic == topic))
            for topic in sorted(self.handled)
        ]


async def test_five_workers_share_twelve_partitions_alike(stage: Stage) -> None:
    """Partition p of each co-partitioned topic is with one worker; the fifth of them comes late."""
    topics = frozenset(unique(name) for name in ("calls", "consents", "dnc"))
    create_topics(stage.broker, topics, partitions=12)
    members = [Member(stage, topics) for _ in range(5)]

    def shares() -> list[int]:
        return sorted(len(member.partitions()[0]) for member in members)

    *four, fifth = (member.app for member in members)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(running(*four))
        await eventually(shares, lambda found: found == [0, 3, 3, 3, 3], "shares of four")
        await stack.enter_async_context(running(fifth))
        await eventually(shares, lambda found: found == [2, 2, 2, 3, 3], "shares of five")
        for member in members:
            assert len(set(member.partitions())) == 1
        for topic in topics:
            for partition in range(12):
                await produce(stage.broker, topic, partition, [b"value"])
        await eventually(
            lambda: sum(len(seen) for member in members for seen in member.handled.values()),
            lambda found: found == 36,
            "a record of each partition",
        )
        for member in members:
            first, *others = member.handled.values()
            assert all(other == first for other in others)


async def test_unequal_partition_counts_are_refused(stage: Stage) -> None:
    """A worker whose co-partitioned topics differ in partitions fails before it reads a record."""
    topics = [unique("twelve"), unique("four")]
    create_topics(stage.broker, topics[:1], partitions=12)
    create_topics(stage.broker, topics[1:], partitions=4)
    await produce(stage.broker, topics[0], 0, TEN)
    member = Member(stage, frozenset(topics))
    async with running(member.app):
        await eventually(lambda: member.app.crashed, bool, "the refusal")
    assert isinstance(member.app.crash_reason, NotCopartitioned)
    assert member.app.crash_reason.partitions[topics[1]] == (0, 1, 2, 3)
    assert not any(member.handled.values())
    assert TopicPartition(topics[0], 0) not in member.app.positions()
