"""Makes one block durable: every table, counted, its own row, its announcement.

Owns the order of these steps and what happens when one can't be done: a store or broker that is
away is waited for, in place, for as long as it takes; anything else is raised. Each step is
harmless when repeated, so a block may be sealed again after a crash at any point, or at the same
time by a former owner.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, TypeVar

import structlog

from consent.contracts import contracts
from consent.errors import Retryable
from consent.privacy import Keys
from projections.history_blocks import SealedBlock, sealed_block
from projections.history_erasure import EvidenceGate
from projections.history_log import HistoryProducer
from projections.history_metrics import HistoryMetrics
from projections.history_partition import ResumePoint
from projections.history_rows import BlockRows, BlockWork, TableRows, rows_of
from projections.history_store import HistoryStore

log = structlog.get_logger(__name__)

T = TypeVar("T")
Step = Literal["rows", "side", "evidence", "facts", "verified", "erased", "block", "announced"]
StepDone = Callable[[Step, BlockWork], None]


class Abandoned(Exception):
    """The partition was given up while its block was being written; nothing was promised."""


def ignore_step(step: Step, work: BlockWork) -> None:
    """Default for `StepDone`."""


@dataclass(frozen=True, slots=True)
class SealSettings:
    """`threads_max` blocks are written at a time; `cutter_version` is noted on each.

    While the store is away it is asked again after `backoff_first_ms`, then twice as long, up to
    `backoff_max_ms`.
    """

    threads_max: int = 3
    cutter_version: int = 1
    backoff_first_ms: int = 100
    backoff_max_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class SealObservers:
    """Who is told: the metrics, and `step_done` after each step, from the thread that did it."""

    metrics: HistoryMetrics
    step_done: StepDone = ignore_step


class Sealer:
    """Seals blocks of any partition; several at a time, those of one partition one by one."""

    def __init__(
        self,
        store: HistoryStore,
        producer: HistoryProducer,
        keys: Keys,
        settings: SealSettings,
        observers: SealObservers,
    ) -> None:
        self._store = store
        self._producer = producer
        self._keys = keys
        self._settings = settings
        self._metrics = observers.metrics
        self._gate = EvidenceGate(store.erasures, keys, observers.metrics.alarm)
        self._step_done = observers.step_done
        self._nonce = os.urandom(16)
        self._threads = ThreadPoolExecutor(settings.threads_max, thread_name_prefix="seal")

    async def seal(
        self,
        work: BlockWork,
        resume: ResumePoint,
        previous_header_sha256: bytes | None,
        gone: threading.Event,
    ) -> SealedBlock:
        """Make a block durable and announce it; on return it may be acknowledged.

        `previous_header_sha256` is of the block before it, None for a partition's first. Raises
        Abandoned soon after `gone` is set. What a thread has begun by then it finishes.
        """
        started = perf_counter()
        rows, sealed = await self.in_thread(
            lambda: self._write(work, resume, previous_header_sha256, gone)
        )
        if work.origin.topic not in contracts().keyed_source_topics:
            await self._producer.bury(rows.letters)
        for entry in rows.entries:
            # The sealer finds what is kept in the store: this is only sooner.
            await self._producer.seal_entry(entry)
        await self.announce(work, sealed)
        self._metrics.sealed(work.origin.topic, work.block.records, perf_counter() - started)
        return sealed

    async def announce(self, work: BlockWork, sealed: SealedBlock) -> None:
        """Tell `ledger-blocks` that a block is in the store."""
        await self._producer.announce(work.origin, sealed)
        self._step_done("announced", work)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Run a blocking call in one of the sealing threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def persist(self, operation: str, call: Callable[[], T], gone: threading.Event) -> T:
        """Do it until it is done; blocks. Raises Abandoned when `gone` is set between attempts."""
        backoff_ms = self._settings.backoff_first_ms
        while True:
            if gone.is_set():
                raise Abandoned
            try:
                return call()
            except Retryable as problem:
                log.warning("store_unavailable", operation=operation, error=str(problem))
                self._metrics.store_retries.inc()
            gone.wait(backoff_ms / 1000)
            backoff_ms = min(backoff_ms * 2, self._settings.backoff_max_ms)

    def close(self) -> None:
        """Wait for what the threads have begun."""
        self._threads.shutdown(wait=True)

    def _write(
        self,
        work: BlockWork,
        resume: ResumePoint,
        previous: bytes | None,
        gone: threading.Event,
    ) -> tuple[BlockRows, SealedBlock]:
        origin, block, store = work.origin, work.block, self._store
        made = rows_of(work, self._keys, self._nonce)
        self._step_done("rows", work)

        def insert(table: TableRows, present: frozenset[int] | set[int]) -> None:
            kept = table.without(present)
            self.persist(table.table, lambda: store.insert(origin, block, kept), gone)

        def evidence() -> TableRows:
            return self._gate.evidence(origin, rows)

        rows = self.persist("holds", lambda: self._gate.effective(made), gone)
        side = self.persist("letters", lambda: self._gate.side(origin, rows), gone)
        for table in side:
            # Erasures are known before evidence is written, so that no worker passes them by.
            insert(table, resume.offsets.get(table.table, frozenset()))
        self._step_done("side", work)
        stored = resume.offsets.get("evidence", frozenset())
        kept = self.persist("erasures", evidence, gone)
        insert(kept, stored)
        self._step_done("evidence", work)
        insert(rows.facts, set(resume.recorded_at))
        self._step_done("facts", work)
        expected = {"facts": lambda: rows.facts, "evidence": evidence}
        self.persist("verify", lambda: store.verify(origin, block, expected), gone)
        self._step_done("verified", work)
        written = stored.intersection(rows.evidence.offsets) | set(kept.offsets)
        self.persist("erase", lambda: self._gate.clean(rows, written, evidence()), gone)
        self.persist("certificates", lambda: store.keep_entries(rows.entries), gone)
        self._step_done("erased", work)
        sealed = sealed_block(block, rows.sum, previous, self._settings.cutter_version)
        may_exist = block.offset_first < resume.sealed_below
        self.persist("block", lambda: store.blocks.seal(origin, sealed, may_exist), gone)
        self._step_done("block", work)
        return rows, sealed
