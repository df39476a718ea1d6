"""The record worker on real brokers and a real store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import polars
import pytest

from consent.codec import decode
from consent.contracts import contracts
from consent.fact_columns import COLUMNS, columns_of_facts
from consent.privacy import SealedLetter, open_dead_letter, position_bytes, subject_token
from projections.clickhouse import Store
from tests.brokers import Broker, commit, unique, wait_until
from tests.record_process import KEYS
from tests.record_stand import PARTITIONS, Stand, stand
from tests.stores import RunningFront
from tests.strategies import Fields, event_records, filled, random_event, raw_of


@pytest.fixture
def history(
    broker: Broker, store: Store, clickhouse_front: RunningFront, tmp_path: Path
) -> Iterator[Stand]:
    """An empty ledger on both brokers."""
    with stand(broker, store, clickhouse_front.url, tmp_path) as made:
        yield made


@pytest.fixture
def kafka_history(
    kafka_broker: Broker, store: Store, clickhouse_front: RunningFront, tmp_path: Path
) -> Iterator[Stand]:
    """An empty ledger on Apache Kafka, for what the embedded broker lacks."""
    with stand(kafka_broker, store, clickhouse_front.url, tmp_path) as made:
        yield made


def test_every_event_type_is_recorded_once(history: Stand) -> None:
    """Events of every source topic are in facts once, in blocks without a hole."""
    topics = contracts().source_topics
    for number, topic in enumerate(topics):
        history.publish_events(topic, 120, seed=number)
    with history.worker() as worker:
        for topic in topics:
            history.await_recorded(topic, 120, worker)
        assert worker.stop() == 0
    for topic in topics:
        history.check_whole(topic, 120)


def test_what_is_recorded_is_announced_and_committed(history: Stand) -> None:
    """Every block is in ledger-blocks, and the group's commits reach the end of the log."""
    topic = "consent-events"
    history.publish_events(topic, 200, seed=20)
    with history.worker() as worker:
        history.await_recorded(topic, 200, worker)
        wait_until(
            lambda: sum(asyncio.run(history.committed(topic))) == 200, what="commits to the end"
        )
        worker.stop()
    history.check_announced(topic)


def test_facts_are_those_of_the_records(history: Stand) -> None:
    """Stored columns are what their fact says, and facts are made from what was published."""
    topic = "consent-events"
    events = history.publish_events(topic, 150, seed=21)
    with history.worker() as worker:
        history.await_recorded(topic, 150, worker)
        worker.stop()
    stored = history.store.query_arrow(
        f"SELECT {', '.join(COLUMNS)} FROM facts", strings_as_bytes=True
    )
    frame = polars.from_arrow(stored)
    assert isinstance(frame, polars.DataFrame)
    again = columns_of_facts(frame.get_column("fact").to_list(), b"n" * 16)
    for name, dtype in COLUMNS.items():
        found = frame.get_column(name)
        if dtype == polars.String():
            found = found.cast(polars.String)
        elif isinstance(dtype, polars.List):
            found = found.cast(polars.List(polars.String))
        assert found.cast(dtype).to_list() == again.get_column(name).to_list(), name
    assert set(again.get_column("event_id")) == {event["event_id"] for event in events}


def test_no_personal_data_enters_the_facts(history: Stand) -> None:
    """Number, name, e-mail, IP, wording and all other evidence of every event type stay out.

    Neither a column nor the bytes of the table's parts hold any of it.
    """
    canary = "CanaryJaneDoe"
    number = "+14155550177"

    def text(path: tuple[str, ...]) -> str:
        return f"{canary}@example.com {path[-1]}" if path[0] == "evidence" else "plain"

    by_topic: dict[str, int] = {}
    for record in event_records():
        raw = raw_of(record, filled(record, text, number), 0)
        history.publish(record.topic, [(raw.key, raw.value)])
        by_topic[record.topic] = by_topic.get(record.topic, 0) + 1
    with history.worker() as worker:
        for topic, count in by_topic.items():
            history.await_recorded(topic, count, worker)
        worker.stop()
    assert history.store.query_rows("SELECT count() FROM facts WHERE unreadable != ''") == [(0,)]
    assert history.store.query_rows("SELECT count() FROM evidence WHERE number = '+14155550177'")[
        0
    ][0] == sum(record.has_number for record in event_records())
    rows = str(history.store.query_arrow("SELECT * FROM facts", strings_as_bytes=True).to_pylist())
    history.store.command(
        "ALTER TABLE facts MODIFY SETTING min_bytes_for_wide_part = 1, min_rows_for_wide_part = 1"
    )
    for column in ("fact", "event_id", "call_id", "permit_id", "request_id"):
        history.store.command(f"ALTER TABLE facts MODIFY COLUMN {column} CODEC(NONE)")
    history.store.command("OPTIMIZE TABLE facts FINAL")
    parts = [path for part in history.parts("facts") for path in part.rglob("*") if path.is_file()]
    assert parts
    raw_bytes = b"".join(path.read_bytes() for path in parts)
    assert b"RulebookActivated" in raw_bytes
    for personal in (canary, number[1:], "4155550177"):
        assert personal not in rows
        assert personal.encode() not in raw_bytes


