"""Faust's Kafka transport, changed where it loses records under batches.

Owns when a batch is delivered and when its offsets are committed. Stock Faust also acknowledges
what it skips or can't decode, takes a failed commit for done, drops records that it takes for
old, and resumes partitions that were revoked again meanwhile. Here instead: an offset is committed
only after our own acknowledgement, a batch is tied to the assignment it was read under, and every
assignment begins with one seek of all its partitions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol, cast

import structlog
from aiokafka.errors import ConsumerStoppedError, KafkaError
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message

from streams.acknowledgement import Acknowledgements
from streams.batching import FetchedRecords, FetchObservation, RecordBatch
from streams.config import AppConfig
from streams.consumer_thread import BatchConsumerThread
from streams.errors import BrokerTooSlow
from streams.metrics import StreamMetrics

log = structlog.get_logger(__name__)

_POLL_TIMEOUT_S = 1.0


class Host(Protocol):
    """What the consumer needs from the app it belongs to."""

    config: AppConfig
    metrics: StreamMetrics
    consumer_generation_id: int

    async def pause(self, timeout_s: float) -> bool:
        """Stops delivery and waits up to `timeout_s` for batches in work."""

    async def announce_revoked(self) -> None:
        """Tells the handlers that they lost their partitions."""


class BatchConsumer(driver.Consumer):
    """Faust's consumer, delivering batches and committing only what was acknowledged.

    Faust's own acknowledgement (`ack`) moves nothing here: Faust also calls it for messages that
    it skips or can't decode. Only `acknowledge` counts.
    """

    _thread: BatchConsumerThread

    def __init__(self, *args: Any, **options: Any) -> None:
        self.acknowledgements = Acknowledgements()
        self._generation = -1
        self._commit_lock = asyncio.Lock()
        super().__init__(*args, **options)

    @property
    def host(self) -> Host:
        """The app this consumer belongs to."""
        return cast(Host, self.app)

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self.host.config, self, loop=self.loop, beacon=self.beacon)

    def observation(self, partition: TopicPartition) -> FetchObservation | None:
        """What the newest answered fetch of `partition` said, None before the first."""
        return self._thread.observations.get(partition)

    def acknowledge(self, batch: RecordBatch) -> bool:
        """Allows the offsets of `batch` to be committed; call it once its effect is durable.

        False, and nothing else, if the partition was revoked meanwhile.
        """
        return self.acknowledgements.acknowledge(batch)

    def ack(self, message: Message) -> bool:
        """Faust's own acknowledgement: ends its tracking of the message, commits nothing."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    def on_buffer_full(self, tp: TP) -> None:
        """Does nothing: a full buffer blocks the fetch loop by itself, without its 1 s naps."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Does nothing, as `on_buffer_full`."""

    async def verify_all_partitions_active(self) -> None:
        """Does nothing: the watchdog judges progress by acknowledgements."""

    async def on_task_error(self, exc: BaseException) -> None:
        """Does nothing: an error is no reason to commit."""

    async def perform_seek(self) -> None:
        """Begins an assignment: every partition is read from its committed offset on.

        Raises AssignmentEnded if it is over already, BrokerTooSlow after the request time-out.
        """
        generation = self.host.consumer_generation_id
        timeout_s = self.host.config.timeouts.request_s
        try:
            positions = await asyncio.wait_for(self._thread.begin_assignment(generation), timeout_s)
        except TimeoutError as error:
            raise BrokerTooSlow("committed offsets", timeout_s) from error
        self._generation = generation
        self.acknowledgements.start(positions.assignment_id, positions.offsets)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yields what one read of the broker brought, one message for each batch.

        A read may begin before a rebalance and end behind the seek that follows: what it brought
        then is the beginning of the new assignment, so it waits for the flow and is not dropped.
        """
        if not await self._flow():
            return
        fetched: Any = await self._thread.getmany(None, timeout)
        if not await self._flow():
            return
        readable: Any = self._readable(fetched)
        for partition, batch in self.scheduler.iterate(readable):
            if not await self._flow():
                return
            if self.acknowledgements.deliver(batch):
                tp = TP(partition.topic, partition.partition)
                yield tp, self._to_message(tp, batch)

    async def _flow(self) -> bool:
        """Waits until an assignment is being read; False if the consumer stops before."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        return not self.should_stop

    def _readable(
        self, fetched: Mapping[TopicPartition, FetchedRecords]
    ) -> dict[TopicPartition, FetchedRecords]:
        for partition, read in fetched.items():
            if not read.records:
                self.acknowledgements.exhaust(partition, read.offset_next, read.assignment_id)
        return {partition: read for partition, read in fetched.items() if read.records}

    def _to_message(self, tp: TP, record: RecordBatch) -> ConsumerMessage:
        last = record.records[-1]
        return ConsumerMessage(
            topic=record.topic,
            partition=record.partition,
            offset=last.offset,
            timestamp=last.timestamp / 1_000,
            timestamp_type=last.timestamp_type,
            headers=None,
            key=None,
            value=cast(Any, record),
            checksum=None,
            serialized_key_size=0,
            serialized_value_size=record.bytes,
            tp=tp,
            generation_id=self._generation,
        )

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                async for _, message in self.getmany(_POLL_TIMEOUT_S):
                    await self.wait_first(self.callback(message), self.suspend_flow.wait())
                await asyncio.sleep(0)
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commits everything acknowledged so far; True if the broker took something.

        What it did not take stays pending. An error that won't pass ends the app.
        """
        async with self._commit_lock:
            pending = self.acknowledgements.pending()
            assignment_id = self.acknowledgements.assignment_id
            if not pending:
                return False
            try:
                done = await self._thread.commit_as(self._generation, pending)
            except KafkaError as error:
                log.critical("commit_refused", error=type(error).__name__)
                await self.crash(error)
                return False
            if done:
                self.acknowledgements.committed(pending, assignment_id)
            self.host.metrics.commits.labels("done" if done else "postponed").inc()
            return done

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Called before the group is joined again; all partitions are given up.

        The batch in work gets a moment to finish, what is acknowledged is committed, the rest is
        dropped unacknowledged.
        """
        drain_timeout_s = self.host.config.drain_timeout_s
        try:
            await self.host.pause(drain_timeout_s)
            await asyncio.wait_for(self.commit(), drain_timeout_s)
        except TimeoutError:
            log.info("commit_before_rebalance_timed_out")
        except BaseException as error:
            # aiokafka only logs what a rebalance callback raises, and joins again.
            await self.crash(error)
            raise
        finally:
            self.acknowledgements.stop()
        await super().on_partitions_revoked(revoked)
        await self.host.announce_revoked()


class BatchTransport(driver.Transport):
    """Faust's transport with `BatchConsumer`."""

    Consumer = BatchConsumer
