"""The record worker: every source topic, recorded in history.

Thin: it connects the batches of the consumer to the history writer, which takes them over and has
them acknowledged when they are durable, and it reads each partition from where the store says.
What becomes of a record is decided in `consent` and `projections`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

import structlog
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver

from consent.contracts import contracts
from consent.privacy import Keys
from projections.clickhouse import Store, StoreParameters
from projections.history import HistoryLinks, HistorySettings, HistoryWriter
from projections.history_log import LogConnection
from projections.history_metrics import HistoryMetrics
from projections.history_partition import LogEnd
from projections.history_seal import SealObservers, StepDone, ignore_step
from streams.apps import BatchAgent, add_background_task, add_batch_agent
from streams.batching import RecordBatch
from streams.config import AppConfig, StallLimits
from streams.consumer_thread import BatchConsumerThread, Positions
from streams.handover import HandoverApp, HandoverConsumer, connected_store
from streams.metrics import StreamMetrics
from streams.transport import BatchTransport
from streams.worker import WorkerOptions, run_worker

log = structlog.get_logger(__name__)

OUTAGE_MAX_S: Final = 86_400
"""How long an outage of the store is sat out before the watchdog ends the worker."""


@dataclass(frozen=True, slots=True)
class RecordConfig:
    """All that the worker needs. `keyed_partitions` is the deployment's count.

    `log_ids` gives the UUID, 16 bytes, of topics. `step_done` is told after each step of a block.
    """

    app: AppConfig
    store: StoreParameters
    keys: Keys = field(repr=False)
    log_ids: Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]
    keyed_partitions: int
    history: HistorySettings = field(default_factory=HistorySettings)
    step_done: StepDone = ignore_step


def record_stall_limits() -> StallLimits:
    """Limits for `RecordConfig.app` that let the worker sit out a store that is away."""
    return StallLimits(progress_s=OUTAGE_MAX_S, rebalance_s=OUTAGE_MAX_S)


class _RecordThread(BatchConsumerThread):
    """Begins every assignment where the store ends, whatever the group committed."""

    async def _begin_assignment(self, generation: int) -> Positions:
        positions = await super()._begin_assignment(generation)
        # No await lies between the seek to the committed offsets and this one.
        read_from = cast(RecordApp, self.app).read_from
        offsets = {
            partition: read_from.get(partition, committed)
            for partition, committed in positions.offsets.items()
        }
        consumer = self._ensure_consumer()
        for partition, offset in offsets.items():
            if offset != positions.offsets[partition]:
                _log_correction(partition, positions.offsets[partition], offset)
                consumer.seek(partition, offset)
        self._cursors = dict(offsets)
        return replace(positions, offsets=offsets)


class _RecordConsumer(HandoverConsumer):
    def _new_consumer_thread(self) -> BatchConsumerThread:
        return _RecordThread(self.host.config, self, loop=self.loop, beacon=self.beacon)


class _RecordTransport(BatchTransport):
    Consumer = _RecordConsumer


class RecordApp(HandoverApp):
    """A hand-over app that reads each partition from where the store says."""

    read_from: Mapping[TopicPartition, int]

    def __init__(self, config: AppConfig, metrics: StreamMetrics) -> None:
        self.read_from = {}
        super().__init__(config, metrics)

    def _new_transport(self) -> driver.Transport:
        return _RecordTransport(self.conf.broker_consumer, self)

    def log_end(self, partition: TopicPartition) -> LogEnd | None:
        """What is known about the end of a partition, None before its first fetch."""
        observation, read_to = self.observation(partition), self.read_to(partition)
        if observation is None or read_to is None:
            return None
        return LogEnd(*read_to, observation.high_watermark, observation.fetched_at * 1000)


class _Recorder:
    """The agent's handler and its listener; the writer exists while the worker runs."""

    def __init__(self, app: RecordApp, config: RecordConfig) -> None:
        self._app = app
        self._config = config
        self._starting: asyncio.Task[HistoryWriter] | None = None

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Connects to store and brokers, without waiting for them: the first assignment does."""
        async with contextlib.AsyncExitStack() as stack:
            self._starting = asyncio.create_task(self._start(stack))
            try:
                yield
            finally:
                self._starting.cancel()
                await asyncio.wait({self._starting})

    async def on_partitions_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        writer = await self._writer()
        self._app.read_from = await writer.assigned(partitions)

    async def on_partitions_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        if self._starting is not None and self._starting.done():
            await (await self._writer()).revoked()

    async def handle(self, batch: RecordBatch) -> None:
        await (await self._writer()).take(batch)

    async def run(self) -> None:
        await (await self._writer()).run()

    async def _start(self, stack: contextlib.AsyncExitStack) -> HistoryWriter:
        store = await connected_store(self._config.store)
        stack.callback(store.close)
        writer = HistoryWriter(self._links(store), self._config.history, self._observers())
        stack.push_async_callback(writer.stop)
        await writer.start()
        return writer

    async def _writer(self) -> HistoryWriter:
        if self._starting is None:
            raise RuntimeError("the worker's resources were not entered")
        return await asyncio.shield(self._starting)

    def _observers(self) -> SealObservers:
        metrics = HistoryMetrics(self._app.metrics.registry)
        return SealObservers(metrics, self._config.step_done)

    def _links(self, store: Store) -> HistoryLinks:
        config = self._config
        topics = (contracts().topics[name] for name in contracts().source_topics)
        return HistoryLinks(
            store=store,
            connection=LogConnection(
                bootstrap=config.app.bootstrap_servers,
                client_id=f"{config.app.client_id}-history",
                options=config.app.security.aiokafka_options(),
            ),
            keys=config.keys,
            log_ids=config.log_ids,
            partition_counts={
                topic.name: topic.partitions or config.keyed_partitions for topic in topics
            },
            log_end=self._app.log_end,
            acknowledge=self._app.acknowledge,
        )


def run_record_worker(config: RecordConfig, options: WorkerOptions | None = None) -> int:
    """Runs the record worker as this process until it is stopped; returns the exit code.

    Waits for a store that is away, at the start and at any time. After a kill at any point the
    next start completes what was begun, each offset once. Ends with 70 where store and log
    contradict each other; a restart does not help then, a person has to look.
    """
    app = RecordApp(config.app, StreamMetrics())
    recorder = _Recorder(app, config)
    topics = frozenset(contracts().source_topics)
    add_batch_agent(app, BatchAgent("record", topics, recorder.handle, recorder))
    add_background_task(app, recorder.run)
    return run_worker(app, options, recorder.connected)


def _log_correction(partition: TopicPartition, committed: int, offset: int) -> None:
    """A commit behind the store is usual; one ahead means that the store has lost rows."""
    write = log.error if committed > offset else log.info
    write(
        "history_resumes_elsewhere",
        topic=partition.topic,
        partition=partition.partition,
        committed=committed,
        offset=offset,
    )
