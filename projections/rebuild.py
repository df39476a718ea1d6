"""Folds the history back into the suppression topic, where the log that it came from is gone.

Reads facts and evidence of every incarnation of the log, makes the records of them again, and
folds those with the very functions that the projection uses, so that the states are the same. It
writes the suppression topic only, and readers merge that with whatever is there: doing it twice,
or while somebody reads, is harmless.

What it can't bring back is said in the report: facts whose person was erased (their number is
gone, which is the purpose), and opt-outs that could not be read, whose number is nowhere else and
whose original has expired.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer

from consent.codec import frame
from consent.contracts import contracts
from consent.folding import Log, lift_batch, needed_columns
from consent.intake import Origin, read_batch
from consent.lift import Position, applied_entry, unreadable_entries
from consent.partitioning import partition_of
from consent.state_bytes import apply_entries
from consent.state_codec import STATE
from projections.replay import HistoryReplay, StoredFact

log = structlog.get_logger(__name__)

TOPIC: Final = "suppression"
_APPLIED: Final = "applied"

States = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class RebuildConfig:
    """Where to write. `partitions` is the count of every number-keyed topic.

    `options` are aiokafka's security arguments; `nonce` is 16 random bytes of this process.
    """

    bootstrap: str
    partitions: int
    nonce: bytes = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    in_flight_max: int = 5_000
    request_timeout_ms: int = 30_000


@dataclass(slots=True)
class RebuildReport:
    """What was read and written. `numbers` are counted once for each partition of the history.

    `unreadable_now`: this release refuses records that an earlier one took.
    """

    facts: int = 0
    numbers: int = 0
    facts_of_erased: int = 0
    opt_outs_lost: int = 0
    unreadable_now: int = 0


async def rebuild(replay: HistoryReplay, config: RebuildConfig) -> RebuildReport:
    """Fold all of the history into the suppression topic; on return every state is acknowledged.

    Holds the states of one partition in memory at a time. Run it before anything answers from the
    topic.
    """
    report = RebuildReport()
    partitions = await asyncio.to_thread(replay.partitions)
    if not partitions:
        return report
    async with _producer(config) as producer:
        for partition in partitions:
            states: States = {}
            for facts in replay.batches(partition):
                await asyncio.to_thread(_fold, facts, states, config, report)
            await _produce(producer, states, config)
            report.numbers += len(states)
            log.info("partition_rebuilt", partition=partition, numbers=len(states))
    return report


def _fold(
    facts: Sequence[StoredFact], states: States, config: RebuildConfig, report: RebuildReport
) -> None:
    """Merge facts of one log, topic and partition, in offset order, into the states."""
    report.facts += len(facts)
    report.facts_of_erased += sum(fact.number is None and not fact.opted_out for fact in facts)
    for fact in facts:
        if fact.opted_out:
            _fold_opt_out(fact, states, report)
    readable = [fact for fact in facts if fact.number is not None and not fact.opted_out]
    homes: dict[int, list[StoredFact]] = {}
    for fact in readable:
        homes.setdefault(partition_of(fact.key, config.partitions), []).append(fact)
    for home, records in homes.items():
        _fold_records(records, home, states, config, report)


def _fold_records(
    records: Sequence[StoredFact],
    home: int,
    states: States,
    config: RebuildConfig,
    report: RebuildReport,
) -> None:
    place = records[0].position
    recorded_at = [record.position.recorded_at for record in records]
    origin = Origin(place.topic, home, config.partitions)
    reading = read_batch(records, origin, config.nonce, needed_columns, recorded_at)
    for problem in reading.unreadable:
        # It was readable when history took it. An opt-out is still applied, as one of everything.
        report.unreadable_now += 1
        where = _place(records[problem.index].position)
        log.error("stored_record_unreadable", reason=problem.reason, **where)
    log_partition = Log(place.topic, place.log_id, place.partition)
    for key, entries in lift_batch(reading, records, recorded_at, log_partition).items():
        if home != place.partition:
            # It was forwarded: the copy in its own partition says what is applied there.
            entries = [entry for entry in entries if entry[0] != _APPLIED]
        states[key] = apply_entries(states.get(key), entries)


def _fold_opt_out(fact: StoredFact, states: States, report: RebuildReport) -> None:
    if fact.number is None:
        report.opt_outs_lost += 1
        log.error("opt_out_lost", **_place(fact.position))
        return
    entries = [*unreadable_entries(fact.position), applied_entry(fact.position)]
    states[fact.key] = apply_entries(states.get(fact.key), entries)


def _place(position: Position) -> dict[str, Any]:
    return {
        "topic": position.topic,
        "partition": position.partition,
        "offset": position.offset,
    }


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


async def _produce(producer: AIOKafkaProducer, states: States, config: RebuildConfig) -> None:
    schema_id = contracts().record(STATE).schema_id
    for keys in _chunks(list(states), config.in_flight_max):
        waiting = [
            await producer.send(
                TOPIC,
                key=key,
                value=frame(schema_id, states[key]),
                partition=partition_of(key, config.partitions),
            )
            for key in keys
        ]
        await asyncio.gather(*waiting)


def _chunks(keys: list[bytes], size: int) -> Iterator[list[bytes]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
