"""The seal worker: `ledger-blocks`, brought into the proof log.

Thin: it connects the batches of the consumer to the sealer, which takes them over and has them
acknowledged when a checkpoint covers them. As many as one likes may run; one has the partition.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka.structs import TopicPartition

from consent.notes import SigningKey
from projections.clickhouse import StoreParameters
from projections.history_log import BLOCKS_TOPIC, LogConnection
from projections.log_metrics import LogMetrics
from projections.log_sealer import (
    Cosign,
    LogSealer,
    SealerLinks,
    SealerSettings,
    Step,
    ignore_step,
    nobody,
)
from streams.apps import BatchAgent, add_background_task, add_batch_agent
from streams.batching import RecordBatch
from streams.config import AppConfig
from streams.handover import HandoverApp, connected_store
from streams.metrics import StreamMetrics
from streams.worker import WorkerOptions, run_worker

MakeCosign = Callable[[LogMetrics], contextlib.AbstractAsyncContextManager[Cosign]]


@contextlib.asynccontextmanager
async def no_witnesses(metrics: LogMetrics) -> AsyncIterator[Cosign]:
    """Default for `MakeCosign`."""
    yield nobody


@dataclass(frozen=True, slots=True)
class SealConfig:
    """All that the worker needs. `folder` holds the log, which `key` signs under its name.

    `witnesses` is entered before the log is read. `step_done` is told after each step.
    """

    app: AppConfig
    store: StoreParameters
    folder: Path
    key: SigningKey = field(repr=False)
    sealer: SealerSettings = field(default_factory=SealerSettings)
    witnesses: MakeCosign = no_witnesses
    step_done: Callable[[Step], None] = ignore_step


class _Sealing:
    """The agent's handler and its listener; the sealer exists while the worker runs."""

    def __init__(self, app: HandoverApp, config: SealConfig) -> None:
        self._app = app
        self._config = config
        self._starting: asyncio.Task[LogSealer] | None = None

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
        await (await self._sealer()).assigned(partitions)

    async def on_partitions_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        if self._starting is not None and self._starting.done():
            await (await self._sealer()).revoked()

    async def handle(self, batch: RecordBatch) -> None:
        await (await self._sealer()).take(batch)

    async def run(self) -> None:
        await (await self._sealer()).run()

    async def _start(self, stack: contextlib.AsyncExitStack) -> LogSealer:
        config = self._config
        metrics = LogMetrics(self._app.metrics.registry)
        cosign = await stack.enter_async_context(config.witnesses(metrics))
        store = await connected_store(config.store)
        stack.callback(store.close)
        links = SealerLinks(
            store=store,
            connection=LogConnection(
                bootstrap=config.app.bootstrap_servers,
                client_id=f"{config.app.client_id}-log",
                options=config.app.security.aiokafka_options(),
            ),
            folder=config.folder,
            key=config.key,
            acknowledge=self._app.acknowledge,
            cosign=cosign,
            step_done=config.step_done,
        )
        sealer = LogSealer(links, config.sealer, metrics)
        stack.push_async_callback(sealer.stop)
        await sealer.start()
        return sealer

    async def _sealer(self) -> LogSealer:
        if self._starting is None:
            raise RuntimeError("the worker's resources were not entered")
        return await asyncio.shield(self._starting)


def run_seal_worker(config: SealConfig, options: WorkerOptions | None = None) -> int:
    """Runs the seal worker as this process until it is stopped; returns the exit code.

    Waits for a store that is away, at the start and at any time. After a kill at any point the
    next start completes what was begun. Ends with 70 where the log can't be continued: its folder,
    the store and the topic contradict each other; a restart does not help then, a person has to
    look.
    """
    app = HandoverApp(config.app, StreamMetrics())
    sealing = _Sealing(app, config)
    add_batch_agent(app, BatchAgent("seal", frozenset({BLOCKS_TOPIC}), sealing.handle, sealing))
    add_background_task(app, sealing.run)
    return run_worker(app, options, sealing.connected)
