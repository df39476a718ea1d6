"""SQL for auditors: the views, asked as an auditor would, through clickhouse-connect and curl."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest

from consent.contracts import contracts
from projections.clickhouse import Store
from tests.stores import RunningFront
from tests.told import ANNA, BEN, Told, token, utc

LATER = "2026-12-31 00:00:00"


class Auditor:
    """Asks views with the public client."""

    def __init__(self, front: RunningFront, database: str) -> None:
        self._client = clickhouse_connect.get_client(
            host="127.0.0.1", port=front.port, database=database
        )

    def ask(
        self, view: str, number: str, at: str = LATER, known_at: str = LATER
    ) -> list[dict[str, Any]]:
        """Rows of a view by column."""
        told = self._client.query(
            f"SELECT * FROM {view}(subject = {{subject:String}}, at = {{at:String}}, "
            "known_at = {known_at:String})",
            parameters={"subject": token(number), "at": at, "known_at": known_at},
        )
        return list(told.named_results())

    def close(self) -> None:
        """End the client."""
        self._client.close()


@pytest.fixture
def told(store: Store, tmp_path: Path) -> Told:
    """An empty history."""
    return Told(store, tmp_path / "log")


@pytest.fixture
def auditor(clickhouse_front: RunningFront, told: Told) -> Iterator[Auditor]:
    """Somebody who knows SQL only."""
    client = Auditor(clickhouse_front, told.store.database)
    yield client
    client.close()


GRANT: dict[str, Any] = {
    "consent_kind": "PEWC",
    "change": "GIVEN",
    "purposes": ["MARKETING"],
    "modes": ["LIVE", "PRERECORDED"],
}


def statuses(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Status by mode."""
    return {row["mode"]: row["status"] for row in rows}


def test_consent_has_two_times(told: Told, auditor: Auditor) -> None:
    """A withdrawal that arrived late ends the consent from when it was said, once it is known."""
    told.say("ConsentGranted", "2026-11-01 10:00", number=ANNA, **GRANT)
    told.say(
        "ConsentWithdrawn",
        "2026-11-05 10:00",
        recorded="2026-11-09 08:00",
        number=ANNA,
        modes=["PRERECORDED"],
    )
    told.record()
    assert auditor.ask("consent_as_of", BEN) == []
    assert auditor.ask("consent_as_of", ANNA, at="2026-10-31 00:00:00") == []
    open_, closed = (
        {"LIVE": "GRANTED", "PRERECORDED": "GRANTED"},
        {"LIVE": "GRANTED", "PRERECORDED": "WITHDRAWN"},
    )
    then, now = "2026-11-06 00:00:00", "2026-11-10 00:00:00"
    assert statuses(auditor.ask("consent_as_of", ANNA, at=then, known_at=then)) == open_
    assert statuses(auditor.ask("consent_as_of", ANNA, at=now, known_at=then)) == open_
    rows = auditor.ask("consent_as_of", ANNA, at=now, known_at=now)
    assert statuses(rows) == closed
    assert rows[1]["withdrawn_at"] == datetime(2026, 11, 5, 10, 0)
    assert rows[1]["withdrawn_by"] == "ConsentWithdrawn"


