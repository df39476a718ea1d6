"""Apps whose handler takes batches over, to be acknowledged later, in order, when they are durable.

For workers that gather what several batches bring into one effect: a block, a checkpoint. Nothing
is acknowledged by the handler's return.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any, Final, cast

import structlog
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver

from projections.clickhouse import Store, StoreParameters
from projections.errors import StoreUnavailable
from streams.acknowledgement import Acknowledgements
from streams.apps import BatchAgent, BatchApp
from streams.batching import RecordBatch
from streams.transport import BatchConsumer, BatchTransport

log = structlog.get_logger(__name__)

_STORE_RETRY_S: Final = 1.0


class _Reading(Acknowledgements):
    """Also says up to where a partition was read."""

    def read_to(self, partition: TopicPartition) -> tuple[int, int] | None:
        """After the last batch that was delivered, and after the markers behind it."""
        state = self._partitions.get(partition)
        return None if state is None else (state.delivered, state.exhausted)


class HandoverConsumer(BatchConsumer):
    """A consumer that also says up to where it has read."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.acknowledgements: _Reading = _Reading()


class HandoverTransport(BatchTransport):
    """The transport of a hand-over app."""

    Consumer = HandoverConsumer


class HandoverApp(BatchApp):
    """A batch app whose handler takes batches over, to be acknowledged later and in order."""

    def _new_transport(self) -> driver.Transport:
        return HandoverTransport(self.conf.broker_consumer, self)

    async def handle(self, agent: BatchAgent, batch: RecordBatch) -> None:
        """Hands a batch over. Nothing is acknowledged by this."""
        if not self._batch_consumer.acknowledgements.holds(batch):
            return
        started = perf_counter()
        with self._at_work():
            await agent.handler(batch)
        self.metrics.batch_records.labels(batch.topic).observe(len(batch.records))
        self.metrics.handler_seconds.labels(batch.topic).observe(perf_counter() - started)

    def acknowledge(self, batch: RecordBatch) -> bool:
        """Allows the offsets of a batch to be committed; False if it came after a revocation."""
        self.batches_finished += 1
        self.metrics.records.labels(batch.topic).inc(len(batch.records))
        if self._batch_consumer.acknowledge(batch):
            return True
        self.metrics.late_acknowledgements.inc()
        log.info("acknowledgement_after_revocation", topic=batch.topic)
        return False

    def read_to(self, partition: TopicPartition) -> tuple[int, int] | None:
        """Up to where a partition was delivered, and up to where nothing more can be read."""
        return cast(_Reading, self._batch_consumer.acknowledgements).read_to(partition)


async def connected_store(parameters: StoreParameters) -> Store:
    """The store, once it answers."""
    while True:
        try:
            return await asyncio.to_thread(Store.connect, parameters)
        except StoreUnavailable as problem:
            log.warning("store_unavailable", operation="connect", error=str(problem))
        await asyncio.sleep(_STORE_RETRY_S)
