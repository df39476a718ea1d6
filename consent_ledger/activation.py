"""Putting a rulebook into use: its content is kept by digest, and the log says since when.

Whoever serves does this at its start, once what was activated before is known. Instances that
start together with one rulebook publish one event: its id follows from what it replaces.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from consent.contracts import contracts
from consent.errors import Retryable
from consent.privacy import SALT_BYTES
from consent.programs import Activation
from consent_ledger.adapters.publisher import EventPublisher, Published, outgoing
from consent_ledger.background import BackgroundTask
from projections.clickhouse_async import AsyncStore
from projections.errors import StoreRejected
from projections.rulebook_store import RulebookUse, store_rulebook
from projections.surroundings import SurroundingsView

log = structlog.get_logger(__name__)

SELLER: Final = "*"
"""A rulebook is for every seller."""

_EVENT_IDS: Final = uuid.UUID("6a7e7d1c-5a3f-5b1e-9c55-0d0d7b3f2a41")
_RETRY_FIRST_S: Final = 0.5
_RETRY_MAX_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class ActivationSettings:
    """What the event says beside the rulebook; how long the store may delay it."""

    profile: str = "STRICT"
    system: str = "consent-ledger"
    store_timeout_ms: int = 5_000


class RulebookActivation:
    """Runs in the background until it is done; nothing waits for it."""

    def __init__(
        self,
        use: RulebookUse,
        surroundings: SurroundingsView,
        publisher: EventPublisher,
        store: AsyncStore,
        settings: ActivationSettings,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        self._use = use
        self._surroundings = surroundings
        self._publisher = publisher
        self._store = store
        self._settings = settings
        self._clock_us = clock_us
        self._background = BackgroundTask(self._run, "rulebook_activation_failed")

    def start(self) -> None:
        """Begin; returns at once."""
        self._background.start()

    async def stop(self) -> None:
        """Give up what is not done: the next start does it."""
        await self._background.stop()

    async def _run(self) -> None:
        """The content first, so that whoever reads the event finds it; but not for ever."""
        await self._surroundings.wait_until_loaded()
        storing = asyncio.create_task(self._keep())
        try:
            await asyncio.wait({storing}, timeout=self._settings.store_timeout_ms / 1_000)
            await self._announce()
            await storing
        finally:
            storing.cancel()

    async def _keep(self) -> None:
        retry_s = _RETRY_FIRST_S
        while True:
            try:
                await store_rulebook(self._store, self._use)
                return
            except (Retryable, StoreRejected) as problem:
                # Refused: its tables may be made later, by whoever records.
                log.warning("rulebook_not_stored", error=type(problem).__name__)
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, _RETRY_MAX_S)

    async def _announce(self) -> None:
        before = self._surroundings.activation
        digest = self._use.rulebook.digest
        if before is not None and before.rulebook_digest == digest:
            return
        record = contracts().record("RulebookActivated")
        event = outgoing(record, self._event(before), SELLER.encode())
        retry_s = _RETRY_FIRST_S
        while not isinstance((await self._publisher.publish([event]))[0], Published):
            log.warning("rulebook_not_activated", rulebook=digest.hex())
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, _RETRY_MAX_S)
        log.info("rulebook_activated", rulebook=digest.hex())

    def _event(self, before: Activation | None) -> dict[str, Any]:
        digest = self._use.rulebook.digest
        replaced = "" if before is None else before.event_id
        return {
            "event_id": str(uuid.uuid5(_EVENT_IDS, f"{replaced}/{digest.hex()}")),
            "occurred_at": self._clock_us(),
            "seller_id": SELLER,
            "source": {"system": self._settings.system, "channel": "API", "actor": "SYSTEM"},
            "test": False,
            "rulebook_version": self._use.rulebook.version,
            "rulebook_digest": digest,
            "profile": self._settings.profile.lower(),
            "previous_digest": None if before is None else before.rulebook_digest,
            "approved_by_role": None,
            "salt": os.urandom(SALT_BYTES),
            "evidence": None,
        }
