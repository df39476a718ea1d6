"""`consent-ledger retention` as an operator runs it, with somebody who seals."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import pytest

from consent.blocks import CutterLimits
from consent.codec import encode
from consent.facts import LogPartition
from consent_ledger.keys import create_missing_keys, key_paths
from consent_ledger.settings import load_settings
from projections.clickhouse import Store, StoreParameters
from projections.migration import load_migrations, migrate
from tests.events import event
from tests.ledger import command
from tests.made_ledger import KEYS, LOG_KEY, MadeLedger, MadeRecord
from tests.sealing import kept_entries, seal_entries
from tests.stores import RunningFront

OLD_US = 1_550_000_000_000_000
"""In February 2019."""
NUMBER = "+14155550184"


@pytest.fixture
def ledger(store: Store, tmp_path: Path) -> MadeLedger:
    """One consent of 2019."""
    migrate(store, load_migrations(files("projections") / "migrations"))
    limits = CutterLimits(records_max=60, bucket_ms=86_400_000)
    made = MadeLedger(store, tmp_path / "log", limits, partitions=1)
    fields = event("ConsentGranted", number=NUMBER, occurred_at=OLD_US - 1)
    value = encode("ConsentGranted", fields)
    record = MadeRecord(0, OLD_US // 1000, NUMBER.encode(), value)
    made.record(LogPartition(b"consent-events--", "consent-events", 0), [record])
    made.checkpoint()
    return made


@pytest.fixture
def environment(
    ledger: MadeLedger, clickhouse_front: RunningFront, tmp_path: Path
) -> dict[str, str]:
    """Settings under which the command finds the ledger."""
    create_missing_keys(load_settings(data_dir=tmp_path))
    paths = key_paths(load_settings(data_dir=tmp_path))
    paths["log"].write_bytes(LOG_KEY.seed)
    paths["history"].write_bytes(KEYS.history)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("CONSENT_")},
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "CONSENT_DATA_DIR": str(tmp_path),
        "CONSENT_LOG_DIR": str(ledger.folder),
        "CONSENT_LOG_ORIGIN": LOG_KEY.name,
        "CONSENT_CLICKHOUSE_URL": clickhouse_front.url,
        "CONSENT_CLICKHOUSE_DATABASE": ledger.store.database,
        "CONSENT_KAFKA_PARTITIONS_KEYED": "1",
    }


@contextmanager
def sealing(ledger: MadeLedger, url: str) -> Iterator[None]:
    """Somebody who seals whatever entry the store has and the log lacks."""
    ended = threading.Event()

    def seal() -> None:
        watched = Store.connect(StoreParameters(url, ledger.store.database))
        while not ended.wait(0.1):
            if entries := kept_entries(watched, "RETENTION"):
                seal_entries(ledger, entries)
                break
        watched.close()

    thread = threading.Thread(target=seal)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `consent-ledger retention`."""
    argv = command("retention", *arguments)
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120)


def test_the_commands(
    ledger: MadeLedger, environment: dict[str, str], clickhouse_front: RunningFront
) -> None:
    """A plan changes nothing; without a sealer nothing goes, exit code 3; with one it does."""
    planned = run(environment, "plan")
    assert planned.returncode == 0, planned.stderr
    assert "2019-02" in planned.stdout and "1 rows of evidence" in planned.stdout
    waiting = run({**environment, "CONSENT_RETENTION_SEAL_TIMEOUT_MS": "1"}, "apply")
    assert waiting.returncode == 3 and "worker seal" in waiting.stderr
    assert evidence(ledger.store) == 1
    with sealing(ledger, clickhouse_front.url):
        applied = run(environment, "apply", "--json")
    assert applied.returncode == 0, applied.stderr
    month, sums = map(json.loads, applied.stdout.splitlines())
    assert month == {"month": "2019-02", "rows": 1, "findings": []} and sums["rows"] == 1
    assert evidence(ledger.store) == 0
    again = run(environment, "apply")
    assert again.returncode == 0 and "Nothing to do" in again.stdout
    entries = kept_entries(ledger.store, "RETENTION")
    assert {"name": "rows", "value": "1"} in entries[0]["content"] and len(entries) == 1


def test_damage_is_told(ledger: MadeLedger, environment: dict[str, str]) -> None:
    """Exit code 1, the finding with its place, and nothing deleted."""
    ledger.store.command(
        "ALTER TABLE evidence UPDATE salt = reverse(salt) WHERE 1", {"mutations_sync": 2}
    )
    told = run(environment, "apply")
    assert told.returncode == 1, told.stderr
    assert "EVIDENCE_CHANGED" in told.stdout and evidence(ledger.store) == 1


def test_too_short_a_retention_is_refused(environment: dict[str, str]) -> None:
    """The error names the setting."""
    refused = run({**environment, "CONSENT_RETENTION_EVIDENCE_MONTHS": "1"}, "plan")
    assert refused.returncode == 2
    assert "CONSENT_RETENTION_EVIDENCE_MONTHS" in refused.stderr


def evidence(store: Store) -> int:
    """Rows of evidence."""
    return int(store.query_rows("SELECT count() FROM evidence")[0][0])
