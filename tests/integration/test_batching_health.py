"""What a worker says of itself, and that a stuck one is ended without a commit."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import httpx
import pytest

from tests.batching_harness import Stage, Worker, eventually, staged
from tests.brokers import Broker, create_topics, free_port, produce, unique
from tests.brokers import embedded_broker as start_embedded_broker

TEN = [b"value"] * 10
FAILED = 70


async def ask(worker: Worker, path: str) -> tuple[int, str]:
    """Status and text of a health page; 0 while nothing listens."""
    async with httpx.AsyncClient() as client:
        try:
            answer = await client.get(f"http://127.0.0.1:{worker.plan.health_port}{path}")
        except httpx.TransportError as error:
            return 0, str(error)
    return answer.status_code, answer.text


async def test_a_worker_says_when_it_lives_and_is_ready(stage: Stage) -> None:
    """Alive from the start, ready only once its handlers are prepared and records flow."""
    topic = unique("topic")
    create_topics(stage.broker, [topic])
    await produce(stage.broker, topic, 0, TEN)
    worker = stage.start(topic, health_port=free_port(), prepare_s=2.5)
    worker.wait_for("preparing")
    preparing = await eventually(
        lambda: ask(worker, "/readyz"), lambda found: "preparing" in found[1], "preparing"
    )
    assert preparing == (503, "preparing partitions\n")
    assert await ask(worker, "/healthz") == (200, "preparing partitions\n")

    await eventually(lambda: ask(worker, "/readyz"), lambda found: found[0] == 200, "readiness")
    worker.wait_for("done")
    _, metrics = await eventually(
        lambda: ask(worker, "/metrics"),
        lambda found: f'lag_records{{partition="0",topic="{topic}"}} 0.0' in found[1],
        "no lag",
    )
    assert f'consent_stream_records_total{{topic="{topic}"}} 10.0' in metrics
    assert "consent_stream_ready 1.0" in metrics
    assert (await ask(worker, "/other"))[0] == 404


@pytest.mark.parametrize(
    ("failure", "limit"), [("block_at", "progress_s"), ("freeze_at", "loop_s")]
)
async def test_a_stuck_worker_is_ended_uncommitted(
    embedded_broker: Broker, tmp_path: Path, failure: str, limit: str
) -> None:
    """A handler that never returns, or blocks the event loop, ends the process in time."""
    with staged(embedded_broker, tmp_path) as stage:
        topic = unique("topic")
        create_topics(stage.broker, [topic])
        await produce(stage.broker, topic, 0, TEN)
        worker = stage.start(topic, stall={limit: 2}, **{failure: 15})
        await stage.wait_committed(topic, [10])
        await produce(stage.broker, topic, 0, TEN)
        assert worker.exit_code() == FAILED
        assert await stage.committed(topic) == [10]


async def test_a_worker_without_a_broker_is_ended_in_time(tmp_path: Path) -> None:
    """When no fetch is answered any more, the process ends, to start afresh."""
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(start_embedded_broker())
        topic = unique("topic")
        create_topics(broker, [topic])
        await produce(broker, topic, 0, TEN)
        with staged(broker, tmp_path) as stage:
            worker = stage.start(topic, stall={"fetch_s": 3, "rebalance_s": 3})
            await stage.wait_committed(topic, [10])
            stack.close()
            assert worker.exit_code() == FAILED


async def test_a_paused_worker_is_not_taken_for_stuck(
    embedded_broker: Broker, tmp_path: Path
) -> None:
    """Time in which the whole process stood still does not count as a stall."""
    with staged(embedded_broker, tmp_path) as stage:
        topic = unique("topic")
        create_topics(stage.broker, [topic])
        await produce(stage.broker, topic, 0, TEN)
        stall = {"progress_s": 3, "fetch_s": 3, "loop_s": 2}
        worker = stage.start(topic, stall=stall, health_port=free_port())
        await stage.wait_committed(topic, [10])
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(5.0)
        worker.signal(signal.SIGCONT)
        await eventually(lambda: ask(worker, "/readyz"), lambda found: found[0] == 200, "readiness")
        await produce(stage.broker, topic, 0, TEN)
        await stage.wait_committed(topic, [20])