def test_unreadable_records_leave_no_hole(history: Stand) -> None:
    """A record that can't be read is a fact and, encrypted, a dead letter of the table.

    The topic `dead-letters` gets it from here only where the projection does not read.
    """
    broken = [(b"k", b"\0\0\0\0\1" + b"garbage"), (b"+14155550123", None), (None, b"x")]
    history.publish("consent-events", broken)
    history.publish("program-events", [(b"acme", b"not avro")])
    with history.worker() as worker:
        history.await_recorded("consent-events", 3, worker)
        history.await_recorded("program-events", 1, worker)
        worker.stop()
    rows = history.store.query_rows(
        "SELECT hex(log_id), topic, partition, offset, reason, hex(nonce), hex(original) "
        "FROM dead_letters ORDER BY topic, reason"
    )
    assert [(row[1], row[4]) for row in rows] == [
        ("consent-events", "NOT_FRAMED"),
        ("consent-events", "NULL_VALUE"),
        ("consent-events", "UNDECODABLE"),
        ("program-events", "NOT_FRAMED"),
    ]
    log_id, topic, partition, offset, _, nonce, original = rows[-1]
    position = position_bytes(bytes.fromhex(log_id), topic, partition, offset)
    letter = SealedLetter(bytes.fromhex(nonce), bytes.fromhex(original))
    assert open_dead_letter(KEYS.dead_letters, position, letter) == [b"acme", b"not avro"]
    produced = [decode(value)[1] for value in history.values("dead-letters", partitions=4)]
    assert [(fields["topic"], fields["reason"]) for fields in produced] == [
        ("program-events", "NOT_FRAMED")
    ]
    assert history.store.query_rows("SELECT count() FROM facts WHERE unreadable = ''") == [(0,)]
    history.check_whole("consent-events", 3)


def test_erased_evidence_is_not_written_again(history: Stand) -> None:
    """At or below a cut-off only the fact is written; later records keep their evidence."""
    record = contracts().record("ConsentWithdrawn")
    erased, kept = "+14155550101", "+14155550102"
    draw = random.Random(22)
    raws = [
        raw_of(record, random_event(record, draw) | {"number": number}, 0)
        for number in (erased, kept) * 5
    ]
    history.publish(record.topic, [(raw.key, raw.value) for raw in raws])
    for partition in range(PARTITIONS):
        history.erase(erased, record.topic, partition, offset_last=3)
    with history.worker() as worker:
        history.await_recorded(record.topic, 10, worker)
        worker.stop()
    rows = dict(history.store.query_rows("SELECT number, count() FROM evidence GROUP BY number"))
    below = history.store.query_rows(
        "SELECT countIf(offset <= 3) FROM facts "
        f"WHERE subject = unhex('{subject_token(KEYS.history, erased).hex()}')"
    )
    assert below[0][0] >= 1
    assert rows == {kept: 5, erased: 5 - below[0][0]}
    history.check_whole(record.topic, 10)


def test_registry_versions_rulebooks_and_erasures_have_tables(history: Stand) -> None:
    """Their events' content is in tables of its own, once each, with the event's position."""
    draw = random.Random(23)
    published: dict[str, Fields] = {}
    for name in ("RegistryVersionPublished", "RulebookActivated", "ErasureExecuted"):
        record = contracts().record(name)
        event = random_event(record, draw)
        if name == "ErasureExecuted":
            event["test"] = False
            event["cutoffs"] = [
                {"topic": "call-events", "log_id": b"l" * 16, "partition": 1, "offset_last": 9}
            ]
        raw = raw_of(record, event, 0)
        history.publish(record.topic, [(raw.key, raw.value)])
        published[name] = event
    with history.worker() as worker:
        for name in published:
            history.await_recorded(contracts().record(name).topic, 1, worker)
        worker.stop()
    version = published["RegistryVersionPublished"]
    assert history.store.query_rows(
        "SELECT list_id, area, version, hex(sha256), numbers, change FROM registry_versions"
    ) == [
        (
            version["list_id"],
            version["area"],
            version["version"],
            version["sha256"].hex().upper(),
            version["numbers"],
            version["change"],
        )
    ]
    rulebook = published["RulebookActivated"]
    assert history.store.query_rows(
        "SELECT rulebook_version, hex(rulebook_digest) FROM rulebook_activations"
    ) == [(rulebook["rulebook_version"], rulebook["rulebook_digest"].hex().upper())]
    token = subject_token(KEYS.history, published["ErasureExecuted"]["number"])
    assert history.store.query_rows(
        "SELECT hex(subject), erased_topic, erased_partition, erased_offset_last FROM erasures"
    ) == [(token.hex().upper(), "call-events", 1, 9)]


