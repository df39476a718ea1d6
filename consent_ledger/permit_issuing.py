"""Giving permits with allows, and remembering which were given, for as long as `serve` runs.

Follows the folder of keys, so that a key that was made or retired elsewhere is used, published or
dropped without a restart, and has every change of a key sealed into the proof log.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from consent.decision import Decision
from consent.decision_record import Permit
from consent.errors import Retryable
from consent.instants import MICROSECONDS
from consent.key_entries import Entry, key_made, key_retired
from consent.partitioning import partition_of
from consent.permits import PermitKey, PermitTerms, permit_expiry, recorded_permit
from consent.privacy import subject_token
from consent.rulebook import Rulebook
from consent.state import SubjectState
from consent_ledger.background import BackgroundTask
from consent_ledger.keys import KeyUnusable
from consent_ledger.permit_keys import KeyRing, read_permit_keys
from projections.clickhouse_async import AsyncStore
from projections.errors import StoreRejected
from projections.log_store import keep_entry_once

log = structlog.get_logger(__name__)

_READ_EVERY_S: Final = 5.0
_REMEMBERED_US: Final = 600 * MICROSECONDS


@dataclass(frozen=True, slots=True)
class PermitSettings:
    """What permits are made of beside the decision. `issuer` is this ledger's public name.

    `keys` are those of `folder` at the start. `remembered_max` bounds the memory of permits given;
    one lasts ten minutes in it.
    """

    keys: KeyRing
    folder: Path
    suppression_key: bytes = field(repr=False)
    issuer: str
    partitions: int
    key_set_max_age_s: int = 300
    remembered_max: int = 500_000


@dataclass(frozen=True, slots=True)
class PreparedPermit:
    """A permit before its record is acknowledged: there is no token yet that anybody could use."""

    terms: PermitTerms
    key: PermitKey

    @property
    def recorded(self) -> Permit:
        """What the decision's record says of it."""
        return recorded_permit(self.terms, self.key)


@dataclass(frozen=True, slots=True)
class GivenPermit:
    """What is remembered of a permit that was given."""

    number_token: bytes
    seller_id: str
    expires_at: int


class PermitIssuer:
    """Prepares permits, signs them once their record is in the log, and remembers them."""

    def __init__(self, settings: PermitSettings, rulebook: Rulebook) -> None:
        self._ring = settings.keys
        self._settings = settings
        self._rulebook = rulebook
        self._given: OrderedDict[str, GivenPermit] = OrderedDict()

    def prepare(
        self, decision: Decision, state: SubjectState, number: str, decision_id: str
    ) -> PreparedPermit:
        """The permit of an allow about a number."""
        key = self._ring.signer(decision.at)
        call, settings = decision.request, self._settings
        terms = PermitTerms(
            permit_id=str(uuid.uuid4()),
            decision_id=decision_id,
            issuer=settings.issuer,
            number_token=subject_token(settings.suppression_key, number),
            seller_id=call.seller_id,
            campaign_id=call.campaign_id,
            purpose=call.purpose,
            call_mode=call.call_mode,
            dial_mode=call.dial_mode,
            test=call.test,
            rulebook_digest=decision.rulebook_digest,
            partition=partition_of(number.encode(), settings.partitions),
            applied={key: offset.offset_last for key, offset in state.applied.items()},
            issued_at=decision.at,
            expires_at=permit_expiry(decision, state, self._rulebook),
        )
        return PreparedPermit(terms, key)

    def give(self, prepared: PreparedPermit) -> str:
        """The token of a permit whose decision the log has acknowledged."""
        terms = prepared.terms
        self._given[terms.permit_id] = GivenPermit(
            terms.number_token, terms.seller_id, terms.expires_at
        )
        while len(self._given) > self._settings.remembered_max or self._oldest_is_over(terms):
            self._given.popitem(last=False)
        return prepared.key.permit(terms)

    def given(self, permit_id: str) -> GivenPermit | None:
        """What this process knows of a permit that it gave in the last ten minutes."""
        return self._given.get(permit_id)

    def token_of(self, number: str) -> bytes:
        """What stands for a number in permits."""
        return subject_token(self._settings.suppression_key, number)

    def key_set(self, now: int) -> dict[str, Any]:
        """The keys that verify every permit that may be good."""
        return self._ring.key_set(now)

    @property
    def key_set_max_age_s(self) -> int:
        """How long a verifier may keep the keys: less than a new key waits before it signs."""
        return self._settings.key_set_max_age_s

    def use(self, ring: KeyRing, now: int) -> bool:
        """Take other keys; False, and nothing changes, if none of them signs."""
        if not ring.signs(now):
            return False
        self._ring = ring
        return True

    def _oldest_is_over(self, terms: PermitTerms) -> bool:
        oldest = next(iter(self._given.values()))
        return oldest.expires_at + _REMEMBERED_US < terms.issued_at


class PermitKeyWatch:
    """Follows the folder of keys in the background, and has their changes sealed."""

    def __init__(
        self,
        issuer: PermitIssuer,
        folder: Path,
        store: AsyncStore,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        self._issuer = issuer
        self._folder = folder
        self._store = store
        self._clock_us = clock_us
        self._kept: set[str] = set()
        self._background = BackgroundTask(self._run, "permit_key_watch_failed")

    def start(self) -> None:
        """Begin; returns at once."""
        self._background.start()

    async def stop(self) -> None:
        """What is not sealed is sealed after the next start."""
        await self._background.stop()

    async def _run(self) -> None:
        while True:
            try:
                ring = await asyncio.to_thread(read_permit_keys, self._folder)
            except (KeyUnusable, OSError) as problem:
                log.error("permit_keys_unusable", error=type(problem).__name__)
            else:
                if not self._issuer.use(ring, self._clock_us()):
                    log.error("permit_keys_unusable", error="none of them signs")
                await self._keep(ring)
            await asyncio.sleep(_READ_EVERY_S)

    async def _keep(self, ring: KeyRing) -> None:
        for entry in _entries(ring):
            if entry["entry_id"] in self._kept:
                continue
            try:
                await self._store.run(keep_entry_once, entry)
            except (Retryable, StoreRejected) as problem:
                # Refused: its tables may be made later, by whoever records.
                log.warning("permit_key_not_sealed", error=type(problem).__name__)
                return
            self._kept.add(entry["entry_id"])


def _entries(ring: KeyRing) -> list[Entry]:
    entries = []
    for key in ring.keys:
        entries.append(key_made(key.key_id, key.public_key, key.created_at, key.signs_from))
        if key.retired_at is not None and key.listed_until is not None:
            entries.append(key_retired(key.key_id, key.retired_at, key.listed_until))
    return entries
