"""A worker process for the tests of the streams: appends what it does to a file, line by line.

Started with one JSON argument, the fields of `Plan`. The file survives `kill -9`, so a test sees
what was done even where the process did not end well.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aiokafka.structs import TopicPartition

from streams.apps import BatchAgent, BatchApp, add_background_task, add_batch_agent, make_app
from streams.batching import BatchLimits, RecordBatch
from streams.config import (
    EMBEDDED_FETCH,
    EMBEDDED_TIMEOUTS,
    AppConfig,
    GroupTimeouts,
    StallLimits,
)
from streams.worker import WorkerOptions, run_worker


@dataclass(frozen=True)
class Plan:
    """What the worker reads, and how its handler behaves.

    `fail_at`, `cancel_at`, `block_at` and `freeze_at` name the offset in whose batch the handler
    raises, is cancelled, waits for ever, or blocks the event loop; it does so before the effect.
    `effect_s` is how long the effect takes. With `gate`, the n-th batch of the process waits
    before its effect until a file `gate`.n exists.
    """

    bootstrap: str
    group: str
    topics: list[str]
    journal: str
    copartitioned: bool = True
    effect_s: float = 0.0
    gate: str | None = None
    fail_at: int | None = None
    cancel_at: int | None = None
    block_at: int | None = None
    freeze_at: int | None = None
    task_fails_in_batch: bool = False
    prepare_s: float = 0.0
    records_max: int = 5_000
    drain_timeout_s: float = 0.2
    stop_timeout_s: float = 10.0
    timeouts: dict[str, float] = field(default_factory=lambda: asdict(EMBEDDED_TIMEOUTS))
    stall: dict[str, int] = field(default_factory=dict)
    health_port: int | None = None


class Journal:
    """Appends one JSON object per line; one write each, so lines of several workers don't mix."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, event: str, **fields: Any) -> None:
        """Appends at once."""
        at = time.monotonic_ns()
        line = json.dumps({"event": event, "at": at, "pid": os.getpid(), **fields}) + "\n"
        os.write(self._descriptor, line.encode())


def read_journal(path: Path) -> list[dict[str, Any]]:
    """All complete lines so far."""
    with contextlib.suppress(FileNotFoundError):
        return [json.loads(line) for line in path.read_text().splitlines(keepends=False)]
    return []


class Handler:
    """The handler and listener under test."""

    def __init__(self, plan: Plan, journal: Journal) -> None:
        self._plan = plan
        self._journal = journal
        self._begun = 0
        self.began = asyncio.Event()

    async def handle(self, batch: RecordBatch) -> None:
        """Journals the start, behaves as planned, journals the effect."""
        plan = self._plan
        place = {
            "topic": batch.topic,
            "partition": batch.partition,
            "from": batch.offset_from,
            "next": batch.offset_next,
            "offsets": [record.offset for record in batch.records],
            "high_watermark": batch.high_watermark,
        }
        self._journal.write("began", **place)
        self.began.set()
        self._begun += 1
        while plan.gate is not None and not Path(f"{plan.gate}.{self._begun}").exists():
            await asyncio.sleep(0.02)
        if _covers(batch, plan.fail_at):
            raise RuntimeError("planned failure")
        if _covers(batch, plan.cancel_at):
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        if _covers(batch, plan.block_at):
            await asyncio.Event().wait()
        if _covers(batch, plan.freeze_at):
            time.sleep(60.0)
        await asyncio.sleep(plan.effect_s)
        self._journal.write("done", **place)

    async def on_partitions_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """Journals the partitions."""
        self._journal.write("preparing")
        await asyncio.sleep(self._plan.prepare_s)
        self._journal.write("assigned", partitions=sorted(partitions))

    async def on_partitions_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Journals the partitions."""
        self._journal.write("revoked", partitions=sorted(partitions))


def _covers(batch: RecordBatch, offset: int | None) -> bool:
    return offset is not None and batch.offset_first <= offset <= batch.offset_last


def build(plan: Plan) -> BatchApp:
    """The app that `plan` describes."""
    config = AppConfig(
        group_id=plan.group,
        bootstrap_servers=plan.bootstrap,
        copartitioned_topics=frozenset(plan.topics if plan.copartitioned else ()),
        batch=BatchLimits(records_max=plan.records_max),
        fetch=EMBEDDED_FETCH,
        timeouts=GroupTimeouts(**plan.timeouts),
        stall=StallLimits(**plan.stall),
        commit_interval_s=0.2,
        drain_timeout_s=plan.drain_timeout_s,
        stop_timeout_s=plan.stop_timeout_s,
    )
    app = make_app(config)
    handler = Handler(plan, Journal(Path(plan.journal)))
    add_batch_agent(
        app, BatchAgent("under-test", frozenset(plan.topics), handler.handle, listener=handler)
    )
    if plan.task_fails_in_batch:

        async def fail_in_batch() -> None:
            await handler.began.wait()
            raise RuntimeError("planned failure of an unrelated task")

        add_background_task(app, fail_in_batch)
    return app


def main(argument: str) -> int:
    """Runs the worker that a plan describes, given as JSON; returns its exit code."""
    plan = Plan(**json.loads(argument))
    return run_worker(build(plan), WorkerOptions(health_port=plan.health_port))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
