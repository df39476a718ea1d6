"""Recording decisions: before an allow is answered, behind a denial, never silently not at all.

Owns the order of journal, publication and answer, and what is left when the process ends. A
decision counts as recorded when the broker acknowledged it, and where there is a journal, when it
is on disk as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from consent import codec
from consent.codec import cloudevents_headers
from consent.contracts import contracts
from consent.errors import Rejected, Retryable
from consent_ledger.adapters.decision_journal import DecisionJournal, JournalEntry
from consent_ledger.adapters.publisher import (
    EventPublisher,
    OutgoingRecord,
    Published,
)
from consent_ledger.api.metrics import ApiMetrics

log = structlog.get_logger(__name__)


class DecisionUnrecorded(Retryable):
    """A decision could not be recorded in time, so it must not be answered."""


class History(Protocol):
    """What history knows of decisions that were published."""

    async def recorded(
        self, places: Sequence[Published], timeout_s: float
    ) -> dict[tuple[str, int, int], int] | None:
        """Not None once history has all of these."""

    async def known_events(self, event_ids: Collection[str]) -> set[str]:
        """Those of the ids that history has."""


@dataclass(frozen=True, slots=True)
class DecisionLogLimits:
    """Bounds of waiting and of what may be answered without being published yet."""

    pending_max: int = 20_000
    batch_records_max: int = 1_000
    publish_timeout_ms: int = 2_000
    stop_timeout_ms: int = 10_000
    release_every_ms: int = 1_000
    rotate_every_ms: int = 30_000
    recorded_timeout_ms: int = 30_000


@dataclass(frozen=True, slots=True)
class PendingDecision:
    """A decision as it will stand in the log."""

    event_id: str
    record: OutgoingRecord


class DecisionLog:
    """Takes decisions from any number of requests on one event loop.

    With a journal, whatever was answered is in the log or will be published at the next start;
    without one, denials that were answered are lost if the process is killed before the broker
    has them, and counted if it ends in any other way.
    """

    def __init__(
        self,
        publisher: EventPublisher,
        metrics: ApiMetrics,
        journal: DecisionJournal | None = None,
        history: History | None = None,
        limits: DecisionLogLimits | None = None,
    ) -> None:
        self._publisher = publisher
        self._metrics = metrics
        self._journal = journal
        self._history = history
        self._limits = limits or DecisionLogLimits()
        self._pending: asyncio.Queue[PendingDecision] = asyncio.Queue(self._limits.pending_max)
        self._unreleased: list[tuple[str, Published]] = []
        self._publishing: list[PendingDecision] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def failed(self) -> bool:
        """True if decisions are no longer being published or released, by a fault of ours."""
        return any(task.done() for task in self._tasks)

    @property
    def pending(self) -> int:
        """Decisions that were answered and that the broker has not acknowledged."""
        return self._pending.qsize() + len(self._publishing)

    async def start(self) -> None:
        """Publish again what an earlier process left in the journal, then keep publishing."""
        self._run(self._publish_pending())
        if self._journal is not None:
            await self._replay(self._journal)
            self._run(self._release_recorded(self._journal))

    async def stop(self) -> None:
        """Publish what is pending, at most `stop_timeout_ms`; what is left then is counted."""
        try:
            async with asyncio.timeout(self._limits.stop_timeout_ms / 1000):
                while self.pending:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            kept = "in the journal" if self._journal is not None else "lost"
            log.error("decisions_unpublished", decisions=self.pending, kept=kept)
            if self._journal is None:
                self._metrics.decisions_lost.inc(self.pending)
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_tell_failure)
        self._tasks.append(task)

    async def record_before(self, decisions: Sequence[PendingDecision]) -> list[bool]:
        """Record decisions that permit; True for each that may be answered.

        One that is False may still be in the log, and is followed by its correction, which the
        caller gives to `record_behind`.
        """
        if not decisions:
            return []
        publishing = self._publisher.publish(
            [decision.record for decision in decisions], self._limits.publish_timeout_ms
        )
        if self._journal is None:
            outcomes, journaled = await publishing, [True] * len(decisions)
        else:
            outcomes, journaled = await asyncio.gather(publishing, self._journal_all(decisions))
        answers = []
        for decision, outcome, on_disk in zip(decisions, outcomes, journaled, strict=True):
            published = isinstance(outcome, Published)
            if isinstance(outcome, Published):
                self._hold(decision.event_id, outcome)
            elif self._journal is not None:
                self._journal.release(decision.event_id)
            answers.append(published and on_disk)
        return answers

    async def record_behind(self, decisions: Sequence[PendingDecision]) -> None:
        """Record decisions that do not permit; returns once they will not be lost silently.

        DecisionUnrecorded if the journal can't take them, or too many are waiting.
        """
        if not all(await self._journal_all(decisions)):
            raise DecisionUnrecorded("the decision journal can't be written")
        try:
            async with asyncio.timeout(self._limits.publish_timeout_ms / 1000):
                for decision in decisions:
                    await self._pending.put(decision)
        except TimeoutError:
            raise DecisionUnrecorded("too many decisions wait to be published") from None
        self._metrics.decisions_pending.set(self.pending)

    async def _journal_all(self, decisions: Sequence[PendingDecision]) -> list[bool]:
        if self._journal is None:
            return [True] * len(decisions)
        appends = [
            self._journal.append(
                JournalEntry(
                    decision.event_id,
                    decision.record.topic,
                    decision.record.key,
                    decision.record.value,
                )
            )
            for decision in decisions
        ]
        results = await asyncio.gather(*appends, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, Retryable):
                raise result
        return [result is None for result in results]

    async def _publish_pending(self) -> None:
        while True:
            if not self._publishing:
                self._publishing.append(await self._pending.get())
            while len(self._publishing) < self._limits.batch_records_max:
                if self._pending.empty():
                    break
                self._publishing.append(self._pending.get_nowait())
            outcomes = await self._publisher.publish(
                [decision.record for decision in self._publishing]
            )
            left = []
            for decision, outcome in zip(self._publishing, outcomes, strict=True):
                if isinstance(outcome, Published):
                    self._hold(decision.event_id, outcome)
                elif isinstance(outcome, Rejected):
                    self._metrics.decisions_lost.inc()
                    log.error("decision_refused_by_log", reason=outcome.reason)
                else:
                    left.append(decision)
            self._publishing = left
            self._metrics.decisions_pending.set(self.pending)
            if left:
                log.warning("decisions_waiting", decisions=self.pending)
                await asyncio.sleep(0.5)

    def _hold(self, event_id: str, place: Published) -> None:
        if self._journal is not None:
            self._unreleased.append((event_id, place))

    async def _replay(self, journal: DecisionJournal) -> None:
        entries = journal.unreleased
        if not entries:
            return
        known: set[str] = set()
        if self._history is not None:
            known = await self._history.known_events([entry.event_id for entry in entries])
        for event_id in known:
            journal.release(event_id)
        missing = [entry for entry in entries if entry.event_id not in known]
        log.info("decisions_replayed", decisions=len(missing), known=len(known))
        for entry in missing:
            await self._pending.put(_pending_of(entry))

    async def _release_recorded(self, journal: DecisionJournal) -> None:
        """Free journal entries once history has their decisions."""
        clock = asyncio.get_running_loop().time
        rotated_at = clock()
        while True:
            await asyncio.sleep(self._limits.release_every_ms / 1000)
            batch, self._unreleased = self._unreleased, []
            if batch and not await self._is_recorded([place for _, place in batch]):
                self._unreleased = batch + self._unreleased
                continue
            for event_id, _ in batch:
                journal.release(event_id)
            if clock() - rotated_at > self._limits.rotate_every_ms / 1000:
                journal.rotate()
                rotated_at = clock()

    async def _is_recorded(self, places: Sequence[Published]) -> bool:
        if self._history is None:
            return True
        timeout_s = self._limits.recorded_timeout_ms / 1000
        return await self._history.recorded(places, timeout_s) is not None


def _tell_failure(task: asyncio.Task[None]) -> None:
    problem = None if task.cancelled() else task.exception()
    if problem is not None:
        log.critical("decision_log_failed", error=type(problem).__name__)


def _pending_of(entry: JournalEntry) -> PendingDecision:
    record, fields = codec.decode(entry.value)
    headers = cloudevents_headers(contracts().record(record.name), fields)
    return PendingDecision(
        entry.event_id, OutgoingRecord(entry.topic, entry.key, entry.value, headers)
    )
