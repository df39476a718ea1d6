"""Erasure in the history: what a worker deletes, what it never writes again, what it seals."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consent.certificates import ExecutedPlace, canonical_bytes, certificate_of, certificate_text
from consent.codec import decode, decode_body, encode
from consent.contracts import contracts, fact_schema
from consent.partitioning import partition_of
from consent.privacy import subject_token
from projections.clickhouse import Store
from tests.brokers import Broker, unique, wait_until
from tests.events import event
from tests.record_process import KEYS
from tests.record_stand import PARTITIONS, Stand, stand
from tests.stores import RunningFront

NUMBER = "+14155550177"
# Of the same partition, so that both are in the same blocks.
OTHER = next(
    number
    for number in (f"+141555501{digits:02d}" for digits in range(100))
    if number != NUMBER
    and partition_of(number.encode(), PARTITIONS) == partition_of(NUMBER.encode(), PARTITIONS)
)
HOME = partition_of(NUMBER.encode(), PARTITIONS)
CANARY = "canary-7f3a91"
MINUTE_US = 60_000_000
ONE_EACH = {"records_max": 1}
STEPS = ("side", "evidence", "facts", "verified", "erased", "block")


@pytest.fixture
def history(
    broker: Broker, store: Store, clickhouse_front: RunningFront, tmp_path: Path
) -> Iterator[Stand]:
    """An empty ledger on both brokers."""
    with stand(broker, store, clickhouse_front.url, tmp_path) as made:
        yield made


@pytest.fixture
def embedded_history(
    embedded_broker: Broker, store: Store, clickhouse_front: RunningFront, tmp_path: Path
) -> Iterator[Stand]:
    """An empty ledger on the embedded broker."""
    with stand(embedded_broker, store, clickhouse_front.url, tmp_path) as made:
        yield made


def now_us() -> int:
    """This machine's clock."""
    return time.time_ns() // 1000


def evidence_of(name: str) -> dict[str, Any]:
    """Evidence with a canary in it."""
    field = next(
        field for field in contracts().record(name).schema["fields"] if field["name"] == "evidence"
    )
    given = {one["name"]: one.get("default") for one in field["type"][1]["fields"]}
    return given | {"name": CANARY}


def publish(history: Stand, name: str, number: str = NUMBER, /, **given: Any) -> str:
    """Publish one event; returns its id."""
    given.setdefault("occurred_at", now_us())
    fields = event(name, number=number, **given)
    if name == "ConsentGranted":
        fields["evidence"] = evidence_of(name)
    history.publish(contracts().record(name).topic, [(number.encode(), encode(name, fields))])
    return str(fields["event_id"])


def publish_erasure(
    history: Stand, records: int, number: str = NUMBER, kept: str | None = None
) -> str:
    """Publish an ErasureExecuted that reaches the first `records` of every keyed topic but one."""
    cutoffs = [
        {
            "topic": topic,
            "log_id": history.log_ids[topic],
            "partition": HOME,
            "offset_last": records - 1,
        }
        for topic in contracts().keyed_source_topics
        if topic != kept
    ]
    at = now_us()
    return publish(
        history,
        "ErasureExecuted",
        number,
        occurred_at=at,
        cutoff_at=at,
        cutoffs=cutoffs,
        request_id="REQ-1",
        retained=["facts under a token: GDPR 17(3)(b),(e)"],
        topics_until=at + 7 * 86_400_000_000,
    )


def numbers(history: Stand) -> dict[str, int]:
    """Evidence rows by number."""
    return {
        str(number): int(rows)
        for number, rows in history.store.query_rows(
            "SELECT number, count() FROM evidence GROUP BY number"
        )
    }


def facts_of(history: Stand, number: str = NUMBER) -> int:
    """Facts of a number."""
    subject = subject_token(KEYS.history, number).hex()
    rows = history.store.query_rows(f"SELECT count() FROM facts WHERE subject = unhex('{subject}')")
    return int(rows[0][0])


def old_parts(history: Stand) -> list[Path]:
    """Folders of parts of the evidence that were written anew and are still there."""
    return [
        Path(path)
        for (path,) in history.store.query_rows(
            "SELECT path FROM system.parts WHERE database = currentDatabase() "
            "AND table = 'evidence' AND NOT active"
        )
    ]


