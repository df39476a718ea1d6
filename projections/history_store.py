"""The history's statements: what is asked of ClickHouse and what is written to it, block by block.

Every insert is one block into one table with a deduplication token made of log and offsets, so
repeating it is harmless while the store remembers the token; and what was written is counted
before anybody is told, because the store's own acknowledgement proves nothing once it has lost
a part or a token. Waits for nothing: a store that is away surfaces as StoreUnavailable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow
import structlog

from consent.blocks import Block
from consent.fact_columns import NO_SUBJECT
from consent.facts import LogPartition
from projections.clickhouse import Store
from projections.history_errors import BlockContradicts, RowsDoubled, RowsMissing
from projections.history_rows import TableRows

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


@dataclass(frozen=True, slots=True)
class SealedBlock:
    """A row of `blocks`; times in µs."""

    offset_first: int
    offset_last: int
    records: int
    month: int
    recorded_at_min: int
    recorded_at_max: int
    facts_sha256: bytes
    cutter_version: int

    def header(self, origin: LogPartition) -> dict[str, Any]:
        """Fields of its BlockSealed; proofs add root and chain later."""
        return {
            "log_id": origin.log_id,
            "topic": origin.topic,
            "partition": origin.partition,
            "offset_first": self.offset_first,
            "offset_last": self.offset_last,
            "records": self.records,
            "month": self.month,
            "recorded_at_min": self.recorded_at_min,
            "recorded_at_max": self.recorded_at_max,
            "facts_sha256": self.facts_sha256,
            "root": None,
            "previous_header_sha256": None,
            "cutter_version": self.cutter_version,
        }


Range = Block | SealedBlock
Expected = Callable[[], TableRows]


@dataclass(frozen=True, slots=True)
class StoredTail:
    """What the store holds of a partition from the end of its last whole block on.

    `recorded_at` has the broker time in µs of every stored fact there, by offset; `offsets` the
    stored offsets of each other table. `healing` is set where the last block lost rows: its
    records are then read again.
    """

    position: int | None
    block_last: SealedBlock | None
    recorded_at: Mapping[int, int]
    offsets: Mapping[str, frozenset[int]]
    healing: bool


def unnoticed(kind: str) -> None:
    """Default for who is told about alarms; they are logged all the same."""


class HistoryStore:
    """Reads and writes the blocks of any partition; safe to use from several threads."""

    def __init__(self, store: Store, alarm: Callable[[str], None] = unnoticed) -> None:
        self._store = store
        self._alarm = alarm

    def stored_tail(self, origin: LogPartition) -> StoredTail:
        """Where to resume. Asks all tables, because a crash leaves some ahead of others."""
        block = self._block_last(origin)
        healing = block is not None and not self._whole(origin, block)
        if block is None:
            position, resume_from = None, 0
        else:
            position = block.offset_first if healing else block.offset_last + 1
            resume_from = position
        where = f"{_where(origin)} AND offset >= {resume_from}"
        facts = self._store.query_rows(
            f"SELECT offset, toUnixTimestamp64Micro(recorded_at) FROM facts WHERE {where}"  # noqa: S608
        )
        offsets = {
            table: frozenset(self._offsets(table, where))
            for table in POSITION_TABLES
            if table != "facts"
        }
        recorded_at = {int(offset): int(at) for offset, at in facts}
        return StoredTail(position, block, recorded_at, offsets, healing)

    def fact(self, origin: LogPartition, offset: int) -> tuple[bytes, int] | None:
        """Bytes and broker time in µs of one stored fact."""
        rows = self._store.query_rows(
            "SELECT hex(fact), toUnixTimestamp64Micro(recorded_at) FROM facts "  # noqa: S608
            f"WHERE {_where(origin)} AND offset = {offset} LIMIT 1"
        )
        return (bytes.fromhex(rows[0][0]), int(rows[0][1])) if rows else None

    def erased(self, origin: LogPartition, block: Block) -> dict[bytes, int]:
        """Subjects whose evidence must not be written any more, with their last erased offset."""
        rows = self._store.query_rows(
            "SELECT hex(subject), max(erased_offset_last) FROM erasures "  # noqa: S608
            f"WHERE erased_log_id = unhex('{origin.log_id.hex()}') "
            f"AND erased_partition = {origin.partition} "
            f"AND erased_offset_last >= {block.offset_first} GROUP BY subject"
        )
        return {bytes.fromhex(subject): int(offset_last) for subject, offset_last in rows}

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
        raise RowsMissing(*_place(origin, block), short[0].table, len(short[0].offsets))

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
            raise RowsDoubled(*_place(origin, block), table, found, distinct)
        rows = expected()
        if found == len(rows.offsets):
            return None
        if found > len(rows.offsets):
            if table == "facts":
                detail = f"facts holds {found} records where the log gives {len(rows.offsets)}"
                raise BlockContradicts(*_place(origin, block), detail)
            return None
        where = f"{_where(origin)} AND {_range(block)}"
        missing = rows.without(set(self._offsets(table, where)))
        return missing if missing.offsets else None

    def seal(
        self, origin: LogPartition, sealed: SealedBlock, may_exist: bool = False
    ) -> SealedBlock:
        """Write a block's own row; refuse another block in its place.

        `may_exist`: the row may be there from earlier, and is then left as it is.
        """
        first, last = sealed.offset_first, sealed.offset_last
        overlapping = f"offset_first <= {last} AND offset_last >= {first}"
        found = self._blocks(origin, overlapping, "") if may_exist else []
        if not found:
            row = _block_row(sealed.header(origin))
            self._store.insert_arrow("blocks", row, token(origin, sealed, "blocks"))
            found = self._blocks(origin, overlapping, "")
        if found != [sealed]:
            detail = f"{len(found)} blocks lie where this one was written, or it differs"
            raise BlockContradicts(*_place(origin, sealed), detail)
        return sealed

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
        """Keep a LogEntry, because its topic forgets."""
        row = {**entry, "subject": entry["subject"] or NO_SUBJECT}
        row["content"] = [(pair["name"], pair["value"]) for pair in entry["content"]]
        table = pyarrow.Table.from_pylist([row], schema=_ENTRY_SCHEMA)
        self._store.insert_arrow("log_entries", table, f"v1|log_entries|{entry['entry_id']}")

    def _whole(self, origin: LogPartition, sealed: SealedBlock) -> bool:
        found, distinct = self._counts(origin, sealed, ("facts",))["facts"]
        if found != distinct or found > sealed.records:
            raise RowsDoubled(*_place(origin, sealed), "facts", found, sealed.records)
        return found == sealed.records

    def _block_last(self, origin: LogPartition) -> SealedBlock | None:
        found = self._blocks(origin, "1", "ORDER BY offset_first DESC LIMIT 1")
        return found[0] if found else None

    def _blocks(self, origin: LogPartition, condition: str, tail: str) -> list[SealedBlock]:
        rows = self._store.query_rows(
            "SELECT offset_first, offset_last, records, month, "  # noqa: S608
            "toUnixTimestamp64Micro(recorded_at_min), toUnixTimestamp64Micro(recorded_at_max), "
            f"hex(facts_sha256), cutter_version FROM blocks "
            f"WHERE {_where(origin)} AND {condition} {tail}"
        )
        return [_sealed_block(row) for row in rows]

    def _counts(
        self, origin: LogPartition, block: Range, tables: Sequence[str]
    ) -> dict[str, tuple[int, int]]:
        """Rows and distinct offsets of a block's range in each table."""
        where = f"{_where(origin)} AND {_range(block)}"
        rows = self._store.query_rows(
            " UNION ALL ".join(
                f"SELECT '{table}', count(), uniqExact(offset) FROM {table} WHERE {where}"  # noqa: S608
                for table in tables
            )
        )
        return {table: (int(found), int(distinct)) for table, found, distinct in rows}

    def _offsets(self, table: str, where: str) -> list[int]:
        rows = self._store.query_rows(f"SELECT DISTINCT offset FROM {table} WHERE {where}")  # noqa: S608
        return [int(row[0]) for row in rows]


