"""Lets months of evidence go: each verified before, and sealed in the proof log first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from consent.checkpoints import opened_checkpoint
from consent.columns import NONCE_BYTES
from consent.errors import Retryable
from consent.log_entries import OTHER, decode_entry
from consent.tiles import TILE_WIDTH, Tile
from projections.log_errors import LogDamaged
from projections.retention import ExpiredMonth, Progress, Retention
from projections.verification import (
    Sources,
    Verification,
    VerificationLimits,
    VerificationScope,
)
from projections.verification_findings import Finding

_LOOK_AGAIN_S: Final = 0.2


class NotSealed(Retryable):
    """The entry that says what goes is under no checkpoint yet; no evidence was deleted."""

    def __str__(self) -> str:
        return (
            "what is to go is not sealed in the proof log yet, and nothing was deleted; "
            "is `worker seal` running? Then do it again"
        )


@dataclass(frozen=True, slots=True)
class Expired:
    """What became of a month: how many rows went, or why none did."""

    month: int
    rows: int
    findings: Sequence[Finding] = ()


class Expiring:
    """Applies a plan. `sources` are store, log and the log's public keys."""

    def __init__(
        self,
        sources: Sources,
        retention: Retention,
        seal_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = sources
        self._retention = retention
        self._seal_timeout_s = seal_timeout_s
        self._clock = clock

    def apply(self, month: ExpiredMonth, progress: Progress) -> Expired:
        """Have one month go; nothing of it does if it does not verify, or is not sealed in time.

        Damaged evidence is evidence of the damage, and stays. Raises NotSealed.
        """
        findings = self._findings(month.month)
        if findings:
            return Expired(month.month, 0, findings)
        return Expired(month.month, self._retention.apply(month, self._await_sealed, progress))

    def _findings(self, month: int) -> Sequence[Finding]:
        scope, nonce = VerificationScope(month=month), os.urandom(NONCE_BYTES)
        now = time.time_ns() // 1000
        verification = Verification(self._sources, scope, VerificationLimits(), nonce, now)
        return verification.run().findings

    def _await_sealed(self, entry: Mapping[str, Any]) -> None:
        deadline = self._clock() + self._seal_timeout_s
        while not self._sealed(entry):
            if self._clock() > deadline:
                raise NotSealed
            time.sleep(_LOOK_AGAIN_S)

    def _sealed(self, entry: Mapping[str, Any]) -> bool:
        """Whether the log, below its signed size, has the entry of this id and digest."""
        note = self._sources.folder.checkpoint()
        if note is None:
            return False
        size = opened_checkpoint(note, self._sources.keys).size
        rows = self._sources.store.query_rows(
            "SELECT entry_index FROM log_positions WHERE entry_id = {id:String}",
            {"id": entry["entry_id"]},
        )
        return any(self._is_at(int(index), size, entry) for (index,) in rows)

    def _is_at(self, position: int, size: int, entry: Mapping[str, Any]) -> bool:
        if position >= size:
            return False
        index, place = divmod(position, TILE_WIDTH)
        width = min(TILE_WIDTH, size - index * TILE_WIDTH)
        try:
            found = self._sources.folder.bundle(Tile(None, index, width))[place]
        except LogDamaged:
            return False
        name, fields = decode_entry(found)
        return name == OTHER and all(
            fields[key] == entry[key] for key in ("entry_id", "content_sha256")
        )