def test_what_ends_a_consent(told: Told, auditor: Auditor) -> None:
    """All sellers, an unknown scope, a word in a call, an end of its own; not another's word."""
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("ConsentWithdrawn", {"seller_id": "other"}, "GRANTED"),
        ("ConsentWithdrawn", {"seller_id": "other", "all_sellers": True}, "WITHDRAWN"),
        ("ConsentWithdrawn", {"purposes": ["SURVEY"]}, "GRANTED"),
        ("ConsentWithdrawn", {"purposes": ["SURVEY", "UNKNOWN"]}, "WITHDRAWN"),
        ("ConsentWithdrawn", {"subject_matters": ["windows"]}, "GRANTED"),
        ("ConsentInvalidated", {"reason": "FRAUD"}, "WITHDRAWN"),
        ("CallEnded", {"call_id": "c1", "opted_out": True}, "WITHDRAWN"),
        ("CallEnded", {"call_id": "c1", "opted_out": False}, "GRANTED"),
        ("ErasureRequested", {"request_id": "r1"}, "WITHDRAWN"),
        ("DncAdded", {"list_kind": "INTERNAL", "list_id": "internal"}, "GRANTED"),
    ]
    numbers = [f"+1415555{100 + index:04d}" for index in range(len(cases))]
    for number, (name, fields, _) in zip(numbers, cases, strict=True):
        told.say("ConsentGranted", "2026-11-01 10:00", number=number, **GRANT)
        told.say(name, "2026-11-02 10:00", number=number, **fields)
    ended, valid = "+14155550150", "+14155550151"
    until = int(utc("2026-11-03 00:00").timestamp()) * 1_000_000
    told.say("ConsentGranted", "2026-11-01 10:00", number=ended, expires_at=until, **GRANT)
    told.say("ConsentGranted", "2026-11-01 10:00", number=valid, validity="P1D", **GRANT)
    told.record()
    for number, (name, fields, wanted) in zip(numbers, cases, strict=True):
        rows = auditor.ask("consent_as_of", number)
        assert set(statuses(rows).values()) == {wanted}, (name, fields)
    for number in (ended, valid):
        before, after = "2026-11-02 09:59:59", "2026-11-03 00:00:00"
        assert set(statuses(auditor.ask("consent_as_of", number, at=before)).values()) == {
            "GRANTED"
        }
        assert set(statuses(auditor.ask("consent_as_of", number, at=after)).values()) == {"EXPIRED"}


def test_a_consent_given_again_stands(told: Told, auditor: Auditor) -> None:
    """A grant after the withdrawal counts; one of the same instant does not."""
    for number, again in ((ANNA, "2026-11-03 10:00"), (BEN, "2026-11-02 10:00")):
        told.say("ConsentGranted", "2026-11-01 10:00", number=number, **GRANT)
        told.say("ConsentWithdrawn", "2026-11-02 10:00", number=number)
        told.say("ConsentGranted", again, number=number, **GRANT)
    told.record()
    assert set(statuses(auditor.ask("consent_as_of", ANNA)).values()) == {"GRANTED"}
    assert set(statuses(auditor.ask("consent_as_of", BEN)).values()) == {"WITHDRAWN"}


def test_an_event_published_twice_counts_as_its_first_row(told: Told, auditor: Auditor) -> None:
    """The lowest broker time wins, whatever the second copy says."""
    event_id = told.say("ConsentGranted", "2026-11-01 10:00", number=ANNA, **GRANT)
    again = {**GRANT, "modes": ["AI_VOICE"]}
    told.say(
        "ConsentGranted",
        "2026-11-01 10:00",
        "2026-11-02 10:00",
        number=ANNA,
        event_id=event_id,
        **again,
    )
    told.record()
    assert [row["event_id"] for row in auditor.ask("timeline", ANNA)] == [event_id]
    assert set(statuses(auditor.ask("consent_as_of", ANNA))) == {"LIVE", "PRERECORDED"}


def test_an_opt_out_that_can_not_be_read_is_one(told: Told, auditor: Auditor) -> None:
    """It is in the timeline, ends every consent, and stands on the internal list."""
    told.say("ConsentGranted", "2026-11-01 10:00", number=ANNA, **GRANT)
    schema_id = contracts().record("ConsentWithdrawn").schema_id
    broken = b"\x00" + schema_id.to_bytes(4, "big") + b"\xff\xff"
    for at in ("2026-11-02 10:00", "2026-11-02 10:01"):
        told.raw("consent-events", at, ANNA.encode(), broken)
    told.record()
    assert len(auditor.ask("timeline", ANNA)) == 3
    assert set(statuses(auditor.ask("consent_as_of", ANNA)).values()) == {"WITHDRAWN"}
    (entry,) = auditor.ask("dnc_as_of", ANNA)
    assert (entry["seller"], entry["list_kind"], entry["status"]) == ("*", "INTERNAL", "LISTED")


