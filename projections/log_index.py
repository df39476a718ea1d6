"""Where in the log an entry is: an index beside the tiles, which can always be made again.

It answers two questions without reading the whole log: is this entry in it already, and which is
the newest header of a partition. SQLite, because the index must be larger than memory, is changed
together or not at all, and needs nothing to be installed. Proofs never rest on it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from consent.log_entries import BLOCK, decode_entry, entry_sha256

_NO_PARTITION: Final = -1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entries (
    id BLOB NOT NULL,
    partition INTEGER NOT NULL,
    offset_first INTEGER NOT NULL,
    offset_last INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    position INTEGER NOT NULL UNIQUE,
    PRIMARY KEY (id, partition, offset_first)
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class EntryKey:
    """What an entry is of: a block by its log, partition and first offset, or an entry's id."""

    id: bytes
    partition: int = _NO_PARTITION
    offset_first: int = 0

    @property
    def chain(self) -> tuple[bytes, int]:
        """The partition of a log."""
        return self.id, self.partition


@dataclass(frozen=True, slots=True)
class IndexedEntry:
    """An entry of the log: `position` is its index, `offset_last` of a block, else 0."""

    key: EntryKey
    offset_last: int
    sha256: bytes
    position: int


def entry_key(name: str, fields: Mapping[str, Any]) -> tuple[EntryKey, int]:
    """Key and last offset of an entry, given its record."""
    if name == BLOCK:
        key = EntryKey(fields["log_id"], fields["partition"], fields["offset_first"])
        return key, fields["offset_last"]
    return EntryKey(UUID(fields["entry_id"]).bytes), 0


def indexed(entry: bytes, position: int) -> IndexedEntry:
    """What the index holds of an entry at a position."""
    key, offset_last = entry_key(*decode_entry(entry))
    return IndexedEntry(key, offset_last, entry_sha256(entry), position)


class LogIndex:
    """The index of one log. Used from one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(_SCHEMA)
        self._connection.commit()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def size(self) -> int:
        """How many entries of the log are indexed: all below this position."""
        found = self._connection.execute("SELECT max(position) FROM entries").fetchone()
        return 0 if found[0] is None else int(found[0]) + 1

    def find(self, key: EntryKey) -> IndexedEntry | None:
        """The entry of this key."""
        return self._one("offset_first = ?", key, key.offset_first)

    def newest(self, key: EntryKey) -> IndexedEntry | None:
        """The newest entry of the partition that a key is of."""
        return self._one("1 ORDER BY offset_first DESC LIMIT 1", key)

    def chains(self) -> dict[tuple[bytes, int], int]:
        """Last offset in the log of every partition of every log id."""
        rows = self._connection.execute(
            "SELECT id, partition, max(offset_last) FROM entries WHERE partition != ? "
            "GROUP BY id, partition",
            (_NO_PARTITION,),
        )
        return {(bytes(log_id), partition): int(last) for log_id, partition, last in rows}

    def extend(self, entries: Iterable[IndexedEntry]) -> None:
        """Add entries, all or none."""
        with self._connection:
            self._connection.executemany(
                "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (
                        one.key.id,
                        one.key.partition,
                        one.key.offset_first,
                        one.offset_last,
                        one.sha256,
                        one.position,
                    )
                    for one in entries
                ),
            )

    def truncate(self, size: int) -> None:
        """Forget the entries at `size` and beyond."""
        with self._connection:
            self._connection.execute("DELETE FROM entries WHERE position >= ?", (size,))

    def _one(self, condition: str, key: EntryKey, *values: int) -> IndexedEntry | None:
        row = self._connection.execute(
            "SELECT id, partition, offset_first, offset_last, sha256, position FROM entries "  # noqa: S608
            f"WHERE id = ? AND partition = ? AND {condition}",
            (key.id, key.partition, *values),
        ).fetchone()
        if row is None:
            return None
        found = EntryKey(bytes(row[0]), row[1], row[2])
        return IndexedEntry(found, row[3], bytes(row[4]), row[5])
