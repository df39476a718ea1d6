"""A made ledger with evidence of two old months and of a recent one, for tests of retention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from consent.contracts import contracts
from consent.facts import LogPartition
from consent.partitioning import partition_of
from consent_ledger.evidence_bundle import EvidenceBundle, EvidenceBundler, EvidenceQuestion
from consent_ledger.evidence_scope import EvidenceScope
from projections.clickhouse import Store
from projections.log_folder import LogFolder
from projections.replay import HistoryReplay
from projections.retention import Retention, RetentionConfig
from projections.state_folding import FoldingConfig, FoldingReport, StateFolding, add_states
from projections.verification import (
    Sources,
    Verification,
    VerificationLimits,
    VerificationScope,
)
from tests.decisions import packaged_rulebook
from tests.events import event
from tests.made_ledger import KEYS, LOG_KEY, MadeLedger, MadeRecord
from tests.sealing import seal_entries
from tests.strategies import raw_of

DAY_US = 86_400_000_000
OLD = 1_790_000_000_000_000
"""In September 2026."""
RECENT = OLD + 90 * DAY_US
NOW = RECENT + 45 * DAY_US
MONTHS = 2
"""Kept whole before NOW, which is in February 2027: December and January."""
NONCE = bytes(range(16))
PARTITIONS = 2
NUMBERS = [f"+1415555{line:04d}" for line in range(100, 112)]
HELD, CALLED, ERASED = "+14155550181", "+14155550182", "+14155550183"
CANARY = b"canary-9d41"

Logs = dict[tuple[str, int], list[MadeRecord]]


@dataclass
class Past:
    """A ledger with evidence of two old months and of a recent one."""

    ledger: MadeLedger
    logs: Logs

    @property
    def store(self) -> Store:
        """Its store."""
        return self.ledger.store

    def add(self, name: str, number: str, at: int, **given: Any) -> None:
        """One more event, recorded when it happened."""
        self.append(name, event(name, number=number, occurred_at=at - 1, **given), at)

    def append(self, name: str, fields: Mapping[str, Any], at: int) -> None:
        """The same with all fields given."""
        record = contracts().record(name)
        place = (record.topic, partition_of(fields["number"].encode(), PARTITIONS))
        log = self.logs.setdefault(place, [])
        raw = raw_of(record, dict(fields), len(log), at)
        log.append(MadeRecord(raw.offset, at // 1000, raw.key, raw.value))

    def record(self) -> None:
        """Record all of it, and seal it."""
        for (topic, partition), records in self.logs.items():
            self.ledger.record(origin_of(topic, partition), records)
        self.ledger.checkpoint()

    def retention(self, months: int = MONTHS, now: int = NOW) -> Retention:
        """A run at `now`."""
        folding = FoldingConfig(PARTITIONS, KEYS.suppression, NONCE)
        config = RetentionConfig(months, now, "cli:test", folding, KEYS.dead_letters)
        return Retention(self.store, config)

    def seal(self, entry: Mapping[str, Any]) -> None:
        """What a sealer does with a kept entry."""
        seal_entries(self.ledger, [entry])

    def expire(self, retention: Retention | None = None) -> int:
        """Apply the whole plan; how many rows went."""
        run = retention or self.retention()
        return sum(run.apply(month, self.seal, lambda done, total: None) for month in run.plan())

    def states(self) -> dict[bytes, bytes]:
        """Every number's state, as a rebuild makes it."""
        replay = HistoryReplay(self.store, KEYS.dead_letters, 50)
        config, report = FoldingConfig(PARTITIONS, KEYS.suppression, NONCE), FoldingReport()
        states: dict[bytes, bytes] = {}
        keys = replay.stand_ins(PARTITIONS).keys
        for partition in replay.partitions():
            folding = StateFolding(partition, config, report)
            folding.take_carried(replay.carried(partition))
            for facts in replay.batches(partition):
                folding.take(facts)
            add_states(states, folding.states)
            add_states(states, folding.strays)
        return {keys.get(number, number): body for number, body in states.items()}

    def findings(self) -> list[Any]:
        """Of a whole verification."""
        scope, limits = VerificationScope(at_rest=True), VerificationLimits()
        return Verification(self.sources, scope, limits, NONCE, NOW).run().findings

    def bundle(self, number: str) -> EvidenceBundle:
        """Of everything about a number."""
        folder = LogFolder(self.ledger.folder)
        reasons = packaged_rulebook().reasons
        bundler = EvidenceBundler(self.store, folder, LOG_KEY, KEYS.history, reasons)
        scope = EvidenceScope(0, NOW)
        return bundler.make(EvidenceQuestion(number, scope, NOW, zone="UTC"))

    @property
    def sources(self) -> Sources:
        """For verifying."""
        return Sources(self.store, LogFolder(self.ledger.folder), [LOG_KEY.verifier])

    def evidence(self, number: str) -> int:
        """Rows of evidence of a number."""
        return self.count(f"SELECT count() FROM evidence WHERE number = '{number}'")

    def count(self, query: str) -> int:
        """A single value."""
        return int(self.store.query_rows(query)[0][0])


def origin_of(topic: str, partition: int) -> LogPartition:
    """One log a topic."""
    return LogPartition(topic.encode()[:16].ljust(16, b"-"), topic, partition)
