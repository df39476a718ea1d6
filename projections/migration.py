"""Forward-only migrations of the ledger's database, each applied once, in order, by number.

A migration is a file `NNNN_name.sql`: statements that end with `;` at the end of a line, and
`{database}` where the database's name goes. ClickHouse has no transactions: a process that dies in
the middle leaves a beginning, and two may run at once, so every statement must be safe to repeat.
CREATE is made so here (`IF NOT EXISTS` is put in); ADD and DROP without the like are refused. What
was applied is kept in the table `migrations` with the file's digest; an edited file is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources.abc import Traversable

import pyarrow as pa

from projections.clickhouse import Store
from projections.errors import MigrationRefused

_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_STATEMENT_END = re.compile(r";[ \t]*(?=\n|\Z)")
_LINE_COMMENT = re.compile(r"(?m)^\s*--[^\n]*\n?")
_CREATION = re.compile(
    r"\A(CREATE\s+(?:DATABASE|TABLE|VIEW|MATERIALIZED\s+VIEW|FUNCTION))\s+(?!IF\s+NOT\s+EXISTS)",
    re.IGNORECASE,
)
_NOT_REPEATABLE = re.compile(
    r"\b(?:ADD\s+(?:COLUMN|INDEX|PROJECTION|CONSTRAINT)\s+(?!IF\s+NOT\s+EXISTS)"
    r"|DROP\s+(?:TABLE|VIEW|COLUMN|INDEX|PROJECTION|CONSTRAINT)\s+(?!IF\s+EXISTS)"
    r"|RENAME\s+COLUMN\s+(?!IF\s+EXISTS))",
    re.IGNORECASE,
)
_TABLE = "migrations"
_WINDOW_BLOCKS = 1_000


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration file: its number, name, digest and statements, `{database}` still in them."""

    number: int
    name: str
    sha256: str
    statements: tuple[str, ...]

    @property
    def file(self) -> str:
        """Name of the file."""
        return f"{self.number:04d}_{self.name}.sql"


def load_migrations(folder: Traversable) -> tuple[Migration, ...]:
    """The migrations of a folder, by number from 1 without gaps.

    Files that do not end with `.sql` are not looked at. Raises MigrationRefused for a wrong name,
    a number that is missing or used twice, and a file without statements.
    """
    migrations: list[Migration] = []
    files = (file for file in folder.iterdir() if file.name.endswith(".sql"))
    for file in sorted(files, key=lambda file: file.name):
        match = _FILE_NAME.fullmatch(file.name)
        number = len(migrations) + 1
        if match is None:
            raise MigrationRefused(number, file.name, "the name must be like 0001_some_name.sql")
        if int(match.group(1)) != number:
            raise MigrationRefused(
                int(match.group(1)), file.name, f"number {number:04d} is missing, or one is twice"
            )
        content = file.read_bytes()
        statements = _statements(content.decode())
        if not statements:
            raise MigrationRefused(number, file.name, "there is no statement in it")
        if any(_NOT_REPEATABLE.search(statement) for statement in statements):
            raise MigrationRefused(
                number, file.name, "ADD, DROP and RENAME COLUMN need IF NOT EXISTS or IF EXISTS"
            )
        digest = hashlib.sha256(content).hexdigest()
        migrations.append(Migration(number, match.group(2), digest, statements))
    return tuple(migrations)


def migrate(store: Store, migrations: Iterable[Migration]) -> tuple[Migration, ...]:
    """Bring the database to the last of these migrations; returns those that were applied now.

    Creates the database. Doing it twice, or in two processes at once, does no harm. Raises
    MigrationRefused before it changes anything when an applied file was edited since, or when the
    database is ahead of these files. StoreRejected names the code of a statement that failed.
    """
    known = tuple(migrations)
    _create_journal(store)
    applied = _applied(store)
    for number, (name, digest) in sorted(applied.items()):
        _refuse_contradiction(number, name, digest, known)
    new = tuple(migration for migration in known if migration.number not in applied)
    for migration in new:
        for statement in migration.statements:
            store.command(_for_database(statement, store.database), use_database=False)
        _note(store, migration)
    return new


def pending(store: Store, migrations: Iterable[Migration]) -> tuple[Migration, ...]:
    """Those of these migrations that the database lacks; changes nothing."""
    journals = store.query_rows(
        "SELECT count() FROM system.tables "
        "WHERE database = {database:String} AND name = {table:String}",
        {"database": store.database, "table": _TABLE},
    )
    applied = _applied(store) if journals[0][0] else {}
    return tuple(migration for migration in migrations if migration.number not in applied)


def _statements(text: str) -> tuple[str, ...]:
    parts = (part.strip() for part in _STATEMENT_END.split(_LINE_COMMENT.sub("", text)))
    return tuple(_CREATION.sub(r"\1 IF NOT EXISTS ", part) for part in parts if part)


def _for_database(statement: str, database: str) -> str:
    return statement.replace("{database}", f"`{database}`")


def _create_journal(store: Store) -> None:
    for statement in (
        "CREATE DATABASE IF NOT EXISTS {database}",
        f"CREATE TABLE IF NOT EXISTS {{database}}.{_TABLE} ("
        "number UInt32, name String, sha256 FixedString(64), applied_at DateTime64(3, 'UTC')"
        ") ENGINE = MergeTree ORDER BY number SETTINGS "
        f"non_replicated_deduplication_window = {_WINDOW_BLOCKS}, "
        "fsync_after_insert = 1, fsync_part_directory = 1",
    ):
        store.command(_for_database(statement, store.database), use_database=False)


def _applied(store: Store) -> dict[int, tuple[str, str]]:
    rows = store.query_rows(
        "SELECT number, name, toString(sha256) FROM migrations ORDER BY number, applied_at"
    )
    applied: dict[int, tuple[str, str]] = {}
    for number, name, digest in rows:
        applied.setdefault(number, (name, digest))
    return applied


def _refuse_contradiction(
    number: int, name: str, digest: str, known: tuple[Migration, ...]
) -> None:
    file = f"{number:04d}_{name}.sql"
    if not 1 <= number <= len(known):
        raise MigrationRefused(
            number, file, "the database is ahead of this version of the program; use a newer one"
        )
    migration = known[number - 1]
    if (migration.name, migration.sha256) != (name, digest):
        raise MigrationRefused(
            number, migration.file, "it was changed after it was applied; add a new one instead"
        )


def _note(store: Store, migration: Migration) -> None:
    """Write the journal's row; the token makes it one row, however many processes write it."""
    row = pa.table(
        {
            "number": pa.array([migration.number], pa.uint32()),
            "name": pa.array([migration.name], pa.string()),
            "sha256": pa.array([migration.sha256], pa.string()),
            "applied_at": pa.array([datetime.now(UTC)], pa.timestamp("ms", "UTC")),
        }
    )
    store.insert_arrow(_TABLE, row, f"migration|{migration.number}|{migration.sha256}")
