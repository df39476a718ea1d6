"""Every report: on a clean day it finds nothing, and each planted finding is found alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from consent.errors import Rejected
from consent.evidence import EVIDENCE_FIELDS
from projections.clickhouse import Store, StoreParameters
from projections.report_catalogue import ReportInvalid, packaged_reports, read_report
from projections.report_run import Question, ReportAnswer, run_report
from projections.report_tables import Period
from tests.stores import RunningFront
from tests.told import ANNA, BEN, CLEO, Told, micros, token, utc

REPORTS = packaged_reports()
PERIOD = Period(utc("2026-11-01 00:00"), utc("2026-12-01 00:00"), utc("2026-12-01 00:00"))
CALL = {
    "purpose": "MARKETING",
    "call_mode": "LIVE",
    "dial_mode": "PREVIEW",
    "campaign_id": "spring",
}
GRANT = {
    "consent_kind": "PEWC",
    "change": "GIVEN",
    "purposes": ["MARKETING"],
    "modes": ["LIVE"],
    "request_copy_sha256": b"r" * 32,
    "consent_copy_sha256": b"c" * 32,
}


class Day:
    """A history that grows by calls, each checked, permitted and ended, unless it is told else."""

    def __init__(self, told: Told) -> None:
        self.told = told

    def decision(self, at: datetime, number: str = ANNA, **fields: Any) -> str:
        """A decision, by default an allow with a permit of a minute; the permit's id."""
        permit = str(uuid5(NAMESPACE_URL, f"permit:{number}:{at}"))
        allowed = {"permit_id": permit, "permit_expires_at": micros(at + timedelta(seconds=60))}
        given = {"verdict": "ALLOW", "campaign_id": "spring", "number": number, "lists": [listed()]}
        if fields.get("verdict", "ALLOW") == "ALLOW":
            given |= allowed
        seen = {"partition": 0, "true_at": micros(at) - 100_000, "lag_ms": 100}
        self.told.say("DialDecision", at, watermark=seen, **{**given, **fields})
        return permit

    def call(
        self, at: str, number: str = ANNA, permit: str | None = "", ended: Any = None, **fields: Any
    ) -> str:
        """A call a second after its decision; its id."""
        start = utc(at)
        if permit == "":
            permit = self.decision(start - timedelta(seconds=1), number)
        call_id = f"call {at}"
        given = {**CALL, "number": number, "call_id": call_id, "permit_id": permit, **fields}
        self.told.say("CallPlaced", start, **given)
        ending = {
            "outcome": "ANSWERED_LIVE",
            "answered_live": True,
            "duration_seconds": 30,
            **(ended or {}),
        }
        self.told.say(
            "CallEnded",
            start + timedelta(seconds=40),
            **{**CALL, "number": number, "call_id": call_id, **ending},
        )
        return call_id


def listed(days: int = 5, at: str = "2026-11-03") -> dict[str, Any]:
    """That a version of the national list, so many days old, does not have the number."""
    day = (utc(f"{at} 00:00") - datetime(1970, 1, 1, tzinfo=utc("2026-01-01 00:00").tzinfo)).days
    return {
        "list_id": "us_national_dnc",
        "area": "415",
        "version": f"v{days}",
        "version_date": day - days,
        "member": False,
        "listed_on": None,
    }


def open_store(front: RunningFront, database: str) -> Store:
    """A store with a database of its own."""
    store = Store.connect(StoreParameters(url=front.url, database=database))
    store.command(f"CREATE DATABASE IF NOT EXISTS {database}", use_database=False)
    return store


