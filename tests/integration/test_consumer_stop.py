"""Stopping a consumer while its broker is away."""

from __future__ import annotations

import asyncio
import contextlib
import linecache
from pathlib import Path
from types import FrameType

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from projections.consumer_stop import stop_consumer
from tests.brokers import create_topics, embedded_broker, unique


@pytest.mark.fault
async def test_a_consumer_stops_while_a_fetch_waits_to_be_repeated(tmp_path: Path) -> None:
    """Stopping returns, and closes the connections, where aiokafka's own stop is cancelled."""
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(embedded_broker(tmp_path / "broker.log"))
        topic = unique("stop")
        create_topics(broker, [topic])
        consumers = [_consumer(broker.bootstrap) for _ in range(2)]
        for consumer in consumers:
            await consumer.start()
            consumer.assign([TopicPartition(topic, 0)])
            consumer.seek(TopicPartition(topic, 0), 0)
            await consumer.getmany(timeout_ms=100)
    # The broker is gone, and the next attempt is a minute away.
    await asyncio.wait_for(_until_idle(consumers), 30)
    with pytest.raises(asyncio.CancelledError):
        await consumers[0].stop()
    await stop_consumer(consumers[1])
    assert not any(_connections(consumers[1:]))
    await consumers[0]._client.close()


def _consumer(bootstrap: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, retry_backoff_ms=60_000
    )


async def _until_idle(consumers: list[AIOKafkaConsumer]) -> None:
    """Until every consumer has lost its connections, and waits to fetch again."""
    while any(_connections(consumers)) or not all(_fetch_waits(one) for one in consumers):
        await asyncio.sleep(0.05)


def _connections(consumers: list[AIOKafkaConsumer]) -> list[bool]:
    return [conn.connected() for one in consumers for conn in one._client._conns.values()]


def _fetch_waits(consumer: AIOKafkaConsumer) -> bool:
    """True if a fetch of the consumer sleeps until its next attempt."""
    tasks = consumer._fetcher._pending_tasks
    return any("_proc_fetch_request" in repr(task) and _sleeps(task) for task in tasks)


def _sleeps(task: asyncio.Task[object]) -> bool:
    return any("retry_backoff" in _line(frame) for frame in task.get_stack())


def _line(frame: FrameType) -> str:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno)
