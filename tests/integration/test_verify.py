"""Verification of a whole ledger: clean, altered, under way, and from the command line."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.notes import SigningKey
from consent.privacy import subject_token
from consent_ledger.keys import create_missing_keys, key_paths
from consent_ledger.settings import load_settings
from projections.clickhouse import Store, StoreParameters
from projections.log_folder import LogFolder
from projections.verification import (
    Sources,
    Verification,
    VerificationLimits,
    VerificationReport,
    VerificationScope,
)
from projections.verification_findings import Place
from projections.verification_log import GivenCheckpoint
from tests.fault.alterations import ALTERATIONS, Target, altered
from tests.fault.tamper import campaign, made_target
from tests.ledger import command
from tests.made_ledger import KEYS, LOG_KEY
from tests.stores import RunningFront

NOW = 1_900_000_000_000_000
FACTS = 800


@pytest.fixture(scope="module")
def made(
    clickhouse_front: RunningFront, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """A small ledger with its log, made once."""
    parameters = StoreParameters(url=clickhouse_front.url, database="test_verify")
    store = Store.connect(parameters)
    target = made_target(store, tmp_path_factory.mktemp("verify") / "log", seed=3, facts=FACTS)
    target.snapshot()
    yield target
    store.command("DROP DATABASE test_verify SYNC", use_database=False)
    store.close()


@pytest.fixture
def target(made: Target) -> Iterator[Target]:
    """The same ledger, put back at the end."""
    yield made
    made.restore()


def verified(
    target: Target,
    scope: VerificationScope | None = None,
    limits: VerificationLimits | None = None,
    now: int = NOW,
    key: SigningKey = LOG_KEY,
) -> VerificationReport:
    """The report of a verification."""
    sources = Sources(target.store, LogFolder(target.folder), [key.verifier])
    scope = scope if scope is not None else VerificationScope(at_rest=True)
    limits = limits if limits is not None else VerificationLimits(page_rows=300)
    return Verification(sources, scope, limits, os.urandom(16), now).run()


def kinds(report: VerificationReport) -> list[str]:
    """Kinds of the findings."""
    return [finding.kind for finding in report.findings]


def test_a_whole_ledger_has_no_findings(target: Target) -> None:
    """Every fact, block, entry and evidence row is looked at, in passes of any size."""
    facts, evidence = (
        int(target.store.query_rows(f"SELECT count() FROM {table}")[0][0])
        for table in ("facts", "evidence")
    )
    told: list[tuple[int, int]] = []
    for places_max in (4_000_000, 100):
        report = verified(target, limits=VerificationLimits(places_max, page_rows=50))
        assert report.findings == []
        assert (report.facts, report.evidence) == (facts, evidence)
        assert report.entries == target.size
        assert report.blocks == target.size - 1
    sources = Sources(target.store, LogFolder(target.folder), [LOG_KEY.verifier])
    verification = Verification(
        sources, VerificationScope(), VerificationLimits(page_rows=50), bytes(16), NOW
    )
    verification.run(lambda done, total: told.append((done, total)))
    assert told[-1] == (facts, facts)
    assert len(told) > 2


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_kind_of_alteration_is_found_where_it_is(store: Store, tmp_path: Path) -> None:
    """Two of each kind, and nothing on the ledger as it was."""
    runs = 2 * len(ALTERATIONS)
    result = campaign(store, tmp_path / "log", runs, seed=5, facts=FACTS)
    assert result == {"runs": runs, "found": runs, "misplaced": 0, "false_findings": 0}


def test_one_month(target: Target) -> None:
    """Only its facts are read; damage elsewhere is another month's finding."""
    months = target.store.query_rows(
        "SELECT toYYYYMM(recorded_at) AS month, count() FROM facts GROUP BY month ORDER BY month"
    )
    assert len(months) == 2
    for month, count in months:
        report = verified(target, VerificationScope(month=int(month), at_rest=True))
        assert (report.facts, report.findings) == (int(count), [])
    first = int(months[0][0])
    target.store.command(
        f"ALTER TABLE facts DELETE WHERE toYYYYMM(recorded_at) = {first} AND offset = 3",
        {"mutations_sync": 2},
    )
    found = kinds(verified(target, VerificationScope(month=first, at_rest=True)))
    assert found and set(found) == {"FACT_MISSING"}
    assert not verified(target, VerificationScope(month=int(months[1][0]), at_rest=True)).findings