def test_a_topic_that_was_made_anew_is_a_new_log(history: Stand) -> None:
    """A new incarnation is recorded from 0 beside the old one, whose facts stay."""
    topic = "calendar-events"
    history.publish_events(topic, 30, seed=24)
    with history.worker() as worker:
        history.await_recorded(topic, 30, worker)
        worker.stop()
    old = history.log_ids[topic]
    history.recreate_topics()
    assert history.log_ids[topic] != old
    history.publish_events(topic, 20, seed=25)
    with history.worker() as worker:
        history.await_recorded(topic, 20, worker)
        worker.stop()
    assert history.store.query_rows("SELECT count() FROM facts") == [(50,)]
    history.check_whole(topic, 20)


def test_the_first_limits_count_for_ever(history: Stand) -> None:
    """A worker with other limits cuts as the log's first entry says."""
    topic = "registry-versions"
    history.publish_events(topic, 40, seed=26)
    slow = {"bucket_ms": 86_400_000}
    with history.worker(cutter={"records_max": 10, **slow}) as worker:
        history.await_recorded(topic, 40, worker)
        worker.stop()
    history.publish_events(topic, 40, seed=27)
    with history.worker(cutter={"records_max": 25, **slow}) as worker:
        history.await_recorded(topic, 80, worker)
        worker.stop()
    assert "cutter_limits_frozen" in worker.log()
    assert history.store.query_rows("SELECT DISTINCT records FROM blocks") == [(10,)]


@pytest.mark.kafka
def test_markers_of_transactions_are_no_holes(kafka_history: Stand) -> None:
    """A block covers offsets that hold no record, and a tail before a marker is closed."""
    topic = "registry-versions"
    record = contracts().record("RegistryVersionPublished")
    draw = random.Random(28)
    raws = [raw_of(record, random_event(record, draw), 0) for _ in range(3)]
    for raw in raws:
        kafka_history.publish(topic, [(raw.key, raw.value)], transactional=True)
    with kafka_history.worker() as worker:
        kafka_history.await_recorded(topic, 3, worker)
        worker.stop()
    blocks = kafka_history.store.query_rows(
        "SELECT min(offset_first), max(offset_last), sum(records) FROM blocks"
    )
    assert blocks == [(0, 4, 3)]


@pytest.mark.kafka
def test_records_that_retention_removed_are_an_alarm(kafka_history: Stand) -> None:
    """What the log lost before it was recorded is told, and recording goes on after it."""
    topic = "program-events"
    kafka_history.publish_events(topic, 20, seed=29)
    with kafka_history.worker() as worker:
        kafka_history.await_recorded(topic, 20, worker)
        worker.stop()
    kafka_history.publish_events(topic, 20, seed=30)
    kafka_history.remove_records(topic, below=30)
    with kafka_history.worker(group=unique("record")) as worker:
        kafka_history.await_recorded(topic, 30, worker)
        worker.stop()
    assert "history_retention_gap" in worker.log()
    last = kafka_history.store.query_rows(
        "SELECT min(offset_first) FROM blocks WHERE offset_first >= 20"
    )
    assert last == [(30,)]


def test_a_commit_ahead_of_the_store_is_not_believed(history: Stand) -> None:
    """Records that the group has committed and the store does not have are recorded, with an alarm.

    That is what a power loss of the store leaves behind.
    """
    topic = "consent-events"
    history.publish_events(topic, 60, seed=31)
    for partition in range(PARTITIONS):
        asyncio.run(commit(history.broker, history.group, topic, partition, 10))
    with history.worker() as worker:
        history.await_recorded(topic, 60, worker)
        worker.stop()
    history.check_whole(topic, 60)
    assert "history_resumes_elsewhere" in worker.log()
