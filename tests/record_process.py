"""A record worker process for tests. Started with one JSON argument, the fields of `Plan`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from consent.blocks import CutterLimits
from consent.privacy import Keys
from consent_ledger.adapters.topic_administration import AdminConnection, topic_ids
from projections.clickhouse import StoreParameters
from projections.history import HistorySettings
from projections.history_partition import TailLimits
from projections.history_rows import BlockWork
from projections.history_seal import SealSettings, Step
from streams.batching import BatchLimits
from streams.config import AppConfig, FetchLimits, GroupTimeouts
from streams.record import RecordConfig, record_stall_limits, run_record_worker
from streams.worker import WorkerOptions

KEYS = Keys(history=b"h" * 32, suppression=b"s" * 32, dead_letters=b"d" * 32)
HOLD_FILE_POLL_S = 0.02


@dataclass(frozen=True)
class Plan:
    """Where the worker works, how it cuts, and where it is to die or wait.

    `kill_after` names a step of `kill_topic` after whose `kill_count`th time the process kills
    itself; `hold_after` one after which the sealing thread waits until `hold_file` is gone.
    """

    bootstrap: str
    store_url: str
    database: str
    group: str
    keyed_partitions: int
    cutter: dict[str, int] = field(default_factory=dict)
    kill_after: str = ""
    kill_count: int = 1
    kill_topic: str = "consent-events"
    hold_after: str = ""
    hold_file: str = ""
    session_s: float = 6.0
    rebalance_s: float = 6.0
    fetch_wait_ms: int = 50
    batch_records_max: int = 5_000
    insert_timeout_ms: int = 10_000
    log_id_check_ms: int = 30_000


def main(argument: str) -> int:
    """Runs the worker; returns its exit code."""
    plan = Plan(**json.loads(argument))
    return run_record_worker(config_of(plan), WorkerOptions())


def config_of(plan: Plan) -> RecordConfig:
    """The worker's configuration, with short times."""
    connection = AdminConnection(plan.bootstrap, timeout_ms=10_000)

    async def log_ids(topics: Sequence[str]) -> Mapping[str, bytes]:
        return await asyncio.to_thread(topic_ids, connection, topics)

    return RecordConfig(
        app=AppConfig(
            group_id=plan.group,
            bootstrap_servers=plan.bootstrap,
            timeouts=GroupTimeouts(
                session_s=plan.session_s,
                heartbeat_s=0.5,
                rebalance_s=plan.rebalance_s,
                request_s=20.0,
            ),
            fetch=FetchLimits(wait_ms=plan.fetch_wait_ms),
            batch=BatchLimits(records_max=plan.batch_records_max, bytes_max=4_194_304),
            stall=record_stall_limits(),
            commit_interval_s=0.2,
            drain_timeout_s=1.0,
        ),
        store=StoreParameters(
            url=plan.store_url,
            database=plan.database,
            insert_timeout_ms=plan.insert_timeout_ms,
            query_timeout_ms=plan.insert_timeout_ms,
        ),
        keys=KEYS,
        log_ids=log_ids,
        keyed_partitions=plan.keyed_partitions,
        history=HistorySettings(
            cutter=CutterLimits(**{"bucket_ms": 500, **plan.cutter}),
            tail=TailLimits(grace_ms=100, open_min_ms=100),
            tail_check_ms=20,
            log_id_check_ms=plan.log_id_check_ms,
            seal=SealSettings(backoff_max_ms=500),
        ),
        step_done=_Steps(plan).done,
    )


class _Steps:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._left = plan.kill_count
        self._held = threading.Lock()

    def done(self, step: Step, work: BlockWork) -> None:
        plan = self._plan
        if work.origin.topic != plan.kill_topic:
            return
        if step == plan.kill_after:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        if step == plan.hold_after:
            with self._held:
                waiting = threading.Event()
                print("holding", flush=True)
                while Path(plan.hold_file).exists():
                    waiting.wait(HOLD_FILE_POLL_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
