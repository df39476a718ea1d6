"""Makes Faust apps whose agents handle record batches with explicit acknowledgement.

Owns the life of a batch between the consumer and its handler, and of an assignment between the
group and the handlers. Knows nothing of what the handlers do. There are no tables, windows or
web server in these apps, and no environment variable changes their settings.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, Protocol

import faust
import structlog
from aiokafka.structs import TopicPartition
from faust.app.base import BootStrategy
from faust.types import TP
from yarl import URL

from streams.assignment import AssignmentKeeper
from streams.assignor import EvenAssignor
from streams.batching import BatchScheduler, BatchSchema, FetchObservation, RecordBatch
from streams.config import AppConfig
from streams.errors import NotCopartitioned
from streams.metrics import StreamMetrics
from streams.process import exit_without_commit
from streams.transport import BatchConsumer, BatchTransport

log = structlog.get_logger(__name__)

BatchHandler = Callable[[RecordBatch], Awaitable[None]]


class PartitionsListener(Protocol):
    """Told which partitions of its topics a handler has. The two calls never overlap."""

    async def on_partitions_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """Called before the first batch of `partitions`, which are all that the handler has now.

        May take long; the membership is kept. Cancelled if the partitions are revoked meanwhile,
        in which case `on_partitions_revoked` follows. An error ends the process.
        """

    async def on_partitions_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Called before every rebalance with all that the handler had, also what comes back, and
        at an orderly stop.

        Must be short. A handler that takes longer than `drain_timeout_s` may still be inside a
        batch of these partitions; its acknowledgement will be ignored.
        """


@dataclass(frozen=True, slots=True)
class BatchAgent:
    """One handler, the topics it reads, and who is told about its partitions."""

    name: str
    topics: frozenset[str]
    handler: BatchHandler
    listener: PartitionsListener | None = None


class _Settings(faust.Settings):
    """Faust lets environment variables overrule what a program says, under common names such as
    WEB_PORT; here none does.
    """

    def getenv(self, env_name: str) -> Any:
        return None


class _ConsumerOnly(BootStrategy):
    """Starts no producer (handlers bring their own), leader election or reply consumer."""

    enable_kafka_producer = False
    enable_web = False

    def kafka_consumer(self) -> Iterable[Any]:
        return [self.app.consumer]


class _InWork:
    """Counts the handlers that are inside a batch. A class, because `contextlib` writes to what
    passes through it, and errors that are frozen dataclasses don't let it.
    """

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.count -= 1


