"""Folds the history back into the suppression topic, where the log that it came from is gone.

Reads facts and evidence of every incarnation of the log, makes the records of them again, and
folds those with the very functions that the projection uses, so that the states are the same. It
writes the suppression topic only, and readers merge that with whatever is there: doing it twice,
or while somebody reads, is harmless.

Of erased people it needs no number: `erasures` has the key of their states. What it can't bring
back is said in the report: facts of which nothing tells whose they are, and opt-outs that could not
be read, whose number is nowhere else and whose original has expired.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer

from consent.partitioning import partition_of
from consent.state_bytes import is_erased
from projections.replay import HistoryReplay
from projections.state_folding import (
    FoldingConfig,
    FoldingReport,
    StateFolding,
    States,
    add_states,
)
from projections.suppression_fold import framed_state, token_key_of
from projections.suppression_log import TOPIC

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RebuildConfig:
    """Where to write. `partitions` is the count of every number-keyed topic.

    `suppression_key` names the states of erased people, and parties. `options` are aiokafka's
    security arguments; `nonce` is 16 random bytes of this process.
    """

    bootstrap: str
    partitions: int
    suppression_key: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    in_flight_max: int = 5_000
    request_timeout_ms: int = 30_000


@dataclass(slots=True)
class RebuildReport(FoldingReport):
    """What was read and written. `numbers` are counted once for each partition of the history."""

    numbers: int = 0


async def rebuild(replay: HistoryReplay, config: RebuildConfig) -> RebuildReport:
    """Fold all of the history into the suppression topic; on return every state is acknowledged.

    Holds the states of one partition in memory at a time. Run it before anything answers from the
    topic.
    """
    report = RebuildReport()
    partitions = await asyncio.to_thread(replay.partitions)
    if not partitions:
        return report
    strays: States = {}
    keys = (await asyncio.to_thread(replay.stand_ins, config.partitions)).keys
    async with _producer(config) as producer:
        for partition in partitions:
            folding = await asyncio.to_thread(_folded, replay, partition, config, report)
            await _produce(producer, folding.states, config, keys)
            report.numbers += len(folding.states)
            add_states(strays, folding.strays)
            log.info("partition_rebuilt", partition=partition, numbers=len(folding.states))
        for home in {partition_of(number, config.partitions) for number in strays}:
            folding = await asyncio.to_thread(_folded, replay, home, config, RebuildReport())
            own = {number: body for number, body in folding.states.items() if number in strays}
            add_states(own, {n: b for n, b in strays.items() if _home(n, config) == home})
            await _produce(producer, own, config, keys, again=True)
    return report


def _folded(
    replay: HistoryReplay, partition: int, config: RebuildConfig, report: FoldingReport
) -> StateFolding:
    """Everything that history has of a partition, folded."""
    keys = FoldingConfig(config.partitions, config.suppression_key, config.nonce)
    folding = StateFolding(partition, keys, report)
    folding.take_carried(replay.carried(partition))
    for facts in replay.batches(partition):
        folding.take(facts)
    return folding


def _home(number: bytes, config: RebuildConfig) -> int:
    return partition_of(number, config.partitions)


@asynccontextmanager
async def _producer(config: RebuildConfig) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=config.bootstrap,
        client_id="consent-ledger-rebuild",
        # A record written twice is merged twice, so idempotence would add nothing.
        acks="all",
        linger_ms=5,
        request_timeout_ms=config.request_timeout_ms,
        **config.options,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def _produce(
    producer: AIOKafkaProducer,
    states: States,
    config: RebuildConfig,
    keys: Mapping[bytes, bytes],
    *,
    again: bool = False,
) -> None:
    """Write states by number, those of erased people under their token.

    `keys` are the keys of numbers that only stand in for others, which are never written.
    `again`: states of these numbers may have been written before it was known that they are erased.
    """
    token_key = token_key_of(config.suppression_key)
    rows: list[tuple[bytes, bytes, bytes | None]] = []
    for number, body in states.items():
        if number in keys:
            rows.append((number, keys[number], framed_state(body)))
            continue
        erased = is_erased(body)
        rows.append((number, token_key(number) if erased else number, framed_state(body)))
        if erased and again:
            rows.append((number, number, None))
    for start in range(0, len(rows), config.in_flight_max):
        waiting = [
            await producer.send(TOPIC, key=key, value=value, partition=_home(number, config))
            for number, key, value in rows[start : start + config.in_flight_max]
        ]
        await asyncio.gather(*waiting)
