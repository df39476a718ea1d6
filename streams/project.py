"""The project worker: the number-keyed topics, folded into the suppression topic.

Thin: it connects the batches of the consumer to the projection, which makes their effect safe
before they are acknowledged, and asks about once a second where the source partitions end, so that
idle partitions stay fresh. What becomes of a record is decided in `consent` and `projections`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from consent.columns import NONCE_BYTES
from consent.contracts import contracts
from consent.privacy import Keys
from projections.suppression import (
    LogIds,
    ProjectionSettings,
    StepDone,
    SuppressionProjection,
    ignore_step,
)
from projections.suppression_log import LogConnection, SuppressionLog
from projections.suppression_metrics import SuppressionMetrics
from projections.suppression_store import StoreFolder, StoreLimits
from projections.surroundings import KnownEvents, SurroundingsConfig
from projections.tally_keeper import TallyKeeper, TallyKeeping
from projections.watermark import SourceEnd
from streams.apps import BatchAgent, BatchApp, add_background_task, add_batch_agent, make_app
from streams.batching import RecordBatch
from streams.config import AppConfig
from streams.worker import WorkerOptions, run_worker

log = structlog.get_logger(__name__)

_CACHE_FOLDER: Final = "suppression"
TALLIES_FOLDER: Final = "tallies"
_ENDS_TIMEOUT_S: Final = 2.0
_COLLECT_AFTER_OBJECTS: Final = 100_000


@dataclass(frozen=True, slots=True)
class ProjectConfig:
    """All that the worker needs. `keyed_partitions` is the deployment's count.

    `log_ids` gives the UUID, 16 bytes, of topics. `embedded_broker` says that the broker is one
    whose ListOffsets can't be relied on, so that the end of a source partition is taken from the
    consumer's fetches, and that does not number producers.
    `known` gives the events of programs from before the log began, where brokers forget.
    `beat_ms` is how often the ends are asked for, and idle partitions written. `step_done` is told
    after each durable step.
    """

    app: AppConfig
    keys: Keys = field(repr=False)
    log_ids: LogIds
    keyed_partitions: int
    data_dir: Path
    embedded_broker: bool = False
    known: KnownEvents | None = None
    beat_ms: int = 1_000
    store: StoreLimits = field(default_factory=StoreLimits)
    step_done: StepDone = ignore_step


class _Projector:
    """The agent's handler and its listener; the projection exists while the worker runs."""

    def __init__(self, app: BatchApp, config: ProjectConfig) -> None:
        self._app = app
        self._config = config
        self._topics = contracts().keyed_source_topics
        self._projection: SuppressionProjection | None = None
        self._ends: AIOKafkaConsumer | None = None

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Connects to the brokers; KafkaConnectionError if none answers."""
        config = self._config
        connection = LogConnection(
            bootstrap=config.app.bootstrap_servers,
            client_id=f"{config.app.client_id}-suppression",
            idempotent=not config.embedded_broker,
            options=config.app.security.aiokafka_options(),
            request_timeout_ms=int(config.app.timeouts.request_s * 1_000),
        )
        topic_log = SuppressionLog(connection)
        settings = ProjectionSettings(
            partitions=config.keyed_partitions,
            owner=config.app.client_id,
            keys=config.keys,
            nonce=secrets.token_bytes(NONCE_BYTES),
            step_done=config.step_done,
        )
        folder = StoreFolder(config.data_dir / _CACHE_FOLDER, config.store)
        metrics = SuppressionMetrics(self._app.metrics.registry)
        async with contextlib.AsyncExitStack() as stack:
            if not config.embedded_broker:
                self._ends = AIOKafkaConsumer(
                    bootstrap_servers=connection.bootstrap,
                    client_id=f"{config.app.client_id}-ends",
                    isolation_level="read_committed",
                    request_timeout_ms=connection.request_timeout_ms,
                    **connection.options,
                )
                stack.push_async_callback(self._ends.stop)
                await self._ends.start()
            stack.push_async_callback(topic_log.stop)
            await topic_log.start()
            tallies = await self._tallies(connection, metrics)
            stack.push_async_callback(tallies.stop)
            await tallies.start()
            self._projection = SuppressionProjection(
                topic_log, folder, config.log_ids, settings, metrics, tallies
            )
            yield
            self._projection.revoked()

    async def _tallies(self, connection: LogConnection, metrics: SuppressionMetrics) -> TallyKeeper:
        config = self._config
        client_id = f"{config.app.client_id}-tallies"
        surroundings = SurroundingsConfig(
            bootstrap=connection.bootstrap,
            keyed_partitions=config.keyed_partitions,
            log_ids=config.log_ids,
            nonce=secrets.token_bytes(NONCE_BYTES),
            client_id=client_id,
            options=connection.options,
            request_timeout_ms=connection.request_timeout_ms,
        )
        known = () if config.known is None else await config.known()
        folder = config.data_dir / TALLIES_FOLDER
        keeping = TallyKeeping(surroundings, folder, known, step_done=config.step_done)
        return TallyKeeper(replace(connection, client_id=client_id), keeping, metrics)

    async def on_partitions_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        await self._ready.assigned({partition.partition for partition in partitions})

    async def on_partitions_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        self._ready.revoked()

    async def handle(self, batch: RecordBatch) -> None:
        await self._ready.apply(batch)

    async def beat_for_ever(self) -> None:
        """Asks where the source partitions end, and writes what is idle; each partition by itself,
        so that one whose broker is away makes no other one stale.
        """
        beating: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                for number, task in list(beating.items()):
                    if task.done():
                        await beating.pop(number)
                for number in self._ready.owned - beating.keys():
                    beating[number] = asyncio.create_task(self._beat(number))
                await asyncio.sleep(self._config.beat_ms / 1_000)
        finally:
            for task in beating.values():
                task.cancel()
            await asyncio.gather(*beating.values(), return_exceptions=True)

    async def _beat(self, number: int) -> None:
        sources = [TopicPartition(topic, number) for topic in self._topics]
        ends: Mapping[str, SourceEnd] = {}
        try:
            async with asyncio.timeout(_ENDS_TIMEOUT_S):
                ends = await self._ends_of(sources)
        except (KafkaError, TimeoutError) as problem:
            # Nothing is claimed then, and the partition grows stale.
            log.warning("ends_unknown", partition=number, error=type(problem).__name__)
        positions = self._app.positions()
        done = {source.topic: positions[source] for source in sources if source in positions}
        await self._ready.beat(number, done, ends, self._config.beat_ms * 500)

    async def _ends_of(self, sources: Collection[TopicPartition]) -> dict[str, SourceEnd]:
        """Where partitions end, each with a clock reading from before that was asked."""
        if self._ends is None:
            seen = {source.topic: self._app.observation(source) for source in sources}
            return {
                topic: SourceEnd(observation.fetched_at * 1_000, observation.high_watermark)
                for topic, observation in seen.items()
                if observation is not None
            }
        asked_at = time.time_ns() // 1_000
        ends = await self._ends.end_offsets(list(sources))
        return {source.topic: SourceEnd(asked_at, end) for source, end in ends.items()}

    @property
    def _ready(self) -> SuppressionProjection:
        if self._projection is None:
            raise RuntimeError("the worker's resources were not entered")
        return self._projection


def run_project_worker(config: ProjectConfig, options: WorkerOptions | None = None) -> int:
    """Runs the project worker as this process until it is stopped; returns the exit code.

    Waits for brokers that are away. After a kill at any point the next owner of a partition
    reaches the same states. Ends with 70 where the topics contradict what is known; a person has
    to look then.
    """
    topics = frozenset(contracts().keyed_source_topics)
    # A batch makes some ten thousand short-lived tuples, none in a cycle. With the usual
    # thresholds a fifth of the time went into looking for cycles among them.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS, 10, 100)
    app = make_app(replace(config.app, copartitioned_topics=topics))
    projector = _Projector(app, config)
    add_batch_agent(app, BatchAgent("project", topics, projector.handle, projector))
    add_background_task(app, projector.beat_for_ever)
    return run_worker(app, options, projector.connected)