class BatchApp(faust.App):
    """A Faust app for one consumer group. Made by `make_app`, run by `worker.run_worker`."""

    Settings = _Settings
    BootStrategy = _ConsumerOnly

    def __init__(self, config: AppConfig, metrics: StreamMetrics) -> None:
        self.config = config
        self.metrics = metrics
        self.batch_agents: list[BatchAgent] = []
        self.batches_finished = 0
        self.settled = False
        self._in_work = _InWork()
        self._assigned: frozenset[TP] = frozenset()
        super().__init__(config.group_id, **_faust_options(config))

    @property
    def batches_in_work(self) -> int:
        """How many handlers are inside a batch now."""
        return self._in_work.count

    @property
    def assigned(self) -> frozenset[TP]:
        """The partitions of the current assignment, empty during a rebalance."""
        return self._assigned

    def positions(self) -> Mapping[TopicPartition, int]:
        """Next offset of each partition, below which every readable record is acknowledged."""
        return self._batch_consumer.acknowledgements.positions()

    def observation(self, partition: TopicPartition) -> FetchObservation | None:
        """What the newest answered fetch said about `partition`; idle partitions are fetched, too,
        every `fetch.wait_ms`. Thus a partition is done up to `fetched_at` if its position has
        reached `high_watermark`, as far as the leader that answered knew.
        """
        return self._batch_consumer.observation(partition)

    @property
    def _batch_consumer(self) -> BatchConsumer:
        consumer = self.consumer
        assert isinstance(consumer, BatchConsumer)
        return consumer

    def _new_transport(self) -> Any:
        return BatchTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Without tables there is nothing to keep on disk."""

    async def _on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        if not self.should_stop:
            try:
                check_copartitioned(self.config.copartitioned_topics, assigned)
            except NotCopartitioned as error:
                log.critical("topics_not_copartitioned", partitions=error.partitions)
                await self.crash(error)
                return
        await super()._on_partitions_assigned(assigned, generation_id)

    async def announce_assigned(self, partitions: frozenset[TP]) -> None:
        """Lets every listener prepare for its partitions, one after the other."""
        self._assigned = partitions
        self.metrics.rebalances.inc()
        self.metrics.partitions.set(len(partitions))
        for agent in self.batch_agents:
            if agent.listener is not None:
                await agent.listener.on_partitions_assigned(_of_topics(partitions, agent.topics))

    async def announce_revoked(self) -> None:
        """Tells every listener that its partitions are gone; an error ends the app."""
        partitions, self._assigned = self._assigned, frozenset()
        self.metrics.partitions.set(0)
        try:
            for agent in self.batch_agents:
                if agent.listener is not None and partitions:
                    await agent.listener.on_partitions_revoked(_of_topics(partitions, agent.topics))
        except Exception as error:
            await self.crash(error)
            raise

    def resume(self) -> None:
        """Lets records flow. Called once per assignment, after its seek."""
        self.flow_control.resume()
        self.consumer.resume_flow()
        self.settled = True
        self.on_rebalance_end()
        self.add_future(self._fetcher.maybe_start())

    async def pause(self, timeout_s: float) -> bool:
        """Stops delivery, drops what waits in the buffers, and waits for batches in work.

        False if a handler was still at work after `timeout_s`.
        """
        assert isinstance(self.tables, AssignmentKeeper)
        self.settled = False
        await self.tables.abandon()
        self.consumer.stop_flow()
        self.flow_control.suspend()
        self.flow_control.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._in_work.count:
                    await asyncio.sleep(0.01)
        return self._in_work.count == 0

    async def on_stop(self) -> None:
        """Stops in order: the batch in work may finish, then the last commit, then the rest."""
        if not self.crashed and self._consumer is not None:
            await self.pause(self.config.stop_timeout_s / 2)
            await self.announce_revoked()
        await super().on_stop()

    async def handle(self, agent: BatchAgent, batch: RecordBatch) -> None:
        """Runs the handler of one batch and acknowledges it. Nothing lies between the two."""
        consumer = self._batch_consumer
        if not consumer.acknowledgements.holds(batch):
            return
        started = perf_counter()
        with self._at_work():
            await agent.handler(batch)
            in_time = consumer.acknowledge(batch)
        self.batches_finished += 1
        if not in_time:
            self.metrics.late_acknowledgements.inc()
            log.info("acknowledgement_after_revocation", topic=batch.topic)
        self.metrics.records.labels(batch.topic).inc(len(batch.records))
        self.metrics.batch_records.labels(batch.topic).observe(len(batch.records))
        self.metrics.handler_seconds.labels(batch.topic).observe(perf_counter() - started)

    def _at_work(self) -> _InWork:
        return self._in_work


def make_app(config: AppConfig, metrics: StreamMetrics | None = None) -> BatchApp:
    """Makes an app; touches neither the network nor an event loop."""
    return BatchApp(config, metrics if metrics is not None else StreamMetrics())


def add_batch_agent(app: BatchApp, agent: BatchAgent) -> None:
    """Subscribes `agent.handler` to its topics. Call it before the app starts.

    The handler gets one batch at a time, each partition in the order of its log. A batch is
    acknowledged when the handler returns; batches that were not are read again, here or by
    another owner, so their effect must be harmless when repeated. An error or a cancellation
    that leaves the handler ends the process without a commit; only an orderly stop may cancel
    it. One slow handler delays all others of the app.
    """
    taken = {topic for other in app.batch_agents for topic in other.topics} & agent.topics
    if taken or not agent.topics:
        raise ValueError(f"agent {agent.name}: no topics, or topics taken: {sorted(taken)}")
    app.batch_agents.append(agent)

    async def consume(stream: Any) -> None:
        # Faust would otherwise acknowledge a batch whose handler failed or was cancelled.
        stream.enable_acks = False
        try:
            async for event in stream.events():
                await app.handle(agent, event.value)
                await stream.ack(event)
        except BaseException as error:
            if app.should_stop:
                raise
            exit_without_commit("batch_handler_failed", error, agent=agent.name)
        if not app.should_stop:
            exit_without_commit("batch_agent_ended", agent=agent.name)

    channel = app.topic(*sorted(agent.topics), schema=BatchSchema(), internal=False)
    app.agent(channel, name=agent.name, concurrency=1)(consume)


def add_background_task(app: BatchApp, run: Callable[[], Awaitable[None]]) -> None:
    """Runs `run` once the first assignment is being read; an error in it ends the app."""
    app.task(run)


def check_copartitioned(topics: frozenset[str], assigned: Iterable[TP]) -> None:
    """Raises NotCopartitioned unless the same partitions of all `topics` are in `assigned`."""
    partitions: dict[str, set[int]] = {topic: set() for topic in topics}
    for topic, partition in assigned:
        if topic in partitions:
            partitions[topic].add(partition)
    if len({frozenset(numbers) for numbers in partitions.values()}) > 1:
        raise NotCopartitioned(
            {topic: tuple(sorted(numbers)) for topic, numbers in partitions.items()}
        )


def _of_topics(partitions: Iterable[TP], topics: frozenset[str]) -> frozenset[TopicPartition]:
    return frozenset(TopicPartition(*tp) for tp in partitions if tp.topic in topics)


def _faust_options(config: AppConfig) -> dict[str, Any]:
    return {
        "broker": [URL(f"kafka://{server}") for server in config.bootstrap_servers.split(",")],
        "broker_client_id": config.client_id,
        "broker_commit_interval": config.commit_interval_s,
        "broker_session_timeout": config.timeouts.session_s,
        "broker_request_timeout": max(config.timeouts.request_s, config.timeouts.session_s),
        "ConsumerScheduler": partial(BatchScheduler, config.batch),
        "PartitionAssignor": EvenAssignor,
        "TableManager": AssignmentKeeper,
        "key_serializer": "raw",
        "value_serializer": "raw",
        "processing_guarantee": "at_least_once",
        "stream_buffer_maxsize": config.fetch.buffer_batches,
        "stream_wait_empty": False,
        "table_standby_replicas": 0,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "web_enabled": False,
        "worker_redirect_stdouts": False,
        "autodiscover": False,
    }
