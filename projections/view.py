"""The suppression topic as a dialer sees it: look-ups by number, and how fresh they are.

Follows every partition without a consumer group, merges what it receives and never replaces, so a
look-up never shows less than an earlier one did. Keeps encoded states in memory, about 400 bytes a
number, and decodes on look-up. For one event loop; look-ups don't wait.

A partition is fresh if its last watermark is true as of no more than `view_max_age_ms` ago by this
process's clock. That comparison means something only if the clocks agree: this one and the
writer's are compared with the broker's time of the watermark records, and where either is off by
more than `clock_offset_max_ms`, or can't be told yet, the partition is stale.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from consent.contracts import contracts
from consent.errors import ConsentError, Corrupt
from consent.partitioning import partition_of
from consent.party_links import parties_for
from projections.consumer_stop import stop_consumer
from projections.suppression_fold import TokenKey, token_key_of
from projections.suppression_log import TOPIC
from projections.view_answer import (
    Freshness,
    LinkedState,
    PartitionAge,
    PartitionStatus,
    ViewAnswer,
)
from projections.view_links import linked_states, party_size, worst_age
from projections.view_partition import PartitionView

__all__ = [
    "Freshness",
    "LinkedState",
    "PartitionAge",
    "PartitionStatus",
    "SuppressionView",
    "ViewAnswer",
    "ViewConfig",
]

log = structlog.get_logger(__name__)

LogIds = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]

_BACKOFF_FIRST_S: Final = 0.1
_BACKOFF_MAX_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """How the topic is followed.

    `partitions` is the count of every number-keyed topic. `log_ids` gives the UUIDs of topics; they
    are compared every `log_check_ms`, and a topic that was made anew is loaded anew. After fewer
    than `rest_below_records` records nothing is read for `rest_ms`, so that a busy log is not read
    record by record; a first one after a pause is not held. `options` are
    aiokafka's security arguments. Of a party with more than `party_numbers_max` numbers none is
    looked at, and the answer says so.
    """

    bootstrap: str
    partitions: int
    suppression_key: bytes = field(repr=False)
    log_ids: LogIds
    client_id: str = "consent-ledger-view"
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    view_max_age_ms: int = 5_000
    party_numbers_max: int = 64
    clock_offset_max_ms: int = 500
    log_check_ms: int = 5_000
    fetch_wait_ms: int = 100
    rest_ms: int = 20
    rest_below_records: int = 100
    read_records_max: int = 5_000
    partition_fetch_bytes_max: int = 1 << 20
    request_timeout_ms: int = 20_000


class SuppressionView:
    """Start it, look up, stop it."""

    def __init__(
        self, config: ViewConfig, clock_us: Callable[[], int] = lambda: time.time_ns() // 1000
    ) -> None:
        self._config = config
        self._clock_us = clock_us
        self._token_key: TokenKey = token_key_of(config.suppression_key)
        self._topics = (*contracts().keyed_source_topics, TOPIC)
        self._partitions = self._unloaded()
        self._log_ids: Mapping[str, bytes] = {}
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._failed = False

    async def start(self) -> None:
        """Begin to follow; returns at once. A broker that is away is waited for."""
        following = asyncio.create_task(self._follow_for_ever())
        following.add_done_callback(self._ended)
        self._tasks = [following]

    async def stop(self) -> None:
        """Stop following; look-ups become stale. Waiters are left waiting."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def look_up(self, number: str, seller_id: str | None = None, test: bool = False) -> ViewAnswer:
        """What is known of a canonical number, and whether it may be relied on; never waits.

        The person's other numbers are looked up too, those that `seller_id` knows of, or of whom
        it rehearses with (`test`); a decision about a call needs them. Without a seller the answer
        is about the number alone.
        """
        key = number.encode("ascii")
        view = self._partitions[partition_of(key, self._config.partitions)]
        now = self._clock_us()
        age, state = self._age(view, now), view.state_of(key)
        parties = parties_for(state, seller_id, test) if seller_id and state.attributes else ()
        if not parties:
            return ViewAnswer(state, age.freshness, view.number, age.true_at, age.age_ms)
        # One instant for all, or the oldest could be a millisecond younger than one of them.
        ages = [self._age(one, now) for one in self._partitions]
        worst = worst_age(ages)
        too_large = party_size(self._partitions, parties) > self._config.party_numbers_max
        return ViewAnswer(
            state,
            worst.freshness,
            view.number,
            worst.true_at,
            worst.age_ms,
            () if too_large else linked_states(self._partitions, parties, key, ages),
            too_large,
            worst.partition,
        )

    @property
    def loaded(self) -> bool:
        """True if every partition was read to its end."""
        return not self._failed and all(view.loaded for view in self._partitions)

    def status(self) -> list[PartitionStatus]:
        """Every partition, in order."""
        return [
            PartitionStatus(
                view.number,
                age.freshness,
                age.true_at,
                age.age_ms,
                len(view.bodies),
                len(view.parties),
            )
            for view in self._partitions
            for age in (self._age(view, self._clock_us()),)
        ]

    async def wait_until(self, topic: str, partition: int, offset: int) -> None:
        """Return once look-ups include the record at `offset` of a source partition.

        Waits for as long as it takes: set a time-out around it.
        """
        while not self._includes(topic, partition, offset):
            changed = self._changed
            await changed.wait()

    async def wait_until_loaded(self) -> None:
        """Return once every partition was read to its end; set a time-out around it."""
        while not self.loaded:
            changed = self._changed
            await changed.wait()

    def _includes(self, topic: str, partition: int, offset: int) -> bool:
        log_id = self._log_ids.get(topic)
        if log_id is None:
            return False
        applied = self._partitions[partition].applied.get((topic, log_id))
        return applied is not None and applied.offset_last >= offset

    def _age(self, view: PartitionView, now: int) -> PartitionAge:
        true_at = view.true_at
        unloaded = self._failed or not view.loaded
        if true_at is None:
            freshness = Freshness.UNLOADED if unloaded else Freshness.STALE
            return PartitionAge(view.number, freshness, None, None)
        age_ms = (now - true_at) // 1000
        if unloaded:
            return PartitionAge(view.number, Freshness.UNLOADED, true_at, age_ms)
        offset_max_ms = self._config.clock_offset_max_ms
        in_time = -offset_max_ms <= age_ms <= self._config.view_max_age_ms
        fresh = in_time and view.clocks_agree(offset_max_ms)
        freshness = Freshness.FRESH if fresh else Freshness.STALE
        return PartitionAge(view.number, freshness, true_at, age_ms)

    def _unloaded(self) -> list[PartitionView]:
        return [PartitionView(number, self._token_key) for number in range(self._config.partitions)]

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _ended(self, following: asyncio.Task[None]) -> None:
        """Nothing is answered after an end that was not asked for."""
        if not following.cancelled():
            self._failed = True
            log.critical("view_failed", exc_info=following.exception())

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
                log.warning("view_interrupted", error=type(problem).__name__)
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)

    async def _follow_one_incarnation(self) -> None:
        """Follow until a topic is another one, or an error. Keeps what was merged."""
        log_ids = await self._config.log_ids(self._topics)
        if self._log_ids and log_ids[TOPIC] != self._log_ids[TOPIC]:
            log.warning("suppression_topic_is_another")
            self._partitions = self._unloaded()
        self._log_ids = log_ids
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

    async def _until_another_log(self) -> None:
        log_ids = self._log_ids
        while log_ids == self._log_ids:
            await asyncio.sleep(self._config.log_check_ms / 1000)
            log_ids = await self._config.log_ids(self._topics)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        targets = [TopicPartition(TOPIC, view.number) for view in self._partitions]
        consumer.assign(targets)
        for target, view in zip(targets, self._partitions, strict=True):
            consumer.seek(target, view.offset_next)
        while True:
            found = await consumer.getmany(
                timeout_ms=self._config.fetch_wait_ms,
                max_records=self._config.read_records_max,
            )
            few = 0 < sum(map(len, found.values())) < self._config.rest_below_records
            if few:
                # Without an await since they were taken, so before the next fetch is sent.
                consumer.pause(*targets)
            now_ms = self._clock_us() // 1000
            changed = bool(found)
            for target, records in found.items():
                self._partitions[target.partition].take(records, now_ms)
            for target, view in zip(targets, self._partitions, strict=True):
                view.offset_next = await consumer.position(target)
                end = consumer.highwater(target)
                if not view.loaded and end is not None and view.offset_next >= end:
                    view.loaded = changed = True
                    log.info("view_partition_loaded", partition=view.number, keys=len(view.bodies))
            if changed:
                self._notify()
            if few:
                await asyncio.sleep(self._config.rest_ms / 1000)
                consumer.resume(*targets)

    def _consumer(self) -> AIOKafkaConsumer:
        config = self._config
        return AIOKafkaConsumer(
            bootstrap_servers=config.bootstrap,
            client_id=config.client_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=config.fetch_wait_ms,
            max_partition_fetch_bytes=config.partition_fetch_bytes_max,
            request_timeout_ms=config.request_timeout_ms,
            **config.options,
        )
