"""Runs workers of `batching_worker` for a test: as processes, or as apps within the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from faust.contrib.asgi import bind_to_running_loop

from streams.apps import BatchApp
from tests.batching_worker import Plan, read_journal
from tests.brokers import Broker, committed, unique, wait_until
from tests.processes import ModuleProcess


class Worker:
    """One worker process and the journal that it may share with others."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.output = Path(f"{plan.journal}.{unique('output')}")
        argument = json.dumps(asdict(plan))
        self.process = ModuleProcess("tests.batching_worker", argument, self.output)

    def events(self, name: str) -> list[dict[str, Any]]:
        """What this process has journalled under `name`."""
        lines = read_journal(Path(self.plan.journal))
        return [line for line in lines if line["event"] == name and line["pid"] == self.process.pid]

    def wait_for(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """Returns the events once there are `count`; fails if the process ends before."""

        def look() -> list[dict[str, Any]] | None:
            events = self.events(name)
            if len(events) >= count:
                return events
            assert self.process.poll() is None, self.output.read_text()
            return None

        found = wait_until(look, what=f"{count} x {name}")
        assert found is not None
        return found

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to this process only."""
        os.kill(self.process.pid, number)

    def exit_code(self, timeout_s: float = 120.0) -> int:
        """Waits for the end of the process."""
        return self.process.wait(timeout_s)

    def end(self) -> None:
        """Kills it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Stage:
    """What most tests here need: a topic, a group, a journal, and workers on them."""

    def __init__(self, broker: Broker, directory: Path) -> None:
        self.broker = broker
        self.group = unique("group")
        self.journal = directory / "journal"
        self._workers: list[Worker] = []

    def plan(self, *topics: str, **changes: Any) -> Plan:
        """A plan for this stage's group; every plan writes to the same journal."""
        return Plan(
            bootstrap=self.broker.bootstrap,
            group=self.group,
            topics=list(topics),
            journal=str(self.journal),
            **changes,
        )

    def start(self, *topics: str, **changes: Any) -> Worker:
        """Starts a process; it is ended with the test."""
        worker = Worker(self.plan(*topics, **changes))
        self._workers.append(worker)
        return worker

    def gate(self) -> Path:
        """A gate for `Plan.gate`."""
        return self.journal.parent / unique("gate")

    def done(self, topic: str, partition: int = 0) -> list[int]:
        """Offsets whose effect was carried out, by any worker, in that order, with repeats."""
        return [
            offset
            for line in read_journal(self.journal)
            if line["event"] == "done" and (line["topic"], line["partition"]) == (topic, partition)
            for offset in line["offsets"]
        ]

    async def committed(self, topic: str, partitions: int = 1) -> list[int | None]:
        """What the group has committed."""
        return await committed(self.broker, self.group, topic, partitions)

    async def wait_committed(self, topic: str, offsets: list[int | None]) -> None:
        """Returns once exactly `offsets` are committed, one for each partition."""
        await eventually(
            lambda: self.committed(topic, len(offsets)),
            lambda found: found == offsets,
            what=f"the commit of {offsets}",
        )

    def end(self) -> None:
        """Kills what still runs."""
        for worker in self._workers:
            worker.end()


def open_gate(gate: Path, *batches: int) -> None:
    """Lets the batches of these numbers, from 1, through."""
    for number in batches:
        Path(f"{gate}.{number}").touch()


async def eventually(
    look: Callable[[], Any], accept: Callable[[Any], bool], what: str, timeout_s: float = 120.0
) -> Any:
    """Polls `look()` until its value is accepted and returns it; fails at the deadline."""
    found: Any = None
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                found = look()
                if asyncio.iscoroutine(found):
                    found = await found
                if accept(found):
                    return found
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"waited {timeout_s:.0f} s for {what}, last saw {found!r}") from None


@contextlib.asynccontextmanager
async def running(*apps: BatchApp) -> AsyncIterator[None]:
    """Runs apps in the test's own loop, each a member of its group, and stops them."""
    for app in apps:
        bind_to_running_loop(app)
        app.finalize()
    try:
        await asyncio.gather(*(app.start() for app in apps))
        yield
    finally:
        await asyncio.gather(*(app.stop() for app in apps))


@contextlib.contextmanager
def staged(broker: Broker, directory: Path) -> Iterator[Stage]:
    """A stage that is cleared at the end."""
    stage = Stage(broker, directory)
    try:
        yield stage
    finally:
        stage.end()
