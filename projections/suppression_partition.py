"""One partition of the projection while it is ours: its cache, its truth, and what others append.

Knows the topic's records and the cache; does nothing to the topic but read it on recovery and
write again what is behind in it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import structlog

from consent.state import AppliedOffset, merge_applied
from consent.state_codec import Watermark
from projections.suppression_fold import (
    NOTHING_LATER,
    Known,
    States,
    TakenIn,
    TokenKey,
    TopicRow,
    framed_state,
    take_in,
)
from projections.suppression_log import ReadChunk, Row, Stretch, SuppressionLog
from projections.suppression_metrics import SuppressionMetrics
from projections.suppression_store import ChangelogPlace, SuppressionStore
from projections.watermark import TrueAt

log = structlog.get_logger(__name__)

_REWRITE_ROWS: Final = 5_000
_PURGE_INTERVAL_US: Final = 60_000_000
"""Many erasures share a purge: one rewrites all files of the cache."""

Behind = dict[bytes, tuple[int, bytes | None]]
"""Keys whose last record in the topic is behind: its offset, and the state that belongs there."""


@dataclass(slots=True, eq=False)
class OwnedPartition:
    """One partition while it is ours."""

    number: int
    store: SuppressionStore
    log_id: bytes
    token_key: TokenKey
    truth: TrueAt
    applied: dict[tuple[str, bytes], AppliedOffset] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    written_at: int = 0
    purged_at: int = 0
    left: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def offset_next(self) -> int:
        place = self.store.place
        return 0 if place is None else place.offset_next

    def purge_is_due(self, now: int) -> bool:
        """True if deleted states must be taken out of the cache's files at this instant (µs)."""
        return self.store.purge_due and now - self.purged_at >= _PURGE_INTERVAL_US

    def purge(self) -> None:
        """Take deleted states out of the cache's files; blocks."""
        self.store.purge()
        self.purged_at = now_us()
        log.info("local_cache_purged", partition=self.number)

    def note_applied(self, applied: Mapping[tuple[str, bytes], AppliedOffset]) -> None:
        """Take note of what is folded; it never goes back."""
        self.applied = dict(merge_applied(self.applied, applied))

    def note_positions(self, positions: Mapping[str, int], log_ids: Mapping[str, bytes]) -> None:
        """Take note of what is acknowledged, also where no record is in what was passed."""
        for topic, position in positions.items():
            self.positions[topic] = max(self.positions.get(topic, 0), position)
            if position > 0:
                self.note_applied({(topic, log_ids[topic]): AppliedOffset(position - 1, 0)})
        self.truth.reached(self.positions)

    def watermark(self, owner: str) -> Watermark:
        """How far the partition is now."""
        return Watermark(self.number, self.truth.true_at, now_us(), self.applied, owner)

    def take_in(
        self,
        known: Known,
        chunk: ReadChunk,
        later: Mapping[bytes, bytes | None] = NOTHING_LATER,
    ) -> TakenIn:
        """What records of the topic say beyond what is known."""
        rows = [TopicRow(record.offset, record.key, record.value) for record in chunk.records]
        taken = take_in(known, self.number, rows, self.token_key, later)
        for watermark in taken.watermarks:
            self.note_applied(watermark.applied)
            if watermark.true_at <= now_us():
                # One from the future comes from a clock that was wrong.
                self.truth.at_least(watermark.true_at)
        return taken


async def recover(
    partition: OwnedPartition, topic_log: SuppressionLog, metrics: SuppressionMetrics
) -> None:
    """Read the topic from where the cache ends, and write again what is behind in it."""
    store = partition.store
    if store.place is not None and store.place.log_id != partition.log_id:
        log.warning("suppression_topic_is_another", partition=partition.number)
        store.clear()
    start = partition.offset_next
    while True:
        behind: Behind = {}
        end = start
        async with aclosing(topic_log.read(partition.number, start)) as chunks:
            async for chunk in chunks:
                _take_in_recovered(partition, chunk, behind)
                metrics.records_recovered.inc(len(chunk.records))
                end = chunk.offset_next
        if end < start:
            log.error("suppression_topic_lost_records", partition=partition.number)
            behind = {key: (0, body) for key, body in store.items()}
        if not behind:
            return
        rows = behind_rows(behind)
        note_repairs(partition, rows, metrics)
        for first in range(0, len(rows), _REWRITE_ROWS):
            await topic_log.append(partition.number, rows[first : first + _REWRITE_ROWS])
        start = end


def _take_in_recovered(partition: OwnedPartition, chunk: ReadChunk, behind: Behind) -> None:
    store = partition.store
    taken = partition.take_in(store, chunk)
    for record in chunk.records:
        behind.pop(record.key, None)
    behind.update(taken.behind)
    # Until it is written again, the cache claims no more than what is before it.
    place = min([chunk.offset_next, *(offset for offset, _body in behind.values())])
    store.write(taken.states, ChangelogPlace(partition.log_id, place))


def behind_rows(behind: Behind) -> list[Row]:
    """What must be appended for keys whose last record is behind."""
    return rows_of({key: body for key, (_offset, body) in behind.items()})


def note_repairs(
    partition: OwnedPartition, rows: Sequence[Row], metrics: SuppressionMetrics
) -> None:
    """Say that records are appended again because the topic's last ones were behind."""
    if rows:
        metrics.states_repaired.inc(len(rows))
        log.warning("states_repaired", partition=partition.number, states=len(rows))


def gaps(stretches: Sequence[Stretch], place: int, rows: int) -> list[tuple[int, int | None]]:
    """Where others wrote, as (first offset, offset after); up to the end if that is not known.

    `place` is up to where the topic is known, `stretches` is where `rows` records of ours are.
    """
    found: list[tuple[int, int | None]] = []
    for stretch in sorted(stretches, key=lambda stretch: stretch.offset_first):
        if stretch.offset_first > place:
            found.append((place, stretch.offset_first))
        place = max(place, stretch.offset_next)
    if sum(stretch.offset_next - stretch.offset_first for stretch in stretches) < rows:
        found.append((place, None))
    return found


def rows_of(states: States) -> list[Row]:
    """As records; tombstones last, so that a reader never sees a subject without a state."""
    kept = [(key, framed_state(body)) for key, body in states.items() if body is not None]
    return [*kept, *((key, None) for key, body in states.items() if body is None)]


def now_us() -> int:
    """This process's clock."""
    return time.time_ns() // 1000
