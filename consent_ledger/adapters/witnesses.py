"""Asks witnesses to cosign a checkpoint (C2SP tlog-witness), each in its own time.

A witness that is away, slow or of another opinion never keeps a checkpoint from being published:
what it did is counted, and a witness that has seen a longer log than there is raises an alarm.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import httpx
import structlog

from consent.checkpoints import Checkpoint, Submission, decimal
from consent.log_policy import TrustedKey
from consent.merkle import Subtree, consistency_proof
from consent.notes import Note, NoteInvalid, NoteSignature, parse_signatures
from projections.log_metrics import LogMetrics
from projections.log_sealer import Cosign

log = structlog.get_logger(__name__)

_ATTEMPTS_MAX: Final = 3
_ANSWER_BYTES_MAX: Final = 10_000
_CONFLICT: Final = 409
_OK: Final = 200


class Witnesses:
    """The witnesses of one log. `cosign` is what `projections.log_sealer.Cosign` asks for."""

    def __init__(
        self, trusted: Sequence[TrustedKey], client: httpx.AsyncClient, metrics: LogMetrics
    ) -> None:
        self._trusted = trusted
        self._client = client
        self._metrics = metrics
        self._sizes: dict[str, int] = {}

    async def cosign(
        self, note: Note, checkpoint: Checkpoint, subtree: Subtree
    ) -> Sequence[NoteSignature]:
        """What the witnesses signed, of all that answered in time."""
        answers = await asyncio.gather(
            *(self._cosigned(one, note, checkpoint, subtree) for one in self._trusted)
        )
        return [signature for signatures in answers for signature in signatures]

    async def _cosigned(
        self, witness: TrustedKey, note: Note, checkpoint: Checkpoint, subtree: Subtree
    ) -> Sequence[NoteSignature]:
        try:
            signatures = await self._asked(witness, note, checkpoint, subtree)
        except (httpx.HTTPError, NoteInvalid, _Refused) as problem:
            self._metrics.cosignatures.labels(witness.name, "failed").inc()
            detail = str(problem) if isinstance(problem, NoteInvalid | _Refused) else ""
            error = type(problem).__name__
            log.warning("witness_failed", witness=witness.name, error=error, detail=detail)
            return ()
        self._metrics.cosignatures.labels(witness.name, "cosigned").inc()
        self._sizes[witness.name] = checkpoint.size
        return signatures

    async def _asked(
        self, witness: TrustedKey, note: Note, checkpoint: Checkpoint, subtree: Subtree
    ) -> Sequence[NoteSignature]:
        old_size = self._sizes.get(witness.name, 0)
        for _ in range(_ATTEMPTS_MAX):
            proof = await asyncio.to_thread(consistency_proof, old_size, checkpoint.size, subtree)
            body = Submission(old_size, tuple(proof), note).encoded
            answer = await self._client.post(f"{witness.url}/add-checkpoint", content=body.encode())
            if len(answer.content) > _ANSWER_BYTES_MAX:
                raise _Refused("the answer is too long")
            if answer.status_code == _OK:
                return _own_signatures(witness, note, answer.text)
            if answer.status_code != _CONFLICT:
                raise _Refused(f"HTTP {answer.status_code}")
            old_size = decimal(answer.text.strip())
            if old_size > checkpoint.size:
                self._metrics.alarms.labels("witness_ahead").inc()
                raise _Refused(f"it has seen {old_size} entries of {checkpoint.size}")
        raise _Refused("it keeps answering with another size")


class _Refused(Exception):
    """A witness did not cosign."""


def _own_signatures(witness: TrustedKey, note: Note, text: str) -> Sequence[NoteSignature]:
    """The lines of an answer that are this witness's and right; others are ignored."""
    lines = parse_signatures(text)
    own = [
        line for line in lines if (line.name, line.key_id) == (witness.key.name, witness.key.key_id)
    ]
    if not own or witness.key.signed_at(Note(note.text, tuple(own))) is None:
        raise NoteInvalid("the answer holds no signature of the witness")
    return own


@asynccontextmanager
async def asking_witnesses(
    trusted: Sequence[TrustedKey], timeout_s: float, metrics: LogMetrics
) -> AsyncIterator[Cosign]:
    """Connections to the witnesses that have an address."""
    reachable = [one for one in trusted if one.url is not None]
    async with httpx.AsyncClient(timeout=timeout_s, follow_redirects=False) as client:
        yield Witnesses(reachable, client, metrics).cosign