def test_lists_name_the_newest_entry(told: Told, auditor: Auditor) -> None:
    """Added, removed and added again; at one instant the listing wins."""
    on = {"number": ANNA, "list_kind": "INTERNAL", "list_id": "internal"}
    told.say("DncAdded", "2026-11-01 10:00", **on)
    told.say("DncRemoved", "2026-11-02 10:00", **on)
    told.say("DncAdded", "2026-11-02 10:00", whole_party=True, **on)
    told.say(
        "DncAdded",
        "2026-11-01 10:00",
        number=ANNA,
        list_kind="NATIONAL",
        list_id="us_national_dnc",
        all_sellers=True,
    )
    told.say(
        "DncRemoved",
        "2026-11-04 10:00",
        number=ANNA,
        list_kind="NATIONAL",
        list_id="us_national_dnc",
        all_sellers=True,
    )
    told.say(
        "CallEnded", "2026-11-05 10:00", number=ANNA, seller_id="other", call_id="c", opted_out=True
    )
    told.say("ConsentRefused", "2026-11-06 10:00", number=ANNA, seller_id="third", objection=True)
    told.record()
    rows = {
        (row["seller"], row["list_kind"], row["list_id"]): (row["status"], row["whole_party"])
        for row in auditor.ask("dnc_as_of", ANNA)
    }
    assert rows == {
        ("acme", "INTERNAL", "internal"): ("LISTED", True),
        ("*", "NATIONAL", "us_national_dnc"): ("REMOVED", False),
        ("other", "INTERNAL", "internal"): ("LISTED", False),
        ("third", "INTERNAL", "objection"): ("LISTED", False),
    }
    (early,) = auditor.ask("dnc_as_of", ANNA, at="2026-11-01 09:59:59") or [{}]
    assert early == {}


def permit(number: str, **changes: Any) -> dict[str, Any]:
    """Fields of an allow with a permit of a minute."""
    return {
        "number": number,
        "verdict": "ALLOW",
        "purpose": "MARKETING",
        "call_mode": "LIVE",
        "reason": None,
        **changes,
    }


def test_calls_name_their_permits(told: Told, auditor: Auditor) -> None:
    """Every way in which a call and its permit can fit or not."""
    start = utc("2026-11-03 18:00")
    permits = {
        name: f"00000000-0000-4000-8000-00000000000{index}" for index, name in enumerate("abcde")
    }
    until = int((start + timedelta(seconds=40)).timestamp()) * 1_000_000
    for name, changes in {
        "a": {},
        "b": {"seller_id": "other"},
        "c": {"verdict": "DENY", "reason": "QUIET_HOURS"},
    }.items():
        told.say(
            "DialDecision",
            start,
            **permit(ANNA, permit_id=permits[name], permit_expires_at=until, **changes),
        )
    told.say("DialDecision", start, **permit(BEN, permit_id=permits["d"], permit_expires_at=until))
    wanted = {}
    for call_id, permit_id, seconds, status in (
        ("valid", permits["a"], 39, "VALID"),
        ("expired", permits["a"], 40, "EXPIRED"),
        ("early", permits["a"], -1, "TOO_EARLY"),
        ("seller", permits["b"], 1, "OTHER_SELLER"),
        ("denied", permits["c"], 1, "NOT_ALLOWED"),
        ("number", permits["d"], 1, "UNKNOWN"),
        ("made up", permits["e"], 1, "UNKNOWN"),
        ("none", None, 1, "NONE"),
    ):
        told.say(
            "CallPlaced",
            start + timedelta(seconds=seconds),
            number=ANNA,
            call_id=call_id,
            permit_id=permit_id,
        )
        wanted[call_id] = status
    told.say(
        "CallEnded",
        start + timedelta(seconds=90),
        number=ANNA,
        call_id="valid",
        outcome="ANSWERED_LIVE",
    )
    told.record()
    rows = {row["call_id"]: row for row in auditor.ask("calls_and_permits", ANNA)}
    assert {name: row["permit_status"] for name, row in rows.items()} == wanted
    assert rows["valid"]["outcome"] == "ANSWERED_LIVE"
    assert rows["none"]["decided_at"] is None


