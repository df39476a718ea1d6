"""The auditor's half of a campaign: the proof log, its witness, and the decisions about calls."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from consent.columns import NONCE_BYTES
from projections.clickhouse import Store
from projections.errors import StoreUnavailable
from projections.log_folder import LogFolder
from projections.verification import (
    Sources,
    Verification,
    VerificationLimits,
    VerificationReport,
    VerificationScope,
)
from tests.fault.call_checks import CallChecks, DecisionCheck
from tests.fault.deployment import Deployment
from tests.fault.findings import Findings
from tests.fault.log_watch import LogWatch

_EARLY_MAX: Final = 10
_SEALED_TIMEOUT_S: Final = 300.0
_SEALED_PAUSE_S: Final = 2.0
_UNDER_WAY: Final = frozenset({"BLOCK_UNSEALED"})


class Auditor:
    """Asks about calls, keeps checkpoints, and judges both after every fault and at the end."""

    def __init__(
        self,
        deployment: Deployment,
        store: Store,
        findings: Findings,
        numbers: Sequence[str],
        recent: Sequence[str],
    ) -> None:
        chance = random.Random(f"auditor/{findings.seed}")
        self._deployment = deployment
        self._store = store
        self._findings = findings
        url = f"http://127.0.0.1:{deployment.serve_port}"
        self.calls = CallChecks(url, findings.seed, _either(chance, numbers, recent))
        self.log = LogWatch(
            deployment.log_folder, deployment.witness_folder, [deployment.log_key()], findings
        )
        self.decisions = DecisionCheck(store, deployment.keys.history, findings)

    async def after_fault(self) -> None:
        """All checkpoints so far are of one log; the newest decisions come out the same."""
        await asyncio.to_thread(self.log.judge)
        with contextlib.suppress(StoreUnavailable):
            await asyncio.to_thread(self.decisions.early, _EARLY_MAX)

    async def compare(self) -> None:
        """Verify the whole ledger at rest, and make every decision again; history is whole."""
        await asyncio.to_thread(self.decisions.whole, self.calls.allowed)
        report = await self._verified()
        for finding in report.findings:
            self._findings.add("log_differs", str(finding))

    def progress(self) -> str:
        """How much was looked at."""
        return (
            f"calls {dict(self.calls.answers)}, {self.decisions.same} decisions the same, "
            f"{self.log.entries} log entries, {self.log.kept} checkpoints, "
            f"{self.log.cosigned()} entries cosigned"
        )

    @property
    def has_seen(self) -> bool:
        """False if so little was looked at that finding nothing means nothing."""
        counts = (self.decisions.same, self.log.entries, self.log.kept, self.log.cosigned())
        return min(counts) > 0

    async def _verified(self) -> VerificationReport:
        """Once everything is in the log; what is still not in it by then is a finding."""
        deadline = time.monotonic() + _SEALED_TIMEOUT_S
        while True:
            report = await asyncio.to_thread(self._verify)
            under_way = {finding.kind for finding in report.findings} & _UNDER_WAY
            if not under_way or time.monotonic() > deadline:
                return report
            await asyncio.sleep(_SEALED_PAUSE_S)

    def _verify(self) -> VerificationReport:
        self.log.look()
        sources = Sources(
            self._store, LogFolder(self._deployment.log_folder), [self._deployment.log_key()]
        )
        scope = VerificationScope(checkpoints=self.log.given, at_rest=True)
        now = time.time_ns() // 1000
        nonce = os.urandom(NONCE_BYTES)
        return Verification(sources, scope, VerificationLimits(), nonce, now).run()


def _either(
    chance: random.Random, numbers: Sequence[str], recent: Sequence[str]
) -> Callable[[], str | None]:
    """Any number, or one of which something was just told."""

    def drawn() -> str | None:
        if recent and chance.random() < 0.5:
            return recent[chance.randrange(len(recent))]
        return chance.choice(numbers)

    return drawn
