"""Reads from the broker and commits to it, in the consumer's own thread.

Owns where in the log a read begins and ends, and that nothing is committed in the name of another
generation of the group. Decides nothing about what may be committed. Written against aiokafka
0.14.0 and faust-streaming 0.15.3, whose insides it uses, because their public calls leave gaps:
a seek that skips partitions without a commit, a commit that is retried under a later membership,
no word about when a fetch was sent. The tests of this package hold it true.
"""
# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalGenerationError,
    KafkaError,
    NoError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.errors import OffsetOutOfRangeError as BrokerOffsetOutOfRange
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.batching import FetchedRecords, FetchObservation
from streams.config import AppConfig
from streams.errors import OffsetsOutOfRange

# A worker whose handler is stuck is ended by its own watchdog, which also works when the group
# protocol does not: a member that aiokafka itself takes out for not polling can't rejoin, since
# Faust stops polling during a rebalance. So aiokafka's own limit is set out of reach.
_POLL_INTERVAL_MAX_MS = 2**31 - 1
_MEMBERSHIP_LOST = (UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError)


class AssignmentEnded(Exception):
    """The group has moved on while positions were looked up; another assignment follows."""


@dataclass(frozen=True, slots=True)
class Positions:
    """Where an assignment begins to read."""

    assignment_id: int
    offsets: Mapping[TopicPartition, int]