def test_an_erasure_takes_evidence_out_and_keeps_it_out(history: Stand) -> None:
    """Rows up to the cut-offs go, late events and the erasure's own get none, a grant opens anew.

    Other people's evidence stays, every fact stays, and the certificate is sealed.
    """
    before = now_us() - MINUTE_US
    with history.worker() as worker:
        publish(history, "ConsentGranted", occurred_at=before)
        publish(history, "ConsentGranted", OTHER, occurred_at=before)
        publish(history, "CallPlaced", occurred_at=before)
        history.await_recorded("consent-events", 2, worker)
        history.await_recorded("call-events", 1, worker)
        assert numbers(history) == {NUMBER: 2, OTHER: 1}
        erasure = publish_erasure(history, records=2)
        history.await_recorded("privacy-requests", 1, worker)
        assert numbers(history) == {OTHER: 1}
        # A replay by the publisher, a call after the erasure, then the person agrees again.
        publish(history, "ConsentGranted", occurred_at=before)
        publish(history, "CallPlaced")
        history.await_recorded("consent-events", 3, worker)
        history.await_recorded("call-events", 2, worker)
        assert numbers(history) == {OTHER: 1}
        publish(history, "ConsentGranted")
        history.await_recorded("consent-events", 4, worker)
        assert numbers(history) == {OTHER: 1, NUMBER: 1}
        assert worker.stop() == 0
    assert facts_of(history) == 6
    history.check_whole("consent-events", 4)
    check_certificate(history, erasure)


def check_certificate(history: Stand, event_id: str) -> None:
    """The entry that seals the certificate is kept and announced, and is that of the fact."""
    ((fact, recorded_at),) = history.store.query_rows(
        "SELECT hex(fact), toUnixTimestamp64Micro(recorded_at) FROM facts "
        f"WHERE event_id = '{event_id}'"
    )
    envelope = decode_body(fact_schema("Fact"), bytes.fromhex(fact))
    fields = decode_body(fact_schema("ErasureExecuted"), envelope["payload"])
    place = ExecutedPlace(
        envelope["log_id"], envelope["topic"], envelope["partition"], envelope["offset"],
        recorded_at,
    )  # fmt: skip
    certificate = certificate_of(fields, place, envelope["subject"])
    digest = hashlib.sha256(canonical_bytes(certificate)).digest()
    ((kept,),) = history.store.query_rows(
        "SELECT hex(content_sha256) FROM log_entries WHERE entry_kind = 'ERASURE'"
    )
    assert bytes.fromhex(kept) == digest
    announced = [decode(value) for value in history.values("ledger-blocks")]
    entries = [
        entry for record, entry in announced
        if record.name == "LogEntry" and entry["entry_kind"] == "ERASURE"
    ]  # fmt: skip
    assert entries and all(entry["content_sha256"] == digest for entry in entries)
    text = certificate_text(certificate)
    assert "GDPR 17(3)(b),(e)" in text and NUMBER not in text


def test_deleted_rows_leave_no_part_behind(embedded_history: Stand) -> None:
    """The parts that held them go from the disk, and what is there now does not hold them."""
    history = embedded_history
    with history.worker() as worker:
        publish(history, "ConsentGranted", occurred_at=now_us() - MINUTE_US)
        publish(history, "ConsentGranted", OTHER)
        history.await_recorded("consent-events", 2, worker)
        publish_erasure(history, records=2)
        history.await_recorded("privacy-requests", 1, worker)
        assert worker.stop() == 0
    wait_until(lambda: not old_parts(history), 120, "old parts to be removed")
    masked = history.store.query_rows(
        "SELECT count() FROM system.parts_columns WHERE database = currentDatabase() "
        "AND table = 'evidence' AND active AND column = '_row_exists'"
    )
    assert masked == [(0,)]


@pytest.mark.fault
@pytest.mark.slow
def test_killed_after_every_step(embedded_history: Stand) -> None:
    """Whichever step was the last before a kill -9, the next start completes the erasure.

    Every start is another group's first, so that only the store says where to go on.
    """
    history = embedded_history
    people = [f"+141555501{digits}" for digits in range(10, 10 + len(STEPS))]
    before = now_us() - MINUTE_US
    for person in people:
        publish(history, "ConsentGranted", person, occurred_at=before)
    publish(history, "ConsentGranted", OTHER, occurred_at=before)
    with history.worker(group=unique("r")) as worker:
        history.await_recorded("consent-events", len(people) + 1, worker)
        assert worker.stop() == 0
    for person, step in zip(people, STEPS, strict=True):
        publish_erasure(history, records=1, number=person)
        worker = history.start(
            kill_after=step, kill_topic="privacy-requests", group=unique("r"), cutter=ONE_EACH
        )
        assert worker.process.wait(60) == -signal.SIGKILL, worker.log()
    with history.worker(group=unique("r")) as worker:
        history.await_recorded("privacy-requests", len(people), worker)
        assert worker.stop() == 0
    assert numbers(history) == {OTHER: 1}
    entries = history.store.query_rows(
        "SELECT count(), uniqExact(entry_id) FROM log_entries WHERE entry_kind = 'ERASURE'"
    )
    assert entries == [(len(people), len(people))]
    history.check_whole("privacy-requests", len(people))


