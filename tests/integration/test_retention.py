"""Evidence past its retention goes, sealed first; states, proofs and held evidence stay."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Mapping
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from consent.blocks import CutterLimits
from consent.contracts import contracts
from consent.partitioning import partition_of
from consent.privacy import subject_token
from consent.retention_entries import canonical_text, document_of
from consent_ledger.expiring import Expiring, NotSealed
from projections.clickhouse import Store
from projections.errors import StoreUnavailable
from projections.migration import load_migrations, migrate
from projections.retention import ExpiredMonth
from tests.made_ledger import KEYS, MadeLedger
from tests.retention_past import (
    CALLED,
    CANARY,
    DAY_US,
    ERASED,
    HELD,
    NOW,
    NUMBERS,
    OLD,
    PARTITIONS,
    RECENT,
    Past,
    origin_of,
)
from tests.sealing import kept_entries, seal_entries
from tests.strategies import random_event


@pytest.fixture
def past(store: Store, tmp_path: Path) -> Past:
    """Random events of every type over two old months and a recent one, and some of note."""
    migrate(store, load_migrations(files("projections") / "migrations"))
    limits = CutterLimits(records_max=60, bucket_ms=DAY_US // 1000)
    made = Past(MadeLedger(store, tmp_path / "log", limits, PARTITIONS), {})
    draw = random.Random(11)
    kinds = [one for one in contracts().records if one.has_number and one.name not in _OF_NOTE]
    for start in (OLD, OLD + 30 * DAY_US, RECENT):
        for index in range(80):
            record = draw.choice(kinds)
            fields = random_event(record, draw) | {"number": draw.choice(NUMBERS)}
            made.append(record.name, fields, start + index * 1_000_000)
        for number in (HELD, CALLED, ERASED):
            said = {"name": CANARY.decode()}
            made.add("ConsentGranted", number, start + DAY_US, evidence=evidence_with(said))
            made.add("DncAdded", number, start + DAY_US + 1_000, list_kind="INTERNAL")
    made.add("LegalHoldPlaced", HELD, RECENT + 2 * DAY_US, hold_id="H-1")
    made.add("CallPlaced", CALLED, RECENT + 2 * DAY_US)
    made.record()
    return made


_OF_NOTE = ("LegalHoldPlaced", "LegalHoldReleased", "ErasureExecuted")


def evidence_with(given: Mapping[str, Any]) -> dict[str, Any]:
    """Evidence of a grant with these values."""
    fields = contracts().record("ConsentGranted").schema["fields"]
    (own,) = [field for field in fields if field["name"] == "evidence"]
    empty = {one["name"]: one.get("default") for one in own["type"][1]["fields"]}
    return empty | dict(given)


def test_a_plan_changes_nothing(past: Past) -> None:
    """It counts what goes and what stays, month by month; the recent month is not in it."""
    evidence = past.count("SELECT count() FROM evidence")
    retention = past.retention()
    months = retention.plan()
    assert retention.kept_from == 202612
    assert [month.month for month in months] == [202609, 202610]
    assert [month.under_hold for month in months] == [2, 2]
    assert all(month.in_use >= 1 for month in months)
    assert sum(month.rows + month.in_use + month.under_hold for month in months) == past.count(
        "SELECT count() FROM evidence AS e SEMI JOIN facts AS f USING (log_id, partition, offset) "
        "WHERE toYYYYMM(f.recorded_at) < 202612"
    )
    assert past.count("SELECT count() FROM evidence") == evidence
    assert past.count("SELECT count() FROM carried_states") == 0


def test_evidence_goes_and_every_state_stays(past: Past) -> None:
    """What a rebuild makes of history is, byte for byte, what it made before; proofs hold."""
    before, planned = past.states(), past.retention().plan()
    facts = past.count("SELECT count() FROM facts")
    assert any(b"party_ref:" in body for body in before.values())
    assert past.expire() == sum(month.rows for month in planned) > 0
    assert past.states() == before
    assert past.count("SELECT count() FROM facts") == facts
    assert past.findings() == []
    assert past.evidence(HELD) == 7
    # Of who was called, the consent of old months stays as proof, and nothing else of them does.
    assert past.evidence(CALLED) == 2 + 3
    assert past.evidence(ERASED) == 2
    again = past.retention().plan()
    assert [month.rows for month in again] == [0, 0]
    assert past.expire() == 0


def test_a_bundle_says_why_evidence_is_gone(past: Past) -> None:
    """By which entry of the log it went, or that the person was erased; what is held has none."""
    past.expire()
    entries = {entry["entry_id"] for entry in kept_entries(past.store, "RETENTION")}
    told, page = _told(past, ERASED)
    assert [event["evidence_held"] for event in told] == [False] * 4 + [True] * 2
    gone = [event["evidence_gone"] for event in told]
    assert [one and one["month"] for one in gone] == ["2026-09"] * 2 + ["2026-10"] * 2 + [None] * 2
    assert {entry for one in gone if one for entry in one["entry_ids"]} == entries
    assert all(entry in page for entry in entries)
    told, _ = _told(past, HELD)
    assert {event["evidence_gone"] is None for event in told} == {True}
    _erase(past)
    past.retention()._erasures.purge([subject_token(KEYS.history, ERASED)])
    told, page = _told(past, ERASED)
    before = [event for event in told if event["fact"]["event_name"] != "ErasureExecuted"]
    assert [event["evidence_gone"] for event in before] == [{"by": "ERASURE"}] * 6
    assert "erased at the person" in page


def _told(past: Past, number: str) -> tuple[list[dict[str, Any]], str]:
    """The events of a bundle that are about its number, and its page."""
    with zipfile.ZipFile(BytesIO(past.bundle(number).data)) as packed:
        events = json.loads(packed.read("story.json"))["events"]
        page = packed.read("story.html").decode()
    return [event for event in events if event["about"] == "number"], page


def test_old_evidence_is_nowhere_on_the_disk(past: Past) -> None:
    """Rows are deleted, not hidden: only parts that are gone from the table still have them."""
    past.store.command(f"ALTER TABLE evidence DELETE WHERE number != '{ERASED}'", _AT_ONCE)
    past.expire()
    assert past.evidence(ERASED) == 2
    held = past.store.query_rows(
        "SELECT hex(evidence) FROM evidence WHERE evidence IS NOT NULL",
    )
    assert len(held) == 1 and CANARY in bytes.fromhex(held[0][0])
    carried = past.store.query_rows("SELECT hex(body) FROM carried_states")
    assert carried and not any(CANARY in bytes.fromhex(body) for (body,) in carried)


_AT_ONCE = {"mutations_sync": 2}


def test_nothing_goes_before_it_is_sealed(past: Past) -> None:
    """Without a sealer the run ends with an error that can be repeated; with one it goes on."""
    evidence = past.count("SELECT count() FROM evidence")
    expiring = Expiring(past.sources, past.retention(), seal_timeout_s=0.0)
    (month, *_) = past.retention().plan()
    with pytest.raises(NotSealed):
        expiring.apply(month, lambda done, total: None)
    assert past.count("SELECT count() FROM evidence") == evidence
    kept = kept_entries(past.store, "RETENTION")
    seal_entries(past.ledger, kept)
    done = expiring.apply(month, lambda done, total: None)
    assert (done.rows, done.findings) == (month.rows, ())
    assert len(kept_entries(past.store, "RETENTION")) == 1
    assert past.findings() == []


def test_damaged_evidence_stays(past: Past) -> None:
    """It is evidence of the damage: nothing of its month goes, and the finding is told."""
    past.store.command(
        "ALTER TABLE evidence UPDATE salt = reverse(salt) WHERE offset = 0 AND partition = 0",
        _AT_ONCE,
    )
    expiring = Expiring(past.sources, past.retention(), seal_timeout_s=0.0)
    (month, *_) = past.retention().plan()
    result = expiring.apply(month, lambda done, total: None)
    assert result.rows == 0
    assert {finding.kind for finding in result.findings} == {"EVIDENCE_CHANGED"}
    assert kept_entries(past.store, "RETENTION") == []


def test_a_forged_document_is_found(past: Past) -> None:
    """What the entry names by its digest can't be said to have been something else."""
    past.expire()
    past.store.command(
        "ALTER TABLE retentions UPDATE document = replace(document, 'H', 'h') || ' ' "
        "WHERE month = 202609",
        _AT_ONCE,
    )
    (finding,) = past.findings()
    assert (finding.kind, finding.place.table) == ("ENTRY_NOT_KEPT", "retentions")