def wall_clock_ms() -> int:
    """This process's clock, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class FetchProbe:
    """Stands between aiokafka's fetcher and its client and notes what every fetch answered.

    Used in the consumer thread; `observations` may be read from any thread, entry by entry.
    """

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms
        self._client: Any = None
        self._fetcher: Any = None
        self._rests_until_s = 0.0
        self.observations: dict[TopicPartition, FetchObservation] = {}
        self.out_of_range: dict[TopicPartition, int] = {}

    def attach(self, fetcher: Any) -> None:
        """Goes between `fetcher` and its client. Call it before the first fetch."""
        self._client = fetcher._client
        self._fetcher = fetcher
        fetcher._client = self

    def rest(self, seconds: float) -> None:
        """Holds fetches back for so long from now; those that were sent are answered as ever.

        It is the request that rests: were it the reading, a fetch would bring the first record
        that comes, and keep it while others wait at the broker.
        """
        self._rests_until_s = time.monotonic() + seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: Any, **options: Any) -> Any:
        """Sends as the client does, a fetch after the rest."""
        left_s = self._rests_until_s - time.monotonic()
        if left_s > 0 and isinstance(request, FetchRequest):
            await asyncio.sleep(left_s)
        asked_at = self._clock_ms()
        response = await self._client.send(node_id, request, **options)
        if isinstance(request, FetchRequest):
            self._note(asked_at, request, response)
        return response

    def _note(self, asked_at: int, request: Any, response: Any) -> None:
        offsets = {
            TopicPartition(topic, partition): offset
            for topic, partitions in request.topics
            for partition, offset, _ in partitions
        }
        for topic, partitions in response.topics:
            for partition, error_code, high_watermark, *_ in partitions:
                target = TopicPartition(topic, partition)
                error = for_code(error_code)
                if error is BrokerOffsetOutOfRange:
                    self.out_of_range[target] = offsets[target]
                # Records that wait to be read belong to the observation that came with them.
                elif error is NoError and target not in self._fetcher._records:
                    self.observations[target] = FetchObservation(
                        offsets[target], high_watermark, asked_at
                    )


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """Runs aiokafka's consumer in its own thread and event loop, so that heartbeats go on while a
    handler computes.

    Positions, cursors and the assignment number change together, without an await between, which
    is what makes a batch's place in the log exact.
    """

    def __init__(self, config: AppConfig, consumer: driver.Consumer, **options: Any) -> None:
        self._config = config
        self._cursors: dict[TopicPartition, int] = {}
        self._assignment_id = 0
        self._probe = FetchProbe(wall_clock_ms)
        super().__init__(consumer, **options)

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        config = self._config
        timeouts, fetch = config.timeouts, config.fetch
        return AIOKafkaConsumer(
            client_id=config.client_id,
            group_id=config.group_id,
            group_instance_id=config.group_instance_id,
            bootstrap_servers=config.bootstrap_servers,
            # Without tables Faust would take round robin, which gives partition p of two topics
            # to two workers.
            partition_assignment_strategy=[self.app.assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            check_crcs=True,
            fetch_max_wait_ms=fetch.wait_ms,
            fetch_max_bytes=fetch.total_bytes_max,
            max_partition_fetch_bytes=fetch.partition_bytes_max,
            max_poll_interval_ms=_POLL_INTERVAL_MAX_MS,
            session_timeout_ms=int(timeouts.session_s * 1_000),
            heartbeat_interval_ms=int(timeouts.heartbeat_s * 1_000),
            rebalance_timeout_ms=int(timeouts.rebalance_s * 1_000),
            request_timeout_ms=int(timeouts.request_s * 1_000),
            **config.security.aiokafka_options(),
        )

    async def on_start(self) -> None:
        """Connects, and puts the probe in place before the first fetch."""
        await super().on_start()
        self._probe.attach(self._ensure_consumer()._fetcher)

    @property
    def observations(self) -> Mapping[TopicPartition, FetchObservation]:
        """The newest answered fetch of each partition, also of those no longer assigned."""
        return self._probe.observations

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Called by aiokafka before it joins the group again."""
        self._cursors = {}
        await super().on_partitions_revoked(revoked)

    async def begin_assignment(self, generation: int) -> Positions:
        """Seeks every assigned partition to its committed offset, or to its beginning.

        Raises AssignmentEnded if the group has moved on meanwhile.
        """
        return cast(Positions, await self.call_thread(self._begin_assignment, generation))

    async def _begin_assignment(self, generation: int) -> Positions:
        consumer = self._ensure_consumer()
        coordinator = consumer._coordinator
        partitions = frozenset(consumer.assignment())
        committed = await coordinator.fetch_committed_offsets(list(partitions))
        offsets = {
            partition: committed[partition].offset
            for partition in partitions
            if partition in committed and committed[partition].offset >= 0
        }
        missing = partitions - offsets.keys()
        if missing:
            offsets.update(await consumer.beginning_offsets(missing))
        if coordinator.generation != generation or consumer.assignment() != partitions:
            raise AssignmentEnded
        for partition, offset in offsets.items():
            consumer.seek(partition, offset)
        self._assignment_id += 1
        self._cursors = dict(offsets)
        return Positions(self._assignment_id, offsets)

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Any:
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():
            records = await fetcher.fetched_records(
                (), timeout=timeout, max_records=self._config.batch.records_max
            )
        self._rest_after(sum(map(len, records.values())))
        for partition in records:
            # aiokafka would go on with the same partition until what it fetched of it is read.
            if partition in fetcher._records:
                fetcher._records.move_to_end(partition)
        if self._probe.out_of_range:
            raise OffsetsOutOfRange(
                {f"{tp.topic}-{tp.partition}": at for tp, at in self._probe.out_of_range.items()}
            )
        return self._place(consumer, records)

    def _rest_after(self, count: int) -> None:
        """Few records are followed by a rest, none by none: that read has waited already.

        Called without an await since the records were taken, so before the next fetch is sent.
        """
        fetch = self._config.fetch
        if 0 < count < fetch.rest_below_records:
            self._probe.rest(fetch.rest_ms / 1_000)

    def _place(
        self, consumer: AIOKafkaConsumer, records: Mapping[TopicPartition, list[Any]]
    ) -> dict[TopicPartition, FetchedRecords]:
        """Says for what was read which stretch of the log it covers.

        What is read before the seek of its assignment has no cursor and is left out: that seek
        brings it again.
        """
        placed: dict[TopicPartition, FetchedRecords] = {}
        subscription = consumer._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return placed
        for partition, cursor in self._cursors.items():
            state = subscription.assignment.state_value(partition)
            observation = self._probe.observations.get(partition)
            if state is None or not state.has_valid_position or observation is None:
                continue
            found = records.get(partition, ())
            if state.position > cursor:
                placed[partition] = FetchedRecords(
                    found, cursor, state.position, observation, self._assignment_id
                )
            if found:
                self._cursors[partition] = state.position
        return placed

    async def commit_as(self, generation: int, offsets: Mapping[TopicPartition, int]) -> bool:
        """Commits as a member of `generation`; False if it can't be done now or any more.

        Nothing is sent in another generation's name: aiokafka's own commit would, if the group
        moved on while it looked for the coordinator.
        """
        return cast(bool, await self.call_thread(self._commit_as, generation, offsets))

    async def _commit_as(self, generation: int, offsets: Mapping[TopicPartition, int]) -> bool:
        coordinator = self._ensure_consumer()._coordinator
        assignment = self._ensure_consumer()._subscription.subscription.assignment
        async with coordinator._commit_lock:
            if coordinator.generation != generation or coordinator.coordinator_id is None:
                return False
            try:
                await coordinator._do_commit_offsets(
                    assignment,
                    {tp: OffsetAndMetadata(offset, "") for tp, offset in offsets.items()},
                )
            except _MEMBERSHIP_LOST:
                return False
            except KafkaError as error:
                if not error.retriable:
                    raise
                return False
        return True
