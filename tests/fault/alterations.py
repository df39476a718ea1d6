"""Ways in which somebody with access to the store and the log's files could alter them.

Each alteration changes one thing, says where a verification must find it, and can be undone.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from consent.fact_columns import COLUMNS
from consent.tiles import Tile, bundles_of_size, tiles_of_size
from projections.clickhouse import Store
from projections.verification_findings import Place

_SYNC: Final = {"mutations_sync": 2}
_TABLES: Final = ("facts", "blocks", "checkpoints", "evidence")
_KEYED: Final = ("subject", "recorded_at", "topic", "partition", "offset")
"""Columns of the sorting key, which only a new row can change."""


@dataclass(frozen=True, slots=True)
class Altered:
    """What was done, in words, and whether a finding's place is where it was done."""

    kind: str
    what: str
    here: Callable[[Place], bool]


@dataclass(frozen=True, slots=True)
class Target:
    """What is altered. `notes` are all checkpoints that the log has signed, oldest first."""

    store: Store
    folder: Path
    size: int
    notes: tuple[str, ...]

    def snapshot(self) -> None:
        """Keep copies of the tables and files, to go back to."""
        for table in _TABLES:
            self.store.command(f"CREATE TABLE kept_{table} AS {table}")
            self._copied(f"kept_{table}", table)
        shutil.copytree(self.folder, self._kept)

    def restore(self) -> None:
        """Put the copies back."""
        for table in _TABLES:
            self.store.command(f"TRUNCATE TABLE {table}")
            self._copied(table, f"kept_{table}")
        shutil.rmtree(self.folder)
        shutil.copytree(self._kept, self.folder)

    def _copied(self, table: str, source: str) -> None:
        partitions = self.store.query_rows(
            "SELECT DISTINCT partition_id FROM system.parts WHERE active "
            "AND database = currentDatabase() AND table = {table:String}",
            {"table": source},
        )
        for (partition,) in partitions:
            self.store.command(
                f"ALTER TABLE {table} REPLACE PARTITION ID '{partition}' FROM {source}"
            )

    @property
    def _kept(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-kept")


@contextmanager
def altered(target: Target, kind: str, draw: random.Random) -> Iterator[Altered]:
    """One alteration of a kind, undone at the end."""
    try:
        yield ALTERATIONS[kind](target, draw)
    finally:
        target.restore()


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of facts, or the stretch of a block: where it is."""

    log_id: str
    topic: str
    partition: int
    offset: int
    offset_last: int = -1
    """Of a block; -1 of a single row."""

    @property
    def where(self) -> str:
        return (
            f"log_id = unhex('{self.log_id}') AND partition = {self.partition} "
            f"AND offset = {self.offset}"
        )

    def here(self, place: Place) -> bool:
        """Whether a place covers the row."""
        if (place.log_id or "").upper() != self.log_id or place.partition != self.partition:
            return False
        first, last = place.offset_first, place.offset_last
        end = max(self.offset, self.offset_last)
        return (
            first is not None and first <= end and (first if last is None else last) >= self.offset
        )


def _row(target: Target, draw: random.Random) -> _Row:
    count = int(target.store.query_rows("SELECT count() FROM facts")[0][0])
    rows = target.store.query_rows(
        "SELECT hex(log_id), topic, partition, offset FROM facts "
        f"ORDER BY log_id, partition, offset LIMIT 1 OFFSET {draw.randrange(count)}"
    )
    log_id, topic, partition, offset = rows[0]
    return _Row(log_id, topic, int(partition), int(offset))


def _block(target: Target, draw: random.Random) -> tuple[_Row, int]:
    """A block, as the row of its first offset, and its last offset."""
    rows = target.store.query_rows(
        "SELECT hex(log_id), topic, partition, offset_first, offset_last FROM blocks "
        "ORDER BY log_id, partition, offset_first"
    )
    log_id, topic, partition, first, last = draw.choice(rows)
    return _Row(log_id, topic, int(partition), int(first), int(last)), int(last)


def _changed_column(target: Target, draw: random.Random) -> Altered:
    row = _row(target, draw)
    column = draw.choice([name for name in COLUMNS if name != "fact"])
    if column in _KEYED or column == "log_id":
        token = f"unhex('{draw.randbytes(16).hex()}')"
        changes = {
            "recorded_at": "recorded_at + INTERVAL 1 MICROSECOND",
            "topic": "concat(topic, 'x')",
            "partition": "partition + 1",
            "offset": "offset + 1000000",
            "subject": token,
            "log_id": token,
        }
        return _replaced(target, row, column, changes[column])
    value = _other_value(column)
    target.store.command(f"ALTER TABLE facts UPDATE {column} = {value} WHERE {row.where}", _SYNC)
    return Altered("changed column", f"{column} of {row}", row.here)


def _other_value(column: str) -> str:
    dtype = str(COLUMNS[column])
    if dtype.startswith("Datetime"):
        return f"{column} + INTERVAL 1 MICROSECOND"
    if dtype.startswith("List"):
        return f"arrayConcat({column}, ['X'])"
    if dtype.startswith("Int"):
        return f"{column} + 1"
    if dtype == "Boolean":
        return f"NOT {column}"
    return f"concat({column}, 'X')"


def _replaced(target: Target, row: _Row, column: str, value: str) -> Altered:
    """A column of the sorting key: the row goes, and another one comes."""
    names = ", ".join(COLUMNS)
    values = ", ".join(value if name == column else name for name in COLUMNS)
    target.store.command("CREATE TABLE changing AS facts")
    try:
        target.store.command(
            f"INSERT INTO changing ({names}) SELECT {names} FROM facts WHERE {row.where}"
        )
        target.store.command(f"ALTER TABLE facts DELETE WHERE {row.where}", _SYNC)
        target.store.command(f"INSERT INTO facts ({names}) SELECT {values} FROM changing")
    finally:
        target.store.command("DROP TABLE changing SYNC")

    def here(place: Place) -> bool:
        # Where the row was, and where its columns say now that it is.
        moved = place.table == "facts" and place.offset_first in (
            row.offset,
            row.offset + 1_000_000,
        )
        return row.here(place) or moved

    return Altered("changed column", f"{column} of {row}", here)


def _changed_fact(target: Target, draw: random.Random) -> Altered:
    row = _row(target, draw)
    fact = bytes.fromhex(
        target.store.query_rows(f"SELECT hex(fact) FROM facts WHERE {row.where}")[0][0]
    )
    changed = bytearray(fact)
    changed[draw.randrange(len(fact))] ^= 1 << draw.randrange(8)
    _update_fact(target, row, bytes(changed))
    return Altered("changed fact", str(row), row.here)


def _update_fact(target: Target, row: _Row, fact: bytes) -> None:
    target.store.command(
        f"ALTER TABLE facts UPDATE fact = unhex('{fact.hex()}') WHERE {row.where}", _SYNC
    )


def _deleted_row(target: Target, draw: random.Random) -> Altered:
    row = _row(target, draw)
    target.store.command(f"ALTER TABLE facts DELETE WHERE {row.where}", _SYNC)
    return Altered("deleted row", str(row), row.here)


def _inserted_row(target: Target, draw: random.Random) -> Altered:
    """A copy of a row: as it is, or at an offset that no block has, with a fact that says so."""
    row = _row(target, draw)
    names = ", ".join(COLUMNS)
    if draw.random() < 0.5:
        target.store.command(
            f"INSERT INTO facts ({names}) SELECT {names} FROM facts WHERE {row.where}"
        )
        return Altered("inserted row", f"a copy of {row}", row.here)
    beyond = int(
        target.store.query_rows(
            f"SELECT max(offset) + 1 FROM facts WHERE log_id = unhex('{row.log_id}') "
            f"AND partition = {row.partition}"
        )[0][0]
    )
    values = ", ".join(str(beyond) if name == "offset" else name for name in COLUMNS)
    target.store.command(
        f"INSERT INTO facts ({names}) SELECT {values} FROM facts WHERE {row.where}"
    )
    new = _Row(row.log_id, row.topic, row.partition, beyond)
    return Altered("inserted row", f"{new}", new.here)


def _deleted_block(target: Target, draw: random.Random) -> Altered:
    """The block's row, or with it all that it holds."""
    block, last = _block(target, draw)
    chain = f"log_id = unhex('{block.log_id}') AND partition = {block.partition}"
    target.store.command(
        f"ALTER TABLE blocks DELETE WHERE {chain} AND offset_first = {block.offset}", _SYNC
    )
    if draw.random() < 0.5:
        target.store.command(
            f"ALTER TABLE facts DELETE WHERE {chain} AND offset BETWEEN {block.offset} AND {last}",
            _SYNC,
        )
    return Altered("deleted block", str(block), block.here)


def _reordered_block(target: Target, draw: random.Random) -> Altered:
    """Two facts of a block change places: their bytes, under each other's positions."""
    block, last = _block(target, draw)
    while last == block.offset:
        block, last = _block(target, draw)
    one, two = sorted(draw.sample(range(block.offset, last + 1), 2))
    rows = [_Row(block.log_id, block.topic, block.partition, offset) for offset in (one, two)]
    facts = [
        bytes.fromhex(
            target.store.query_rows(f"SELECT hex(fact) FROM facts WHERE {row.where}")[0][0]
        )
        for row in rows
    ]
    for row, fact in zip(rows, reversed(facts), strict=True):
        _update_fact(target, row, fact)

    def here(place: Place) -> bool:
        return any(row.here(place) for row in rows)

    return Altered("reordered block", f"{one} and {two} of {block}", here)


def _edited_header(target: Target, draw: random.Random) -> Altered:
    block, _last = _block(target, draw)
    column, value = draw.choice(
        [
            ("records", "records + 1"),
            ("month", "month + 1"),
            ("offset_last", "offset_last + 1"),
            ("recorded_at_max", "recorded_at_max + INTERVAL 1 SECOND"),
            ("facts_sha256", f"unhex('{draw.randbytes(32).hex()}')"),
            ("root", f"unhex('{draw.randbytes(32).hex()}')"),
            ("previous_header_sha256", f"unhex('{draw.randbytes(32).hex()}')"),
            ("cutter_version", "cutter_version + 1"),
        ]
    )
    target.store.command(
        f"ALTER TABLE blocks UPDATE {column} = {value} WHERE log_id = unhex('{block.log_id}') "
        f"AND partition = {block.partition} AND offset_first = {block.offset}",
        _SYNC,
    )

    def here(place: Place) -> bool:
        return block.here(place) and place.column in (None, column)

    return Altered("edited header", f"{column} of {block}", here)


def _truncated_tile(target: Target, draw: random.Random) -> Altered:
    """A tile or a bundle loses its end, or a byte of it changes."""
    tile: Tile = draw.choice([*tiles_of_size(target.size), *bundles_of_size(target.size)])
    path = target.folder / tile.path
    data = path.read_bytes()
    if draw.random() < 0.6:
        path.write_bytes(data[: draw.randrange(len(data))])
    else:
        changed = bytearray(data)
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(changed))

    def here(place: Place) -> bool:
        return place.path == tile.path

    return Altered("truncated tile", tile.path, here)


def _rolled_back_checkpoint(target: Target, draw: random.Random) -> Altered:
    """The checkpoint file goes back to an earlier one."""
    earlier = draw.choice(target.notes[:-1])
    (target.folder / "checkpoint").write_text(earlier)

    def here(place: Place) -> bool:
        return place.path == "checkpoint"

    return Altered("rolled-back checkpoint", earlier.split("\n")[1], here)


ALTERATIONS: Final[dict[str, Callable[[Target, random.Random], Any]]] = {
    "changed_column": _changed_column,
    "changed_fact": _changed_fact,
    "deleted_row": _deleted_row,
    "deleted_block": _deleted_block,
    "reordered_block": _reordered_block,
    "inserted_row": _inserted_row,
    "edited_header": _edited_header,
    "truncated_tile": _truncated_tile,
    "rolled_back_checkpoint": _rolled_back_checkpoint,
}
