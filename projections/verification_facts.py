"""Are the facts those that were sealed, and is every column what its fact says?

A pass takes the facts of some partitions and one month in the order in which the store has them,
recomputes every column, and puts each leaf hash in the place of its offset; when all are in, every
block's root is computed from its places. So nothing is sorted, and memory is about 70 bytes for
each offset of the pass, whatever the size of the facts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars
import pyarrow
from numpy.typing import NDArray

from consent.columns import ColumnsUnreadable
from consent.fact_columns import COLUMNS, columns_of_envelopes, envelopes_of_facts
from consent.facts import LogPartition
from consent.merkle import leaf_hashes, root_of
from projections.verification_blocks import JudgedBlock, block_place
from projections.verification_findings import Finding, Found, Kind, Place

POSITION: Final = ("log_id", "partition", "offset")
_HASH: Final = 32
_BINARY: Final = ("fact", "subject", "log_id")

Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A partition in a pass: its blocks of the month, and where its places begin."""

    origin: LogPartition
    blocks: Sequence[JudgedBlock]
    base: int

    @property
    def offset_first(self) -> int:
        """First offset that a block of it covers."""
        return self.blocks[0].block.offset_first

    @property
    def offset_last(self) -> int:
        """Last offset that a block of it covers."""
        return self.blocks[-1].block.offset_last

    @property
    def places(self) -> int:
        """How many offsets it spans."""
        return self.offset_last - self.offset_first + 1


@dataclass(frozen=True, slots=True)
class _Odd:
    """A row whose fact is of another position than its columns say, or can't be read."""

    stored: tuple[bytes, int, int]
    true: tuple[bytes, int, int] | None
    leaf: bytes


