"""Alters a whole ledger in one random way after the other, and asks `verify` where.

`python -m tests.fault.tamper --runs 200 --seed 1`: the last line is JSON. A run is found if a
finding is where it was altered, and misplaced if any finding is elsewhere. After every ten runs
the ledger, put back, is verified as well: whatever that finds is a false finding.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from consent.contracts import contracts
from consent.facts import LogPartition
from projections.clickhouse import Store, StoreParameters
from projections.log_folder import LogFolder
from projections.migration import load_migrations, migrate
from projections.verification import (
    Sources,
    Verification,
    VerificationLimits,
    VerificationScope,
)
from projections.verification_findings import Finding
from tests.fault.alterations import ALTERATIONS, Target, altered
from tests.made_ledger import LOG_KEY, MadeLedger, MadeRecord
from tests.stores import start_front
from tests.strategies import random_event, raw_of

FACTS = 6_000
CLEAN_EVERY = 10
_DAY_MS = 86_400_000
_START_MS = 1_790_000_000_000


def made_target(store: Store, folder: Path, seed: int, facts: int = FACTS) -> Target:
    """A ledger of events of every type, two partitions each, over two months, and its log."""
    migrate(store, load_migrations(files("projections") / "migrations"))
    ledger = MadeLedger(store, folder)
    ledger.limits = type(ledger.limits)(records_max=60, bucket_ms=_DAY_MS)
    draw = random.Random(seed)
    topics = contracts().source_topics
    ends: dict[tuple[str, int], int] = {}
    done = 0
    while done < facts:
        topic, partition = draw.choice(topics), draw.randrange(2)
        count = draw.randrange(20, 200)
        start = ends.get((topic, partition), 0)
        records = _records(topic, start, count, done, facts, draw)
        origin = LogPartition(topic.encode()[:16].ljust(16, b"-"), topic, partition)
        ledger.record(origin, records)
        ends[topic, partition] = start + count
        done += count
        if draw.random() < 0.3:
            ledger.checkpoint()
    if ledger.log.pending:
        ledger.checkpoint()
    ledger.log.close()
    return Target(store, folder, ledger_size(ledger), tuple(ledger.notes))


def ledger_size(ledger: MadeLedger) -> int:
    """Entries under the newest checkpoint."""
    return int(ledger.notes[-1].split("\n")[1])


def verified(target: Target) -> list[Finding]:
    """All findings of a verification of a ledger that is at rest."""
    verification = Verification(
        Sources(target.store, LogFolder(target.folder), [LOG_KEY.verifier]),
        VerificationScope(at_rest=True),
        VerificationLimits(page_rows=2_000),
        b"nonce of 16 byte",
        _START_MS * 1000 + 100 * _DAY_MS * 1000,
    )
    return verification.run().findings


def main() -> int:
    """Run, print what was missed, and the count of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.tamper", description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ledger-tamper-") as temporary:
        folder = Path(temporary)
        front = start_front(folder / "data", folder / "front.log")
        try:
            store = Store.connect(StoreParameters(url=front.url, query_timeout_ms=120_000))
            result = campaign(store, folder / "log", options.runs, options.seed)
            store.close()
        finally:
            front.stop()
    print(json.dumps(result))
    good = result["found"] == result["runs"] and not result["misplaced"]
    return 0 if good and not result["false_findings"] else 1


def campaign(
    store: Store, folder: Path, runs: int, seed: int, facts: int = FACTS
) -> dict[str, int]:
    """Make a ledger, alter it `runs` times, and count."""
    target = made_target(store, folder, seed, facts)
    result = {"runs": 0, "found": 0, "misplaced": 0, "false_findings": 0}
    result["false_findings"] += _told("clean", verified(target))
    target.snapshot()
    draw = random.Random(seed)
    kinds = list(ALTERATIONS)
    for run in range(runs):
        kind = kinds[run % len(kinds)]
        with altered(target, kind, draw) as one:
            findings = verified(target)
        found = any(one.here(finding.place) for finding in findings)
        elsewhere = [finding for finding in findings if not one.here(finding.place)]
        result["runs"] += 1
        result["found"] += found
        result["misplaced"] += bool(elsewhere)
        if not found or elsewhere:
            print(f"run {run}: {one.kind}: {one.what}", flush=True)
            _told("elsewhere" if found else "not found", elsewhere)
        if run % CLEAN_EVERY == CLEAN_EVERY - 1 or run == runs - 1:
            result["false_findings"] += _told("clean", verified(target))
            print(f"{run + 1} of {runs} runs", flush=True)
    return result


def _records(
    topic: str, start: int, count: int, done: int, facts: int, draw: random.Random
) -> list[MadeRecord]:
    """Events of a topic, and now and then one that can't be read."""
    names = contracts().topics[topic].records
    at = _START_MS + (done * 40 * _DAY_MS) // facts
    records = []
    for number in range(count):
        record = contracts().record(draw.choice(names))
        raw = raw_of(record, random_event(record, draw), start + number)
        value = raw.value if draw.random() > 0.02 else b"junk"
        records.append(MadeRecord(start + number, at + number, raw.key, value))
    return records


def _told(what: str, findings: list[Finding]) -> int:
    for finding in findings[:10]:
        print(f"  {what}: {finding}", flush=True)
    return len(findings)


if __name__ == "__main__":
    sys.exit(main())
