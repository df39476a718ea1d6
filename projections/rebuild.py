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
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer

from consent.folding import Log, lift_batch, needed_columns
from consent.intake import Origin, read_batch
from consent.lift import Position, applied_entry, unreadable_entries
from consent.partitioning import partition_of
from consent.state_bytes import apply_entries, is_erased, merge_bodies
from projections.replay import HistoryReplay, StoredFact
from projections.suppression_fold import framed_state, token_key_of
from projections.suppression_log import TOPIC

log = structlog.get_logger(__name__)

_APPLIED: Final = "applied"

States = dict[bytes, bytes]


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
    strays: States = {}
    keys = (await asyncio.to_thread(replay.stand_ins, config.partitions)).keys
    async with _producer(config) as producer:
        for partition in partitions:
            folding = _Folding(partition, config, report)
            await asyncio.to_thread(folding.take_all, replay)
            await _produce(producer, folding.states, config, keys)
            report.numbers += len(folding.states)
            _add(strays, folding.strays)
            log.info("partition_rebuilt", partition=partition, numbers=len(folding.states))
        for home in {partition_of(number, config.partitions) for number in strays}:
            folding = _Folding(home, config, RebuildReport())
            await asyncio.to_thread(folding.take_all, replay)
            own = {number: body for number, body in folding.states.items() if number in strays}
            _add(own, {n: b for n, b in strays.items() if _home(n, config) == home})
            await _produce(producer, own, config, keys, again=True)
    return report


class _Folding:
    """The states that one partition of the history amounts to.

    A number's state is written in its own partition and in one piece. What was recorded elsewhere,
    because a publisher had placed it wrongly, is kept apart as `strays`.
    """

    def __init__(self, partition: int, config: RebuildConfig, report: RebuildReport) -> None:
        self.states: States = {}
        self.strays: States = {}
        self._partition = partition
        self._config = config
        self._report = report

    def take_all(self, replay: HistoryReplay) -> None:
        """Fold every record of the partition."""
        for facts in replay.batches(self._partition):
            self._take(facts)

    def _take(self, facts: Sequence[StoredFact]) -> None:
        """Fold facts of one log and topic."""
        self._report.facts += len(facts)
        homes: dict[int, list[StoredFact]] = {}
        for fact in facts:
            if fact.opted_out:
                self._take_opt_out(fact)
            elif fact.number is None:
                self._report.facts_of_erased += 1
            else:
                homes.setdefault(_home(fact.key, self._config), []).append(fact)
        for home, records in homes.items():
            self._take_records(records, home)

    def _take_records(self, records: Sequence[StoredFact], home: int) -> None:
        place = records[0].position
        recorded_at = [record.position.recorded_at for record in records]
        origin = Origin(place.topic, home, self._config.partitions)
        reading = read_batch(records, origin, self._config.nonce, needed_columns, recorded_at)
        for problem in reading.unreadable:
            # It was readable when history took it. An opt-out is applied, as one of everything.
            self._report.unreadable_now += 1
            where = _place(records[problem.index].position)
            log.error("stored_record_unreadable", reason=problem.reason, **where)
        log_partition = Log(place.topic, place.log_id, place.partition)
        party_key = self._config.suppression_key
        lifted = lift_batch(reading, records, recorded_at, log_partition, party_key)
        for key, entries in lifted.items():
            if home == self._partition:
                self.states[key] = apply_entries(self.states.get(key), entries)
            else:
                # It was forwarded: the copy in its own partition says what is applied there.
                said = [entry for entry in entries if entry[0] != _APPLIED]
                self.strays[key] = apply_entries(self.strays.get(key), said)

    def _take_opt_out(self, fact: StoredFact) -> None:
        if fact.number is None:
            self._report.opt_outs_lost += 1
            log.error("opt_out_lost", **_place(fact.position))
            return
        said = unreadable_entries(fact.position)
        if _home(fact.key, self._config) == self._partition:
            entries = [*said, applied_entry(fact.position)]
            self.states[fact.key] = apply_entries(self.states.get(fact.key), entries)
        else:
            self.strays[fact.key] = apply_entries(self.strays.get(fact.key), said)


def _add(states: States, more: States) -> None:
    for number, body in more.items():
        held = states.get(number)
        states[number] = body if held is None else merge_bodies(held, body)


def _home(number: bytes, config: RebuildConfig) -> int:
    return partition_of(number, config.partitions)


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