def test_one_subject(target: Target) -> None:
    """Its facts' blocks are read whole, since a root needs all of a block."""
    number = target.store.query_rows(
        "SELECT number FROM evidence WHERE number != '' ORDER BY number LIMIT 1"
    )[0][0]
    subject = subject_token(KEYS.history, number)
    scope = VerificationScope(subject=subject, at_rest=True)
    report = verified(target, scope)
    assert report.findings == []
    assert 0 < report.facts < FACTS
    target.store.command(
        f"ALTER TABLE facts UPDATE seller_id = 'x' WHERE subject = unhex('{subject.hex()}')",
        {"mutations_sync": 2},
    )
    assert "COLUMN_CHANGED" in kinds(verified(target, scope))


def test_evidence_is_held_against_its_commitment(target: Target) -> None:
    """Changed evidence is found; evidence that is gone is not, since it may be erased."""
    row = target.store.query_rows(
        "SELECT hex(log_id), partition, offset FROM evidence WHERE evidence IS NOT NULL "
        "ORDER BY log_id, partition, offset LIMIT 1"
    )[0]
    where = f"log_id = unhex('{row[0]}') AND partition = {row[1]} AND offset = {row[2]}"
    target.store.command(
        f"ALTER TABLE evidence UPDATE evidence = concat(evidence, 'x') WHERE {where}",
        {"mutations_sync": 2},
    )
    report = verified(target)
    assert kinds(report) == ["EVIDENCE_CHANGED"]
    place = report.findings[0].place
    assert (place.table, place.offset_first, place.partition) == ("evidence", row[2], row[1])
    assert not verified(target, VerificationScope(at_rest=True, evidence=False)).findings
    target.store.command(f"ALTER TABLE evidence DELETE WHERE {where}", {"mutations_sync": 2})
    assert verified(target).findings == []


def test_what_is_under_way_is_no_finding(target: Target) -> None:
    """Rows behind the last block, and blocks that are not in the log yet, while they are new."""
    names = "fact, topic, partition, offset, log_id, recorded_at"
    last = target.store.query_rows("SELECT max(toUnixTimestamp64Micro(recorded_at)) FROM facts")
    target.store.command(
        f"INSERT INTO facts ({names}) SELECT fact, topic, partition, 1000000, log_id, recorded_at "
        "FROM facts ORDER BY recorded_at DESC LIMIT 1"
    )
    now = int(last[0][0]) + 1_000_000
    assert verified(target, VerificationScope(), now=now).findings == []
    assert kinds(verified(target, VerificationScope(), now=now + 3_600_000_000)) == ["FACT_UNKNOWN"]
    assert kinds(verified(target, now=now)) == ["FACT_UNKNOWN"]


def test_a_checkpoint_that_somebody_kept(target: Target, store: Store, tmp_path: Path) -> None:
    """A ledger that was rewritten with its key is found out by an older checkpoint."""
    kept = target.notes[0]
    place = Place(path="kept")
    given = VerificationScope(at_rest=True, checkpoints=[GivenCheckpoint(kept, place)])
    assert verified(target, given).findings == []
    rewritten = made_target(store, tmp_path / "other", seed=9, facts=FACTS)
    assert int(kept.split("\n")[1]) < rewritten.size
    assert verified(rewritten).findings == []
    report = verified(rewritten, given)
    assert [(one.kind, one.place) for one in report.findings] == [
        ("CHECKPOINT_CONTRADICTED", place)
    ]
    larger = VerificationScope(at_rest=True, checkpoints=[GivenCheckpoint(target.notes[-1], place)])
    assert "CHECKPOINT_ROLLED_BACK" in kinds(verified(rewritten, larger))