def test_curl_needs_no_client(told: Told, clickhouse_front: RunningFront) -> None:
    """The same question over plain HTTP, as JSON, as Grafana and a shell ask it."""
    told.say("ConsentGranted", "2026-11-01 10:00", number=ANNA, **GRANT)
    told.record()
    query = (
        f"SELECT mode, status FROM {told.store.database}.consent_as_of(subject = '{token(ANNA)}', "
        "at = '2026-11-02 00:00:00', known_at = '2026-11-02 00:00:00') FORMAT JSONEachRow"
    )
    done = subprocess.run(
        ["curl", "-sS", "--fail", clickhouse_front.url, "--data-binary", query],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows == [{"mode": mode, "status": "GRANTED"} for mode in ("LIVE", "PRERECORDED")]


def test_consent_agrees_with_a_slow_oracle(told: Told, auditor: Auditor) -> None:
    """Random grants and withdrawals, known late or in time, asked at random pairs of times."""
    draw = random.Random(1)
    start = utc("2026-11-01 00:00")
    numbers = [f"+1415555{line:04d}" for line in range(100, 106)]
    stories = {number: _story(draw, start) for number in numbers}
    for number, happened in stories.items():
        for at, known, name, fields in happened:
            told.say(name, at, known, number=number, **fields)
    told.record()
    for number, happened in stories.items():
        for _ in range(8):
            at, known = (start + timedelta(hours=draw.randrange(300), minutes=1) for _ in range(2))
            times = [f"{one:%Y-%m-%d %H:%M:%S}" for one in (at, known)]
            found = {
                (row["seller_id"], row["purpose"], row["mode"], row["consent_kind"]): row["status"]
                for row in auditor.ask("consent_as_of", number, *times)
            }
            assert found == _oracle(happened, at, known)


def _story(draw: random.Random, start: datetime) -> list[tuple[Any, Any, str, dict[str, Any]]]:
    happened = []
    for _ in range(20):
        at = start + timedelta(hours=draw.randrange(200))
        known = at + timedelta(hours=draw.choice((0, 0, 0, 5, 50)))
        fields: dict[str, Any] = {
            "seller_id": draw.choice(("acme", "other")),
            "purposes": draw.sample(["MARKETING", "SURVEY"], draw.randint(1, 2)),
            "modes": draw.sample(["LIVE", "AI_VOICE"], draw.randint(1, 2)),
        }
        name = draw.choice(("ConsentGranted", "ConsentGranted", "ConsentWithdrawn"))
        if name == "ConsentGranted":
            fields |= {"consent_kind": draw.choice(("EXPRESS", "PEWC")), "change": "GIVEN"}
        else:
            fields["all_sellers"] = draw.random() < 0.3
        happened.append((at, known, name, fields))
    return happened


def _oracle(happened: list[Any], at: Any, known_at: Any) -> dict[tuple[str, ...], str]:
    seen = [one for one in happened if one[0] <= at and one[1] <= known_at]
    granted: dict[tuple[str, ...], Any] = {}
    for when, _, name, fields in seen:
        if name == "ConsentGranted":
            for purpose in fields["purposes"]:
                for mode in fields["modes"]:
                    key = (fields["seller_id"], purpose, mode, fields["consent_kind"])
                    granted[key] = max(granted.get(key, when), when)
    answer = {}
    for key, when in granted.items():
        ended = any(
            name == "ConsentWithdrawn"
            and (fields["all_sellers"] or fields["seller_id"] == key[0])
            and key[1] in fields["purposes"]
            and key[2] in fields["modes"]
            and said >= when
            for said, _, name, fields in seen
        )
        answer[key] = "WITHDRAWN" if ended else "GRANTED"
    return answer