def test_a_worker_that_was_paused_brings_nothing_back(embedded_history: Stand) -> None:
    """It looked for erasures before there was one, and writes its block after it was executed."""
    history = embedded_history
    hold = history.folder / "hold"
    hold.touch()
    publish(history, "ConsentGranted", occurred_at=now_us() - MINUTE_US)
    late = history.start(hold_after="evidence", hold_file=str(hold), group=unique("late"))
    wait_until(lambda: numbers(history) == {NUMBER: 1}, what="evidence of an open block")
    publish_erasure(history, records=1)
    hold_after_erasure(history)
    assert numbers(history) == {NUMBER: 1}
    hold.unlink()
    history.await_recorded("consent-events", 1, late)
    assert numbers(history) == {}
    late.stop()


def hold_after_erasure(history: Stand) -> None:
    """Let another worker record the erasure while the first one holds its block."""
    with history.worker(group=unique("r")) as other:
        wait_until(
            lambda: history.store.query_rows("SELECT count() > 0 FROM erasures")[0][0],
            what="the erasure to be recorded",
        )
        history.await_recorded("privacy-requests", 1, other)


def test_a_legal_hold_stops_an_erasure(history: Stand) -> None:
    """An erasure that was executed under a hold reaches nothing; after its release one does."""
    before = now_us() - MINUTE_US
    with history.worker() as worker:
        publish(history, "ConsentGranted", occurred_at=before)
        history.await_recorded("consent-events", 1, worker)
        publish(history, "LegalHoldPlaced", hold_id="H-1", matter="22-cv-1")
        publish_erasure(history, records=1)
        history.await_recorded("privacy-requests", 2, worker)
        assert numbers(history) == {NUMBER: 3}
        assert history.store.query_rows("SELECT count() FROM erasures") == [(0,)]
        publish(history, "LegalHoldReleased", hold_id="H-1")
        publish_erasure(history, records=4)
        history.await_recorded("privacy-requests", 4, worker)
        assert numbers(history) == {}
        assert worker.stop() == 0


def test_letters_that_mention_the_number_go(history: Stand) -> None:
    """Unreadable records of an erased person are deleted, and later ones are not kept."""
    bad = f"not an event of {NUMBER}".encode()
    with history.worker() as worker:
        history.publish("consent-events", [(NUMBER.encode(), bad), (OTHER.encode(), b"junk")])
        history.await_recorded("consent-events", 2, worker)
        assert history.store.query_rows("SELECT count() FROM dead_letters") == [(2,)]
        publish_erasure(history, records=1)
        history.await_recorded("privacy-requests", 1, worker)
        assert history.store.query_rows("SELECT count() FROM dead_letters") == [(1,)]
        history.publish("consent-events", [(NUMBER.encode(), bad)])
        history.await_recorded("consent-events", 3, worker)
        assert history.store.query_rows("SELECT count() FROM dead_letters") == [(1,)]
        assert worker.stop() == 0


def test_a_topic_that_is_kept_keeps_its_evidence(embedded_history: Stand) -> None:
    """Where the proof of consent is kept, other topics lose theirs; a full erasure takes all."""
    history = embedded_history
    before = now_us() - MINUTE_US
    with history.worker() as worker:
        publish(history, "ConsentGranted", occurred_at=before)
        publish(history, "CallPlaced", occurred_at=before)
        history.await_recorded("consent-events", 1, worker)
        history.await_recorded("call-events", 1, worker)
        publish_erasure(history, records=1, kept="consent-events")
        history.await_recorded("privacy-requests", 1, worker)
        topics = history.store.query_rows("SELECT DISTINCT topic FROM evidence")
        assert topics == [("consent-events",)]
        publish(history, "ConsentWithdrawn")
        history.await_recorded("consent-events", 2, worker)
        assert numbers(history) == {NUMBER: 2}
        publish_erasure(history, records=2)
        history.await_recorded("privacy-requests", 2, worker)
        assert numbers(history) == {}
        assert worker.stop() == 0


def test_a_rehearsed_erasure_erases_nothing(history: Stand) -> None:
    """A test event changes no evidence."""
    with history.worker() as worker:
        publish(history, "ConsentGranted", occurred_at=now_us() - MINUTE_US)
        history.await_recorded("consent-events", 1, worker)
        publish(
            history, "ErasureExecuted", cutoff_at=now_us(), test=True, request_id="T",
            cutoffs=[
                {"topic": "consent-events", "log_id": history.log_ids["consent-events"],
                 "partition": HOME, "offset_last": 5}
            ],
        )  # fmt: skip
        history.await_recorded("privacy-requests", 1, worker)
        assert numbers(history) == {NUMBER: 2}
        assert worker.stop() == 0
