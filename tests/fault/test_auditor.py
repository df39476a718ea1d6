"""The auditor's half of the fault campaign, shown to fail."""

from __future__ import annotations

import random
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from consent.contracts import contracts
from consent.facts import LogPartition
from consent_ledger.rule_files import load_rulebook
from projections.clickhouse import Store, StoreParameters
from projections.migration import load_migrations, migrate
from tests.fault.call_checks import DecisionCheck
from tests.fault.findings import KINDS, Findings
from tests.fault.log_watch import LogWatch
from tests.made_ledger import KEYS, LOG_KEY, MadeLedger, MadeRecord
from tests.stores import start_front
from tests.strategies import random_event, raw_of

NOTHING = dict.fromkeys(KINDS, 0)
TOPIC = "dial-decisions"
AT_MS = 1_790_000_000_000


@pytest.fixture(scope="module")
def front_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store for this module."""
    folder = tmp_path_factory.mktemp("front")
    started = start_front(folder / "data", folder / "front.log")
    yield started.url
    started.stop()


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    """Nothing found yet."""
    return Findings(tmp_path / "findings.jsonl", seed=1)


@pytest.fixture
def store(front_url: str, tmp_path: Path) -> Iterator[Store]:
    """An empty history."""
    database = f"auditor_{tmp_path.name.replace('-', '_')}"
    connected = Store.connect(StoreParameters(url=front_url, database=database))
    migrate(connected, load_migrations(files("projections") / "migrations"))
    yield connected
    connected.command(f"DROP DATABASE {database} SYNC", use_database=False)
    connected.close()


def decision(offset: int, seed: int, digest: bytes) -> MadeRecord:
    """A decision by chance, which no facts explain, said to be by a rulebook."""
    contract = contracts().record("DialDecision")
    fields = random_event(contract, random.Random(seed)) | {"rulebook_digest": digest}
    made = raw_of(contract, fields, offset)
    return MadeRecord(offset, AT_MS + offset, made.key, made.value)


def log_of(store: Store, folder: Path, seeds: range) -> str:
    """A log of as many blocks as seeds, in a folder; its checkpoint."""
    made = MadeLedger(store, folder)
    origin = LogPartition(folder.name.encode().ljust(16), TOPIC, 0)
    for offset, seed in enumerate(seeds):
        made.record(origin, [decision(offset, seed, bytes(32))])
    made.checkpoint()
    made.log.close()
    return made.notes[-1]


def watch_of(tmp_path: Path, findings: Findings) -> LogWatch:
    """Looks at `log`, and at a witness's memory beside it."""
    (tmp_path / "witness").mkdir(exist_ok=True)
    return LogWatch(tmp_path / "log", tmp_path / "witness", [LOG_KEY.verifier], findings)


def test_a_log_that_only_grew(store: Store, tmp_path: Path, findings: Findings) -> None:
    """Nothing is found in a whole log; what was looked at is counted."""
    note = log_of(store, tmp_path / "log", range(3))
    watch = watch_of(tmp_path, findings)
    (tmp_path / "witness" / "one.checkpoint").write_text(note)
    watch.judge()
    assert findings.clean
    assert watch.kept == 1 and watch.entries == watch.cosigned() == 4


def test_a_log_that_its_witness_knows_otherwise(
    store: Store, tmp_path: Path, findings: Findings
) -> None:
    """The same key has signed another history of the same length, and of a longer one."""
    other = log_of(store, tmp_path / "other", range(7, 10))
    log_of(store, tmp_path / "log", range(3))
    watch = watch_of(tmp_path, findings)
    remembered = tmp_path / "witness" / "one.checkpoint"
    remembered.write_text(other)
    watch.judge()
    assert findings.result() == NOTHING | {"log_differs": 1}
    longer = log_of(store, tmp_path / "longer", range(5))
    remembered.write_text(longer)
    watch.judge()
    assert findings.counts["log_differs"] > 2


def test_a_damaged_tile(store: Store, tmp_path: Path, findings: Findings) -> None:
    """A changed byte in an entry is found without the witness."""
    log_of(store, tmp_path / "log", range(3))
    (bundle,) = (
        path for path in (tmp_path / "log" / "tile" / "entries").rglob("*") if path.is_file()
    )
    data = bytearray(bundle.read_bytes())
    data[-1] ^= 1
    bundle.write_bytes(data)
    watch_of(tmp_path, findings).judge()
    assert findings.counts["log_differs"] >= 1


def test_decisions_that_nothing_explains(store: Store, tmp_path: Path, findings: Findings) -> None:
    """A decision of this release's rulebook must come out the same; others are only load."""
    made = MadeLedger(store, tmp_path / "log")
    digest = load_rulebook(None).digest
    made.record(
        LogPartition(b"L" * 16, TOPIC, 0), [decision(0, 1, bytes(32)), decision(1, 2, digest)]
    )
    made.log.close()
    check = DecisionCheck(store, KEYS.history, findings)
    check.early(10)
    assert findings.clean and check.same == 0
    check.whole([])
    assert findings.result() == NOTHING | {"decisions_differ": 1}


def test_a_call_that_was_allowed_unrecorded(store: Store, findings: Findings) -> None:
    """An allow whose decision history lacks is lost."""
    DecisionCheck(store, KEYS.history, findings).whole(["6a1e6f0e-27a7-4a53-9b60-5b1c7a1f8f57"])
    assert findings.result() == NOTHING | {"lost": 1}
