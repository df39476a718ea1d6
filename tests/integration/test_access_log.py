"""Who looked: kept before anything is answered, shown by a view, sealed into the proof log."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from consent.accesses import Access
from projections.access_log import record_access
from projections.clickhouse import Store
from projections.errors import StoreRejected
from projections.ledger_log import Judgement
from projections.log_store import LogStore
from projections.migration import load_migrations, migrate
from tests.made_ledger import MadeLedger


@pytest.fixture
def ready(store: Store) -> Store:
    """A store with all tables."""
    migrate(store, load_migrations(files("projections") / "migrations"))
    return store


def test_an_access_is_a_row_and_an_entry(ready: Store, tmp_path: Path) -> None:
    """What the view shows is what the sealer announces, and the log takes it once."""
    ledger = MadeLedger(ready, tmp_path / "log")
    subject = bytes(range(16))
    access = Access("jo", "auditor", "timeline", "case 7", subject, {"month": "2026-11"})
    access_id = record_access(ready, access)
    rows = ready.query_rows(
        "SELECT toString(access_id), who, role, what, why, parameters, hex(subject) FROM access_log"
    )
    assert rows == [
        (
            access_id,
            "jo",
            "auditor",
            "timeline",
            "case 7",
            '{"month":"2026-11"}',
            subject.hex().upper(),
        )
    ]
    ledger.checkpoint()
    announced = LogStore(ready).unsealed(ledger.log.index)
    assert [key for key, _ in announced] == [b"access"]
    assert ledger.log.take(announced[0][1]) is Judgement.APPENDED
    assert ledger.log.take(announced[0][1]) is Judgement.REPEATED
    ledger.checkpoint()
    assert LogStore(ready).unsealed(ledger.log.index) == []


def test_other_entries_are_no_accesses(ready: Store, tmp_path: Path) -> None:
    """The cutter's limits, say, stand in the same log."""
    MadeLedger(ready, tmp_path / "log")
    assert ready.query_rows("SELECT count() FROM log_entries") == [(1,)]
    assert ready.query_rows("SELECT count() FROM access_log") == [(0,)]


def test_what_can_not_be_kept_is_told(ready: Store) -> None:
    """Without its table an access raises, so that nobody answers."""
    ready.command(f"DROP TABLE {ready.database}.log_entries SYNC")
    with pytest.raises(StoreRejected):
        record_access(ready, Access("jo", "auditor", "timeline", "case 7"))


def test_nobody_can_write_to_the_view(ready: Store) -> None:
    """There is one place where accesses are kept."""
    with pytest.raises(StoreRejected):
        ready.command("INSERT INTO access_log (who) VALUES ('nobody')")
