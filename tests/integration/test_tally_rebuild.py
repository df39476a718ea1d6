"""Where the broker forgot its log, calls are counted from history, and counting goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from consent.blocks import Block
from consent.contracts import contracts
from consent.facts import LogPartition
from consent.partitioning import partition_of
from consent.tally_events import SOURCE_TOPIC
from consent_ledger.adapters import topic_administration
from consent_ledger.adapters.topic_administration import AdminConnection, TopicLayout
from projections.clickhouse import Store
from projections.history_rows import BlockWork, rows_of
from projections.known_events import known_events
from projections.migration import load_migrations, migrate
from projections.suppression_log import LogConnection
from projections.suppression_store import StoreUnusable
from projections.tally_rebuild import TallyRebuild, rebuild_tallies
from projections.tally_store import TallyStore
from tests.brokers import Broker, embedded_broker
from tests.projection_harness import PARTITIONS, Stage, now_us, publish
from tests.projection_worker import KEYS, log_ids_from
from tests.strategies import Raw, raw_of
from tests.tally_harness import (
    DAY_US,
    Event,
    call,
    calls,
    declaration,
    expected,
    last_tallies,
    numbers,
    until_counted,
)

pytestmark = pytest.mark.embedded
PEOPLE = numbers(24)
FORMER_LOGS = (b"1" * 16, b"2" * 16)


@pytest.fixture
def fresh_broker() -> Iterator[Broker]:
    """A broker whose log has just begun, with the ledger's topics."""
    with embedded_broker() as broker:
        connection = AdminConnection(broker.bootstrap)
        topic_administration.apply(connection, TopicLayout("embedded", replication=1))
        yield broker


@pytest.fixture
def history(store: Store) -> Store:
    """A history without facts."""
    migrate(store, load_migrations(files("projections") / "migrations"))
    return store


def write_history(store: Store, events: list[Event], log_id: bytes) -> None:
    """Facts of events, one block for each partition of their topics."""
    logs: dict[LogPartition, list[Raw]] = {}
    for name, fields in events:
        record = contracts().record(name)
        keyed = record.has_number
        partition = partition_of(fields["number"].encode(), PARTITIONS) if keyed else 0
        log = logs.setdefault(LogPartition(log_id, record.topic, partition), [])
        log.append(raw_of(record, fields, len(log), now_us()))
    for origin, records in logs.items():
        recorded_at = [record.timestamp * 1_000 for record in records]
        block = Block(0, len(records) - 1, len(records), 0, 202609, recorded_at[0], recorded_at[-1])
        work = BlockWork(block, origin, PARTITIONS, records, recorded_at)
        rows = rows_of(work, KEYS, os.urandom(16))
        for table in (rows.evidence, rows.facts, *rows.side):
            store.insert_arrow(table.table, table.rows, os.urandom(8).hex())


async def rebuilding(broker: Broker, folder: Path) -> TallyRebuild:
    return TallyRebuild(
        LogConnection(broker.bootstrap, "rebuild", idempotent=False),
        folder / "tallies",
        PARTITIONS,
        await log_ids_from(broker.bootstrap)([SOURCE_TOPIC]),
    )


def placed(events: list[Event]) -> list[Event]:
    return [one for one in events if one[0] == "CallPlaced"]


async def test_counting_goes_on_after_the_log_is_gone(
    history: Store, fresh_broker: Broker, tmp_path: Path
) -> None:
    """Calls of every earlier log are counted once, also when their events come again."""
    before, later = calls(PEOPLE, seed=11), calls(PEOPLE, seed=12)
    starts_at = now_us() - 33 * DAY_US
    declared: tuple[str, dict[str, Any]] = ("CampaignDeclared", declaration(starts_at))
    write_history(history, before, FORMER_LOGS[0])
    write_history(history, [*later, *placed(before), declared], FORMER_LOGS[1])
    rebuild = await rebuilding(fresh_broker, tmp_path / "a")
    await rebuild_tallies(history, rebuild)
    events = [*before, *later]
    assert await last_tallies(fresh_broker) == expected(events, starts_at)
    await rebuild_tallies(history, rebuild)
    assert await last_tallies(fresh_broker) == expected(events, starts_at)
    stage = Stage(fresh_broker, tmp_path)
    try:
        worker = stage.worker("a")
        more = calls(PEOPLE, seed=13, count=15)
        await publish(fresh_broker, [*more, *before[:40]])
        await until_counted(fresh_broker, expected([*events, *more], starts_at))
        with pytest.raises(StoreUnusable):
            await rebuild_tallies(history, rebuild)
        assert worker.stop() == 0
    finally:
        stage.end()


async def test_an_owner_without_the_rebuilt_cache_takes_the_counts_over(
    history: Store, fresh_broker: Broker, tmp_path: Path
) -> None:
    """The counts in the topic are enough to go on from."""
    before = calls(PEOPLE, seed=14)
    write_history(history, before, FORMER_LOGS[0])
    await rebuild_tallies(history, await rebuilding(fresh_broker, tmp_path / "nowhere"))
    stage = Stage(fresh_broker, tmp_path)
    try:
        worker = stage.worker("b")
        more = call(PEOPLE[0], now_us() - DAY_US)
        await publish(fresh_broker, more)
        await until_counted(fresh_broker, expected([*before, *more]))
        assert worker.stop() == 0
    finally:
        stage.end()


async def test_erased_and_misplaced_calls(
    history: Store, fresh_broker: Broker, tmp_path: Path
) -> None:
    """An erased person's calls still count; a copy in the wrong partition does not."""
    events = calls(PEOPLE, seed=15)
    write_history(history, events, FORMER_LOGS[0])
    name, fields = events[0]
    wrong = (partition_of(fields["number"].encode(), PARTITIONS) + 1) % PARTITIONS
    origin = LogPartition(FORMER_LOGS[1], SOURCE_TOPIC, wrong)
    raw = raw_of(contracts().record(name), fields, 0, now_us())
    at = raw.timestamp * 1_000
    rows = rows_of(
        BlockWork(Block(0, 0, 1, 0, 202609, at, at), origin, PARTITIONS, [raw], [at]),
        KEYS,
        os.urandom(16),
    )
    for table in (rows.evidence, rows.facts, *rows.side):
        history.insert_arrow(table.table, table.rows, os.urandom(8).hex())
    rebuild = await rebuilding(fresh_broker, tmp_path)
    await rebuild_tallies(history, rebuild)
    assert await last_tallies(fresh_broker) == expected(events)
    history.command(f"DELETE FROM evidence WHERE log_id = unhex('{FORMER_LOGS[0].hex()}')")
    await rebuild_tallies(history, rebuild)
    assert await last_tallies(fresh_broker) == expected(events)


async def test_nothing_recorded_is_nothing_to_count(
    store: Store, history: Store, fresh_broker: Broker, tmp_path: Path
) -> None:
    """A first start writes nothing; a history without tables knows no events."""
    assert await rebuild_tallies(history, await rebuilding(fresh_broker, tmp_path)) == 0
    assert await last_tallies(fresh_broker) == {}
    for table in ("decisions", "facts"):
        kind = "VIEW" if table == "decisions" else "TABLE"
        store.command(f"DROP {kind} {table} SYNC")
    assert known_events(store) == []
    TallyStore(tmp_path / "tallies" / "0").close()