def sealed_block(block: Block, facts_sha256: bytes, cutter_version: int) -> SealedBlock:
    """A closed block as its row has it."""
    return SealedBlock(
        offset_first=block.offset_first,
        offset_last=block.offset_last,
        records=block.records,
        month=block.month,
        recorded_at_min=block.recorded_at_min,
        recorded_at_max=block.recorded_at_max,
        facts_sha256=facts_sha256,
        cutter_version=cutter_version,
    )


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


def _sealed_block(row: Sequence[Any]) -> SealedBlock:
    offset_first, offset_last, records, month, at_min, at_max = (int(value) for value in row[:6])
    digest, version = bytes.fromhex(row[6]), int(row[7])
    return SealedBlock(offset_first, offset_last, records, month, at_min, at_max, digest, version)


def token(origin: LogPartition, block: Range, table: str) -> str:
    """Deduplication token of a block's insert into a table."""
    place = f"{origin.log_id.hex()}|{origin.partition}|{block.offset_first}-{block.offset_last}"
    return f"v1|{table}|{place}"


def _where(origin: LogPartition) -> str:
    """Rows of one log; the topic is implied by the log_id, so the projection's order is used."""
    return f"log_id = unhex('{origin.log_id.hex()}') AND partition = {origin.partition}"


def _range(block: Range) -> str:
    return f"offset BETWEEN {block.offset_first} AND {block.offset_last}"


def _place(origin: LogPartition, block: Range) -> tuple[str, int, str, int, int]:
    place = (origin.topic, origin.partition, origin.log_id.hex())
    return (*place, block.offset_first, block.offset_last)


_TIME = pyarrow.timestamp("us", "UTC")
_BLOCK_SCHEMA = pyarrow.schema(
    [
        ("log_id", pyarrow.binary()),
        ("topic", pyarrow.string()),
        ("partition", pyarrow.int32()),
        ("offset_first", pyarrow.int64()),
        ("offset_last", pyarrow.int64()),
        ("records", pyarrow.int64()),
        ("month", pyarrow.int32()),
        ("recorded_at_min", _TIME),
        ("recorded_at_max", _TIME),
        ("facts_sha256", pyarrow.binary()),
        ("root", pyarrow.binary()),
        ("previous_header_sha256", pyarrow.binary()),
        ("cutter_version", pyarrow.int32()),
    ]
)


_ENTRY_SCHEMA = pyarrow.schema(
    [
        ("entry_id", pyarrow.string()),
        ("at", _TIME),
        ("entry_kind", pyarrow.string()),
        ("subject", pyarrow.binary()),
        ("content_sha256", pyarrow.binary()),
        ("content", pyarrow.map_(pyarrow.string(), pyarrow.string())),
    ]
)


def _block_row(header: Mapping[str, Any]) -> pyarrow.Table:
    return pyarrow.Table.from_pylist([dict(header)], schema=_BLOCK_SCHEMA)


def subjects_erased(
    rows: TableRows, subjects: Sequence[bytes], erased: Mapping[bytes, int]
) -> frozenset[int]:
    """Offsets of the evidence rows that fall under an erasure."""
    if not erased:
        return frozenset()
    return frozenset(
        offset
        for offset, subject in zip(rows.offsets, subjects, strict=True)
        if subject != NO_SUBJECT and offset <= erased.get(subject, -1)
    )
