"""How many facts a second `verify` checks: hashes, chain, log, every column, and all evidence."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from pathlib import Path

from bench.stand import PARTITIONS, TOPIC, store_front
from bench.workload import records
from consent.blocks import CutterLimits
from consent.facts import LogPartition
from consent.partitioning import partition_of
from projections.clickhouse import Store, StoreParameters
from projections.log_folder import LogFolder
from projections.migration import load_migrations, migrate
from projections.verification import (
    Sources,
    Verification,
    VerificationLimits,
    VerificationReport,
    VerificationScope,
)
from tests.made_ledger import LOG_KEY, MadeLedger, MadeRecord

_LOG_ID = b"bench-log-id-16b"
_PORTION = 20_000
_BROKER_MS = 1_790_000_000_000
_RECORDS_PER_MS = 4


@dataclass(frozen=True, slots=True)
class VerifyRate:
    """Facts/s, with and without the evidence, and how many facts and blocks there were."""

    with_evidence: float
    without_evidence: float
    facts: int
    blocks: int


def measure(folder: Path, count: int, seed: int) -> VerifyRate:
    """Make a ledger of `count` facts and verify it twice; raises if anything is found."""
    folder.mkdir(parents=True)
    with store_front(folder) as url:
        store = Store.connect(StoreParameters(url=url, query_timeout_ms=300_000))
        migrate(store, load_migrations(files("projections") / "migrations"))
        _fill(MadeLedger(store, folder / "log", _limits(), PARTITIONS), count, seed)
        report, with_evidence = _verified(store, folder / "log", evidence=True)
        _, without_evidence = _verified(store, folder / "log", evidence=False)
        store.close()
    return VerifyRate(with_evidence, without_evidence, report.facts, report.blocks)


def _limits() -> CutterLimits:
    return CutterLimits(bucket_ms=5_000)


def _fill(ledger: MadeLedger, count: int, seed: int) -> None:
    """Events of one topic over its partitions, as they come from a steady load."""
    ends = [0] * PARTITIONS
    for start, portion in enumerate(_portions(count, seed)):
        parts: list[list[MadeRecord]] = [[] for _ in range(PARTITIONS)]
        for place, (key, value) in enumerate(portion):
            partition = partition_of(key, PARTITIONS)
            at = _BROKER_MS + (start * _PORTION + place) // _RECORDS_PER_MS
            parts[partition].append(MadeRecord(ends[partition], at, key, value))
            ends[partition] += 1
        for partition, part in enumerate(parts):
            if part:
                ledger.record(LogPartition(_LOG_ID, TOPIC, partition), part)
    ledger.checkpoint()


def _portions(count: int, seed: int) -> Iterator[list[tuple[bytes, bytes]]]:
    source = records(count, "uniform", seed)
    while portion := list(islice(source, _PORTION)):
        yield portion


def _verified(store: Store, log: Path, *, evidence: bool) -> tuple[VerificationReport, float]:
    sources = Sources(store, LogFolder(log), [LOG_KEY.verifier])
    scope = VerificationScope(at_rest=True, evidence=evidence)
    verification = Verification(
        sources, scope, VerificationLimits(), os.urandom(16), time.time_ns() // 1000
    )
    started = time.perf_counter()
    report = verification.run()
    seconds = time.perf_counter() - started
    if report.findings:
        raise RuntimeError(f"a whole ledger was found damaged: {report.findings[:3]}")
    return report, report.facts / seconds
