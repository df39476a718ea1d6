"""The history writer: takes batches of every partition, seals blocks, says what is durable.

Per partition there is one open block, with its own timer, and a lane in which closed blocks are
made durable one after the other; lanes don't wait for each other. Order within a block: evidence,
facts, the block's own row, its announcement, and only then the acknowledgement. Restarting at any
point repeats or completes what was begun: each offset is in `facts` exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic_ns, time_ns
from typing import Any

import structlog
from aiokafka.structs import TopicPartition

from consent.blocks import CutterLimits, limits_entry, limits_of_entry
from consent.errors import Retryable
from consent.facts import LogPartition
from consent.privacy import Keys
from projections.clickhouse import Store
from projections.history_blocks import Blocks, SealedBlock
from projections.history_errors import LogReplaced
from projections.history_log import HistoryProducer, LogConnection, frozen_entry
from projections.history_metrics import HistoryMetrics
from projections.history_partition import (
    Batch,
    LogEnd,
    OpenPartition,
    TailLimits,
)
from projections.history_resume import Resumed, Resumption
from projections.history_rows import BlockWork
from projections.history_seal import Abandoned, Sealer, SealObservers, SealSettings
from projections.history_store import HistoryStore

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """How blocks are cut, closed and written.

    `cutter` counts only for a ledger's first start: after that its log says. Memory holds at most
    `waiting_blocks_max` closed blocks and an open one per partition, each of `cutter.bytes_max`.
    """

    cutter: CutterLimits = field(default_factory=CutterLimits)
    tail: TailLimits = field(default_factory=TailLimits)
    seal: SealSettings = field(default_factory=SealSettings)
    tail_check_ms: int = 100
    waiting_blocks_max: int = 2
    log_id_check_ms: int = 30_000
    erasure_sweep_ms: int = 3_600_000
    old_parts_check_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class HistoryLinks:
    """What the writer is connected to.

    `log_ids` gives the UUID, 16 bytes, of topics, and `partition_counts` how many partitions they
    have. `log_end` tells about the end of a partition, None if nothing is known. `acknowledge` is
    called once for every batch, in order within a partition, when its records are durable.
    """

    store: Store
    connection: LogConnection
    keys: Keys = field(repr=False)
    log_ids: Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]
    partition_counts: Mapping[str, int]
    log_end: Callable[[TopicPartition], LogEnd | None]
    acknowledge: Callable[[Any], object]


class _Lane:
    """A partition with its closed blocks, which are sealed one after the other."""

    def __init__(
        self, open_partition: OpenPartition, header_sha256: bytes | None, waiting_max: int
    ) -> None:
        self.open = open_partition
        self.header_sha256 = header_sha256
        self.gone = threading.Event()
        self.turn = asyncio.Lock()
        self.waiting: deque[BlockWork] = deque()
        self.changed = asyncio.Condition()
        self._waiting_max = waiting_max

    @property
    def has_room(self) -> bool:
        return len(self.waiting) < self._waiting_max

    async def put(self, work: BlockWork) -> None:
        """Hand over a closed block once there is room for it, or drop it if the lane has ended."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.has_room or self.gone.is_set())
            self.waiting.append(work)
            self.changed.notify_all()

    async def next(self) -> BlockWork:
        """The oldest closed block; it stays in the lane until `done`."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.waiting or self.gone.is_set())
            if self.gone.is_set():
                raise Abandoned
            return self.waiting[0]

    async def done(self) -> None:
        """Take out the oldest closed block."""
        async with self.changed:
            self.waiting.popleft()
            self.changed.notify_all()

    async def end(self) -> None:
        """Give the partition up: nothing further is begun."""
        self.gone.set()
        async with self.changed:
            self.changed.notify_all()


class HistoryWriter:
    """Records every partition that it is assigned. Used from one event loop."""

    def __init__(
        self, links: HistoryLinks, settings: HistorySettings, observers: SealObservers
    ) -> None:
        self._links = links
        self._settings = settings
        self._metrics: HistoryMetrics = observers.metrics
        self._producer = HistoryProducer(links.connection)
        self._store = HistoryStore(links.store, observers.metrics.alarm)
        self._sealer = Sealer(self._store, self._producer, links.keys, settings.seal, observers)
        self._cutter: CutterLimits | None = None
        self._lanes: dict[TopicPartition, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None
        self._log_ids: dict[str, bytes] = {}
        self._preparing = threading.Event()
        self._stopping = threading.Event()

    async def start(self) -> None:
        """Connect, and freeze the cutter's limits or learn them. Waits for store and brokers."""
        self._failed = asyncio.get_running_loop().create_future()
        await self._producer.start()
        stored = await self._ask(self._store.cutter_entry)
        proposed = limits_entry(self._settings.cutter, time_ns() // 1000)
        entry = await frozen_entry(self._links.connection, self._producer, stored, proposed)
        if stored is None:
            await self._ask(lambda: self._store.keep_entry(entry))
        self._cutter = limits_of_entry(entry)
        if self._cutter != self._settings.cutter:
            log.warning("cutter_limits_frozen", limits=str(self._cutter))

    async def stop(self) -> None:
        """Give everything up; blocks that a thread has begun are finished first, unannounced."""
        self._stopping.set()
        await self.revoked()
        await self._settled()
        self._sealer.close()
        await self._producer.stop()

    async def assigned(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Prepare partitions, which are all that the writer has now; offsets to read from.

        May take long. Raises LogContradicts, RowsDoubled or another Corrupt where store and log
        contradict each other. Cancelling it is harmless.
        """
        await self._settled()
        self._preparing = threading.Event()
        try:
            resumed = await self._resume(list(partitions))
        except BaseException:
            self._preparing.set()
            raise
        for partition, found in resumed.items():
            self._open(partition, found)
        self._metrics.open_partitions.set(len(self._lanes))
        return {partition: found.point.position for partition, found in resumed.items()}

    async def revoked(self) -> None:
        """Give up all partitions: nothing further of them is written or acknowledged."""
        self._preparing.set()
        lanes, self._lanes = self._lanes, {}
        for lane in lanes.values():
            await lane.end()
        self._metrics.open_partitions.set(0)

    async def take(self, batch: Batch) -> None:
        """Take a batch over; it is acknowledged later, when it is durable.

        Batches of a partition come in the order of the log. Waits while closed blocks of the
        partition are queued, so that memory stays bounded while the store is slow or away.
        """
        lane = self._lanes.get(TopicPartition(batch.topic, batch.partition))
        if lane is None:
            return
        async with lane.turn:
            gaps = lane.open.gaps
            for work in lane.open.take(batch, time_ns() // 1_000_000, _monotonic_ms()):
                await lane.put(work)
            if lane.open.gaps > gaps:
                self._metrics.gaps.labels(batch.topic).inc(lane.open.gaps - gaps)
        self._acknowledge(lane)

    async def run(self) -> None:
        """Close tails and watch over the lanes until cancelled; raises what made a lane fail."""
        assert self._failed is not None
        watches = [
            asyncio.create_task(self._close_tails()),
            asyncio.create_task(self._watch_logs()),
            asyncio.create_task(self._sweep_erased()),
            asyncio.create_task(self._clear_old_parts()),
        ]
        try:
            done, _ = await asyncio.wait(
                {self._failed, *watches}, return_when=asyncio.FIRST_COMPLETED
            )
            for ended in done:
                ended.result()
        finally:
            for watch in watches:
                watch.cancel()

    async def _close_tails(self) -> None:
        while True:
            await asyncio.sleep(self._settings.tail_check_ms / 1000)
            for partition, lane in list(self._lanes.items()):
                await self._close_tail(partition, lane)

    async def _watch_logs(self) -> None:
        while True:
            await asyncio.sleep(self._settings.log_id_check_ms / 1000)
            await self._check_log_ids()

    async def _sweep_erased(self) -> None:
        """Delete what a killed or paused worker wrote of erased people after their erasure."""
        erasures = self._store.erasures
        while True:
            found = await self._sealer.in_thread(
                lambda: self._sealer.persist(
                    "sweep", lambda: erasures.purge(erasures.strays()), self._stopping
                )
            )
            if found:
                self._metrics.alarm("evidence_of_erased")
                log.error("evidence_of_erased", rows=found)
            await asyncio.sleep(self._settings.erasure_sweep_ms / 1000)

    async def _clear_old_parts(self) -> None:
        """Have what was erased leave the disk; parts grow old by merges too, so look always."""
        erasures = self._store.erasures
        while True:
            await asyncio.sleep(self._settings.old_parts_check_ms / 1000)
            with contextlib.suppress(Retryable):
                await self._sealer.in_thread(erasures.clear_old_parts)

    async def _resume(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Resumed]:
        links = self._links
        topics = sorted({partition.topic for partition in partitions})
        self._log_ids = await self._known_log_ids(topics) if topics else {}
        origins = {
            partition: LogPartition(
                self._log_ids[partition.topic], partition.topic, partition.partition
            )
            for partition in partitions
        }
        await self._complete_blocks()
        resumption = Resumption(
            self._store, self._sealer, links.connection, links.keys, self._metrics
        )
        resumed = await resumption.resume(origins, links.partition_counts, self._preparing)
        for found in resumed.values():
            if found.block_last is not None:
                # Its owner may have died between writing the block and announcing it.
                await self._producer.announce(found.origin, found.block_last)
        return resumed

    async def _complete_blocks(self) -> None:
        """Give roots to blocks of a release that had none, of every log, and announce them."""
        blocks = self._store.blocks
        for origin in await self._ask(blocks.incomplete):
            for block in await self._ask(partial(_listed, blocks, origin)):
                await self._producer.announce(origin, block)

    def _open(self, partition: TopicPartition, resumed: Resumed) -> None:
        assert self._cutter is not None
        count = self._links.partition_counts[partition.topic]
        opened = OpenPartition(resumed.origin, count, resumed.point, self._cutter)
        lane = _Lane(opened, resumed.header_sha256, self._settings.waiting_blocks_max)
        self._lanes[partition] = lane
        task = asyncio.create_task(self._seal_blocks(lane))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def _seal_blocks(self, lane: _Lane) -> None:
        try:
            while True:
                work = await lane.next()
                sealed = await self._sealer.seal(
                    work, lane.open.resume, lane.header_sha256, lane.gone
                )
                lane.header_sha256 = sealed.sha256(lane.open.origin)
                lane.open.durable(work.block)
                await lane.done()
                if lane.gone.is_set():
                    return
                self._acknowledge(lane)
        except Abandoned:
            return

    def _acknowledge(self, lane: _Lane) -> None:
        if not lane.gone.is_set():
            for batch in lane.open.finished():
                self._links.acknowledge(batch)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        problem = None if task.cancelled() else task.exception()
        if problem is not None and self._failed is not None and not self._failed.done():
            self._failed.set_exception(problem)

    async def _close_tail(self, partition: TopicPartition, lane: _Lane) -> None:
        if lane.turn.locked() or not lane.has_room or not lane.open.pending_records:
            return
        end = self._links.log_end(partition)
        if end is None:
            return
        async with lane.turn:
            work = lane.open.close_tail(end, self._settings.tail, _monotonic_ms())
            if work is not None:
                await lane.put(work)

    async def _known_log_ids(self, topics: Sequence[str]) -> dict[str, bytes]:
        while True:
            try:
                return dict(await self._links.log_ids(topics))
            except Retryable as problem:
                log.warning("log_ids_unknown", error=type(problem).__name__)
            await asyncio.sleep(self._settings.seal.backoff_max_ms / 1000)

    async def _check_log_ids(self) -> None:
        known = dict(self._log_ids)
        if not known:
            return
        try:
            found = await self._links.log_ids(sorted(known))
        except Retryable as problem:
            log.warning("log_ids_unchecked", error=type(problem).__name__)
            return
        for topic, log_id in known.items():
            if self._log_ids.get(topic) == log_id != found[topic]:
                raise LogReplaced(topic)

    async def _ask(self, call: Callable[[], Any]) -> Any:
        return await self._sealer.in_thread(
            lambda: self._sealer.persist("start", call, self._preparing)
        )

    async def _settled(self) -> None:
        """Wait until nothing of former assignments is at work any more."""
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)


def _listed(blocks: Blocks, origin: LogPartition) -> list[SealedBlock]:
    return list(blocks.complete(origin))


def _monotonic_ms() -> int:
    return monotonic_ns() // 1_000_000
