"""The history's statements: what is asked of ClickHouse and what is written to it, block by block.

Every insert is one block into one table with a deduplication token made of log and offsets, so
repeating it is harmless while the store remembers the token; and what was written is counted
before anybody is told, because the store's own acknowledgement proves nothing once it has lost
a part or a token. Waits for nothing: a store that is away surfaces as StoreUnavailable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from consent.blocks import Block
from consent.facts import LogPartition
from projections.clickhouse import Store
from projections.erasures import Erasures
from projections.history_blocks import Blocks, Range, SealedBlock, place, token, where, within
from projections.history_errors import BlockContradicts, RowsDoubled, RowsMissing
from projections.history_rows import TableRows
from projections.log_store import keep_entry

log = structlog.get_logger(__name__)

POSITION_TABLES = (
    "evidence",
    "facts",
    "dead_letters",
    "registry_versions",
    "rulebook_activations",
    "erasures",
)
_HEALING_ATTEMPTS_MAX = 3


Expected = Callable[[], TableRows]


@dataclass(frozen=True, slots=True)
class StoredTail:
    """What the store holds of a partition from the end of its last whole block on.

    `recorded_at` has the broker time in µs of every stored fact there, by offset; `offsets` the
    stored offsets of each other table. `healing` is set where the last block lost rows: its
    records are then read again. `header_sha256` is of the block before `position`.
    """

    position: int | None
    block_last: SealedBlock | None
    recorded_at: Mapping[int, int]
    offsets: Mapping[str, frozenset[int]]
    healing: bool
    header_sha256: bytes | None


def unnoticed(kind: str) -> None:
    """Default for who is told about alarms; they are logged all the same."""


class HistoryStore:
    """Reads and writes the blocks of any partition; safe to use from several threads."""

    def __init__(self, store: Store, alarm: Callable[[str], None] = unnoticed) -> None:
        self.blocks = Blocks(store)
        self.erasures = Erasures(store)
        self._store = store
        self._alarm = alarm

    def stored_tail(self, origin: LogPartition) -> StoredTail:
        """Where to resume. Asks all tables, because a crash leaves some ahead of others."""
        block = self.blocks.last(origin)
        healing = block is not None and not self._whole(origin, block)
        if block is not None and block.root is None and not healing:
            # A worker of a release without roots has written it a moment ago.
            block = list(self.blocks.complete(origin))[-1]
        position, resume_from, header_sha256 = None, 0, None
        if block is not None:
            position = resume_from = block.offset_first if healing else block.offset_last + 1
            header_sha256 = (
                self.blocks.chained_to(origin, block) if healing else block.sha256(origin)
            )
        condition = f"{where(origin)} AND offset >= {resume_from}"
        facts = self._store.query_rows(
            f"SELECT offset, toUnixTimestamp64Micro(recorded_at) FROM facts WHERE {condition}"  # noqa: S608
        )
        offsets = {
            table: frozenset(self._offsets(table, condition))
            for table in POSITION_TABLES
            if table != "facts"
        }
        recorded_at = {int(offset): int(at) for offset, at in facts}
        return StoredTail(position, block, recorded_at, offsets, healing, header_sha256)

    def fact(self, origin: LogPartition, offset: int) -> tuple[bytes, int] | None:
        """Bytes and broker time in µs of one stored fact."""
        rows = self._store.query_rows(
            "SELECT hex(fact), toUnixTimestamp64Micro(recorded_at) FROM facts "  # noqa: S608
            f"WHERE {where(origin)} AND offset = {offset} LIMIT 1"
        )
        return (bytes.fromhex(rows[0][0]), int(rows[0][1])) if rows else None

    def insert(self, origin: LogPartition, block: Block, rows: TableRows) -> None:
        """Write the rows of a block into one table; nothing if there are none."""
        if rows.rows.num_rows:
            self._store.insert_arrow(rows.table, rows.rows, token(origin, block, rows.table))

    def verify(self, origin: LogPartition, block: Block, expected: Mapping[str, Expected]) -> None:
        """Make sure that each table holds every record of a block exactly once.

        Each of `expected` gives the rows that should be there now: evidence may be erased
        meanwhile. Rows that are missing although they were acknowledged are written again, with an
        alarm. Raises RowsDoubled, or RowsMissing if they do not stay, or BlockContradicts where
        there are more facts than the log has records.
        """
        for attempt in range(_HEALING_ATTEMPTS_MAX + 1):
            counted = self._counts(origin, block, tuple(expected))
            short = [
                rows
                for table, rows_now in expected.items()
                if (rows := self._missing(origin, block, table, counted[table], rows_now))
            ]
            if not short:
                return
            for rows in short:
                self._alarm("rows_missing")
                _log_missing(origin, block, rows)
                if attempt < _HEALING_ATTEMPTS_MAX:
                    healing = f"{token(origin, block, rows.table)}|r{attempt + 1}"
                    self._store.insert_arrow(rows.table, rows.rows, healing)
        raise RowsMissing(*place(origin, block), short[0].table, len(short[0].offsets))

    def _missing(
        self,
        origin: LogPartition,
        block: Block,
        table: str,
        counted: tuple[int, int],
        expected: Expected,
    ) -> TableRows | None:
        """Rows that a table lacks; None if it is whole. Stops at rows that are too many."""
        found, distinct = counted
        if found != distinct:
            raise RowsDoubled(*place(origin, block), table, found, distinct)
        rows = expected()
        if found == len(rows.offsets):
            return None
        if found > len(rows.offsets):
            if table == "facts":
                detail = f"facts holds {found} records where the log gives {len(rows.offsets)}"
                raise BlockContradicts(*place(origin, block), detail)
            return None
        condition = f"{where(origin)} AND {within(block)}"
        missing = rows.without(set(self._offsets(table, condition)))
        return missing if missing.offsets else None

    def cutter_entry(self) -> dict[str, Any] | None:
        """The kept copy of the LogEntry that froze the cutter's limits."""
        rows = self._store.query_rows(
            "SELECT toString(entry_id), toUnixTimestamp64Micro(at), hex(content_sha256), "
            "mapKeys(content), mapValues(content) FROM log_entries "
            "WHERE entry_kind = 'CUTTER' ORDER BY at, entry_id LIMIT 1"
        )
        if not rows:
            return None
        entry_id, at, digest, names, values = rows[0]
        return {
            "entry_id": entry_id,
            "at": int(at),
            "entry_kind": "CUTTER",
            "subject": None,
            "content_sha256": bytes.fromhex(digest),
            "content": [
                {"name": name, "value": value} for name, value in zip(names, values, strict=True)
            ],
        }

    def keep_entry(self, entry: Mapping[str, Any]) -> None:
        """Keep a LogEntry, because its topic forgets; once, however often this is called."""
        kept = self._store.query_rows(
            "SELECT count() FROM log_entries WHERE entry_id = {id:UUID}", {"id": entry["entry_id"]}
        )
        if not kept[0][0]:
            keep_entry(self._store, entry)

    def keep_entries(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Keep several."""
        for entry in entries:
            self.keep_entry(entry)

    def _whole(self, origin: LogPartition, sealed: SealedBlock) -> bool:
        found, distinct = self._counts(origin, sealed, ("facts",))["facts"]
        if found != distinct or found > sealed.records:
            raise RowsDoubled(*place(origin, sealed), "facts", found, sealed.records)
        return found == sealed.records

    def _counts(
        self, origin: LogPartition, block: Range, tables: Sequence[str]
    ) -> dict[str, tuple[int, int]]:
        """Rows and distinct offsets of a block's range in each table."""
        condition = f"{where(origin)} AND {within(block)}"
        rows = self._store.query_rows(
            " UNION ALL ".join(
                f"SELECT '{table}', count(), uniqExact(offset) FROM {table} WHERE {condition}"  # noqa: S608
                for table in tables
            )
        )
        return {table: (int(found), int(distinct)) for table, found, distinct in rows}

    def _offsets(self, table: str, condition: str) -> list[int]:
        rows = self._store.query_rows(f"SELECT DISTINCT offset FROM {table} WHERE {condition}")  # noqa: S608
        return [int(row[0]) for row in rows]


def _log_missing(origin: LogPartition, block: Block, rows: TableRows) -> None:
    log.error(
        "history_rows_missing",
        topic=origin.topic,
        partition=origin.partition,
        table=rows.table,
        offset_first=block.offset_first,
        offset_last=block.offset_last,
        missing=len(rows.offsets),
    )