class FactsPass:
    """One pass. Add every page of rows, then `finish`; evidence comes after that.

    `late` says of a broker time in µs if a fact of that time must be in a block by now.
    """

    def __init__(self, stretches: Sequence[Stretch], nonce: bytes, found: Found, late: Any) -> None:
        self._stretches = {(one.origin.log_id, one.origin.partition): one for one in stretches}
        self._nonce = nonce
        self._found = found
        self._late = late
        places = sum(one.places for one in stretches)
        self._seen = np.zeros(places, dtype=np.uint8)
        self._leaves = np.zeros((places, _HASH), dtype=np.uint8)
        self._commitments = np.zeros((places, _HASH), dtype=np.uint8)
        self._readable = np.zeros(places, dtype=bool)
        self._unreadable_here = np.zeros(places, dtype=bool)
        self._evidence_seen = np.zeros(places, dtype=bool)
        self._odd: list[_Odd] = []

    def add(self, rows: pyarrow.Table) -> None:
        """Take a page of rows in: all columns of `facts`."""
        facts = [bytes(fact) for fact in rows.column("fact").to_pylist()]
        try:
            self._add(rows, facts)
        except ColumnsUnreadable:
            if len(facts) == 1:
                self._unreadable(rows, facts[0])
                return
            # One bad fact spoils its page: halve it until it stands alone.
            middle = len(facts) // 2
            self.add(rows.slice(0, middle))
            self.add(rows.slice(middle))

    def finish(self) -> int:
        """Judge every block; how many facts were in them."""
        for odd in self._odd:
            self._place_odd(odd)
        for stretch in self._stretches.values():
            for judged in stretch.blocks:
                self._judge(stretch, judged)
        return int(np.count_nonzero(self._seen))

    def add_evidence(self, origin: LogPartition, rows: pyarrow.Table) -> None:
        """Take rows of `evidence` of one partition in: offset, number, salt, evidence."""
        stretch = self._stretches[origin.log_id, origin.partition]
        offsets = rows.column("offset").to_numpy()
        places = offsets - stretch.offset_first + stretch.base
        sha256 = hashlib.sha256
        made = b"".join(
            sha256(salt + number + (evidence or b"")).digest()
            for number, salt, evidence in zip(
                *(rows.column(name).to_pylist() for name in ("number", "salt", "evidence")),
                strict=True,
            )
        )
        hashes = np.frombuffer(made, dtype=np.uint8).reshape(-1, _HASH)
        # Where a fact is missing or was moved, that is told already.
        unknown = self._unreadable_here[places]
        wrong = (hashes != self._commitments[places]).any(axis=1) & self._readable[places]
        doubled = self._evidence_seen[places]
        self._evidence_seen[places] = True
        if len(np.unique(places)) != len(places):
            order = np.argsort(places, kind="stable")
            doubled[order[1:]] |= np.diff(places[order]) == 0
        for kind, which, detail in (
            ("EVIDENCE_CHANGED", wrong, "it is not what the fact commits to"),
            (
                "EVIDENCE_UNKNOWN",
                unknown,
                "the record of this position could not be read, and so had none",
            ),
            ("EVIDENCE_DOUBLED", doubled, "the store has more than one row of it"),
        ):
            for row in np.flatnonzero(which).tolist():
                place = block_place(origin, int(offsets[row]), int(offsets[row]), "evidence")
                self._add_finding(kind, place, detail)  # type: ignore[arg-type]

    def _add(self, rows: pyarrow.Table, facts: list[bytes]) -> None:
        envelopes = envelopes_of_facts(facts, self._nonce)
        expected = columns_of_envelopes(envelopes, facts, self._nonce)
        stored = stored_columns(rows)
        moved = self._compare(expected, stored)
        leaves = leaf_hashes(facts)
        places = self._places(expected)
        if moved:
            for row in sorted(moved):
                self._odd.append(
                    _Odd(_position(stored, row), _position(expected, row), leaves[row])
                )
            places[sorted(moved)] = -1
        self._unknown(expected, places, moved)
        inside = np.flatnonzero(places >= 0)
        hashes = np.frombuffer(b"".join(leaves), dtype=np.uint8).reshape(-1, _HASH)
        commitments = b"".join(envelopes.get_column("commitment").to_list())
        given = np.frombuffer(commitments, dtype=np.uint8).reshape(-1, _HASH)
        if len(inside) != len(places):
            hashes, given, places = hashes[inside], given[inside], places[inside]
        np.add.at(self._seen, places, 1)
        self._leaves[places] = hashes
        self._commitments[places] = given
        readable = envelopes.get_column("unreadable").is_null().to_numpy()
        self._readable[places] = readable[inside]
        self._unreadable_here[places] = ~readable[inside]

    def _places(self, frame: polars.DataFrame) -> Longs:
        """Where each row's leaf goes; -1 outside every block's stretch."""
        offsets = frame.get_column("offset").to_numpy()
        places = np.full(len(offsets), -1, dtype=np.int64)
        groups = frame.select("log_id", "partition").with_row_index("row")
        for (log_id, partition), part in groups.partition_by(
            "log_id", "partition", as_dict=True
        ).items():
            stretch = self._stretches.get((log_id, partition))
            if stretch is None:
                continue
            rows = part.get_column("row").to_numpy()
            own = offsets[rows] - stretch.offset_first
            within = (own >= 0) & (own < stretch.places)
            places[rows[within]] = own[within] + stretch.base
        return places

    def _compare(self, expected: polars.DataFrame, stored: polars.DataFrame) -> set[int]:
        """Name every column that is not what its fact says; rows whose position is among them."""
        moved: set[int] = set()
        for name in COLUMNS:
            own, other = expected.get_column(name), stored.get_column(name)
            if own.equals(other):
                continue
            for row, (one, two) in enumerate(zip(own.to_list(), other.to_list(), strict=True)):
                if one != two:
                    if name in POSITION:
                        moved.add(row)
                    place = self._row_place(stored, row, name)
                    detail = "the column is not what the fact says, or the fact was changed"
                    self._add_finding("COLUMN_CHANGED", place, detail)
        return moved

    def _unreadable(self, rows: pyarrow.Table, fact: bytes) -> None:
        stored = stored_columns(rows)
        detail = "the bytes are no fact of this release"
        self._add_finding("FACT_UNREADABLE", self._row_place(stored, 0, "fact"), detail)
        self._odd.append(_Odd(_position(stored, 0), None, leaf_hashes([fact])[0]))

    def _place_odd(self, odd: _Odd) -> None:
        """Put a row where its fact says, or where its columns say, whichever is free."""
        for position in (odd.true, odd.stored):
            if position is None:
                continue
            stretch = self._stretches.get(position[:2])
            own = -1 if stretch is None else position[2] - stretch.offset_first
            if stretch is not None and 0 <= own < stretch.places:
                place = own + stretch.base
                if not self._seen[place]:
                    self._seen[place] = 1
                    self._leaves[place] = np.frombuffer(odd.leaf, dtype=np.uint8)
                    return

    def _unknown(self, frame: polars.DataFrame, places: Longs, moved: set[int]) -> None:
        """Rows that no block covers, though one should by now."""
        for row in np.flatnonzero(places < 0).tolist():
            if row in moved:
                continue
            at = int(frame.get_column("recorded_at").dt.timestamp("us")[row])
            if self._late(at):
                place = self._row_place(frame, row)
                self._add_finding("FACT_UNKNOWN", place, "no block covers this row")

    def _judge(self, stretch: Stretch, judged: JudgedBlock) -> None:
        block, origin = judged.block, stretch.origin
        start = block.offset_first - stretch.offset_first + stretch.base
        seen = self._seen[start : start + block.offset_last - block.offset_first + 1]
        count = int(np.count_nonzero(seen))
        whole = True
        for place in np.flatnonzero(seen > 1).tolist():
            whole = False
            offset = block.offset_first + place
            where = block_place(origin, offset, offset, "facts")
            self._add_finding("FACT_DOUBLED", where, f"the store has {int(seen[place])} rows of it")
        if count < block.records:
            whole = False
            self._missing(origin, judged, seen)
        elif count > block.records:
            whole = False
            where = block_place(origin, block.offset_first, block.offset_last, "facts")
            detail = f"the store has {count} facts, and {block.records} were sealed"
            self._add_finding("FACT_UNKNOWN", where, detail)
        if not whole or block.root is None:
            return
        leaves = self._leaves[start : start + len(seen)]
        data = (leaves if count == len(seen) else leaves[seen > 0]).tobytes()
        hashes = [data[at : at + _HASH] for at in range(0, len(data), _HASH)]
        if root_of(hashes) != block.root:
            where = block_place(origin, block.offset_first, block.offset_last, "facts")
            self._add_finding("ROOT_DIFFERS", where, "a fact of the block was changed")

    def _missing(self, origin: LogPartition, judged: JudgedBlock, seen: NDArray[np.uint8]) -> None:
        block = judged.block
        if block.records != len(seen):
            # The log itself has gaps here, so which offsets are missing can't be said.
            where = block_place(origin, block.offset_first, block.offset_last, "facts")
            count = block.records - int(np.count_nonzero(seen))
            self._add_finding("FACT_MISSING", where, f"{count} rows of the block are gone")
            return
        for first, last in _runs(np.flatnonzero(seen == 0)):
            where = block_place(
                origin, block.offset_first + first, block.offset_first + last, "facts"
            )
            self._add_finding("FACT_MISSING", where, "it was sealed, and the row is gone")

    def _row_place(self, frame: polars.DataFrame, row: int, column: str | None = None) -> Place:
        log_id, partition, offset = _position(frame, row)
        origin = LogPartition(log_id, frame.get_column("topic")[row], partition)
        return block_place(origin, offset, offset, "facts", column=column)

    def _add_finding(self, kind: Kind, place: Place, detail: str) -> None:
        self._found(Finding(kind, place, detail))


