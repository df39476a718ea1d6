"""Taking in events over HTTP: read, check, publish, and say for each one what became of it.

Owns the order of these steps and the memory of recent event ids. A `duplicate` is answered from
that memory, so it is best effort: an event that got in twice is still counted once, because
everything behind the log goes by its id.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from consent.documents import DocumentRules, EventDraft, content_of, read_document
from consent.errors import Rejected
from consent.instants import instant_text
from consent.privacy import SALT_BYTES
from consent_ledger.adapters.publisher import (
    EventPublisher,
    Outcome,
    OutgoingRecord,
    Published,
    PublisherUnavailable,
    outgoing,
)
from consent_ledger.api.authentication import Principal
from consent_ledger.api.cited_permits import CITING, CitedPermits
from consent_ledger.api.metrics import ApiMetrics
from consent_ledger.api.models import ItemResult, Wait
from consent_ledger.api.problems import FieldError

_REUSED: Final = FieldError(
    "EVENT_ID_REUSED",
    "event_id",
    "",
    "another event has this id; both are kept, the stricter one counts, and an audit will ask",
)


class Confirmations(Protocol):
    """Tells when what was published has arrived behind the log."""

    async def projected(self, places: Sequence[Published], timeout_s: float) -> bool:
        """True once dialers see all of these, False if that takes longer."""

    async def recorded(
        self, places: Sequence[Published], timeout_s: float
    ) -> dict[tuple[str, int, int], int] | None:
        """`recorded_at` in µs of every place once history has them all, None if not in time."""


@dataclass(frozen=True, slots=True)
class AcceptanceLimits:
    """Bounds of what is kept in memory and how long a request may wait."""

    recent_ids_max: int = 100_000
    publish_timeout_ms: int = 10_000
    wait_timeout_ms: int = 15_000


@dataclass(slots=True)
class _Recent:
    """An event that was accepted or is on its way."""

    content: bytes
    outcome: asyncio.Future[Outcome]


@dataclass(slots=True)
class _Item:
    """One document on its way through."""

    position: int
    draft: EventDraft | None = None
    record: OutgoingRecord | None = None
    recent: _Recent | None = None
    original: asyncio.Future[Outcome] | None = None
    outcome: Outcome | None = None
    notices: list[FieldError] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Results in the order of the documents, and which of the waits ended too early."""

    results: list[ItemResult]
    unmet: frozenset[Wait]