def test_another_key_is_not_trusted(target: Target) -> None:
    """Checkpoints that the given key did not sign prove nothing."""
    report = verified(target, key=SigningKey(LOG_KEY.name, b"x" * 32))
    assert set(kinds(report)) >= {"CHECKPOINT_INVALID"}


def test_an_unreadable_fact_is_named_alone(target: Target) -> None:
    """One broken row in a page of many is found, and only it."""
    target.store.command(
        "ALTER TABLE facts UPDATE fact = 'junk' WHERE offset = 5 AND partition = 0 "
        "AND topic = 'consent-events'",
        {"mutations_sync": 2},
    )
    report = verified(target)
    assert set(kinds(report)) == {"FACT_UNREADABLE", "ROOT_DIFFERS"}
    assert {(one.place.topic, one.place.partition) for one in report.findings} == {
        ("consent-events", 0)
    }


@pytest.fixture
def environment(target: Target, clickhouse_front: RunningFront, tmp_path: Path) -> dict[str, str]:
    """Settings under which the command finds the ledger."""
    data = tmp_path
    settings = load_settings(data_dir=data)
    create_missing_keys(settings)
    key_paths(settings)["log"].write_bytes(LOG_KEY.seed)
    key_paths(settings)["history"].write_bytes(KEYS.history)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("CONSENT_")},
        "CONSENT_DATA_DIR": str(data),
        "CONSENT_LOG_DIR": str(target.folder),
        "CONSENT_LOG_ORIGIN": LOG_KEY.name,
        "CONSENT_CLICKHOUSE_URL": clickhouse_front.url,
        "CONSENT_CLICKHOUSE_DATABASE": target.store.database,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `consent-ledger verify`."""
    return subprocess.run(
        command("verify", *arguments), env=environment, capture_output=True, text=True, timeout=120
    )


def test_the_command(target: Target, environment: dict[str, str]) -> None:
    """0 and a rate where all is well, 1 and the place where not, 2 for what can't be meant."""
    clean = run(environment, "--at-rest")
    assert clean.returncode == 0, clean.stderr + clean.stdout
    assert "no findings" in clean.stdout and "facts/s" in clean.stdout
    pinned = run(environment, "--key", LOG_KEY.verifier.encoded, "--json", "--month", "2026-09")
    assert pinned.returncode == 0, pinned.stderr + pinned.stdout
    assert json.loads(pinned.stdout)["findings"] == 0
    with altered(target, "rolled_back_checkpoint", random.Random(1)):
        damaged = run(environment, "--at-rest", "--json")
    assert damaged.returncode == 1
    finding, summary = map(json.loads, damaged.stdout.splitlines())
    assert finding["kind"] == "CHECKPOINT_ROLLED_BACK"
    assert finding["path"] == "checkpoint"
    assert summary["findings"] == 1
    assert run(environment, "--month", "2026-13").returncode == 2
    assert run(environment, "--key", "nothing").returncode == 2


def test_a_look_at_one_number_is_written_down(target: Target, environment: dict[str, str]) -> None:
    """With its token and the reason; no other verification writes anything."""
    number = target.store.query_rows("SELECT any(number) FROM evidence WHERE number != ''")[0][0]
    looked = run(environment, "--number", number, "--why", "case 7", "--at-rest")
    assert looked.returncode == 0, looked.stderr + looked.stdout
    refused = run(environment, "--number", number, "--why", f"about {number}")
    assert refused.returncode == 2 and number not in refused.stderr
    assert run(environment).returncode == 0
    looks = target.store.query_rows("SELECT hex(subject), what, why, role FROM access_log")
    token = subject_token(KEYS.history, number).hex().upper()
    assert looks == [(token, "verify", "case 7", "operator")]
