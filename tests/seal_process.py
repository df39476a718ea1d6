"""A seal worker process for tests. Started with one JSON argument, the fields of `SealPlan`."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from consent.notes import SigningKey
from projections.clickhouse import StoreParameters
from projections.log_sealer import SealerSettings, Step
from streams.config import AppConfig, FetchLimits, GroupTimeouts
from streams.record import record_stall_limits
from streams.seal import SealConfig, run_seal_worker
from streams.worker import WorkerOptions

LOG_KEY = SigningKey("ledger.example/log", b"k" * 32)


@dataclass(frozen=True)
class SealPlan:
    """Where the worker works, how often it signs, and after which step it is to die."""

    bootstrap: str
    store_url: str
    database: str
    group: str
    folder: str
    kill_after: str = ""
    kill_count: int = 1
    checkpoint_interval_ms: int = 300
    compare_interval_ms: int = 300_000
    session_s: float = 6.0
    rebalance_s: float = 6.0


def main(argument: str) -> int:
    """Runs the worker; returns its exit code."""
    plan = SealPlan(**json.loads(argument))
    return run_seal_worker(config_of(plan), WorkerOptions())


def config_of(plan: SealPlan) -> SealConfig:
    """The worker's configuration, with short times."""
    left = [plan.kill_count]

    def step_done(step: Step) -> None:
        if step == plan.kill_after:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return SealConfig(
        app=AppConfig(
            group_id=plan.group,
            bootstrap_servers=plan.bootstrap,
            timeouts=GroupTimeouts(
                session_s=plan.session_s,
                heartbeat_s=0.5,
                rebalance_s=plan.rebalance_s,
                request_s=20.0,
            ),
            fetch=FetchLimits(wait_ms=50),
            stall=record_stall_limits(),
            commit_interval_s=0.2,
        ),
        store=StoreParameters(url=plan.store_url, database=plan.database),
        folder=Path(plan.folder),
        key=LOG_KEY,
        sealer=SealerSettings(
            checkpoint_interval_ms=plan.checkpoint_interval_ms,
            compare_interval_ms=plan.compare_interval_ms,
            tick_ms=20,
            backoff_max_ms=500,
        ),
        step_done=step_done,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
