"""Scenario files: reassigned numbers, counts, declared days, and what the seller's program says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scenarios import check_row, decision, denied, scenario

REASSIGNED = check_row("fact", {"fact": "not_reassigned", "max_age_days": 31, "mandatory": True})


@pytest.mark.parametrize(
    ("answer", "queried_on", "reason"),
    [
        ("YES", "2026-11-20", "RND_REASSIGNED"),
        ("NO", "2026-11-20", None),
        ("NO", "2026-11-24", None),
        ("NO", "2026-10-24", None),
        ("NO", "2026-10-23", "RND_STALE"),
        ("NO_DATA", "2026-11-20", "RND_NO_DATA"),
        (None, None, "RND_QUERY_MISSING"),
    ],
)
def test_reassigned(answer: str | None, queried_on: str | None, reason: str | None) -> None:
    """The answer and the date of the query; not there is never asked."""
    row = REASSIGNED | {
        "on_fail": {"effect": "deny", "reason": "RND_REASSIGNED", "next": "on_event"}
    }
    facts = {} if answer is None else {"reassigned": {"answer": answer, "queried_on": queried_on}}
    assert decision(row, scenario(facts)).reason == reason


RATE = {
    "numerator": "abandoned",
    "denominator": "live_answered",
    "max_ppm": 30_000,
    "min_denominator": 100,
}


@pytest.mark.parametrize("period", ["thirty_days", "calendar_month", "twenty_four_hours"])
def test_campaign(period: str) -> None:
    """One pair of counts is that of whatever period a row counts; without it none is abandoned."""
    row = check_row("rate", RATE | {"period": period})
    row["on_fail"] = {"effect": "deny", "reason": "ABANDON_CAP", "next": "period_end"}
    counted = {"live_answered": 100, "abandoned": 4, "period_start": "2026-11-24T05:00:00Z"}
    found = decision(row, scenario({"campaign": counted}))
    assert found.reason == "ABANDON_CAP"
    assert found.next_allowed is not None and found.next_allowed.when == "campaign_period_end"
    assert not denied(row, {"campaign": counted | {"abandoned": 3}})
    assert not denied(row, {"campaign": counted | {"live_answered": 99}})
    assert not denied(row)
    unknown = {"live_answered": None, "abandoned": None}
    assert decision(row, scenario({"campaign": unknown})).reason == "DATA_MISSING"


EMERGENCY = check_row("fact", {"fact": "no_emergency"})


@pytest.mark.parametrize(
    ("emergency", "counties", "stands"),
    [
        ({}, None, True),
        ({"to": "2026-11-24T16:00:00Z"}, None, False),
        ({"to": "2026-11-24T16:00:01Z"}, None, True),
        ({"to": None}, None, True),
        ({"from": "2026-11-24T16:00:01Z"}, None, False),
        ({"from": "2026-11-24T16:00:00Z"}, None, True),
        ({"jurisdiction": "US-TX"}, None, False),
        ({"counties": ["US-NY/Erie"]}, ["US-NY/Erie"], True),
        ({"counties": ["Erie"]}, ["US-NY/Erie"], True),
        ({"counties": ["US-NY/Erie"]}, ["Erie"], True),
        ({"counties": ["US-NY/Erie"]}, ["US-NY/Kings"], False),
        ({"counties": ["Erie"]}, None, True),
    ],
)
def test_emergencies(emergency: dict[str, Any], counties: list[str] | None, stands: bool) -> None:
    """Place and time of a declaration; a county that is not known may be the one."""
    declared = {"jurisdiction": "US-NY", "from": "2026-11-20T00:00:00Z", **emergency}
    facts: dict[str, Any] = {"emergencies": [declared]}
    if counties is not None:
        facts["counties"] = counties
    assert denied(EMERGENCY, facts) is stands


def test_holidays() -> None:
    """A declared day, by the date of the called party."""
    row = check_row("holiday", {"declared": True})
    row["on_fail"] = {"effect": "deny", "reason": "HOLIDAY_BAN", "next": "window"}
    declared = {"jurisdiction": "US-NY", "date": "2026-11-24"}
    assert denied(row, {"holidays": [declared]})
    assert not denied(row, {"holidays": [declared | {"date": "2026-11-25"}]})
    assert not denied(row, {"holidays": [declared | {"jurisdiction": "US-TX"}]})
    assert denied(row, {"holidays": [declared | {"date": "2026-11-23"}]}, at="2026-11-24T04:59:59Z")
    assert not denied(row, {"holidays": [declared | {"counties": ["Erie"]}], "counties": ["Kings"]})


PROGRAM_ROWS = {
    "registered": check_row("fact", {"fact": "registered", "kinds": ["telemarketer"]}),
    "caller id": check_row("fact", {"fact": "caller_id_authorised"}),
    "not mobile": check_row("fact", {"fact": "caller_id_not_mobile"}),
    "prefix": check_row("fact", {"fact": "caller_id_begins", "prefixes": ["+1800"]}),
    "ring": check_row("fact", {"fact": "ring_floor", "seconds": 15, "rings": 4}),
    "notice": check_row("fact", {"fact": "recording_notice_available"}),
    "tags": check_row("fact", {"fact": "not_tagged", "tags": ["emergency_line"]}),
    "sector": check_row("fact", {"fact": "sector_not", "sectors": ["pensions"]}),
}


@pytest.mark.parametrize("name", PROGRAM_ROWS)
def test_what_is_not_mentioned_is_in_order(name: str) -> None:
    """Registrations, caller id, ringing, notice, number and sector."""
    assert not denied(PROGRAM_ROWS[name])


@pytest.mark.parametrize(
    ("name", "facts", "asked"),
    [
        ("registered", {"program": {"registrations": []}}, {}),
        ("caller id", {"program": {"caller_ids": []}}, {}),
        ("caller id", {"program": {"caller_ids": [{"number": "a"}]}}, {"caller_id": "b"}),
        (
            "not mobile",
            {"program": {"caller_ids": [{"number": "a", "kind": "mobile"}]}},
            {"caller_id": "a"},
        ),
        ("prefix", {}, {"caller_id": "+12125550100"}),
        ("ring", {"program": {"ring_seconds": 14, "rings": 3}}, {}),
        ("notice", {"program": {"recording_notice": False}}, {}),
        ("tags", {"tags": ["EMERGENCY_LINE"]}, {}),
        ("sector", {}, {"sector": "PENSIONS"}),
    ],
)
def test_what_is_not_in_order(name: str, facts: dict[str, Any], asked: dict[str, Any]) -> None:
    """Each can be stated otherwise."""
    assert denied(PROGRAM_ROWS[name], facts, **asked)
