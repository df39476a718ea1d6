"""Follows whole topics from their beginnings, without a consumer group, for as long as it runs.

Owns reading, and how fresh it is; what records mean is the receiver's. For one event loop. A
topic that was made anew is read anew, into an emptied receiver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from consent.contracts import contracts
from consent.errors import ConsentError, Corrupt
from projections.consumer_stop import stop_consumer

log = structlog.get_logger(__name__)

LogIds = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]

_BACKOFF_FIRST_S: Final = 0.1
_BACKOFF_MAX_S: Final = 5.0


class Receiver(Protocol):
    """What is told of the records. Its methods must not wait."""

    def begin(self, log_ids: Mapping[str, bytes]) -> None:
        """Forget everything: the topics are read from their beginnings, of these incarnations."""

    def take(self, target: TopicPartition, records: Sequence[ConsumerRecord]) -> None:
        """Records of one partition in their order; Corrupt ends the following for good."""


@dataclass(frozen=True, slots=True)
class FollowerConfig:
    """What is followed, and how.

    `keyed_partitions` is the count of every number-keyed topic; `watched` are topics that are not
    read, but whose being made anew makes all that was read count for nothing. `log_ids` gives the
    UUIDs of topics, compared every `log_check_ms`. `options` are aiokafka's security arguments.
    """

    bootstrap: str
    topics: tuple[str, ...]
    keyed_partitions: int
    log_ids: LogIds
    client_id: str
    watched: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    log_check_ms: int = 5_000
    fetch_wait_ms: int = 100
    read_records_max: int = 5_000
    request_timeout_ms: int = 20_000


class TopicFollower:
    """Start it, ask how fresh it is, stop it."""

    def __init__(self, config: FollowerConfig, receiver: Receiver) -> None:
        self._config = config
        self._receiver = receiver
        self._targets = [
            TopicPartition(topic, number)
            for topic in config.topics
            for number in range(self._partitions(topic))
        ]
        self._offsets: dict[TopicPartition, int] = {}
        self._true_at_ms: dict[TopicPartition, int] = {}
        self._log_ids: Mapping[str, bytes] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failed = False

    async def start(self) -> None:
        """Begin to follow; returns at once. Brokers that are away are waited for."""
        self._task = asyncio.create_task(self._follow_for_ever())
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Stop following; what was read grows old."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def failed(self) -> bool:
        """True if following ended without being asked to; nothing may rest on it then."""
        return self._failed

    @property
    def loaded(self) -> bool:
        """True if every partition was read to its end."""
        return not self._failed and len(self._true_at_ms) == len(self._targets)

    def true_at_ms(self) -> int | None:
        """Up to this instant, in ms by this clock, everything was taken; None before loading."""
        return min(self._true_at_ms.values()) if self.loaded else None

    async def wait_until_loaded(self) -> None:
        """Return once every partition was read to its end; set a time-out around it.

        ConsentError if following has ended for good.
        """
        while not self.loaded:
            if self._failed:
                raise FollowingEnded(f"{', '.join(self._config.topics)}: see the log")
            changed = self._changed
            await changed.wait()

    def _partitions(self, topic: str) -> int:
        return contracts().topics[topic].partitions or self._config.keyed_partitions

    def _ended(self, following: asyncio.Task[None]) -> None:
        if not following.cancelled():
            self._failed = True
            self._notify()
            topics = self._config.topics
            log.critical("follower_failed", topics=topics, exc_info=following.exception())

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _follow_for_ever(self) -> None:
        backoff_s = _BACKOFF_FIRST_S
        while True:
            try:
                await self._follow_one_incarnation()
                backoff_s = _BACKOFF_FIRST_S
            except Corrupt:
                # Skipping what can't be read could lose a restriction.
                raise
            except (KafkaError, ConsentError) as problem:
                error = type(problem).__name__
                log.warning("follower_interrupted", topics=self._config.topics, error=error)
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)

    async def _follow_one_incarnation(self) -> None:
        log_ids = await self._ids()
        if log_ids != self._log_ids:
            self._offsets = dict.fromkeys(self._targets, 0)
            self._true_at_ms = {}
            self._log_ids = log_ids
            self._receiver.begin(log_ids)
        consumer = self._consumer()
        tasks: list[asyncio.Task[None]] = []
        try:
            await consumer.start()
            tasks.append(asyncio.create_task(self._follow(consumer)))
            tasks.append(asyncio.create_task(self._until_another_log()))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await stop_consumer(consumer)

    async def _ids(self) -> Mapping[str, bytes]:
        return await self._config.log_ids((*self._config.topics, *self._config.watched))

    async def _until_another_log(self) -> None:
        log_ids = self._log_ids
        while log_ids == self._log_ids:
            await asyncio.sleep(self._config.log_check_ms / 1000)
            log_ids = await self._ids()

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        consumer.assign(self._targets)
        for target in self._targets:
            consumer.seek(target, self._offsets[target])
        while True:
            found = await consumer.getmany(
                timeout_ms=self._config.fetch_wait_ms,
                max_records=self._config.read_records_max,
            )
            for target, records in found.items():
                self._receiver.take(target, records)
                self._offsets[target] = records[-1].offset + 1
            loaded = self.loaded
            for target in self._targets:
                end = consumer.highwater(target)
                asked_ms = consumer.last_poll_timestamp(target)
                if end is not None and await consumer.position(target) >= end:
                    self._true_at_ms[target] = asked_ms
            if found or loaded != self.loaded:
                self._notify()

    def _consumer(self) -> AIOKafkaConsumer:
        config = self._config
        return AIOKafkaConsumer(
            bootstrap_servers=config.bootstrap,
            client_id=config.client_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=config.fetch_wait_ms,
            request_timeout_ms=config.request_timeout_ms,
            **config.options,
        )


class FollowingEnded(Corrupt):
    """Topics are not followed any more; the process has to be started anew."""
