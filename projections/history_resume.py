"""Where recording goes on after an assignment: what the store says, held against the log.

The store decides, not what the consumer group committed: a commit may be ahead of rows that a
power loss took, or behind rows that a crash left. The last stored record is compared with the
log's own; a log that contradicts the history is never read on.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from aiokafka.structs import TopicPartition

from consent.facts import FactContext, LogPartition, facts_of, needed_columns
from consent.intake import Origin, read_batch
from consent.privacy import Keys
from projections.history_blocks import SealedBlock
from projections.history_errors import LogContradicts
from projections.history_log import LogConnection, LogReader
from projections.history_metrics import HistoryMetrics
from projections.history_partition import ResumePoint
from projections.history_seal import Sealer
from projections.history_store import HistoryStore, StoredTail

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where a partition goes on, and its last block, which may not have been announced.

    `header_sha256` is of the block that comes before the next one, None if there is none.
    """

    origin: LogPartition
    point: ResumePoint
    block_last: SealedBlock | None
    header_sha256: bytes | None


@dataclass(frozen=True, slots=True)
class Resumption:
    """Finds the resume points of partitions. `partition_counts` is by topic."""

    store: HistoryStore
    sealer: Sealer
    connection: LogConnection
    keys: Keys
    metrics: HistoryMetrics

    async def resume(
        self,
        origins: Mapping[TopicPartition, LogPartition],
        partition_counts: Mapping[str, int],
        gone: threading.Event,
    ) -> dict[TopicPartition, Resumed]:
        """Resume points of all partitions.

        Waits for a store or broker that is away. Raises LogContradicts where the log is not the
        one that was recorded, RowsDoubled where the store is not whole.
        """
        tails = dict(
            zip(
                origins,
                await asyncio.gather(
                    *(self._stored_tail(origin, gone) for origin in origins.values())
                ),
                strict=True,
            )
        )
        async with LogReader(self.connection) as reader:
            starts = await reader.starts(list(origins))
            last = {
                partition: tail.position - 1
                for partition, tail in tails.items()
                if tail.position is not None and tail.position > starts[partition]
            }
            records = await reader.records_at(last)
        resumed = {}
        for partition, origin in origins.items():
            compared_at = 0
            if partition in last:
                stored = await self._fact(origin, last[partition], gone)
                if stored is not None:
                    compared_at = stored[1]
                    count = partition_counts[origin.topic]
                    self._compare(origin, count, records[partition], last[partition], stored)
            resumed[partition] = self._resumed(
                origin, tails[partition], starts[partition], compared_at
            )
        return resumed

    async def _stored_tail(self, origin: LogPartition, gone: threading.Event) -> StoredTail:
        return await self._ask(lambda: self.store.stored_tail(origin), gone)

    async def _fact(
        self, origin: LogPartition, offset: int, gone: threading.Event
    ) -> tuple[bytes, int] | None:
        return await self._ask(lambda: self.store.fact(origin, offset), gone)

    async def _ask(self, call: Callable[[], T], gone: threading.Event) -> T:
        return await self.sealer.in_thread(lambda: self.sealer.persist("resume", call, gone))

    def _compare(
        self,
        origin: LogPartition,
        partition_count: int,
        record: Any,
        offset: int,
        stored: tuple[bytes, int],
    ) -> None:
        """Make the stored record's fact again from what the log holds; it must be the same."""
        place = (origin.topic, origin.partition, origin.log_id.hex(), offset, offset)
        if record is None:
            raise LogContradicts(*place, "the log ends before what history has recorded from it")
        fact, recorded_at = stored
        where = Origin(origin.topic, origin.partition, partition_count)
        nonce = os.urandom(16)
        reading = read_batch([record], where, nonce, needed_columns, [recorded_at])
        context = FactContext(origin, self.keys.history)
        made = facts_of([record], [recorded_at], reading, context)
        stamped = record.timestamp * 1000 if record.timestamp_type == 1 else recorded_at
        if made.facts != [fact] or stamped != recorded_at:
            detail = "the log holds another record than history (or the history key was changed)"
            raise LogContradicts(*place, detail)

    def _resumed(
        self, origin: LogPartition, tail: StoredTail, start: int, compared_at: int
    ) -> Resumed:
        position = start if tail.position is None else tail.position
        if position < start or (tail.position is None and start > 0):
            lost = start - (tail.position or 0)
            self.metrics.lost.labels(origin.topic).inc(lost)
            self.metrics.alarm("retention_gap")
            log.error(
                "history_retention_gap",
                topic=origin.topic,
                partition=origin.partition,
                offset_first=tail.position or 0,
                offset_last=start - 1,
            )
            position = start
        block = tail.block_last
        if tail.healing and block is not None:
            self.metrics.alarm("block_short")
            log.error(
                "history_block_short",
                topic=origin.topic,
                partition=origin.partition,
                offset_first=block.offset_first,
                offset_last=block.offset_last,
            )
        last_at = compared_at or (block.recorded_at_max if block and not tail.healing else 0)
        sealed_below = block.offset_last + 1 if block is not None and tail.healing else 0
        point = ResumePoint(position, last_at, tail.recorded_at, tail.offsets, sealed_below)
        return Resumed(origin, point, None if tail.healing else block, tail.header_sha256)