class EventAcceptor:
    """Accepts documents. Safe for many requests at once on one event loop."""

    def __init__(
        self,
        publisher: EventPublisher,
        confirmations: Confirmations,
        metrics: ApiMetrics,
        region_default: str | None = None,
        limits: AcceptanceLimits | None = None,
        cited: CitedPermits | None = None,
    ) -> None:
        self._cited = cited
        self._publisher = publisher
        self._confirmations = confirmations
        self._metrics = metrics
        self._region_default = region_default
        self._limits = limits or AcceptanceLimits()
        self._recent: OrderedDict[str, _Recent] = OrderedDict()

    async def accept(
        self, documents: Sequence[Any], principal: Principal, waits: Collection[Wait] = ()
    ) -> Acceptance:
        """One result per document, in order.

        Accepted means that the broker acknowledged it. For each of `waits` that is met, accepted
        and duplicate results carry `projected_at` or `recorded_at`.
        """
        now = time.time_ns() // 1000
        items = [
            self._read(position, document, principal, now)
            for position, document in enumerate(documents)
        ]
        await self._publish(items)
        results = [_result(item) for item in items]
        unmet = await self._unmet(items, results, waits)
        for result in results:
            self._metrics.events.labels(result.status, result.reason).inc()
        return Acceptance(results, unmet)

    def _read(self, position: int, document: Any, principal: Principal, now: int) -> _Item:
        item = _Item(position)
        try:
            rules = DocumentRules(now, self._region_default)
            draft = read_document(document, rules, os.urandom(SALT_BYTES))
            principal.may_publish(draft.record, draft.fields)
        except Rejected as problem:
            item.outcome = problem
            return item
        item.draft = draft
        item.notices = [
            FieldError(note.reason, note.field, note.value_shown, note.remedy)
            for note in draft.notices
        ]
        if self._cited is not None and draft.record.name == CITING:
            item.notices += self._cited.notices(draft.fields)
        content = _content_digest(draft)
        recent = self._recent.get(draft.event_id)
        if recent is not None and recent.content == content:
            item.original = recent.outcome
            return item
        if recent is not None:
            item.notices.append(_REUSED)
        item.record = outgoing(draft.record, draft.fields, draft.key)
        if recent is None:
            outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            item.recent = self._recent[draft.event_id] = _Recent(content, outcome)
        return item

    async def _publish(self, items: Sequence[_Item]) -> None:
        fresh = [item for item in items if item.record is not None]
        try:
            outcomes = await self._publisher.publish(
                [item.record for item in fresh if item.record is not None],
                self._limits.publish_timeout_ms,
            )
        except BaseException:
            self._forget(fresh)
            raise
        for item, outcome in zip(fresh, outcomes, strict=True):
            item.outcome = outcome
            self._remember(item, outcome)
        for item in items:
            if item.original is not None:
                item.outcome = await asyncio.shield(item.original)
        while len(self._recent) > self._limits.recent_ids_max:
            self._recent.popitem(last=False)

    def _remember(self, item: _Item, outcome: Outcome) -> None:
        if item.recent is None or item.draft is None or item.recent.outcome.done():
            return
        item.recent.outcome.set_result(outcome)
        event_id = item.draft.event_id
        if not isinstance(outcome, Published) and self._recent.get(event_id) is item.recent:
            del self._recent[event_id]

    def _forget(self, items: Sequence[_Item]) -> None:
        lost = PublisherUnavailable("the request ended before the broker acknowledged")
        for item in items:
            self._remember(item, lost)

    async def _unmet(
        self, items: Sequence[_Item], results: Sequence[ItemResult], waits: Collection[Wait]
    ) -> frozenset[Wait]:
        places = [item.outcome for item in items if isinstance(item.outcome, Published)]
        if not waits or not places:
            return frozenset()
        done: dict[Wait, Coroutine[Any, Any, bool]] = {}
        if "projected" in waits:
            done["projected"] = self._projected(places, items, results)
        if "recorded" in waits:
            done["recorded"] = self._recorded(places, items, results)
        met = await asyncio.gather(*done.values())
        return frozenset(wait for wait, happened in zip(done, met, strict=True) if not happened)

    async def _projected(
        self, places: Sequence[Published], items: Sequence[_Item], results: Sequence[ItemResult]
    ) -> bool:
        timeout_s = self._limits.wait_timeout_ms / 1000
        if not await self._confirmations.projected(places, timeout_s):
            return False
        projected_at = instant_text(time.time_ns() // 1000)
        for item, result in zip(items, results, strict=True):
            if item.draft is not None and item.draft.record.has_number:
                result.projected_at = projected_at
        return True

    async def _recorded(
        self, places: Sequence[Published], items: Sequence[_Item], results: Sequence[ItemResult]
    ) -> bool:
        timeout_s = self._limits.wait_timeout_ms / 1000
        recorded = await self._confirmations.recorded(places, timeout_s)
        if recorded is None:
            return False
        for item, result in zip(items, results, strict=True):
            if isinstance(item.outcome, Published):
                place = item.outcome
                recorded_at = recorded[(place.topic, place.partition, place.offset)]
                result.recorded_at = instant_text(recorded_at)
        return True


def _content_digest(draft: EventDraft) -> bytes:
    encoded = msgspec.msgpack.encode(content_of(draft), order="sorted")
    return hashlib.blake2b(encoded, digest_size=16).digest()


def _result(item: _Item) -> ItemResult:
    outcome, draft = item.outcome, item.draft
    event_id = draft.event_id if draft is not None else ""
    if isinstance(outcome, Published):
        return ItemResult(
            position=item.position,
            status="accepted" if item.original is None else "duplicate",
            event_id=event_id,
            topic=outcome.topic,
            partition=outcome.partition,
            offset=outcome.offset,
            accepted_at=instant_text(outcome.timestamp_ms * 1000),
            notices=item.notices,
        )
    if isinstance(outcome, Rejected):
        return ItemResult(
            position=item.position,
            status="rejected",
            event_id=event_id,
            reason=outcome.reason,
            field=outcome.field,
            value=outcome.value_shown,
            remedy=outcome.remedy,
        )
    return ItemResult(
        position=item.position,
        status="unavailable",
        event_id=event_id,
        reason="BROKER_UNAVAILABLE",
        remedy="send it again with the same event_id",
    )
