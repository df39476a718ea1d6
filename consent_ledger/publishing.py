"""Publishing a file of events: rows in, batches out, one result for every event.

Owns reading, batching, retrying and resuming. What a row becomes is the mapping's business, what
is acceptable the documents', and where it goes a sink's: the HTTP API or the log itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

from consent.documents import DocumentRules, read_document
from consent.errors import Rejected, Retryable
from consent.instants import instant_text
from consent.privacy import SALT_BYTES
from consent_ledger.adapters.publisher import (
    EventPublisher,
    OutgoingRecord,
    Published,
    PublisherUnavailable,
    outgoing,
)
from consent_ledger.client import ApiClient, ApiUnavailable
from consent_ledger.row_files import Document, Result, ResultFiles, RowEvent, rejection


class Sink(Protocol):
    """Where documents go."""

    async def send(self, documents: Sequence[Document]) -> list[Result]:
        """One result per document, in order; Retryable if it is to be tried again."""


class HttpSink:
    """Sends to the HTTP API."""

    def __init__(self, client: ApiClient, wait: str | None) -> None:
        self._client = client
        self._wait = wait

    async def send(self, documents: Sequence[Document]) -> list[Result]:
        """The API's own results."""
        return await self._client.publish(documents, self._wait)


class LogSink:
    """Sends to the log itself, with the same reading of documents as the API."""

    def __init__(self, publisher: EventPublisher, region_default: str | None) -> None:
        self._publisher = publisher
        self._region_default = region_default

    async def send(self, documents: Sequence[Document]) -> list[Result]:
        """Results like the API's; PublisherUnavailable if any is not known to be in the log."""
        results: list[Result] = []
        records: list[OutgoingRecord] = []
        positions: list[int] = []
        rules = DocumentRules(time.time_ns() // 1000, self._region_default)
        for position, document in enumerate(documents):
            try:
                draft = read_document(document, rules, os.urandom(SALT_BYTES))
            except Rejected as problem:
                results.append(rejection(problem))
                continue
            notices = [asdict(notice) for notice in draft.notices]
            results.append(
                {"event_id": draft.event_id, **({"notices": notices} if notices else {})}
            )
            records.append(outgoing(draft.record, draft.fields, draft.key))
            positions.append(position)
        for position, outcome in zip(
            positions, await self._publisher.publish(records), strict=True
        ):
            if isinstance(outcome, PublisherUnavailable):
                raise outcome
            if isinstance(outcome, Published):
                place = {
                    "status": "accepted",
                    "topic": outcome.topic,
                    "partition": outcome.partition,
                    "offset": outcome.offset,
                    "accepted_at": instant_text(outcome.timestamp_ms * 1000),
                }
                results[position] |= place
            else:
                results[position] |= rejection(outcome)
        return results


@dataclass(frozen=True, slots=True)
class PublishLimits:
    """How much at once, and how long a sink may be away before giving up."""

    batch_records: int = 500
    batches_in_flight: int = 4
    retry_ms: int = 60_000


@dataclass(slots=True)
class Tally:
    """What became of the events so far. `skipped` were done by an earlier run."""

    rows: int = 0
    events: int = 0
    skipped: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    notices: dict[str, int] = field(default_factory=dict)

    def count(self, result: Result) -> None:
        """Count one result."""
        status = str(result.get("status", ""))
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == "rejected":
            reason = str(result.get("reason", ""))
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
        for notice in result.get("notices", ()):
            self.notices[notice["reason"]] = self.notices.get(notice["reason"], 0) + 1


class FilePublisher:
    """Publishes the events of one open file."""

    def __init__(
        self,
        sink: Sink,
        files: ResultFiles,
        done: frozenset[str],
        limits: PublishLimits,
        progress: Callable[[Tally], None],
    ) -> None:
        self._sink = sink
        self._files = files
        self._done = done
        self._limits = limits
        self._progress = progress
        self.tally = Tally()

    async def run(self, events: Iterator[RowEvent]) -> Tally:
        """Publish all; Retryable if the sink stayed away, with everything sent so far kept."""
        in_flight: set[asyncio.Task[None]] = set()
        try:
            async for batch in self._batches(events):
                if len(in_flight) >= self._limits.batches_in_flight:
                    finished, in_flight = await asyncio.wait(
                        in_flight, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in finished:
                        task.result()
                in_flight.add(asyncio.create_task(self._send(batch)))
            while in_flight:
                finished, in_flight = await asyncio.wait(in_flight)
                for task in finished:
                    task.result()
        finally:
            for task in in_flight:
                task.cancel()
            await asyncio.gather(*in_flight, return_exceptions=True)
            self._files.flush()
        return self.tally

    async def _batches(self, events: Iterator[RowEvent]) -> AsyncIterator[list[RowEvent]]:
        batch: list[RowEvent] = []
        line = 0
        for event in events:
            self.tally.rows += event.line != line
            line = event.line
            self.tally.events += 1
            if event.document is None:
                self._settle(event, rejection(event.problem))
                continue
            if str(event.document.get("event_id", "")).lower() in self._done:
                self.tally.skipped += 1
                continue
            batch.append(event)
            if len(batch) == self._limits.batch_records:
                yield batch
                batch = []
                await asyncio.sleep(0)
        if batch:
            yield batch

    async def _send(self, batch: list[RowEvent]) -> None:
        results = await self._patiently([event.document or {} for event in batch])
        for event, result in zip(batch, results, strict=True):
            result.pop("position", None)
            self._settle(event, result)
        self._files.flush()
        self._progress(self.tally)

    def _settle(self, event: RowEvent, result: Result) -> None:
        self.tally.count(result)
        self._files.write(event, result)

    async def _patiently(self, documents: Sequence[Document]) -> list[Result]:
        """Send again until the sink answers; ids make that harmless."""
        deadline = time.monotonic() + self._limits.retry_ms / 1000
        while True:
            try:
                return await self._sink.send(documents)
            except Retryable as problem:
                wait_s = problem.retry_after_s if isinstance(problem, ApiUnavailable) else 1.0
                if time.monotonic() + wait_s > deadline:
                    raise
                await asyncio.sleep(wait_s)
