"""Verifies a whole ledger from the store and the log's files, and trusts neither.

Order: the log against its checkpoints, headers against their chain, the store's blocks against the
headers, facts and their columns against the blocks, evidence against the facts. The log is read
before the store, so that what is written meanwhile is at worst not in the log yet. Memory is
bounded by `VerificationLimits`, whatever the size of the history. Nothing is changed or repaired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import pyarrow

from consent.fact_columns import COLUMNS, NO_SUBJECT
from consent.facts import LogPartition
from consent.notes import VerifierKey
from consent.tiles import TILE_WIDTH, Tile
from projections.clickhouse import Store
from projections.history_blocks import Blocks, SealedBlock, where
from projections.log_errors import LogDamaged
from projections.log_folder import LogFolder
from projections.verification_blocks import ChainBook, JudgedBlock
from projections.verification_entries import KeptEntries
from projections.verification_facts import FactsPass, Stretch
from projections.verification_findings import Finding, Found, Place
from projections.verification_log import GivenCheckpoint, LogCheck

_TOKENS: Final = 1 << 128
_NAMES: Final = ", ".join(COLUMNS)


@dataclass(frozen=True, slots=True)
class VerificationLimits:
    """Bounds of memory, and of what may still be under way.

    A pass spans at most `places_max` offsets, a page has about `page_rows` rows. Records younger
    than `pending_ms` need not be in a block, nor blocks in the log, unless the ledger is at rest.
    """

    places_max: int = 4_000_000
    page_rows: int = 100_000
    pending_ms: int = 600_000


@dataclass(frozen=True, slots=True)
class VerificationScope:
    """What is verified beside the log, which always is: all facts, or a month, or one subject.

    `checkpoints` are notes that somebody kept. `at_rest`: nothing is being written, so nothing
    may be under way.
    """

    month: int | None = None
    subject: bytes | None = field(default=None, repr=False)
    checkpoints: Sequence[GivenCheckpoint] = ()
    at_rest: bool = False
    evidence: bool = True


@dataclass(slots=True)
class VerificationReport:
    """What was verified, and what was found."""

    entries: int = 0
    blocks: int = 0
    blocks_unsealed: int = 0
    facts: int = 0
    evidence: int = 0
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where everything is read from; `keys` are the log's public keys, from elsewhere."""

    store: Store
    folder: LogFolder
    keys: Sequence[VerifierKey]


Progress = Callable[[int, int], None]
"""Told how many facts are done, and of how many."""


def no_progress(done: int, total: int) -> None:
    """Default for `Progress`."""


