"""Where the blocks of a partition begin and end: a function of the log alone.

A block is a contiguous range of one topic partition inside one month. Every owner of a partition
must cut alike, wherever its fetches were split and wherever it was restarted, because a block's
range is what makes a repeated insert recognisable and what its proof covers. Limits are
therefore part of the log: its first entry carries them (`limits_entry`), and configuration only
proposes them. This module cuts; it does not write, and it holds no records.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from consent.errors import Corrupt, Rejected

CUTTER_VERSION: Final = 1
_DAY_MS: Final = 86_400_000
_ENTRY_NAMES: Final = ("version", "records_max", "bytes_max", "bucket_ms")
_ENTRY_NAMESPACE: Final = uuid.UUID("6f4a1f0e-5d1c-5c53-9a55-0f3f9a0c7c11")

Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CutterLimits:
    """When a block is full: records, bytes of keys and values, or its bucket of broker time.

    `bucket_ms` divides a day, so that no bucket reaches over midnight UTC and no block over the
    end of a month. One record above `bytes_max` is a block of its own.
    """

    records_max: int = 20_000
    bytes_max: int = 8 * 1024 * 1024
    bucket_ms: int = 5_000
    version: int = CUTTER_VERSION

    def __post_init__(self) -> None:
        for name in ("records_max", "bytes_max", "bucket_ms"):
            if getattr(self, name) < 1:
                raise Rejected("OUT_OF_RANGE", name, str(getattr(self, name)), "Use 1 or more")
        if _DAY_MS % self.bucket_ms:
            remedy = f"Use milliseconds that divide a day ({_DAY_MS})"
            raise Rejected("OUT_OF_RANGE", "bucket_ms", str(self.bucket_ms), remedy)
        if self.version != CUTTER_VERSION:
            remedy = f"This release cuts as version {CUTTER_VERSION}: upgrade it"
            raise Rejected("UNKNOWN_CUTTER", "version", str(self.version), remedy)


@dataclass(frozen=True, slots=True)
class Tail:
    """The open block of a partition; empty if `records` is 0.

    `position` is the offset after its last record, where the next one is expected.
    """

    offset_first: int
    position: int
    records: int = 0
    bytes: int = 0
    bucket: int = 0
    recorded_at_min: int = 0
    recorded_at_max: int = 0

    def full(self, limits: CutterLimits) -> bool:
        """True if the next record, whatever it is, begins another block."""
        return self.records >= limits.records_max or self.bytes > limits.bytes_max

    def bucket_ends_at(self, limits: CutterLimits) -> int:
        """Broker time in µs from which on no record can belong to this block."""
        return (self.bucket + 1) * limits.bucket_ms * 1000


@dataclass(frozen=True, slots=True)
class Block:
    """A closed range: every record of the log from `offset_first` to `offset_last`.

    Each block begins where the one before it ended, so ranges leave no hole between them.
    `records` may be less than the offsets of the range: a log has gaps where it held the markers
    of transactions. `month` is yyyymm of the broker time, UTC; times are µs.
    """

    offset_first: int
    offset_last: int
    records: int
    bytes: int
    month: int
    recorded_at_min: int
    recorded_at_max: int


@dataclass(frozen=True, slots=True)
class Cutting:
    """What a batch did: the blocks that it closed, and the block left open after it.

    `ends[i]` is the index in the batch after the last record of `blocks[i]`: 0 if that block was
    complete before the batch. `gaps` counts offsets that the log does not have.
    """

    blocks: tuple[Block, ...]
    ends: tuple[int, ...]
    tail: Tail
    gaps: int


@dataclass(frozen=True, slots=True)
class Columns:
    """What the cutter sees of records in offset order; never empty.

    `recorded_at` is the broker time in µs, `sizes` the bytes of key and value.
    """

    offsets: Sequence[int]
    recorded_at: Sequence[int]
    sizes: Sequence[int]


def opened(position: int) -> Tail:
    """An empty block that begins at an offset: a log's first, or the one after a closed block."""
    return Tail(position, position)


def cut(tail: Tail, columns: Columns, limits: CutterLimits) -> Cutting:
    """Cut records that follow `tail`; the cuts do not depend on how the records were batched.

    Raises Corrupt if the offsets do not grow or do not follow the tail.
    """
    batch = _Batch(
        offsets=np.asarray(columns.offsets, dtype=np.int64),
        times=np.asarray(columns.recorded_at, dtype=np.int64),
        sizes=np.cumsum(np.asarray(columns.sizes, dtype=np.int64)),
        buckets=np.asarray(columns.recorded_at, dtype=np.int64) // (limits.bucket_ms * 1000),
    )
    position, count = tail.position, len(batch.offsets)
    _check_order(position, batch.offsets)
    starts = _starts(tail, batch, limits)
    blocks = []
    at = 0
    for start in starts:
        block = closed(_extended(tail, batch, at, start))
        blocks.append(block)
        tail, at = opened(block.offset_last + 1), start
    tail = _extended(tail, batch, at, count)
    gaps = int(batch.offsets[-1]) + 1 - position - count
    return Cutting(tuple(blocks), tuple(starts), tail, gaps)


