"""Do the log's headers chain without a hole, and has the store every block as the log has it?

The log's entries are the measure: a row of the store that differs from its entry is a finding, and
what a block holds is then judged by its entry. Of each entry only its hash and place are kept.
Where an entry can't be read any more, its hash in the tree still says whether a row is it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from consent.errors import Unreadable
from consent.facts import LogPartition
from consent.log_entries import BLOCK, decode_entry, encode_entry, entry_sha256
from consent.merkle import leaf_hash
from projections.history_blocks import SealedBlock
from projections.verification_findings import Finding, Found, Kind, Place
from projections.verification_log import LogPlace

_HASH: Final = 32


@dataclass(frozen=True, slots=True)
class JudgedBlock:
    """A block whose facts are to be judged; `sealed`: by its entry, else by its row alone."""

    block: SealedBlock
    sealed: bool


@dataclass(slots=True)
class _Chain:
    origin: LogPartition
    offsets: array[int] = field(default_factory=lambda: array("q"))
    positions: array[int] = field(default_factory=lambda: array("q"))
    hashes: bytearray = field(default_factory=bytearray)
    head: bytes | None = None
    end: int = -1
    trusted: bool = True
    """False after a damaged entry: what comes next can't be held against it."""


class ChainBook:
    """The chains of all partitions, as the log has them. Entries are added in the log's order."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self._chains: dict[tuple[bytes, int], _Chain] = {}
        self._damaged: set[bytes] = set()
        self._lost = False

    @property
    def origins(self) -> list[LogPartition]:
        """Every partition that the log has a block of."""
        return [chain.origin for chain in self._chains.values()]

    def add(self, place: LogPlace) -> Mapping[str, Any] | None:
        """Take an entry in; its fields if it is no block. None: it is one, or can't be read."""
        position, entry = place.index, place.entry
        if entry is None:
            if place.leaf is None:
                self._lost = True
            else:
                self._damaged.add(place.leaf)
            for chain in self._chains.values():
                chain.trusted = False
            return None
        try:
            name, fields = decode_entry(entry)
        except Unreadable as problem:
            self._add("ENTRY_UNREADABLE", Place(entry_index=position), str(problem))
            return None
        if name != BLOCK:
            return fields
        self._block(position, entry, fields)
        return None

    def end(self, origin: LogPartition) -> int:
        """Last offset of a partition that the log knows of, -1 if it knows of none."""
        chain = self._chains.get((origin.log_id, origin.partition))
        return -1 if chain is None else chain.end

    def judged(
        self,
        origin: LogPartition,
        rows: Iterable[SealedBlock],
        entry_at: Callable[[int], bytes | None],
        pending: Callable[[SealedBlock], bool],
    ) -> list[JudgedBlock]:
        """The blocks of a partition by which its facts are to be judged, oldest first.

        `rows` are the store's, `entry_at` reads an entry of the log again, `pending` says of a
        block that the log does not have if it may still come into it.
        """
        chain = self._chains.get((origin.log_id, origin.partition)) or _Chain(origin)
        by_offset: dict[int, list[SealedBlock]] = {}
        for row in rows:
            by_offset.setdefault(row.offset_first, []).append(row)
        judged = []
        for number, first in enumerate(chain.offsets):
            stored = by_offset.pop(first, [])
            sha256 = bytes(chain.hashes[number * _HASH : (number + 1) * _HASH])
            position = chain.positions[number]
            if len(stored) == 1 and stored[0].sha256(origin) == sha256:
                judged.append(JudgedBlock(stored[0], True))
                continue
            sealed = _sealed(entry_at(position))
            if sealed is not None:
                self._differs(origin, sealed, stored, position)
                judged.append(JudgedBlock(sealed, True))
        for first in sorted(by_offset):
            judged += self._unsealed(origin, chain, by_offset[first], pending)
        return sorted(judged, key=lambda one: one.block.offset_first)

    def _block(self, position: int, entry: bytes, fields: Mapping[str, Any]) -> None:
        key = (fields["log_id"], fields["partition"])
        chain = self._chains.get(key)
        if chain is None:
            origin = LogPartition(fields["log_id"], fields["topic"], fields["partition"])
            chain = self._chains[key] = _Chain(origin, trusted=not (self._damaged or self._lost))
        first, last = fields["offset_first"], fields["offset_last"]
        place = block_place(chain.origin, first, last, None, position)
        if chain.trusted and fields["previous_header_sha256"] != chain.head:
            self._add("CHAIN_BROKEN", place, "its header does not name the one before it")
        elif chain.trusted and chain.head is not None and first > chain.end + 1:
            lost = block_place(chain.origin, chain.end + 1, first - 1)
            self._add("OFFSETS_LOST", lost, "no block covers them: they were never recorded")
        chain.head, chain.end, chain.trusted = entry_sha256(entry), last, True
        chain.offsets.append(first)
        chain.positions.append(position)
        chain.hashes += chain.head

    def _differs(
        self, origin: LogPartition, sealed: SealedBlock, stored: list[SealedBlock], position: int
    ) -> None:
        first, last = sealed.offset_first, sealed.offset_last
        place = block_place(origin, first, last, "blocks", position)
        if not stored:
            self._add("BLOCK_MISSING", place, "the log has it, the store does not")
        elif len(stored) > 1:
            self._add("BLOCK_DOUBLED", place, f"the store has {len(stored)} rows of it")
        else:
            own, other = sealed.header(origin), stored[0].header(origin)
            for column in (name for name in own if own[name] != other[name]):
                where = block_place(origin, first, last, "blocks", position, column)
                self._add("BLOCK_CHANGED", where, "the row is not what the log says")

    def _unsealed(
        self,
        origin: LogPartition,
        chain: _Chain,
        rows: list[SealedBlock],
        pending: Callable[[SealedBlock], bool],
    ) -> list[JudgedBlock]:
        row = rows[0]
        place = block_place(origin, row.offset_first, row.offset_last, "blocks")
        if len(rows) > 1:
            self._add("BLOCK_DOUBLED", place, f"the store has {len(rows)} rows of it")
        elif leaf_hash(encode_entry(BLOCK, row.header(origin))) in self._damaged:
            return [JudgedBlock(row, True)]
        elif row.offset_first <= chain.end:
            if not self._lost:
                self._add("BLOCK_UNSEALED", place, "the log has gone past it without it")
            return []
        elif not self._lost and not pending(row):
            self._add("BLOCK_UNSEALED", place, "it is in no checkpoint, and has been for too long")
        return [JudgedBlock(row, False)]

    def _add(self, kind: Kind, place: Place, detail: str) -> None:
        self._found(Finding(kind, place, detail))


def block_place(
    origin: LogPartition,
    offset_first: int,
    offset_last: int,
    table: str | None = None,
    entry_index: int | None = None,
    column: str | None = None,
) -> Place:
    """The place of a block."""
    return Place(
        table=table,
        topic=origin.topic,
        partition=origin.partition,
        log_id=origin.log_id.hex(),
        offset_first=offset_first,
        offset_last=offset_last,
        column=column,
        entry_index=entry_index,
    )


def _sealed(entry: bytes | None) -> SealedBlock | None:
    if entry is None:
        return None
    fields = decode_entry(entry)[1]
    names = SealedBlock.__dataclass_fields__
    sealed = SealedBlock(**{name: fields[name] for name in names})
    header = sealed.header(LogPartition(fields["log_id"], fields["topic"], fields["partition"]))
    return sealed if encode_entry(BLOCK, header) == entry else None