class Verification:
    """One run. `nonce` is 16 random bytes, `now` µs since the epoch."""

    def __init__(
        self,
        sources: Sources,
        scope: VerificationScope,
        limits: VerificationLimits,
        nonce: bytes,
        now: int,
    ) -> None:
        self._store = sources.store
        self._sources = sources
        self._scope = scope
        self._limits = limits
        self._nonce = nonce
        self._late_at = now if scope.at_rest else now - limits.pending_ms * 1000
        self._report = VerificationReport()
        self._book = ChainBook(self._found)
        self._blocks = Blocks(sources.store)

    def run(self, progress: Progress = no_progress) -> VerificationReport:
        """Verify; raises only where the store is away or refuses to answer."""
        self._log()
        by_origin = self._judged_blocks()
        if self._scope.subject is not None:
            self._subject(by_origin)
        else:
            self._facts(by_origin, progress)
        return self._report

    @property
    def _found(self) -> Found:
        return self._report.findings.append

    def _log(self) -> None:
        given = [*self._scope.checkpoints, *self._kept_checkpoints()]
        check = LogCheck(self._sources.folder, self._sources.keys, given, self._found)
        size = check.size()
        kept = KeptEntries(self._store, self._found)
        for place in check.entries(size):
            fields = self._book.add(place)
            if fields is not None:
                kept.compare(place.index, fields)
        self._report.entries = size

    def _kept_checkpoints(self) -> Iterator[GivenCheckpoint]:
        rows = self._store.query_rows("SELECT size, note FROM checkpoints ORDER BY size")
        for size, note in rows:
            yield GivenCheckpoint(note, Place(table="checkpoints", size=int(size)))

    def _judged_blocks(self) -> dict[LogPartition, list[JudgedBlock]]:
        rows = self._store.query_rows(
            "SELECT DISTINCT hex(log_id), topic, partition FROM blocks ORDER BY 2, 3, 1"
        )
        stored = [
            LogPartition(bytes.fromhex(log_id), topic, int(partition))
            for log_id, topic, partition in rows
        ]
        by_origin = {}
        for origin in dict.fromkeys([*self._book.origins, *stored]):
            judged = self._book.judged(
                origin, self._blocks.all(origin), self._entry, self._may_be_pending
            )
            by_origin[origin] = judged
            self._report.blocks += len(judged)
            self._report.blocks_unsealed += sum(not one.sealed for one in judged)
        return by_origin

    def _entry(self, position: int) -> bytes | None:
        index, place = divmod(position, TILE_WIDTH)
        width = min(TILE_WIDTH, self._report.entries - index * TILE_WIDTH)
        try:
            return self._sources.folder.bundle(Tile(None, index, width))[place]
        except LogDamaged:
            return None

    def _may_be_pending(self, block: SealedBlock) -> bool:
        return not self._late(block.recorded_at_max)

    def _late(self, recorded_at: int) -> bool:
        return recorded_at < self._late_at or self._scope.at_rest

    def _facts(
        self, by_origin: Mapping[LogPartition, Sequence[JudgedBlock]], progress: Progress
    ) -> None:
        counts = self._counts()
        total = sum(counts.values())
        months = {month for _, month in counts}
        for judged in by_origin.values():
            months |= {one.block.month for one in judged}
        if self._scope.month is not None:
            months &= {self._scope.month}
        done = 0
        for month in sorted(months):
            for stretches in self._passes(by_origin, month):
                done = self._pass(month, stretches, done, total, progress)
            self._strays(by_origin, month, counts)

    def _counts(self) -> dict[tuple[LogPartition, int], int]:
        """Facts by partition and month, as the store has them."""
        month = self._scope.month
        condition = "1" if month is None else f"toYYYYMM(recorded_at) = {month}"
        rows = self._store.query_rows(
            "SELECT hex(log_id), topic, partition, toYYYYMM(recorded_at) AS month, count() "  # noqa: S608
            f"FROM facts WHERE {condition} GROUP BY log_id, topic, partition, month"
        )
        return {
            (LogPartition(bytes.fromhex(log_id), topic, int(partition)), int(in_month)): int(count)
            for log_id, topic, partition, in_month, count in rows
        }

    def _passes(
        self, by_origin: Mapping[LogPartition, Sequence[JudgedBlock]], month: int
    ) -> Iterator[list[Stretch]]:
        """The partitions of a month in portions that fit into memory, long ones cut into parts."""
        portion: list[Stretch] = []
        base = 0
        for origin, judged in by_origin.items():
            own = [one for one in judged if one.block.month == month]
            for blocks in _parts(own, self._limits.places_max):
                stretch = Stretch(origin, blocks, base)
                taken = any(one.origin == origin for one in portion)
                if portion and (taken or base + stretch.places > self._limits.places_max):
                    yield portion
                    portion, base = [], 0
                    stretch = Stretch(origin, blocks, 0)
                portion.append(stretch)
                base += stretch.places
        if portion:
            yield portion

    def _pass(
        self, month: int, stretches: list[Stretch], done: int, total: int, progress: Progress
    ) -> int:
        facts = FactsPass(stretches, self._nonce, self._found, self._late)
        condition = f"toYYYYMM(recorded_at) = {month} AND ({_ranges(stretches)})"
        count = self._count(condition)
        for page in self._pages(condition, count):
            facts.add(page)
            done += page.num_rows
            progress(done, total)
        self._report.facts += facts.finish()
        if self._scope.evidence:
            self._evidence(facts, stretches)
        return done

    def _pages(self, condition: str, count: int) -> Iterator[pyarrow.Table]:
        """Facts by stretches of subjects, as they lie in the store.

        Within a page they come type by type, which recomputing their columns is fastest with.
        """
        number = max(1, count // self._limits.page_rows)
        edges = [index * _TOKENS // number for index in range(number + 1)]
        queries = [f"subject = unhex('{NO_SUBJECT.hex()}')"]
        for low, high in pairwise(edges):
            first = f"subject >= unhex('{max(low, 1):032x}')"
            last = f" AND subject < unhex('{high:032x}')" if high < _TOKENS else ""
            queries.append(first + last)
        pages = [
            f"SELECT {_NAMES} FROM facts WHERE {condition} AND {subjects} "  # noqa: S608
            "ORDER BY event_name, event_version, unreadable"
            for subjects in queries
        ]
        for page in self._read_ahead(pages):
            yield from _sliced(page, self._limits.page_rows * 2)

    def _evidence(self, facts: FactsPass, stretches: Sequence[Stretch]) -> None:
        rows_max = self._limits.page_rows
        parts = [
            (stretch.origin, low, min(low + rows_max - 1, stretch.offset_last))
            for stretch in stretches
            for low in range(stretch.offset_first, stretch.offset_last + 1, rows_max)
        ]
        queries = [
            "SELECT offset, number, salt, evidence FROM evidence "  # noqa: S608
            f"WHERE {where(origin)} AND offset BETWEEN {low} AND {high}"
            for origin, low, high in parts
        ]
        for (origin, _, _), rows in zip(parts, self._read_ahead(queries), strict=True):
            if rows.num_rows:
                facts.add_evidence(origin, rows)
                self._report.evidence += rows.num_rows

    def _read_ahead(self, queries: Sequence[str]) -> Iterator[pyarrow.Table]:
        """Results in order; the next one is being read while one is being judged."""
        with ThreadPoolExecutor(1, thread_name_prefix="verify") as ahead:
            waiting = [ahead.submit(self._read, query) for query in queries[:1]]
            for following in [*queries[1:], None]:
                if following is not None:
                    waiting.append(ahead.submit(self._read, following))
                if waiting:
                    yield waiting.pop(0).result()

    def _read(self, query: str) -> pyarrow.Table:
        return self._store.query_arrow(query, strings_as_bytes=True)

    def _strays(
        self,
        by_origin: Mapping[LogPartition, Sequence[JudgedBlock]],
        month: int,
        counts: Mapping[tuple[LogPartition, int], int],
    ) -> None:
        """Facts of a month that lie in no block of it: what is new may, anything else may not."""
        for origin, in_month in counts:
            if in_month != month:
                continue
            judged = by_origin.get(origin, ())
            own = [one.block for one in judged if one.block.month == month]
            covered = " OR ".join(
                f"offset BETWEEN {first} AND {last}" for first, last in _covered(own)
            )
            rows = self._store.query_rows(
                "SELECT offset, toUnixTimestamp64Micro(recorded_at) FROM facts "  # noqa: S608
                f"WHERE {where(origin)} AND topic = {{topic:String}} "
                f"AND toYYYYMM(recorded_at) = {month} AND NOT ({covered or '0'}) ORDER BY offset",
                {"topic": origin.topic},
            )
            for offset, recorded_at in rows:
                if self._late(int(recorded_at)):
                    place = Place(
                        "facts", origin.topic, origin.partition, origin.log_id.hex(), int(offset)
                    )
                    detail = "no block of its month covers this row"
                    self._found(Finding("FACT_UNKNOWN", place, detail))

    def _subject(self, by_origin: Mapping[LogPartition, Sequence[JudgedBlock]]) -> None:
        """Verify the blocks that hold a subject's facts, each as a pass of its own."""
        assert self._scope.subject is not None
        rows = self._store.query_rows(
            "SELECT hex(log_id), topic, partition, offset FROM facts "  # noqa: S608
            f"WHERE subject = unhex('{self._scope.subject.hex()}') ORDER BY 1, 3, 4"
        )
        wanted: dict[tuple[LogPartition, int], JudgedBlock] = {}
        for log_id, topic, partition, offset in rows:
            origin = LogPartition(bytes.fromhex(log_id), topic, int(partition))
            for judged in by_origin.get(origin, ()):
                block = judged.block
                if block.offset_first <= int(offset) <= block.offset_last:
                    wanted[origin, block.offset_first] = judged
                    break
            else:
                self._uncovered(origin, int(offset))
        for (origin, _), judged in wanted.items():
            stretch = Stretch(origin, [judged], 0)
            self._pass(judged.block.month, [stretch], 0, 0, no_progress)

    def _uncovered(self, origin: LogPartition, offset: int) -> None:
        if self._scope.at_rest or offset <= self._book.end(origin):
            place = Place("facts", origin.topic, origin.partition, origin.log_id.hex(), offset)
            self._found(Finding("FACT_UNKNOWN", place, "no block covers this row"))

    def _count(self, condition: str) -> int:
        query = f"SELECT count() FROM facts WHERE {condition}"  # noqa: S608
        return int(self._store.query_rows(query)[0][0])


def _parts(blocks: Sequence[JudgedBlock], places_max: int) -> Iterator[list[JudgedBlock]]:
    """Blocks in portions that span at most so many offsets, one block at the least."""
    part: list[JudgedBlock] = []
    for judged in blocks:
        first = part[0].block.offset_first if part else judged.block.offset_first
        if part and judged.block.offset_last - first + 1 > places_max:
            yield part
            part = []
        part.append(judged)
    if part:
        yield part


def _ranges(stretches: Sequence[Stretch]) -> str:
    return " OR ".join(
        f"({where(one.origin)} AND offset BETWEEN {one.offset_first} AND {one.offset_last})"
        for one in stretches
    )


def _covered(blocks: Sequence[SealedBlock]) -> list[tuple[int, int]]:
    """The ranges that blocks cover, neighbours joined."""
    ranges: list[tuple[int, int]] = []
    for block in blocks:
        if ranges and ranges[-1][1] + 1 >= block.offset_first:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], block.offset_last))
        else:
            ranges.append((block.offset_first, block.offset_last))
    return ranges


def _sliced(page: pyarrow.Table, rows_max: int) -> Iterator[pyarrow.Table]:
    for start in range(0, page.num_rows, rows_max):
        yield page.slice(start, rows_max)
