"""Counts campaigns' calls from history, where the log that they were counted from is gone.

Makes the very caches that the project worker counts on from, and appends the counts to the topic
of tallies. Readers and owners prefer counts that go further in the log that is there, so doing it
twice, or while somebody counts, is harmless.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from consent.partitioning import partition_of
from consent.tallies import KEPT_US
from consent.tally_events import SOURCE_TOPIC, CallSaid, call_of
from projections.clickhouse import Store
from projections.known_events import known_events, payload_of, read_fact
from projections.suppression_log import LogConnection, SuppressionLog
from projections.surroundings import TALLIES_TOPIC, KnownEvent, SurroundingsBooks
from projections.tally_partition import CountedFrom, PartitionTallies
from projections.tally_store import TallyStore

log = structlog.get_logger(__name__)

_BATCH_RECORDS: Final = 20_000
_NO_NONCE: Final = bytes(16)
_LOGS: Final = """
SELECT log_id, min(offset), max(offset) FROM facts
WHERE topic = {topic:String} AND partition = {partition:Int32}
  AND recorded_at >= fromUnixTimestamp64Micro({since:Int64})
GROUP BY log_id ORDER BY min(recorded_at)
"""
_RANGE: Final = """
WHERE log_id = unhex({log_id:String}) AND topic = {topic:String} AND partition = {partition:Int32}
  AND offset BETWEEN {first:Int64} AND {last:Int64}
"""
_FACTS: Final = f"""
SELECT offset, toUnixTimestamp64Micro(effective_at), fact FROM facts {_RANGE}
  AND event_name IN ('CallPlaced', 'CallEnded') AND unreadable = '' AND campaign_id != ''
"""  # noqa: S608 (all values are our own)
_NUMBERS: Final = f"SELECT offset, number FROM evidence {_RANGE}"  # noqa: S608


@dataclass(frozen=True, slots=True)
class TallyRebuild:
    """What is made anew: caches in `folder`, which is emptied, and the topic of tallies.

    `log_ids` are those of the topics that are there now.
    """

    connection: LogConnection
    folder: Path
    partitions: int
    log_ids: Mapping[str, bytes]


async def rebuild_tallies(store: Store, rebuild: TallyRebuild) -> int:
    """Count all calls that any current period can hold; returns how many records were appended.

    On return they are acknowledged. Run it before a project worker opens the folder; StoreUnusable
    if one has.
    """
    known = await asyncio.to_thread(known_events, store)
    _empty(rebuild.folder)
    counted = [
        await asyncio.to_thread(_count, store, rebuild, number)
        for number in range(rebuild.partitions)
    ]
    try:
        return await _append(rebuild, counted, _counted_from(known, counted))
    finally:
        for tallies in counted:
            tallies.close()


def _empty(folder: Path) -> None:
    """Remove the caches; StoreUnusable if a worker has one of them open."""
    for path in folder.glob("*") if folder.is_dir() else ():
        TallyStore(path).close()
    shutil.rmtree(folder, ignore_errors=True)


def _counted_from(known: Sequence[KnownEvent], counted: Sequence[PartitionTallies]) -> CountedFrom:
    """As the worker: from the declared start, else from the earliest call of any partition."""
    programs = SurroundingsBooks(_NO_NONCE, known).programs
    first: dict[Any, int] = {}
    for tallies in counted:
        for name, at in tallies.first_calls():
            first[name] = min(at, first.get(name, at))

    def counted_from(name: Any, first_at: int) -> int:
        declared = programs.declared_start(name)
        return min(first_at, first.get(name, first_at)) if declared is None else declared

    return counted_from


async def _append(
    rebuild: TallyRebuild, counted: Sequence[PartitionTallies], counted_from: CountedFrom
) -> int:
    topic_log = SuppressionLog(rebuild.connection, TALLIES_TOPIC)
    await topic_log.start()
    appended = 0
    try:
        for tallies in counted:
            tallies.settle(counted_from)
            rows = tallies.take_rows()
            if rows:
                await topic_log.append(tallies.number, rows)
                appended += len(rows)
    finally:
        await topic_log.stop()
    log.info("tallies_rebuilt", records=appended)
    return appended


def _count(store: Store, rebuild: TallyRebuild, number: int) -> PartitionTallies:
    """One partition's calls of every incarnation of the log, up to where history has the last."""
    log_id = rebuild.log_ids[SOURCE_TOPIC]
    tallies = PartitionTallies(number, TallyStore(rebuild.folder / str(number)), log_id)
    now = time.time_ns() // 1_000
    offset_next = 0
    for said, last in _calls(store, rebuild, number, now - KEPT_US):
        if last is not None:
            offset_next = last + 1
        # Offsets of different logs mean nothing beside each other: all of them count.
        tallies.fold(
            [one._replace(offset=offset_next) for one in said],
            offset_next,
            now,
            lambda _name, first_at: first_at,
        )
    return tallies


def _calls(
    store: Store, rebuild: TallyRebuild, number: int, since: int
) -> Iterator[tuple[list[CallSaid], int | None]]:
    """Calls in batches; with the last offset where that is one of the log that is there now."""
    asked = {"topic": SOURCE_TOPIC, "partition": number, "since": since}
    for log_id, first, last in _rows(store, _LOGS, asked):
        current = bytes(log_id) == rebuild.log_ids[SOURCE_TOPIC]
        for start in range(first, last + 1, _BATCH_RECORDS):
            end = min(last, start + _BATCH_RECORDS - 1)
            stretch = {
                "log_id": bytes(log_id).hex(),
                "topic": SOURCE_TOPIC,
                "partition": number,
                "first": start,
                "last": end,
            }
            said = _batch(store, stretch, number, rebuild.partitions)
            yield said, end if current else None


def _batch(
    store: Store, stretch: Mapping[str, Any], number: int, partitions: int
) -> list[CallSaid]:
    facts = _rows(store, _FACTS, stretch)
    if not facts:
        return []
    numbers = {offset: bytes(text) for offset, text in _rows(store, _NUMBERS, stretch)}
    found = []
    for offset, effective_at, data in facts:
        key = numbers.get(offset)
        if key and partition_of(key, partitions) != number:
            # It was forwarded: its copy in its own partition is counted there.
            continue
        fact = read_fact(bytes(data))
        said = call_of(fact["event_name"], payload_of(fact), effective_at, offset)
        if said is not None:
            found.append(said)
    return found


def _rows(store: Store, sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    table = store.query_arrow(sql, parameters, strings_as_bytes=True)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))
