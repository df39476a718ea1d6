"""The history folds back into the very states that the lost log had."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from consent.blocks import Block
from consent.codec import unframe
from consent.contracts import contracts
from consent.facts import LogPartition
from consent.folding import Log, lift_batch, needed_columns
from consent.intake import Origin, read_batch
from consent.partitioning import partition_of
from consent.privacy import Keys
from consent.state_bytes import apply_entries, is_erased, merge_bodies
from consent.state_codec import decode_state_body
from consent_ledger.adapters import topic_administration
from consent_ledger.adapters.topic_administration import AdminConnection, TopicLayout
from projections.clickhouse import Store, StoreParameters
from projections.errors import StoreUnavailable
from projections.history_rows import BlockWork, rows_of
from projections.migration import load_migrations, migrate
from projections.rebuild import RebuildConfig, rebuild
from projections.replay import HistoryReplay
from projections.suppression_fold import token_key_of
from tests.brokers import Broker, embedded_broker, free_port
from tests.events import event
from tests.strategies import BROKER_TIME_US, Raw, random_event, raw_of

PARTITIONS = 4
NONCE = bytes(range(16))
KEYS = Keys(history=b"h" * 32, suppression=b"s" * 32, dead_letters=b"d" * 32)
ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0
NUMBERS = [f"+1415555{line:04d}" for line in range(100, 140)]
# Nothing but its own unreadable opt-out was ever recorded of this number.
UNHEARD = "+14155550199"

Bodies = dict[bytes, bytes]
Logs = dict[LogPartition, list[Raw]]


@pytest.fixture(scope="module")
def clickhouse_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded engine, shared by the tests of this file."""
    port = free_port()
    folder = str(tmp_path_factory.mktemp("clickhouse"))
    argv = ["-m", "projections.embedded_clickhouse", "--data-dir", folder, "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, *argv], env=environment) as server:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture
def store(clickhouse_url: str) -> Iterator[Store]:
    """A database of its own with the ledger's tables, empty."""
    database = f"ledger_{uuid.uuid4().hex}"
    connected = _connect(StoreParameters(url=clickhouse_url, database=database))
    migrate(connected, load_migrations(files("projections") / "migrations"))
    yield connected
    connected.close()


def _connect(parameters: StoreParameters) -> Store:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return Store.connect(parameters)
        except StoreUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def fresh_broker() -> Iterator[Broker]:
    """A broker whose log has just begun, with the ledger's topics."""
    with embedded_broker() as broker:
        topic_administration.apply(
            AdminConnection(broker.bootstrap), TopicLayout("embedded", replication=1)
        )
        yield broker


def random_logs(seed: int, records: int) -> Logs:
    """Two incarnations of every number-keyed topic, with events of all types and some bad ones."""
    draw = random.Random(seed)
    kinds = [record for record in contracts().records if record.has_number]
    logs: Logs = {}
    for _ in range(records):
        record = draw.choice(kinds)
        fields = random_event(record, draw) | {"number": draw.choice(NUMBERS)}
        home = partition_of(fields["number"].encode(), PARTITIONS)
        lands = home if draw.random() > 0.02 else (home + 1) % PARTITIONS
        origin = LogPartition(draw.choice((b"1", b"2")) * 16, record.topic, lands)
        log = logs.setdefault(origin, [])
        at = BROKER_TIME_US + len(log) * 1_000
        raw = raw_of(record, fields, len(log), at)
        if draw.random() < 0.05:
            raw = Raw(raw.offset, raw.timestamp, raw.key, (raw.value or b"")[:-3])
        log.append(raw)
    return logs


def add_unheard_opt_out(logs: Logs) -> None:
    """An opt-out of UNHEARD that can't be read."""
    partition = partition_of(UNHEARD.encode(), PARTITIONS)
    log = logs.setdefault(LogPartition(b"2" * 16, "consent-events", partition), [])
    value = b"\x00" + contracts().record("ConsentWithdrawn").schema_id.to_bytes(4, "big") + b"?"
    # Of today: its original goes from the dead letters after 30 days.
    log.append(Raw(len(log), int(time.time() * 1000), UNHEARD.encode(), value))


def folded(logs: Logs) -> Bodies:
    """What the projection makes of the logs."""
    states: Bodies = {}
    for origin, records in logs.items():
        recorded_at = [record.timestamp * 1000 for record in records]
        place = Origin(origin.topic, origin.partition, PARTITIONS)
        reading = read_batch(records, place, NONCE, needed_columns)
        log = Log(origin.topic, origin.log_id, origin.partition)
        for key, entries in lift_batch(
            reading, records, recorded_at, log, KEYS.suppression
        ).items():
            states[key] = apply_entries(states.get(key), entries)
        for forward in reading.forwards:
            _fold_forwarded(origin, forward.key, forward.value, records[forward.index], states)
    token_key = token_key_of(KEYS.suppression)
    return {
        token_key(number) if is_erased(body) else number: body for number, body in states.items()
    }


def _fold_forwarded(
    origin: LogPartition, key: bytes, value: bytes, record: Raw, states: Bodies
) -> None:
    """As its own partition's owner does, but without a place in the log: none was recorded."""
    home = partition_of(key, PARTITIONS)
    moved = [Raw(record.offset, record.timestamp, key, value)]
    reading = read_batch(moved, Origin(origin.topic, home, PARTITIONS), NONCE, needed_columns)
    log = Log(origin.topic, origin.log_id, home)
    recorded_at = [record.timestamp * 1000]
    for entries in lift_batch(reading, moved, recorded_at, log, KEYS.suppression).values():
        said = [entry for entry in entries if entry[0] != "applied"]
        states[key] = apply_entries(states.get(key), said)


def write_history(store: Store, logs: Logs) -> int:
    """Store the logs as `record` does, a block for each; returns how many facts there are."""
    tables: dict[str, list[pyarrow.Table]] = {}
    for origin, records in logs.items():
        recorded_at = [record.timestamp * 1000 for record in records]
        block = Block(0, len(records) - 1, len(records), 0, 202609, recorded_at[0], recorded_at[-1])
        rows = rows_of(BlockWork(block, origin, PARTITIONS, records, recorded_at), KEYS, NONCE)
        for table in (rows.evidence, rows.facts, *rows.side):
            tables.setdefault(table.table, []).append(table.rows)
    for name, parts in tables.items():
        store.insert_arrow(name, pyarrow.concat_tables(parts), name)
    return sum(map(len, logs.values()))


async def read_topic(broker: Broker) -> Bodies:
    """Every state in the suppression topic, merged as its readers do."""
    partitions = [TopicPartition("suppression", partition) for partition in range(PARTITIONS)]
    states: Bodies = {}
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign(partitions)
        idle = 0
        while idle < 3:
            fetched = await consumer.getmany(timeout_ms=300)
            idle = 0 if fetched else idle + 1
            for partition, records in fetched.items():
                for record in records:
                    if record.key.startswith(b"+"):
                        assert partition_of(record.key, PARTITIONS) == partition.partition
                    if record.value is None:
                        states.pop(record.key, None)
                        continue
                    _schema_id, body = unframe(record.value)
                    held = states.get(record.key)
                    states[record.key] = body if held is None else merge_bodies(held, body)
    finally:
        await consumer.stop()
    return states


def make_replay(store: Store, batch_records: int) -> HistoryReplay:
    return HistoryReplay(store, KEYS.dead_letters, batch_records)


def _config(broker: Broker) -> RebuildConfig:
    return RebuildConfig(broker.bootstrap, PARTITIONS, KEYS.suppression, NONCE)


@pytest.mark.embedded
@pytest.mark.parametrize("batch_records", [7, 20_000])
async def test_states_come_back_as_they_were(
    store: Store, fresh_broker: Broker, batch_records: int
) -> None:
    """States rebuilt from history are, byte for byte, what the projection made of the log."""
    logs = random_logs(seed=1, records=400)
    add_unheard_opt_out(logs)
    facts = write_history(store, logs)
    report = await rebuild(make_replay(store, batch_records), _config(fresh_broker))
    expected = folded(logs)
    assert await read_topic(fresh_broker) == expected
    assert UNHEARD.encode() in expected and len(expected) > len(NUMBERS)
    assert any(key.startswith(b"#") for key in expected)
    assert any(b"party_ref:" in body for body in expected.values())
    assert (report.opt_outs_lost, report.unreadable_now, report.facts_of_erased) == (0, 0, 0)
    assert 0 < report.facts <= facts


@pytest.mark.embedded
async def test_rebuilding_twice_changes_nothing(store: Store, fresh_broker: Broker) -> None:
    """A rebuild that is repeated after a crash leaves the same states."""
    logs = random_logs(seed=2, records=100)
    write_history(store, logs)
    for _ in range(2):
        await rebuild(make_replay(store, 50), _config(fresh_broker))
    assert await read_topic(fresh_broker) == folded(logs)


@pytest.mark.embedded
async def test_what_can_not_come_back_is_counted(store: Store, fresh_broker: Broker) -> None:
    """Facts of which nothing tells whose they are stay out, and a lost opt-out is told."""
    logs: Logs = {}
    add_unheard_opt_out(logs)
    erased = random_logs(seed=3, records=20)
    logs |= {origin: records for origin, records in erased.items() if origin not in logs}
    write_history(store, logs)
    for table in ("evidence", "dead_letters", "erasures"):
        store.command(f"TRUNCATE TABLE {table}")
    report = await rebuild(make_replay(store, 50), _config(fresh_broker))
    assert report.opt_outs_lost >= 1
    assert report.facts_of_erased == sum(1 for _ in _readable(logs))
    assert await read_topic(fresh_broker) == {}


@pytest.mark.embedded
async def test_states_of_erased_people_come_back_under_their_token(
    store: Store, fresh_broker: Broker
) -> None:
    """Without a number anywhere: what the erasure left, and what restricts since."""
    logs = erased_logs()
    write_history(store, logs)
    store.command("TRUNCATE TABLE evidence")
    report = await rebuild(make_replay(store, 50), _config(fresh_broker))
    expected = folded(logs)
    assert set(expected) == {token_key_of(KEYS.suppression)(ERASED.encode())}
    assert await read_topic(fresh_broker) == expected
    (body,) = expected.values()
    state = decode_state_body(body)
    assert state.erased is not None and not state.grants
    assert (report.facts_of_erased, report.opt_outs_lost) == (0, 0)
    assert report.facts == sum(map(len, logs.values()))


ERASED = "+14155550188"


def erased_logs() -> Logs:
    """A person who agreed, was erased, and asked not to be called again after that."""
    home = partition_of(ERASED.encode(), PARTITIONS)
    minute = 60_000_000
    logs: Logs = {}

    def add(name: str, minutes: int, **given: Any) -> None:
        record = contracts().record(name)
        at = BROKER_TIME_US + minutes * minute
        fields = event(name, number=ERASED, occurred_at=at, **given)
        log = logs.setdefault(LogPartition(b"1" * 16, record.topic, home), [])
        log.append(raw_of(record, fields, len(log), at))

    add("ConsentGranted", 0)
    add("CallPlaced", 1)
    cutoff = {"topic": "consent-events", "log_id": b"1" * 16, "partition": home, "offset_last": 0}
    cut = BROKER_TIME_US + 2 * minute
    add("ErasureExecuted", 2, cutoff_at=cut, cutoffs=[cutoff], request_id="R")
    add("DncAdded", 3, list_kind="INTERNAL")
    add("CallPlaced", 4)
    return logs


def _readable(logs: Logs) -> Iterator[Raw]:
    for origin, records in logs.items():
        place = Origin(origin.topic, origin.partition, PARTITIONS)
        for group in read_batch(records, place, NONCE, needed_columns).groups:
            yield from _chosen(records, group.indexes)


def _chosen(records: Sequence[Raw], indexes: Sequence[int]) -> Iterator[Raw]:
    for index in indexes:
        yield records[index]


@pytest.mark.embedded
async def test_an_empty_history_is_nothing_to_do(store: Store, fresh_broker: Broker) -> None:
    """A first start has nothing to fold and writes nothing."""
    report = await rebuild(make_replay(store, 50), _config(fresh_broker))
    assert (report.facts, report.numbers) == (0, 0)
    assert await read_topic(fresh_broker) == {}