def closed(tail: Tail) -> Block:
    """The open block, which must hold a record, as a block that ends here."""
    return Block(
        offset_first=tail.offset_first,
        offset_last=tail.position - 1,
        records=tail.records,
        bytes=tail.bytes,
        month=month_of(tail.recorded_at_min),
        recorded_at_min=tail.recorded_at_min,
        recorded_at_max=tail.recorded_at_max,
    )


def month_of(at: int) -> int:
    """yyyymm, UTC, of a time in µs."""
    moment = datetime.fromtimestamp(at // 1_000_000, UTC)
    return moment.year * 100 + moment.month


def facts_digest(facts: Iterable[bytes]) -> bytes:
    """SHA-256 over facts in offset order, each after its length as 4 bytes, big-endian."""
    digest = hashlib.sha256()
    digest.update(b"".join(len(fact).to_bytes(4, "big") + fact for fact in facts))
    return digest.digest()


def limits_entry(limits: CutterLimits, at: int) -> dict[str, Any]:
    """Fields of the LogEntry that freezes the limits; its id is a function of the limits."""
    pairs = [(name, str(getattr(limits, name))) for name in _ENTRY_NAMES]
    canonical = "\n".join(f"{name}={value}" for name, value in pairs)
    return {
        "entry_id": str(uuid.uuid5(_ENTRY_NAMESPACE, canonical)),
        "at": at,
        "entry_kind": "CUTTER",
        "subject": None,
        "content_sha256": hashlib.sha256(canonical.encode()).digest(),
        "content": [{"name": name, "value": value} for name, value in pairs],
    }


def limits_of_entry(entry: Mapping[str, Any]) -> CutterLimits:
    """The limits that a LogEntry froze; Corrupt if they are not whole or not its digest's."""
    content = {pair["name"]: pair["value"] for pair in entry["content"]}
    try:
        limits = CutterLimits(**{name: int(content[name]) for name in _ENTRY_NAMES})
    except (KeyError, ValueError) as problem:
        raise Corrupt(f"the entry with the cutter's limits is broken: {problem}") from None
    if limits_entry(limits, entry["at"])["content_sha256"] != entry["content_sha256"]:
        raise Corrupt("the entry with the cutter's limits does not have the digest of its content")
    return limits


@dataclass(frozen=True, slots=True)
class _Batch:
    offsets: Longs
    times: Longs
    sizes: Longs
    """Running total: bytes of the records up to and with this one."""
    buckets: Longs

    def bytes_before(self, index: int) -> int:
        return int(self.sizes[index - 1]) if index else 0


def _check_order(position: int, offsets: Longs) -> None:
    if offsets[0] < position:
        raise Corrupt(f"offset {offsets[0]} comes after position {position} was reached")
    if len(offsets) > 1 and not (np.diff(offsets) > 0).all():
        raise Corrupt(f"the offsets from {offsets[0]} on do not grow")


def _starts(tail: Tail, batch: _Batch, limits: CutterLimits) -> list[int]:
    """Indexes at which a new block begins; one step per block, whatever the batch's size."""
    count = len(batch.offsets)
    changes = [int(index) for index in np.flatnonzero(np.diff(batch.buckets)) + 1]
    if tail.records and int(batch.buckets[0]) != tail.bucket:
        changes.insert(0, 0)
    starts: list[int] = []
    at, records, size = 0, tail.records, tail.bytes
    for change in [*changes, count]:
        while (full_at := _full_at(batch, at, records, size, limits)) < change:
            starts.append(full_at)
            at, records, size = full_at, 0, 0
        if change < count:
            starts.append(change)
            at, records, size = change, 0, 0
    return starts


def _full_at(batch: _Batch, at: int, records: int, size: int, limits: CutterLimits) -> int:
    """First index that no longer fits a block which holds `records` of `size` bytes before `at`."""
    room = batch.bytes_before(at) + limits.bytes_max - size
    by_bytes = int(np.searchsorted(batch.sizes, room, side="right"))
    full_at = min(at + limits.records_max - records, by_bytes)
    return full_at if records else max(full_at, at + 1)


def _extended(tail: Tail, batch: _Batch, start: int, end: int) -> Tail:
    """The open block with the records from index `start` up to `end`."""
    if start == end:
        return tail
    low, high = int(batch.times[start:end].min()), int(batch.times[start:end].max())
    return Tail(
        offset_first=tail.offset_first,
        position=int(batch.offsets[end - 1]) + 1,
        records=tail.records + end - start,
        bytes=tail.bytes + int(batch.sizes[end - 1]) - batch.bytes_before(start),
        bucket=int(batch.buckets[start]),
        recorded_at_min=min(tail.recorded_at_min, low) if tail.records else low,
        recorded_at_max=max(tail.recorded_at_max, high),
    )
