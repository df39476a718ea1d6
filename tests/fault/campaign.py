"""The fault campaign: random faults under steady load, then everything is compared with the log.

    python -m tests.fault.campaign --runs 100 --seed 1

Three Apache Kafka brokers in containers, the store, two workers of each kind, `serve` and a
witness, run by their commands. The last line is JSON, `{"runs", "lost", "doubled",
"projection_differs", "stale_reads", "log_differs", "decisions_differ"}`; the exit code is 0 only
if every run was done and all six are 0. What was found is shown on stderr and, with the output of
every process, kept in a folder.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from itertools import islice
from pathlib import Path
from typing import Final

import structlog

from consent.contracts import contracts
from projections.clickhouse import Store
from projections.errors import StoreUnavailable
from projections.view import SuppressionView, ViewConfig
from tests.fault.auditor import Auditor
from tests.fault.deployment import (
    PARTITIONS,
    Deployment,
    deployed,
    keep_running,
    last_words,
)
from tests.fault.faults import Faults, schedule
from tests.fault.findings import Findings
from tests.fault.history_checks import HistoryCheck
from tests.fault.load import EventMaker, Load
from tests.fault.projection_checks import (
    Expected,
    ProjectionCheck,
    compacted,
    read_caches,
    read_cold,
    read_values,
)
from tests.fault.reference import Accepted, Reference
from tests.fault.view_watch import ViewWatch
from tests.fault.waiting import first, show_tasks, until
from tests.projection_worker import log_ids_from

RATE: Final = 100.0
"""Records per second: what two cores carry beside three brokers and ten other processes."""
_QUIET_TIMEOUT_S: Final = 900.0
_RECOVERY_TIMEOUT_S: Final = 300.0
_LOOK_UPS: Final = 5
_LOOK_UP_PAUSE_S: Final = 0.05
_SUPERVISE_PAUSE_S: Final = 0.5
_ENDS_MAX: Final = 10
_VIEW_AGE_MAX_MS: Final = 60_000


class Campaign:
    """One campaign on a running deployment."""

    def __init__(
        self,
        deployment: Deployment,
        store: Store,
        findings: Findings,
        folder: Path,
        rate: float,
    ) -> None:
        self.runs = 0
        self._rate = rate
        self._deployment = deployment
        self._findings = findings
        self._chance = random.Random(findings.seed)
        self._log_ids = deployment.log_ids()
        self._accepted = Accepted()
        self._reference = Reference(PARTITIONS, self._log_ids, deployment.keys.suppression)
        self._watch = ViewWatch(findings)
        maker = EventMaker(findings.seed, PARTITIONS)
        self._load = Load(
            maker,
            self._accepted,
            self._log_ids,
            folder / "accepted.jsonl",
            self._watch.accepted,
            deployment.keys.suppression,
        )
        self._view = self._new_view()
        self._auditor = Auditor(deployment, store, findings, maker.numbers, self._load.recent)
        self._history = HistoryCheck(
            store, self._log_ids, findings, self._reference.letter_may_be_erased
        )
        self._faults = Faults(deployment)
        self._ended: dict[str, list[int]] = {}

    async def run(self, runs: int) -> None:
        """All runs, and the comparison at the end."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, show_tasks)
        await self._view.start()
        helpers = [
            asyncio.create_task(self._look_up_for_ever()),
            asyncio.create_task(self._supervise_for_ever()),
            asyncio.create_task(self._auditor.log.look_for_ever()),
        ]
        load = asyncio.create_task(
            self._load.run(self._deployment.bootstrap, PARTITIONS, self._rate)
        )
        calls = asyncio.create_task(self._auditor.calls.run())
        try:
            await first(self._all_runs(runs), *helpers, load, calls)
            self._load.stop()
            self._auditor.calls.stop()
            await first(self._faults.healed(), *helpers)
            await asyncio.gather(load, calls)
            await first(self._compare(), *helpers)
        finally:
            for task in (*helpers, load, calls):
                task.cancel()
            await asyncio.gather(*helpers, load, calls, return_exceptions=True)
            await self._view.stop()

    async def _all_runs(self, runs: int) -> None:
        async with asyncio.timeout(_RECOVERY_TIMEOUT_S):
            await self._view.wait_until_loaded()
        await self._recovered()
        for number, fault in enumerate(islice(schedule(self._findings.seed), runs), 1):
            self._findings.run, self._findings.fault = number, str(fault)
            started = time.monotonic()
            await self._faults.carry_out(fault)
            await self._after()
            self.runs = number
            took_s = time.monotonic() - started
            self._say(f"run {number}/{runs} {fault}: {took_s:.0f} s, {self._progress()}")

    async def _after(self) -> None:
        """Check what can be checked by now; every other time wait for the projection first."""
        if self._chance.random() < 0.5:
            await self._recovered()
        await self._reference.advance(self._deployment.bootstrap)
        for (topic, partition), offset in self._accepted.missing(self._reference.contents):
            self._lost(topic, partition, offset)
        with contextlib.suppress(StoreUnavailable):
            await asyncio.to_thread(self._history.sealed, self._reference.events)
        await self._auditor.after_fault()

    async def _compare(self) -> None:
        """Everything, once it is quiet."""
        self._findings.fault = "none, at the end"
        deployment, reference, history = self._deployment, self._reference, self._history
        await self._quiet()
        for (topic, partition), offset in self._accepted.missing_at_the_end(reference.contents):
            self._lost(topic, partition, offset)
        for topic, partition, offset, reason in reference.unforwarded():
            self._findings.add(
                "projection_differs",
                f"never forwarded: {reason}",
                topic=topic,
                partition=partition,
                offset=offset,
            )
        await asyncio.to_thread(history.whole, reference.events)
        history.announced(await read_values(deployment.bootstrap, "ledger-blocks", 1))
        self._say("the history is compared")
        await self._auditor.compare()
        self._say(f"log and decisions are compared: {self._auditor.progress()}")
        expected = Expected(reference.states, PARTITIONS, deployment.keys.suppression)
        check = ProjectionCheck(expected, self._findings)
        check.merged("the topic, read cold", await read_cold(deployment.bootstrap, PARTITIONS))
        self._watched(check, "the view", self._view)
        self._say("the topic is compared")
        await self._compare_compacted(check)
        await self._compare_recovered(check)

    async def _compare_compacted(self, check: ProjectionCheck) -> None:
        with self._deployment.compacting():
            deadline = time.monotonic() + _QUIET_TIMEOUT_S
            reading = await read_cold(self._deployment.bootstrap, PARTITIONS)
            while not compacted(reading):
                if time.monotonic() > deadline:
                    raise TimeoutError("the topic was not compacted")
                await asyncio.sleep(2.0)
                reading = await read_cold(self._deployment.bootstrap, PARTITIONS)
        check.merged("the topic after compaction", reading)
        check.last("the last records after compaction", reading)
        self._say(f"the topic is compacted to {reading.records} records and compared")

    async def _compare_recovered(self, check: ProjectionCheck) -> None:
        """A worker with an empty folder, and a view that begins anew, from the compacted topic."""
        deployment = self._deployment
        for name in ("project-0", "project-1"):
            await asyncio.to_thread(deployment.workers[name].stop)
        fresh = deployment.workers["fresh"] = deployment.worker("project", "fresh")
        fresh.start()
        began_us = time.time_ns() // 1000
        view = self._new_view()
        await view.start()
        try:
            async with asyncio.timeout(_RECOVERY_TIMEOUT_S):
                await view.wait_until_loaded()
                await until(
                    lambda: all((one.true_at or 0) > began_us for one in view.status()),
                    _RECOVERY_TIMEOUT_S,
                )
            self._watched(check, "a view that begins anew", view)
        finally:
            await view.stop()
            await asyncio.to_thread(fresh.stop)
        caches = read_caches(deployment.folder / "fresh" / "project" / "suppression", PARTITIONS)
        check.cached("a cache recovered from nothing", caches)
        self._say("the recovered cache is compared")

    async def _quiet(self) -> None:
        """Until workers have handled everything, forwards too, so that nothing changes any more."""
        async with asyncio.timeout(_QUIET_TIMEOUT_S):
            while True:
                await self._reference.advance(self._deployment.bootstrap)
                ends = self._reference.ends
                await self._caught_up()
                with contextlib.suppress(StoreUnavailable):
                    covered = await asyncio.to_thread(self._history.covered)
                    await self._reference.advance(self._deployment.bootstrap)
                    whole = all(covered.get(place, 0) >= end for place, end in ends.items())
                    if whole and self._reference.ends == ends:
                        return
                await asyncio.sleep(1.0)

    async def _recovered(self) -> None:
        """Until the projection has caught up; what everything waits for is shown if it does not."""
        try:
            async with asyncio.timeout(_RECOVERY_TIMEOUT_S):
                await self._caught_up()
        except TimeoutError:
            self._say(f"the projection does not recover: {self._view.status()}")
            show_tasks()
            raise

    async def _caught_up(self) -> None:
        """Until the view shows everything that is in the number-keyed topics now."""
        await self._reference.advance(self._deployment.bootstrap)
        keyed = contracts().keyed_source_topics
        for (topic, partition), end in self._reference.ends.items():
            if topic in keyed and end:
                await self._view.wait_until(topic, partition, end - 1)

    async def _look_up_for_ever(self) -> None:
        while True:
            recent = self._load.recent
            for _ in range(min(_LOOK_UPS, len(recent))):
                self._watch.look_up(self._chance.choice(recent), self._view.look_up)
            await asyncio.sleep(_LOOK_UP_PAUSE_S)

    async def _supervise_for_ever(self) -> None:
        deployment = self._deployment
        while True:
            keep_running(list(deployment.workers.values()), self._ended)
            for name, codes in self._ended.items():
                if len(codes) > _ENDS_MAX:
                    words = last_words(deployment.workers[name])
                    raise RuntimeError(f"{name} ended {len(codes)} times: {codes} {words}")
            if deployment.store.wanted and deployment.store.exit_code is not None:
                raise RuntimeError(f"the store has ended: {last_words(deployment.store)}")
            await asyncio.sleep(_SUPERVISE_PAUSE_S)

    def _watched(self, check: ProjectionCheck, what: str, view: SuppressionView) -> None:
        check.looked_up(what, self._reference.states, lambda number: view.look_up(number).state)

    def _lost(self, topic: str, partition: int, offset: int) -> None:
        detail = "it was acknowledged and is not in its place in the log"
        self._findings.add("lost", detail, topic=topic, partition=partition, offset=offset)

    def _new_view(self) -> SuppressionView:
        deployment = self._deployment
        return SuppressionView(
            ViewConfig(
                bootstrap=deployment.bootstrap,
                partitions=PARTITIONS,
                suppression_key=deployment.keys.suppression,
                log_ids=log_ids_from(deployment.bootstrap),
                # Wide, so that on a busy machine, too, answers are fresh, and thereby judged.
                view_max_age_ms=_VIEW_AGE_MAX_MS,
                clock_offset_max_ms=_VIEW_AGE_MAX_MS,
            )
        )

    def _progress(self) -> str:
        looked_up = dict(self._watch.looked_up)
        return (
            f"{self._accepted.count} accepted, {self._load.refused} not, "
            f"{self._reference.unreadable} unreadable, "
            f"{self._reference.forwarded} forwarded, look-ups {looked_up}, "
            f"{self._watch.judged} restrictions judged, ended {self._ended}, "
            f"{self._auditor.progress()}, "
            f"found {self._findings.result()}"
        )

    def _say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    def check_meaning(self) -> None:
        """Raise if so little was looked at that finding nothing means nothing."""
        seen = self._watch.judged and self._reference.unreadable and self._auditor.has_seen
        if not seen:
            raise RuntimeError(f"nothing was judged: {self._progress()}")
        self._say(self._progress())


