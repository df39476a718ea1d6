"""A project worker as a process, for tests; it can end or pause itself after a durable step.

Started with one JSON argument, the fields of `Plan`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from consent.privacy import Keys
from consent_ledger.adapters.topic_administration import AdminConnection, topic_ids
from streams.batching import BatchLimits
from streams.config import EMBEDDED_FETCH, AppConfig, FetchLimits, GroupTimeouts
from streams.project import ProjectConfig, run_project_worker
from streams.worker import WorkerOptions

# Short, so that a killed worker is soon missed, and the embedded broker soon lets a group begin.
_TIMEOUTS = GroupTimeouts(session_s=3.0, heartbeat_s=0.5, rebalance_s=2.5, request_s=20.0)

KEYS = Keys(history=b"h" * 32, suppression=b"s" * 32, dead_letters=b"d" * 32)


@dataclass(frozen=True)
class Plan:
    """`step` is after which durable step the process gets `signal`, when it came `step_count`
    times. Steps count from the first batch on, watermarks included.
    """

    bootstrap: str
    group: str
    data_dir: str
    partitions: int
    embedded: bool
    client_id: str = "project"
    records_max: int = 5_000
    beat_ms: int = 200
    step: str | None = None
    step_count: int = 1
    signal: int = int(signal.SIGKILL)
    health_port: int | None = None


class _Step:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._left = plan.step_count

    def __call__(self, name: str) -> None:
        if name == self._plan.step:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), self._plan.signal)


def log_ids_from(bootstrap: str):  # type: ignore[no-untyped-def]
    """Function that looks up the UUIDs of topics."""

    async def log_ids(topics: Sequence[str]) -> Mapping[str, bytes]:
        return await asyncio.to_thread(topic_ids, AdminConnection(bootstrap), topics)

    return log_ids


def main(argument: str) -> int:
    """Runs until it is stopped, or ends itself."""
    plan = Plan(**json.loads(argument))
    app = AppConfig(
        group_id=plan.group,
        bootstrap_servers=plan.bootstrap,
        client_id=plan.client_id,
        batch=BatchLimits(records_max=plan.records_max),
        timeouts=_TIMEOUTS,
        drain_timeout_s=0.5,
        fetch=EMBEDDED_FETCH if plan.embedded else FetchLimits(),
        commit_interval_s=0.2,
    )
    config = ProjectConfig(
        app=app,
        keys=KEYS,
        log_ids=log_ids_from(plan.bootstrap),
        keyed_partitions=plan.partitions,
        data_dir=Path(plan.data_dir),
        embedded_broker=plan.embedded,
        beat_ms=plan.beat_ms,
        step_done=_Step(plan),
    )
    return run_project_worker(config, WorkerOptions(health_port=plan.health_port))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
