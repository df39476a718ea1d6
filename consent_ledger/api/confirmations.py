"""Tells when what was published has arrived behind the log: at the dialers, and in history.

Owns how this is asked: the suppression view knows by itself; history is asked for all waiting
requests at once, and only while somebody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from consent.contracts import contracts
from consent.errors import Corrupt, Retryable
from consent_ledger.adapters.publisher import Published
from projections.clickhouse_async import AsyncStore

log = structlog.get_logger(__name__)

Place = tuple[str, int, int]


class ProjectedWait(Protocol):
    """The suppression view's own wait."""

    async def wait_until(self, topic: str, partition: int, offset: int) -> None:
        """Return once a source offset is folded into what this view shows."""


@dataclass(frozen=True, slots=True)
class HistorySource:
    """Where history is: its store, database, and the UUID of every topic's present incarnation."""

    store: AsyncStore
    database: str
    log_ids: Mapping[str, bytes]
    poll_ms: int = 40


_MARKS: Final = """
SELECT topic, partition, max(offset_last) FROM {database}.blocks
WHERE log_id IN (SELECT toFixedString(unhex(arrayJoin({{log_ids:Array(String)}})), 16))
GROUP BY topic, partition
"""
_RECORDED_AT: Final = """
SELECT offset, toUnixTimestamp64Micro(recorded_at) FROM {database}.facts
WHERE log_id = unhex({{log_id:String}}) AND topic = {{topic:String}}
  AND partition = {{partition:Int32}} AND offset IN {{offsets:Array(Int64)}}
"""
_KNOWN: Final = """
SELECT DISTINCT event_id FROM {database}.facts WHERE event_id IN {{event_ids:Array(String)}}
"""


class LogConfirmations:
    """Waits for places in the log. Any number of requests may wait at once."""

    def __init__(self, view: ProjectedWait, history: HistorySource) -> None:
        self._view = view
        self._history = history
        self._marks: dict[tuple[str, int], int] = {}
        self._waiting = 0
        self._advanced = asyncio.Condition()
        self._poll: asyncio.Task[None] | None = None

    async def projected(self, places: Sequence[Published], timeout_s: float) -> bool:
        """True once dialers see all of these; topics that no dialer looks at count as seen."""
        keyed = contracts().keyed_source_topics
        newest = {place: offset for place, offset in _newest(places).items() if place[0] in keyed}
        try:
            async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as group:
                for (topic, partition), offset in newest.items():
                    group.create_task(self._view.wait_until(topic, partition, offset))
        except TimeoutError:
            return False
        return True

    async def recorded(
        self, places: Sequence[Published], timeout_s: float
    ) -> dict[Place, int] | None:
        """`recorded_at` in µs of every place, read back from history; None if not in time."""
        newest = _newest(places)
        try:
            async with asyncio.timeout(timeout_s):
                await self._until_marks(newest)
                return await self._read_back(places)
        except (TimeoutError, Retryable, Corrupt):
            return None

    async def known_events(self, event_ids: Collection[str]) -> set[str]:
        """Those of the ids that history has, of any incarnation of the log."""
        history = self._history
        rows = await history.store.query_rows(
            _KNOWN.format(database=history.database),
            {"event_ids": list(event_ids)},
        )
        return {event_id for (event_id,) in rows}

    async def _until_marks(self, newest: Mapping[tuple[str, int], int]) -> None:
        self._waiting += 1
        if self._poll is None or self._poll.done():
            self._poll = asyncio.create_task(self._follow_marks())
        try:
            async with self._advanced:
                await self._advanced.wait_for(
                    lambda: all(
                        self._marks.get(place, -1) >= offset for place, offset in newest.items()
                    )
                )
        finally:
            self._waiting -= 1

    async def _follow_marks(self) -> None:
        while self._waiting:
            try:
                rows = await self._read_marks()
            except (Retryable, Corrupt) as problem:
                # Whoever waits is told that it was not recorded; somebody has to look.
                log.error("history_unavailable", error=str(problem))
                await asyncio.sleep(1)
                continue
            async with self._advanced:
                for topic, partition, offset_last in rows:
                    self._marks[(topic, partition)] = offset_last
                self._advanced.notify_all()
            await asyncio.sleep(self._history.poll_ms / 1000)

    async def _read_marks(self) -> Sequence[Sequence[Any]]:
        history = self._history
        log_ids = [log_id.hex() for log_id in history.log_ids.values()]
        query = _MARKS.format(database=history.database)
        return await history.store.query_rows(query, {"log_ids": log_ids})

    async def _read_back(self, places: Sequence[Published]) -> dict[Place, int]:
        history = self._history
        offsets: dict[tuple[str, int], list[int]] = {}
        for place in places:
            offsets.setdefault((place.topic, place.partition), []).append(place.offset)
        found: dict[Place, int] = {}
        for (topic, partition), wanted in offsets.items():
            rows = await history.store.query_rows(
                _RECORDED_AT.format(database=history.database),
                {
                    "log_id": history.log_ids[topic].hex(),
                    "topic": topic,
                    "partition": partition,
                    "offsets": wanted,
                },
            )
            found.update(((topic, partition, offset), at) for offset, at in rows)
        missing = {(place.topic, place.partition, place.offset) for place in places} - found.keys()
        if missing:
            raise HistoryHole(f"{len(missing)} records below history's mark are not in it")
        return found


class HistoryHole(Retryable):
    """History says that it is past a record and does not hold it."""


def _newest(places: Sequence[Published]) -> dict[tuple[str, int], int]:
    newest: dict[tuple[str, int], int] = {}
    for place in places:
        key = (place.topic, place.partition)
        newest[key] = max(newest.get(key, -1), place.offset)
    return newest