def carry_out(
    runs: int, seed: int, folder: Path, rate: float = RATE
) -> tuple[dict[str, int], bool]:
    """Runs a campaign in a folder; what the last line says, and if it could finish."""
    findings = Findings(folder / "findings.jsonl", seed)
    done, finished = 0, False
    try:
        with (
            deployed(folder) as deployment,
            contextlib.closing(deployment.connect_store()) as store,
        ):
            campaign = Campaign(deployment, store, findings, folder, rate)
            try:
                asyncio.run(campaign.run(runs))
                campaign.check_meaning()
                finished = True
            finally:
                done = campaign.runs
    except Exception:
        # The edge of the process: whatever stopped the campaign, what it found is still said.
        traceback.print_exc()
    return {"runs": done, **findings.result()}, finished and findings.clean


def _keep_noise_in(path: Path) -> None:
    """What libraries write, Rust's panics about broken records above all, goes to a file.

    A trace of every such panic would cost more than all the rest of the campaign.
    """
    os.environ["RUST_BACKTRACE"] = "0"
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    log = path.open("a")
    os.dup2(log.fileno(), 2)
    logging.basicConfig(stream=log, level=logging.WARNING)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(log))


def main() -> int:
    """The command; returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=100, help="how many faults")
    options.add_argument("--seed", type=int, default=1, help="gives faults and load")
    options.add_argument("--rate", type=float, default=RATE, help="records per second")
    options.add_argument("--keep", action="store_true", help="keep the folder in any case")
    given = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fault-campaign-"))
    _keep_noise_in(folder / "campaign.log")
    print(f"seed {given.seed}, reports in {folder}", file=sys.stderr, flush=True)
    # So that containers and processes end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    result, good = carry_out(given.runs, given.seed, folder, given.rate)
    if good and not given.keep:
        shutil.rmtree(folder)
    print(json.dumps(result, separators=(",", ":")), flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
