"""Asks for calls while everything around the answers fails, and makes every decision again.

An allow that was answered must be in history; and whatever decision is in history must come out
the same, bit for bit, from the facts that history holds. Denials that were answered may be lost
with a `serve` that is killed, since this deployment keeps no journal on disk.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

import httpx

from consent.errors import Corrupt, Rejected
from consent_ledger.reconstruction import Reconstructor
from consent_ledger.rule_files import load_rulebook
from projections.clickhouse import Store
from projections.past import Past
from tests.fault.findings import Findings

_PAUSE_S: Final = 2.0
_TIMEOUT_S: Final = 15.0
_CALLS: Final = (
    ("INFORMATIONAL", "LIVE", "MANUAL"),
    ("MARKETING", "LIVE", "MANUAL"),
    ("MARKETING", "LIVE", "PREDICTIVE"),
    ("SURVEY", "PRERECORDED", "PREDICTIVE"),
)
_SELLERS: Final = ("acme", "globex")
_DECISIONS: Final = """
SELECT event_id FROM facts
WHERE event_name = 'DialDecision' AND rulebook_digest = {digest:String}
ORDER BY recorded_at, event_id
"""


class CallChecks:
    """Asks `serve` about numbers that were drawn, and keeps which calls it allowed."""

    def __init__(self, url: str, seed: int, numbers: Callable[[], str | None]) -> None:
        self.answers: Counter[str] = Counter()
        self.allowed: set[str] = set()
        self._url = url
        self._numbers = numbers
        self._chance = random.Random(f"calls/{seed}")
        self._stopping = False

    async def run(self) -> None:
        """Ask until stopped, one question after the other; what is not answered is counted."""
        async with httpx.AsyncClient(base_url=self._url, timeout=_TIMEOUT_S) as client:
            while not self._stopping:
                number = self._numbers()
                if number is not None:
                    await self._ask(client, number)
                await asyncio.sleep(_PAUSE_S)

    def stop(self) -> None:
        """Ask nothing further."""
        self._stopping = True

    async def _ask(self, client: httpx.AsyncClient, number: str) -> None:
        purpose, call_mode, dial_mode = self._chance.choice(_CALLS)
        call = {
            "number": number,
            "seller_id": self._chance.choice(_SELLERS),
            "purpose": purpose,
            "call_mode": call_mode,
            "dial_mode": dial_mode,
            "party": "CONSUMER",
        }
        try:
            answer = await client.post("/v1/calls/check", json=call)
        except httpx.TransportError:
            self.answers["none"] += 1
            return
        if answer.status_code != httpx.codes.OK:
            self.answers[str(answer.status_code)] += 1
            return
        content = answer.json()
        self.answers[content["verdict"]] += 1
        if content["verdict"] == "allow":
            self.allowed.add(content["decision_id"])


class DecisionCheck:
    """Makes recorded decisions again; those by other rulebooks are drawn events.

    Every call blocks.
    """

    def __init__(self, store: Store, history_key: bytes, findings: Findings) -> None:
        rulebook = load_rulebook(None)
        self._store = store
        self._made = Reconstructor(Past(store), history_key, rulebook)
        self._digest = rulebook.digest.hex()
        self._findings = findings
        self._same: set[str] = set()

    @property
    def same(self) -> int:
        """Decisions that came out the same at least once."""
        return len(self._same)

    def early(self, most: int) -> None:
        """Some of the newest decisions; one that differs may still lack facts, and is kept."""
        due = [one for one in self._recorded() if one not in self._same]
        for event_id in due[-most:]:
            if self._difference(event_id) is None:
                self._same.add(event_id)

    def whole(self, allowed: Collection[str]) -> None:
        """All decisions, those too that came out the same before; history must be whole."""
        recorded = self._recorded()
        for event_id in sorted(set(allowed) - set(recorded)):
            self._findings.add(
                "lost", "a call was allowed and history has no decision", id=event_id
            )
        for event_id in recorded:
            difference = self._difference(event_id)
            if difference is None:
                self._same.add(event_id)
            else:
                self._findings.add("decisions_differ", difference, id=event_id)

    def _recorded(self) -> list[str]:
        rows = self._store.query_rows(_DECISIONS, {"digest": self._digest})
        return [event_id for (event_id,) in rows]

    def _difference(self, event_id: str) -> str | None:
        try:
            result = self._made.decision(event_id).result
        except (Corrupt, Rejected) as problem:
            return str(problem)
        return None if result.same else str(result.difference)