def stored_columns(rows: pyarrow.Table) -> polars.DataFrame:
    """Rows of `facts` with the types of COLUMNS; texts that are none come with their bytes."""
    arrays = []
    for name, dtype in COLUMNS.items():
        column = rows.column(name)
        if name in _BINARY:
            arrays.append(polars.Series(name, column.cast(pyarrow.large_binary())))
            continue
        try:
            arrays.append(polars.Series(name, column).cast(dtype))
        except (polars.exceptions.PolarsError, pyarrow.ArrowException):
            arrays.append(polars.Series(name, _texts(column.to_pylist()), dtype=dtype))
    return polars.DataFrame(arrays)


def _texts(values: Sequence[Any]) -> list[Any]:
    """Bytes that were to be text, so that they can be compared and are equal to none."""
    return [
        _texts(one) if isinstance(one, list) else one.decode(errors="backslashreplace")
        for one in values
    ]


def _position(frame: polars.DataFrame, row: int) -> tuple[bytes, int, int]:
    log_id, partition, offset = (frame.get_column(name)[row] for name in POSITION)
    return bytes(log_id), int(partition), int(offset)


def _runs(places: NDArray[np.int64]) -> list[tuple[int, int]]:
    """First and last of every run of neighbours."""
    if not len(places):
        return []
    breaks = np.flatnonzero(np.diff(places) > 1)
    firsts = [0, *(breaks + 1).tolist()]
    lasts = [*breaks.tolist(), len(places) - 1]
    return [
        (int(places[first]), int(places[last])) for first, last in zip(firsts, lasts, strict=True)
    ]
