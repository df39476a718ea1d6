"""What is committed, exactly, when a worker does not get to the end of a batch."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
from kafka import KafkaAdminClient, TopicPartition

from tests.batching_harness import Stage, Worker
from tests.brokers import create_topics, free_port, produce, unique

TEN = [b"value"] * 10
FAILED = 70


@pytest.mark.parametrize("failure", ["fail_at", "cancel_at"])
async def test_a_failed_batch_ends_the_process_uncommitted(stage: Stage, failure: str) -> None:
    """An error or a cancellation in a handler ends the process; its batch is read again."""
    topic = unique("topic")
    create_topics(stage.broker, [topic])
    await produce(stage.broker, topic, 0, TEN)
    worker = stage.start(topic, **{failure: 15})
    await stage.wait_committed(topic, [10])
    await produce(stage.broker, topic, 0, TEN)

    assert worker.exit_code() == FAILED
    assert await stage.committed(topic) == [10]
    assert stage.done(topic) == list(range(10))
    output = worker.output.read_text()
    assert "batch_handler_failed" in output
    assert "planned failure" not in output, "the text of an error may quote a record"

    stage.start(topic)
    await stage.wait_committed(topic, [20])
    assert stage.done(topic) == list(range(20))


async def test_an_unrelated_failure_commits_nothing_that_is_in_work(stage: Stage) -> None:
    """A task that raises while a handler is inside its effect does not acknowledge the batch."""
    topic = unique("topic")
    create_topics(stage.broker, [topic])
    await produce(stage.broker, topic, 0, TEN)
    worker = stage.start(topic, effect_s=20.0, task_fails_in_batch=True)
    worker.wait_for("began")

    assert worker.exit_code() == FAILED
    assert await stage.committed(topic) == [None]
    assert stage.done(topic) == []


async def test_a_stop_waits_for_the_batch_in_work_and_commits_it(stage: Stage) -> None:
    """SIGTERM lets a handler finish its batch within the stop time-out, and commits it."""
    topic = unique("topic")
    create_topics(stage.broker, [topic])
    await produce(stage.broker, topic, 0, TEN)
    worker = stage.start(topic, effect_s=1.0, records_max=5)
    worker.wait_for("began")
    worker.signal(signal.SIGTERM)

    assert worker.exit_code() == 0
    assert stage.done(topic) == list(range(5)), "the next batch must not begin"
    assert await stage.committed(topic) == [5]


async def test_a_stop_does_not_wait_for_a_preparation(stage: Stage) -> None:
    """SIGTERM while handlers still prepare ends the process in good order."""
    topic = unique("topic")
    create_topics(stage.broker, [topic])
    worker = stage.start(topic, prepare_s=300.0)
    worker.wait_for("preparing")
    worker.signal(signal.SIGTERM)
    assert worker.exit_code() == 0
    assert worker.events("assigned") == []


async def test_a_stop_gives_up_on_a_slow_batch_uncommitted(stage: Stage) -> None:
    """A handler that outlasts the stop time-out is cancelled, and its batch not committed."""
    topic = unique("topic")
    create_topics(stage.broker, [topic])
    await produce(stage.broker, topic, 0, TEN)
    worker = stage.start(topic, effect_s=60.0, stop_timeout_s=2.0)
    worker.wait_for("began")
    worker.signal(signal.SIGTERM)

    assert worker.exit_code() == 0
    assert stage.done(topic) == []
    assert await stage.committed(topic) == [None]


async def test_a_first_batch_that_ends_at_offset_0_is_committed(stage: Stage) -> None:
    """One record at offset 0 commits 1, and is not read again."""
    topic = unique("topic")
    create_topics(stage.broker, [topic])
    await produce(stage.broker, topic, 0, [b"only"])
    first = stage.start(topic)
    await stage.wait_committed(topic, [1])
    first.signal(signal.SIGTERM)
    assert first.exit_code() == 0

    stage.start(topic)
    await produce(stage.broker, topic, 0, [b"second"])
    await stage.wait_committed(topic, [2])
    assert stage.done(topic) == [0, 1]


async def test_kill_9_repeats_but_never_loses(stage: Stage) -> None:
    """Whatever was in work when a worker was killed is done by the next one."""
    topic = unique("topic")
    create_topics(stage.broker, [topic], partitions=3)
    for partition in range(3):
        await produce(stage.broker, topic, partition, [b"value"] * 300)
    slow = {"effect_s": 0.05, "records_max": 20}
    worker = stage.start(topic, **slow)
    worker.wait_for("done", 10)
    worker.signal(signal.SIGKILL)
    worker.exit_code()
    stage.start(topic, **slow)

    await stage.wait_committed(topic, [300, 300, 300])
    for partition in range(3):
        assert set(stage.done(topic, partition)) == set(range(300))


async def test_records_missing_from_the_log_stop_the_worker(kafka_stage: Stage) -> None:
    """If retention removed what comes next, the worker stops instead of going on behind it."""
    stage = kafka_stage
    topic = unique("topic")
    create_topics(stage.broker, [topic])
    await produce(stage.broker, topic, 0, TEN)
    first = stage.start(topic)
    await stage.wait_committed(topic, [10])
    first.signal(signal.SIGTERM)
    assert first.exit_code() == 0
    await produce(stage.broker, topic, 0, TEN)
    admin = KafkaAdminClient(bootstrap_servers=stage.broker.bootstrap)
    admin.delete_records({TopicPartition(topic, 0): 15})
    admin.close()

    worker = stage.start(topic)
    assert worker.exit_code() == FAILED
    assert "records that come next are not in the log" in worker.output.read_text()
    assert stage.done(topic) == list(range(10))
    assert await stage.committed(topic) == [10]


async def test_a_broker_that_is_not_there_is_said_at_start(stage: Stage) -> None:
    """Without a broker the worker ends with the code for `unavailable`."""
    worker = Worker(replace(stage.plan("topic"), bootstrap=f"127.0.0.1:{free_port()}"))
    assert worker.exit_code() == 3


async def test_committing_goes_on_while_records_arrive(stage: Stage) -> None:
    """Commits keep up with acknowledgements, batch by batch, without a pause in the stream."""
    topic = unique("topic")
    create_topics(stage.broker, [topic])
    stage.start(topic, effect_s=0.02)
    for total in (30, 60, 90):
        await produce(stage.broker, topic, 0, [b"value"] * 30)
        await stage.wait_committed(topic, [total])