class _Ending(Exception):
    """The process ends here."""


@pytest.mark.parametrize("statement", [1, 2, 3])
def test_ended_in_the_middle_it_goes_on(
    past: Past, monkeypatch: pytest.MonkeyPatch, statement: int
) -> None:
    """Carried in part, carried and not deleted, or deleted in part: the next run ends the same."""
    before = past.states()
    with monkeypatch.context() as patched:
        _end_at(patched, past.store, statement)
        with pytest.raises(_Ending):
            past.expire()
        assert past.states() == before
    past.expire()
    assert past.states() == before
    assert sum(month.rows for month in past.retention().plan()) == 0
    assert past.findings() == []


def test_who_is_called_between_two_runs_is_held_back(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was carried and not deleted is in use again: proof of consent stays."""
    with monkeypatch.context() as patched:
        _end_at(patched, past.store, 2)
        with pytest.raises(_Ending):
            past.expire()
    home = partition_of(ERASED.encode(), PARTITIONS)
    calls = past.logs["call-events", home]
    start = len(calls)
    past.add("CallPlaced", ERASED, NOW - DAY_US)
    past.ledger.record(origin_of("call-events", home), calls[start:])
    past.ledger.checkpoint()
    past.expire()
    # Consent of three months, the recent listing, the call.
    assert past.evidence(ERASED) == 3 + 1 + 1


def test_who_comes_under_a_hold_between_two_runs_is_held_back(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was carried and not deleted stays for the hold; what others have goes."""
    with monkeypatch.context() as patched:
        _end_at(patched, past.store, 2)
        with pytest.raises(_Ending):
            past.expire()
    home = partition_of(ERASED.encode(), PARTITIONS)
    requests = past.logs["privacy-requests", home]
    start = len(requests)
    past.add("LegalHoldPlaced", ERASED, NOW - DAY_US, hold_id="H-3")
    past.ledger.record(origin_of("privacy-requests", home), requests[start:])
    past.ledger.checkpoint()
    assert past.expire() > 0
    # Consent and listing of three months, and the hold.
    assert past.evidence(ERASED) == 3 + 3 + 1


def _end_at(patched: pytest.MonkeyPatch, store: Store, statement: int) -> None:
    """Before the second insert of carried states, before a deletion, or before the second one."""
    insert, command = store.insert_arrow, store.command
    left = {"carried_states": 1 if statement == 1 else 1_000, "DELETE": statement - 2}

    def inserting(table: str, *rest: Any) -> None:
        if table == "carried_states":
            if not left[table]:
                raise _Ending
            left[table] -= 1
        insert(table, *rest)

    def commanding(said: str, *rest: Any) -> Any:
        if said.startswith("ALTER TABLE evidence DELETE"):
            if not left["DELETE"]:
                raise _Ending
            left["DELETE"] -= 1
        return command(said, *rest)

    patched.setattr(store, "insert_arrow", inserting)
    patched.setattr(store, "command", commanding)


def test_an_erasure_reaches_what_was_carried(past: Past) -> None:
    """The number goes from the carried states too, and the person comes back under their token."""
    past.expire()
    carried = f"SELECT count() FROM carried_states WHERE number = '{ERASED}'"
    assert past.count(carried) > 0
    _erase(past)
    assert past.retention()._erasures.purge([subject_token(KEYS.history, ERASED)]) > 0
    assert past.count(carried) == past.evidence(ERASED) == 0
    states = past.states()
    assert ERASED.encode() not in states and any(key.startswith(b"#") for key in states)
    assert past.findings() == []


def test_who_is_erased_meanwhile_is_not_carried(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers read before an erasure and written after it are taken out again."""
    insert, erased = past.store.insert_arrow, []

    def inserting(table: str, *rest: Any) -> None:
        if table == "carried_states" and not erased:
            erased.append(ERASED)
            _erase(past)
        insert(table, *rest)

    monkeypatch.setattr(past.store, "insert_arrow", inserting)
    past.expire()
    carried = f"SELECT count() FROM carried_states WHERE number = '{ERASED}'"
    assert erased and past.count(carried) == 0


def _erase(past: Past) -> None:
    """Record the erasure of ERASED, as `record` does."""
    home = partition_of(ERASED.encode(), PARTITIONS)
    cutoffs = [
        {
            "topic": topic,
            "log_id": origin_of(topic, home).log_id,
            "partition": home,
            "offset_last": len(past.logs.get((topic, home), [])) - 1,
        }
        for topic in contracts().keyed_source_topics
    ]
    log = past.logs["privacy-requests", home]
    start = len(log)
    past.add("ErasureExecuted", ERASED, NOW, cutoff_at=NOW - 1, cutoffs=cutoffs, request_id="R-1")
    past.ledger.record(origin_of("privacy-requests", home), log[start:])
    past.ledger.checkpoint()


def test_who_comes_under_a_hold_meanwhile_is_held_back(past: Past) -> None:
    """A hold that is recorded after the plan counts."""
    run = past.retention()
    (month, *_) = run.plan()
    home = partition_of(ERASED.encode(), PARTITIONS)
    start = len(past.logs["privacy-requests", home])
    past.add("LegalHoldPlaced", ERASED, NOW - DAY_US, hold_id="H-2")
    past.ledger.record(
        origin_of("privacy-requests", home), past.logs["privacy-requests", home][start:]
    )
    run.apply(month, past.seal, lambda done, total: None)
    assert past.evidence(ERASED) == 7


def test_a_store_that_cannot_delete_is_told(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends with an error that can be repeated."""
    query = past.store.query_rows

    def failing(said: str, *rest: Any, **given: Any) -> Any:
        return [("no space",)] if "system.mutations" in said else query(said, *rest, **given)

    monkeypatch.setattr(past.store, "query_rows", failing)
    with pytest.raises(StoreUnavailable):
        past.expire()


def test_the_document_is_kept(past: Past) -> None:
    """Its sums are in the entry, by which anybody can read what went."""
    (month, *_) = past.retention().plan()
    past.retention().apply(month, past.seal, lambda done, total: None)
    (entry,) = kept_entries(past.store, "RETENTION")
    said = {pair["name"]: pair["value"] for pair in entry["content"]}
    assert said["month"] == "2026-09" and said["rows"] == str(month.rows)
    assert said["who"] == "cli:test" and said["under_hold"] == "2"
    document = past.store.query_rows("SELECT document FROM retentions")[0][0]
    assert document == canonical_text(_document(month))


def _document(month: ExpiredMonth) -> dict[str, Any]:
    return document_of(month.month, 202612, month.parts)
