"""The table `blocks`: rows, roots, and the chain in which each header names the one before it.

A block's header is its row; its place in the chain is a function of the partition's earlier
headers, so every owner writes the same row. Blocks of releases that had no roots keep their rows
and have roots and chain in `block_roots`. Retries nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow

from consent.blocks import Block, facts_digest
from consent.facts import LogPartition
from consent.log_entries import header_sha256
from consent.merkle import root_of_leaves
from projections.clickhouse import Store
from projections.history_errors import BlockContradicts


@dataclass(frozen=True, slots=True)
class SealedBlock:
    """A block as its header has it; times in µs.

    `root` is over the facts in offset order. It is None, and then nothing chains to the block,
    only in rows of releases without roots, until `Blocks.complete` has given it one.
    """

    offset_first: int
    offset_last: int
    records: int
    month: int
    recorded_at_min: int
    recorded_at_max: int
    facts_sha256: bytes
    cutter_version: int
    root: bytes | None
    previous_header_sha256: bytes | None

    def header(self, origin: LogPartition) -> dict[str, Any]:
        """Fields of its BlockSealed."""
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
            "root": self.root,
            "previous_header_sha256": self.previous_header_sha256,
            "cutter_version": self.cutter_version,
        }

    def sha256(self, origin: LogPartition) -> bytes:
        """What the next header of the partition names as the previous one."""
        return header_sha256(self.header(origin))


Range = Block | SealedBlock


@dataclass(frozen=True, slots=True)
class Sum:
    """What a block's facts come to: their digest, and their root."""

    sha256: bytes
    root: bytes

    @classmethod
    def of(cls, facts: Sequence[bytes]) -> Sum:
        """Of facts in offset order."""
        return cls(facts_digest(facts), root_of_leaves(facts))


def sealed_block(
    block: Block, facts: Sum, previous_header_sha256: bytes | None, cutter_version: int
) -> SealedBlock:
    """A closed block as its row has it."""
    return SealedBlock(
        offset_first=block.offset_first,
        offset_last=block.offset_last,
        records=block.records,
        month=block.month,
        recorded_at_min=block.recorded_at_min,
        recorded_at_max=block.recorded_at_max,
        facts_sha256=facts.sha256,
        cutter_version=cutter_version,
        root=facts.root,
        previous_header_sha256=previous_header_sha256,
    )


