"""Judging a whole list of numbers: one line of answer for each, and one run in the log.

A scrub permits no call. It is for taking off a list whom one may not call, hours before a dialer
asks about each number that is left; so it gives no permits, and leaves no decision per number. The
list waits in a file without a name while it is judged, and is gone with the request.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import IO, Final

import msgspec

from consent.errors import Rejected, Retryable
from consent.instants import instant_text
from consent.privacy import SALT_BYTES
from consent_ledger.api.accesses import AccessRecorder
from consent_ledger.api.answer_parts import next_allowed_text
from consent_ledger.api.authentication import Principal
from consent_ledger.api.checking import CallChecker
from consent_ledger.api.models import CallQuestion
from consent_ledger.api.problems import Problem

BEGUN: Final = "scrub"
ENDED: Final = "scrub-ended"
_LINE_BYTES_MAX: Final = 4_096
_MEMORY_BYTES: Final = 1 << 20
_SLICE_S: Final = 0.002
"""How long numbers are judged, and then how long others have the processor to themselves."""


@dataclass(frozen=True, slots=True)
class ScrubLimits:
    """Largest list, and how many lists are judged at once; others are asked to come again."""

    bytes_max: int = 256 * 1024 * 1024
    runs_max: int = 2


class ScrubLine(msgspec.Struct, omit_defaults=True):
    """What became of the number in a line, counted from 1. `rejected`: it is no number."""

    line: int
    verdict: str
    reason: str = ""
    next_allowed: str = ""


class ScrubRun(msgspec.Struct, omit_defaults=True):
    """The run, as the log has it. `recorded` false: the log lacks its end, so do not rely on it.

    `list_sha256` is HMAC-SHA256 of the list, as it was sent, under `salt`, which only this answer
    holds: without it the log tells nothing of the numbers. `answer_sha256` is of the lines above.
    """

    run_id: str
    begun_at: str
    ended_at: str
    numbers: int
    verdicts: dict[str, int]
    reasons: dict[str, int]
    rulebook: str
    salt: str
    list_sha256: str
    answer_sha256: str
    recorded: bool = True


class _LastLine(msgspec.Struct):
    run: ScrubRun


@dataclass(slots=True)
class _Run:
    """A run on its way."""

    call: CallQuestion
    principal: Principal
    why: str | None
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    salt: bytes = field(default_factory=lambda: os.urandom(SALT_BYTES))
    begun_at: int = field(default_factory=lambda: time.time_ns() // 1_000)
    verdicts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    rulebooks: set[str] = field(default_factory=set)

    def about(self) -> dict[str, str]:
        """What is recorded of the run at its beginning."""
        call = self.call
        named = ("seller_id", "purpose", "call_mode", "dial_mode", "party")
        about = {name: str(getattr(call, name)) for name in named}
        about |= {"run_id": self.run_id, "test": str(call.test).lower()}
        return about | ({} if call.campaign_id is None else {"campaign_id": call.campaign_id})


class Scrubber:
    """Judges lists; safe for many requests on one event loop, whose checks go first."""

    def __init__(
        self, checker: CallChecker, accesses: AccessRecorder, limits: ScrubLimits | None = None
    ) -> None:
        self._checker = checker
        self._accesses = accesses
        self._limits = limits or ScrubLimits()
        self._running = 0

    async def scrub(
        self, body: AsyncIterator[bytes], principal: Principal, why: str | None
    ) -> AsyncIterator[bytes]:
        """The lines of the answer, once the list has arrived and the run's beginning is recorded.

        Problem or Rejected, before anything is answered, for a call or list that can't be judged.
        """
        if self._running >= self._limits.runs_max:
            raise Problem("unavailable", "other lists are being judged", retry_after_s=10)
        # A file without a name: it is gone when nobody holds it, also if the request just ends.
        spool = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115
        run = _Run(await self._received(body, spool), principal, why)
        principal.for_seller(run.call.seller_id)
        await self._accesses.record(principal, BEGUN, why, None, run.about())
        return self._answer(run, spool)

    async def _received(self, body: AsyncIterator[bytes], spool: IO[bytes]) -> CallQuestion:
        """The call in the first line; the rest is in the file."""
        head, size, seen = b"", 0, False
        async for chunk in body:
            size += len(chunk)
            if size > self._limits.bytes_max:
                detail = f"a list has at most {self._limits.bytes_max} bytes: send it in parts"
                raise Problem("body-too-large", detail)
            if seen:
                spool.write(chunk)
                continue
            head += chunk
            first, newline, rest = head.partition(b"\n")
            if len(first) > _LINE_BYTES_MAX:
                raise Problem("invalid-request", "the first line is the call, as JSON")
            if newline:
                seen, head = True, first
                spool.write(rest)
        return _call(head)

    async def _answer(self, run: _Run, spool: IO[bytes]) -> AsyncIterator[bytes]:
        answered, listed = hashlib.sha256(), hmac.new(run.salt, digestmod="sha256")
        self._running += 1
        try:
            spool.seek(0)
            numbers = _numbers(spool, listed)
            while lines := self._slice(run, numbers):
                block = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
                answered.update(block)
                yield block
                await asyncio.sleep(_SLICE_S)
            ended = _ended(run, listed.hexdigest(), answered.hexdigest())
            ended.recorded = await self._record_end(run, ended)
            yield msgspec.json.encode(_LastLine(ended)) + b"\n"
        finally:
            self._running -= 1
            spool.close()

    def _slice(self, run: _Run, numbers: Iterator[tuple[int, str]]) -> list[ScrubLine]:
        lines: list[ScrubLine] = []
        until = time.perf_counter() + _SLICE_S
        for line, number in numbers:
            lines.append(self._judged(run, line, number))
            if time.perf_counter() >= until:
                break
        return lines

    def _judged(self, run: _Run, line: int, number: str) -> ScrubLine:
        try:
            decision = self._checker.judge(run.call, number, run.principal)
        except Rejected as problem:
            judged = ScrubLine(line, "rejected", problem.reason)
        else:
            run.rulebooks.add(decision.rulebook_digest.hex())
            again = next_allowed_text(decision) or ""
            judged = ScrubLine(line, decision.verdict.lower(), decision.reason or "", again)
        run.verdicts[judged.verdict] += 1
        if judged.reason:
            run.reasons[judged.reason] += 1
        return judged

    async def _record_end(self, run: _Run, ended: ScrubRun) -> bool:
        counted = {
            "numbers": str(ended.numbers),
            "verdicts": msgspec.json.encode(ended.verdicts).decode(),
            "reasons": msgspec.json.encode(ended.reasons).decode(),
            "begun_at": ended.begun_at,
            "rulebook": ended.rulebook,
            "list_sha256": ended.list_sha256,
            "answer_sha256": ended.answer_sha256,
        }
        try:
            await self._accesses.record(
                run.principal, ENDED, run.why, None, {**run.about(), **counted}
            )
        except Retryable:
            return False
        return True


def _call(line: bytes) -> CallQuestion:
    try:
        return msgspec.json.decode(line, type=CallQuestion)
    except msgspec.DecodeError as problem:
        detail = f"the first line is the call, as JSON, without a number ({problem})"
        raise Problem("invalid-request", detail[:300]) from None


def _numbers(spool: IO[bytes], digest: hmac.HMAC) -> Iterator[tuple[int, str]]:
    """Line and number of each line that holds something; the digest takes every byte in."""
    line = 0
    while raw := spool.readline(_LINE_BYTES_MAX):
        line, part = line + 1, raw
        digest.update(part)
        while not part.endswith(b"\n") and (part := spool.readline(_LINE_BYTES_MAX)):
            digest.update(part)
        text = raw.decode("utf-8", "replace").strip()
        if text:
            yield line, text


def _ended(run: _Run, listed: str, answered: str) -> ScrubRun:
    return ScrubRun(
        run_id=run.run_id,
        begun_at=instant_text(run.begun_at),
        ended_at=instant_text(time.time_ns() // 1_000),
        numbers=run.verdicts.total(),
        verdicts=dict(sorted(run.verdicts.items())),
        reasons=dict(sorted(run.reasons.items())),
        rulebook=" ".join(sorted(run.rulebooks)),
        salt=run.salt.hex(),
        list_sha256=listed,
        answer_sha256=answered,
    )
