"""Migrations on a real engine: once each, in order, and never against history."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import pyarrow as pa
import pytest

from projections.clickhouse import Store, StoreParameters
from projections.errors import MigrationRefused, StoreRejected
from projections.migration import load_migrations, migrate, pending
from tests.stores import RunningFront

FIRST = """-- A comment; with a semicolon;
CREATE TABLE {database}.t (a UInt64, b String DEFAULT 'x;y')
ENGINE = MergeTree ORDER BY a;

CREATE VIEW {database}.v AS SELECT a FROM {database}.t;
"""
SECOND = "ALTER TABLE {database}.t ADD COLUMN IF NOT EXISTS c UInt8;\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two migrations."""
    (tmp_path / "0001_first_tables.sql").write_text(FIRST)
    (tmp_path / "0002_more.sql").write_text(SECOND)
    (tmp_path / "README.md").write_text("not looked at")
    return tmp_path


def journal(store: Store) -> list[tuple[int, str]]:
    """Number and name of what the database says was applied."""
    rows = store.query_rows("SELECT number, name FROM migrations ORDER BY number")
    return [(number, name) for number, name in rows]


def test_applied_once_in_order(store: Store, folder: Path) -> None:
    """Everything is applied in order, noted with its digest, and nothing the second time."""
    migrations = load_migrations(folder)
    assert [m.number for m in pending(store, migrations)] == [1, 2]
    assert [m.file for m in migrate(store, migrations)] == [
        "0001_first_tables.sql",
        "0002_more.sql",
    ]
    assert migrate(store, migrations) == ()
    assert pending(store, migrations) == ()
    assert journal(store) == [(1, "first_tables"), (2, "more")]
    store.insert_arrow("t", pa.table({"a": pa.array([7], pa.uint64())}), "token")
    assert store.query_rows("SELECT a, b, c FROM t") == [(7, "x;y", 0)]
    assert store.query_rows("SELECT a FROM v") == [(7,)]


def test_the_database_is_made(clickhouse_front: RunningFront, folder: Path) -> None:
    """A server without the database gets it."""
    fresh = Store.connect(StoreParameters(url=clickhouse_front.url, database="made_by_migration"))
    migrate(fresh, load_migrations(folder))
    assert [number for number, _ in journal(fresh)] == [1, 2]
    fresh.command("DROP DATABASE made_by_migration SYNC", use_database=False)
    fresh.close()


def test_later_files_are_added(store: Store, folder: Path) -> None:
    """Only what is new is applied."""
    migrate(store, load_migrations(folder))
    (folder / "0003_later.sql").write_text("CREATE DATABASE IF NOT EXISTS {database};")
    assert [m.number for m in migrate(store, load_migrations(folder))] == [3]


@pytest.mark.parametrize("edited", ["0001_first_tables.sql", "0002_more.sql"])
def test_an_edited_file_is_refused(store: Store, folder: Path, edited: str) -> None:
    """A file that was applied may not change by a byte; nothing else is applied then."""
    migrate(store, load_migrations(folder))
    (folder / edited).write_text((folder / edited).read_text() + "\n")
    (folder / "0003_later.sql").write_text("CREATE TABLE {database}.later (a Int8) ENGINE = Log;")
    with pytest.raises(MigrationRefused, match="changed after it was applied") as refused:
        migrate(store, load_migrations(folder))
    assert refused.value.file == edited
    assert store.query_rows("EXISTS TABLE later") == [(0,)]


def test_a_renamed_file_is_refused(store: Store, folder: Path) -> None:
    """A name is part of what was applied."""
    migrate(store, load_migrations(folder))
    (folder / "0002_more.sql").rename(folder / "0002_less.sql")
    with pytest.raises(MigrationRefused, match="changed after it was applied"):
        migrate(store, load_migrations(folder))


def test_a_database_ahead_is_refused(store: Store, folder: Path) -> None:
    """An older program does not touch the tables of a newer one."""
    migrate(store, load_migrations(folder))
    (folder / "0002_more.sql").unlink()
    with pytest.raises(MigrationRefused, match="ahead of this version"):
        migrate(store, load_migrations(folder))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("0004_gap.sql", "SELECT 1;", "missing"),
        ("0002_twice.sql", "SELECT 1;", "twice"),
        ("3_short.sql", "SELECT 1;", "name must be"),
        ("0003_Upper.sql", "SELECT 1;", "name must be"),
        ("0003_empty.sql", "-- nothing;\n", "no statement"),
        ("0003_add.sql", "ALTER TABLE {database}.t ADD COLUMN d UInt8;", "need IF NOT EXISTS"),
        ("0003_drop.sql", "DROP TABLE {database}.t;", "need IF NOT EXISTS"),
    ],
)
def test_files_that_cannot_be_right_are_refused(
    folder: Path, name: str, content: str, reason: str
) -> None:
    """Gaps, doubles, wrong names and statements that can't be repeated are found at once."""
    (folder / name).write_text(content)
    with pytest.raises(MigrationRefused, match=reason):
        load_migrations(folder)


def test_a_beginning_is_finished(store: Store, folder: Path) -> None:
    """A process that died in the middle of a file is no obstacle to the next one."""
    store.command("CREATE TABLE t (a UInt64, b String DEFAULT 'x;y') ENGINE = MergeTree ORDER BY a")
    migrate(store, load_migrations(folder))
    assert journal(store) == [(1, "first_tables"), (2, "more")]
    assert store.query_rows("EXISTS VIEW v") == [(1,)]


def test_a_statement_that_fails_is_not_noted(store: Store, folder: Path) -> None:
    """What failed is tried again next time, from the start of its file."""
    (folder / "0003_fails.sql").write_text("CREATE TABLE {database}.u (a Nonsense) ENGINE = Log;")
    with pytest.raises(StoreRejected) as refused:
        migrate(store, load_migrations(folder))
    assert refused.value.name == "UNKNOWN_TYPE"
    assert [number for number, _ in journal(store)] == [1, 2]


def test_two_at_once(clickhouse_front: RunningFront, store: Store, folder: Path) -> None:
    """Processes that migrate at the same time all succeed, and the journal has each file once."""
    migrations = load_migrations(folder)

    def run(_: int) -> None:
        parameters = StoreParameters(url=clickhouse_front.url, database=store.database)
        own = Store.connect(parameters)
        migrate(own, migrations)
        own.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(run, range(8)))
    assert journal(store) == [(1, "first_tables"), (2, "more")]


def test_the_ledgers_own_migrations(store: Store) -> None:
    """The migrations that are shipped apply to an empty server, and leave tables that are safe."""
    migrations = load_migrations(files("projections") / "migrations")
    migrate(store, migrations)
    assert pending(store, migrations) == ()
    store.check_server(["facts", "evidence", "blocks"])