@pytest.fixture(scope="module")
def clean(
    clickhouse_front: RunningFront, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A month in which all went well."""
    store = open_store(clickhouse_front, "reports_clean")
    told = Told(store, tmp_path_factory.mktemp("clean"))
    told.say(
        "CampaignDeclared",
        "2026-10-30 10:00",
        campaign_id="spring",
        starts_at=micros(utc("2026-11-01 00:00")),
    )
    evidence = {"name": "Jo Doe", "wording": "I agree."}
    told.say(
        "ConsentGranted", "2026-11-01 10:00", number=ANNA, evidence=_evidence(**evidence), **GRANT
    )
    day = Day(told)
    for hour in range(15, 20):
        day.call(f"2026-11-03 {hour}:00")
    # Ben asks not to be called, and is not; Cleo takes consent back and gives it again.
    told.say("DncAdded", "2026-11-03 15:30", number=BEN, list_kind="INTERNAL", list_id="internal")
    told.say("ConsentWithdrawn", "2026-11-03 15:40", number=CLEO)
    told.say(
        "ConsentGranted", "2026-11-03 15:50", number=CLEO, evidence=_evidence(**evidence), **GRANT
    )
    day.call("2026-11-03 16:30", CLEO)
    told.say(
        "PolicyAdopted", "2026-10-01 10:00", policy_id="dnc", version="3", areas=["DO_NOT_CALL"]
    )
    told.record()
    yield store
    store.close()


@pytest.fixture(scope="module")
def planted(
    clickhouse_front: RunningFront, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A month in which everything went wrong once."""
    store = open_store(clickhouse_front, "reports_planted")
    told = Told(store, tmp_path_factory.mktemp("planted"))
    day = Day(told)
    day.call("2026-11-03 15:00")
    day.call("2026-11-03 15:10", permit=None)
    day.call("2026-11-03 15:20", permit="00000000-0000-4000-8000-000000000001")
    late = day.decision(utc("2026-11-03 15:28"))
    day.call("2026-11-03 15:30", permit=late)
    told.say(
        "ConsentWithdrawn", "2026-11-02 15:00", number=BEN, seller_id="other", all_sellers=True
    )
    day.call("2026-11-03 15:40", BEN)
    told.say(
        "DncAdded",
        "2026-11-10 10:00",
        number=CLEO,
        list_kind="INTERNAL",
        list_id="internal",
        requested_at=micros(utc("2026-10-20 09:00")),
        call_id="c0",
    )
    denied = day.decision(
        utc("2026-11-04 04:00"),
        verdict="DENY",
        reason="QUIET_HOURS",
        reasons=["QUIET_HOURS"],
        states=["US-CA"],
        zones=["America/Los_Angeles"],
        lists=[],
    )
    assert denied
    day.call("2026-11-04 04:01", permit=None)
    day.decision(
        utc("2026-11-05 18:00"), verdict="DENY", reason="FREQ_CAP", reasons=["FREQ_CAP"], lists=[]
    )
    day.call("2026-11-05 18:01", permit=None)
    for minute in range(10, 40):
        gone = {"outcome": "ABANDONED"} if minute == 10 else {}
        start = micros(utc(f"2026-11-06 18:{minute}"))
        if minute == 11:
            gone = {"greeting_ended_at": start, "agent_connected_at": start + 2_000_001}
        day.call(
            f"2026-11-06 18:{minute}", campaign_id="autumn", ended={"campaign_id": "autumn", **gone}
        )
    day.call(
        "2026-11-06 19:00",
        permit=day.decision(
            utc("2026-11-06 18:59:30"), lists=[listed(32, "2026-11-06")], campaign_id="old"
        ),
    )
    told.record()
    yield store
    store.close()


def _evidence(**given: Any) -> dict[str, Any]:
    return {**dict.fromkeys(EVIDENCE_FIELDS), "certificate_urls": [], "extra": [], **given}


def asked(store: Store, name: str, personal: bool = False, **given: str) -> ReportAnswer:
    """The answer of a report about November."""
    return run_report(store, REPORTS[name], Question(PERIOD, given=given, personal=personal))


def rows(answer: ReportAnswer) -> list[dict[str, Any]]:
    """Its rows."""
    found: list[dict[str, Any]] = answer.rows.to_pylist()
    return found


@pytest.mark.parametrize("name", sorted(REPORTS))
def test_a_clean_month_has_no_findings(clean: Store, name: str) -> None:
    """Every report runs, says what it rests on, and finds nothing."""
    given = {"hours": "1000"} if name == "publishers-silent" else {}
    answer = asked(clean, name, **given)
    assert answer.findings == 0, rows(answer)[:3]
    about = answer.about
    assert about["query_id"] and about["from"] == "2026-11-01T00:00:00+00:00"
    assert about["checkpoint"]["origin"] == "ledger.example/log"
    assert about["checkpoint"]["size"] > 1


def test_calls_without_a_permit(planted: Store) -> None:
    """One that cites none, one that made its permit up; and those placed against a denial."""
    found = {(row["call_id"], row["why"]) for row in rows(asked(planted, "calls-without-permit"))}
    assert found == {
        ("call 2026-11-03 15:10", "NONE"),
        ("call 2026-11-03 15:20", "UNKNOWN"),
        ("call 2026-11-04 04:01", "NONE"),
        ("call 2026-11-05 18:01", "NONE"),
    }


def test_calls_outside_their_permit(planted: Store) -> None:
    """A call a minute after its permit ended."""
    (row,) = rows(asked(planted, "calls-outside-permit"))
    assert (row["call_id"], row["seconds_outside"]) == ("call 2026-11-03 15:30", 60.0)


def test_calls_after_withdrawal(planted: Store) -> None:
    """Taken back from all sellers a day and 40 minutes before."""
    (row,) = rows(asked(planted, "calls-after-withdrawal"))
    assert (row["call_id"], row["subject"]) == ("call 2026-11-03 15:40", token(BEN))
    assert (row["hours_since"], row["known_before_call"]) == (24.667, True)


def test_a_request_that_was_honoured_late(planted: Store) -> None:
    """Asked on 20 October, recorded on 10 November: 15 business days."""
    (row,) = rows(asked(planted, "requests-honoured-late"))
    assert (row["subject"], row["business_days"]) == (token(CLEO), 15)
    summary = {one["kind"]: one for one in rows(asked(planted, "time-to-honour"))}
    assert (summary["DncAdded"]["late"], summary["DncAdded"]["overdue"]) == (1, True)
    assert (summary["ConsentWithdrawn"]["late"], summary["ConsentWithdrawn"]["overdue"]) == (
        0,
        False,
    )
    assert asked(planted, "requests-honoured-late", business_days_max="15").findings == 0


@pytest.mark.parametrize(
    ("name", "call_id", "reason"),
    [
        ("calls-outside-hours", "call 2026-11-04 04:01", "QUIET_HOURS"),
        ("attempts-above-caps", "call 2026-11-05 18:01", "FREQ_CAP"),
    ],
)
def test_calls_against_a_denial(planted: Store, name: str, call_id: str, reason: str) -> None:
    """The decision said no for the hour, or for the cap, and the call was placed."""
    (row,) = rows(asked(planted, name))
    assert (row["call_id"], row["reasons"]) == (call_id, [reason])


def test_abandonment(planted: Store) -> None:
    """Two of thirty, one of them by its times; the other campaign has none."""
    found = {row["campaign_id"]: row for row in rows(asked(planted, "abandonment"))}
    autumn = found["autumn"]
    assert (autumn["live_answered"], autumn["abandoned"], autumn["over_limit"]) == (30, 2, True)
    assert autumn["period_start_at"] == utc("2026-11-06 18:10")
    assert not found["spring"]["over_limit"]


def test_registry_versions(planted: Store) -> None:
    """32 days are too many, 31 are not."""
    answer = asked(planted, "registry-versions")
    old = [row for row in rows(answer) if row["too_old"]]
    assert [(row["campaign_id"], row["age_days"]) for row in old] == [("old", 32)]
    assert asked(planted, "registry-versions", days_max="32").findings == 0


def test_publishers_and_gaps(planted: Store) -> None:
    """All are silent at the end of the month; a fact that was taken out leaves a gap."""
    assert asked(planted, "publishers-silent").findings == len(
        rows(asked(planted, "publishers-silent"))
    )
    assert asked(planted, "offset-gaps").findings == 0
    where = "topic = 'call-events' AND offset = 3"
    planted.command(f"ALTER TABLE facts DELETE WHERE {where} SETTINGS mutations_sync = 2")
    found = {(row["what"], row["kind"]): row for row in rows(asked(planted, "offset-gaps"))}
    assert set(found) == {("facts", "GAP"), ("blocks", "COUNT")}
    assert (found["facts", "GAP"]["after_offset"], found["blocks", "COUNT"]["records"]) == (2, 1)


def test_personal_columns(clean: Store) -> None:
    """Shown only to who may see them, and as erased once the evidence is gone."""
    hidden = rows(asked(clean, "consent-records"))
    assert {(row["name"], row["telephone_number"]) for row in hidden} == {(None, None)}
    shown = rows(asked(clean, "consent-records", personal=True))
    assert {row["telephone_number"] for row in shown} == {ANNA, CLEO}
    assert {(row["name"], row["request_wording"]) for row in shown} == {("Jo Doe", "I agree.")}
    (ben,) = rows(asked(clean, "internal-dnc", personal=True))
    assert ben["number"] == BEN
    assert {row["called_number"] for row in rows(asked(clean, "call-records", personal=True))} == {
        ANNA,
        CLEO,
    }
    erased = "DELETE WHERE number = '" + CLEO + "' SETTINGS mutations_sync = 2"
    clean.command(f"ALTER TABLE evidence {erased}")
    gone = [row for row in rows(asked(clean, "consent-records", personal=True)) if row["erased"]]
    assert [(row["name"], row["telephone_number"]) for row in gone] == [("ERASED", "ERASED")]


def test_sellers_and_parameters(clean: Store) -> None:
    """Limited to sellers that are there or not; what a report does not have is refused."""
    for sellers, count in (((), 6), (("acme",), 6), (("nobody",), 0)):
        question = Question(PERIOD, sellers)
        assert run_report(clean, REPORTS["call-records"], question).rows.num_rows == count
    for given in ({"nonsense": "1"}, {"days_max": "x"}):
        with pytest.raises(Rejected):
            run_report(clean, REPORTS["registry-versions"], Question(PERIOD, given=given))


def test_business_days_agree_with_a_calendar(
    clickhouse_front: RunningFront, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Random requests, recorded up to 40 days later: the same days as counted one by one."""
    store = open_store(clickhouse_front, "reports_days")
    told = Told(store, tmp_path_factory.mktemp("days"))
    draw, wanted = random.Random(7), {}
    for _ in range(300):
        known = utc("2026-11-01 00:00") + timedelta(minutes=draw.randrange(30 * 1440 - 1))
        said = known - timedelta(minutes=draw.randrange(40 * 1440))
        on = {"number": ANNA, "list_kind": "INTERNAL", "list_id": "internal"}
        event_id = told.say("DncAdded", known, requested_at=micros(said), **on)
        honoured = known + timedelta(seconds=5)
        days, day = 0, said.date()
        while day < honoured.date():
            day += timedelta(days=1)
            days += day.weekday() < 5
        wanted[event_id] = days
    told.record()
    found = rows(asked(store, "requests-honoured-late", business_days_max="0"))
    assert {row["event_id"]: row["business_days"] for row in found} == {
        event_id: days for event_id, days in wanted.items() if days
    }
    (summary,) = rows(asked(store, "time-to-honour"))
    assert summary["business_days_max"] == max(wanted.values())
    assert summary["late"] == sum(days > 10 for days in wanted.values())
    store.close()


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "-- title: x\nSELECT 1",
        "-- nonsense\nSELECT 1",
        "-- title: x\n-- answers: y\n-- finding: none\n-- column: a b\n-- with: z\nSELECT 1 AS a",
    ],
    ids=["bare", "part", "odd", "with-nothing"],
)
def test_a_file_that_is_no_report(text: str) -> None:
    """A report says what it is, or is not taken."""
    with pytest.raises(ReportInvalid):
        read_report("x", text)