class Blocks:
    """Reads and writes the blocks of any partition; safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def last(self, origin: LogPartition) -> SealedBlock | None:
        """The newest block of a partition."""
        found = self._rows(origin, "1", "ORDER BY offset_first DESC LIMIT 1")
        return found[0] if found else None

    def all(self, origin: LogPartition) -> list[SealedBlock]:
        """Every block of a partition, oldest first."""
        return self._rows(origin, "1", "ORDER BY offset_first")

    def chained_to(self, origin: LogPartition, block: SealedBlock) -> bytes | None:
        """What the header of a stored block names, or would name, as the previous one."""
        if block.root is not None:
            return block.previous_header_sha256
        earlier = f"offset_first < {block.offset_first}"
        found = self._rows(origin, earlier, "ORDER BY offset_first DESC LIMIT 1")
        return found[0].sha256(origin) if found else None

    def seal(
        self, origin: LogPartition, sealed: SealedBlock, may_exist: bool = False
    ) -> SealedBlock:
        """Write a block's own row; refuse another block in its place.

        `may_exist`: the row may be there from earlier, and is then left as it is.
        """
        first, last = sealed.offset_first, sealed.offset_last
        overlapping = f"offset_first <= {last} AND offset_last >= {first}"
        found = self._rows(origin, overlapping, "") if may_exist else []
        if not found:
            row = pyarrow.Table.from_pylist([sealed.header(origin)], schema=_BLOCK_SCHEMA)
            self._store.insert_arrow("blocks", row, token(origin, sealed, "blocks"))
            found = self._rows(origin, overlapping, "")
        elif found == [replace(sealed, root=None, previous_header_sha256=None)]:
            self._keep_root(origin, sealed)
            found = self._rows(origin, overlapping, "")
        if found != [sealed]:
            detail = f"{len(found)} blocks lie where this one was written, or it differs"
            raise BlockContradicts(*place(origin, sealed), detail)
        return sealed

    def incomplete(self) -> list[LogPartition]:
        """Partitions, of any incarnation of the log, that have blocks without a root."""
        rows = self._store.query_rows(
            "SELECT DISTINCT hex(log_id), topic, partition FROM blocks WHERE root IS NULL "
            "AND (log_id, partition, offset_first) NOT IN "
            "(SELECT log_id, partition, offset_first FROM block_roots) ORDER BY 1, 2, 3"
        )
        return [
            LogPartition(bytes.fromhex(log_id), topic, int(partition))
            for log_id, topic, partition in rows
        ]

    def complete(self, origin: LogPartition) -> Iterator[SealedBlock]:
        """Give roots and a place in the chain to all blocks that lack them, oldest first.

        A function of the facts, so it may be repeated and done by several at once. A newest block
        that lost rows is left: it gets its root when it is sealed again. Raises BlockContradicts
        where the facts of an older one are not those that it was sealed with.
        """
        blocks = self.all(origin)
        previous: bytes | None = None
        for number, block in enumerate(blocks):
            if block.root is None:
                facts = Sum.of(self.facts(origin, block))
                if facts.sha256 != block.facts_sha256:
                    if number == len(blocks) - 1:
                        return
                    detail = "its facts are not those that it was sealed with"
                    raise BlockContradicts(*place(origin, block), detail)
                block = replace(block, root=facts.root, previous_header_sha256=previous)
                self._keep_root(origin, block)
                yield block
            previous = block.sha256(origin)

    def facts(self, origin: LogPartition, block: Range) -> list[bytes]:
        """The facts of a block in offset order, as the store has them now."""
        column = self._store.query_arrow(
            f"SELECT fact FROM facts WHERE {where(origin)} AND {within(block)} "  # noqa: S608
            "ORDER BY offset",
            strings_as_bytes=True,
        ).column(0)
        return [bytes(fact) for fact in column.to_pylist()]

    def facts_by_offset(self, origin: LogPartition, block: Range) -> list[tuple[int, bytes]]:
        """The facts of a block with their offsets, in offset order, as the store has them now."""
        table = self._store.query_arrow(
            f"SELECT offset, fact FROM facts WHERE {where(origin)} AND {within(block)} "  # noqa: S608
            "ORDER BY offset",
            strings_as_bytes=True,
        )
        offsets, facts = (table.column(name).to_pylist() for name in ("offset", "fact"))
        return [(int(offset), bytes(fact)) for offset, fact in zip(offsets, facts, strict=True)]

    def _keep_root(self, origin: LogPartition, sealed: SealedBlock) -> None:
        row = pyarrow.Table.from_pylist([sealed.header(origin)], schema=_BLOCK_SCHEMA)
        kept = row.select([field.name for field in _ROOT_SCHEMA])
        self._store.insert_arrow("block_roots", kept, token(origin, sealed, "block_roots"))

    def _rows(self, origin: LogPartition, condition: str, tail: str) -> list[SealedBlock]:
        rows = self._store.query_rows(
            "SELECT offset_first, offset_last, records, month, "  # noqa: S608
            "toUnixTimestamp64Micro(recorded_at_min), toUnixTimestamp64Micro(recorded_at_max), "
            "cutter_version, hex(facts_sha256), hex(root), hex(previous_header_sha256) FROM blocks "
            f"WHERE {where(origin)} AND {condition} {tail}"
        )
        blocks = [_sealed_block(row) for row in rows]
        bare = [block.offset_first for block in blocks if block.root is None]
        if not bare:
            return blocks
        # What was given later: one row each, or several alike where two workers gave it.
        given = self._store.query_rows(
            "SELECT DISTINCT offset_first, hex(root), hex(previous_header_sha256) "  # noqa: S608
            f"FROM block_roots WHERE {where(origin)} "
            f"AND offset_first BETWEEN {min(bare)} AND {max(bare)}"
        )
        roots = {int(first): (_hash(root), _hash(previous)) for first, root, previous in given}
        return [_completed(block, roots) for block in blocks]


def token(origin: LogPartition, block: Range, table: str) -> str:
    """Deduplication token of a block's insert into a table."""
    at = f"{origin.log_id.hex()}|{origin.partition}|{block.offset_first}-{block.offset_last}"
    return f"v1|{table}|{at}"


def where(origin: LogPartition) -> str:
    """Rows of one log; the topic is implied by the log_id, so the projection's order is used."""
    return f"log_id = unhex('{origin.log_id.hex()}') AND partition = {origin.partition}"


def within(block: Range) -> str:
    """Rows of a block's range."""
    return f"offset BETWEEN {block.offset_first} AND {block.offset_last}"


def place(origin: LogPartition, block: Range) -> tuple[str, int, str, int, int]:
    """Where a block is, as errors say it."""
    log = (origin.topic, origin.partition, origin.log_id.hex())
    return (*log, block.offset_first, block.offset_last)


def _sealed_block(row: Sequence[Any]) -> SealedBlock:
    offset_first, offset_last, records, month, at_min, at_max, version = map(int, row[:7])
    return SealedBlock(
        offset_first=offset_first,
        offset_last=offset_last,
        records=records,
        month=month,
        recorded_at_min=at_min,
        recorded_at_max=at_max,
        facts_sha256=bytes.fromhex(row[7]),
        cutter_version=version,
        root=_hash(row[8]),
        previous_header_sha256=_hash(row[9]),
    )


def _completed(
    block: SealedBlock, roots: Mapping[int, tuple[bytes | None, bytes | None]]
) -> SealedBlock:
    if block.root is not None or block.offset_first not in roots:
        return block
    root, previous = roots[block.offset_first]
    return replace(block, root=root, previous_header_sha256=previous)


def _hash(text: str | None) -> bytes | None:
    return bytes.fromhex(text) if text else None


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
_ROOT_SCHEMA = pyarrow.schema(
    [
        _BLOCK_SCHEMA.field(name)
        for name in (
            "log_id",
            "topic",
            "partition",
            "offset_first",
            "root",
            "previous_header_sha256",
        )
    ]
)
