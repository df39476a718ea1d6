"""The law of the day: dates of revisions, past calls, and rows in shadow."""

from __future__ import annotations

from typing import Any

import pytest

from consent.decision import NextAllowed
from consent.instants import parse_date, parse_instant
from consent.state import EMPTY, SubjectState, merge
from tests.decisions import (
    DAY,
    FRANCE,
    GERMANY,
    UK,
    decided,
    grants,
    listing,
    request,
    said,
    withdrawal,
)

HOUSE_RULES = (
    "POLICY-TZ@1",
    "POLICY-COVERAGE@1",
    "POLICY-REVOKED@1",
    "POLICY-ERASED@1",
    "POLICY-IDNC@1",
    "POLICY-LISTED-STATE@1",
    "POLICY-REFUSAL@1",
    "POLICY-AI-DISCLOSURE@1",
    "REC-NOTICE@1",
)


def test_shadow_rows_are_recorded_and_change_nothing() -> None:
    """Waived and undated rows say what they would do, and never decide."""
    state = merge(grants("PEWC"), withdrawal(purpose="INFORMATIONAL"))
    decision = decided(request(call_mode="PRERECORDED"), state)
    assert decision.allowed
    shadow = next(line for line in decision.outcomes if line.rule.name == "US-FED-REVOKE-ALL@1")
    assert (shadow.outcome, shadow.reason) == ("SHADOW", "CONSENT_REVOKED_ALL")
    later = decided(
        request(call_mode="PRERECORDED"), state, at=parse_instant("2027-02-01T18:00:00Z")
    )
    assert later.allowed
    assert any(line.rule.name == "US-FED-REVOKE-ALL@2" for line in later.outcomes)
    other_mode = decided(request(), withdrawal(mode="PRERECORDED"))
    undated = next(line for line in other_mode.outcomes if line.rule.id == "US-FED-REVOKE-2026")
    assert (other_mode.verdict, undated.outcome) == ("ALLOW", "SHADOW")
    assert undated.reason == "CONSENT_REVOKED"


@pytest.mark.parametrize(
    ("name", "given", "first", "last"),
    [
        ("US-FED-REVOKE@1", {}, "2025-04-11", None),
        ("US-FED-REVOKE-ALL@1", {"call_mode": "PRERECORDED"}, "2025-04-11", "2027-01-30"),
        ("US-FED-REVOKE-ALL@2", {"call_mode": "PRERECORDED"}, "2027-01-31", None),
        ("US-FED-REVOKE-2026@1", {}, None, None),
        ("US-FED-IDNC@1", {}, "2003-10-01", "2025-04-10"),
        ("US-FED-IDNC@2", {}, "2025-04-11", None),
        ("US-FED-PEC@1", {"purpose": "DEBT", "dial_mode": "ATDS"}, "2013-10-16", None),
        ("US-FED-PEWC@1", {"call_mode": "ARTIFICIAL"}, "2013-10-16", "2025-04-29"),
        ("US-FED-PEWC@2", {"call_mode": "ARTIFICIAL"}, None, "2025-04-29"),
        ("US-FED-PEWC@3", {"call_mode": "ARTIFICIAL"}, "2025-04-30", None),
        ("US-FED-ID@1", {}, "2003-10-01", None),
        ("US-FED-OPTOUT@1", {"call_mode": "ARTIFICIAL"}, "2013-01-14", None),
        ("DE-OPTIN@1", GERMANY, "2009-08-04", "2022-05-27"),
        ("DE-OPTIN@2", GERMANY, "2022-05-28", None),
        ("DE-PROOF@1", GERMANY, "2021-10-01", None),
        ("FR-OPTIN@2", FRANCE, "2026-08-11", None),
        ("FR-REFUSAL@1", FRANCE, "2023-03-01", None),
        ("UK-AUTO@1", {"call_mode": "PRERECORDED", **UK}, "2003-12-11", None),
        ("EU-OBJECT@1", GERMANY, "2018-05-25", None),
        ("EU-AI@1", {"call_mode": "AI_VOICE", **FRANCE}, "2026-08-02", None),
        *((name, {"call_mode": "AI_VOICE"}, "2000-01-01", None) for name in HOUSE_RULES),
    ],
)
def test_revisions_are_in_force_on_their_days(
    name: str, given: dict[str, Any], first: str | None, last: str | None
) -> None:
    """Each revision is in the trace from its first local day to its last, and not beyond."""
    asked = request(**given)
    hours = {"US-TX": 18, "DE": 12, "FR": 12, "GB": 12}[asked.states[0]]

    def in_trace(day: int) -> bool:
        at = day * DAY + hours * 3_600_000_000
        return name in {line.rule.name for line in decided(asked, EMPTY, at=at).outcomes}

    assert in_trace(parse_date(first or last or "2026-11-23"))
    assert in_trace(parse_date(last or "2040-01-01"))
    assert first is None or not in_trace(parse_date(first) - 1)
    assert last is None or not in_trace(parse_date(last) + 1)


@pytest.mark.parametrize(
    ("at", "given", "state", "expected"),
    [
        ("2025-04-01", {}, listing(0), ("INTERNAL_DNC", "US-FED-IDNC@1")),
        (
            "2025-04-01",
            {"call_mode": "PRERECORDED"},
            EMPTY,
            ("CONSENT_PEWC_MISSING", "US-FED-PEWC@1"),
        ),
        ("2022-05-01", GERMANY, EMPTY, ("CONSENT_OPTIN_MISSING", "DE-OPTIN@1")),
    ],
)
def test_past_calls_are_judged_by_the_law_of_their_day(
    at: str, given: dict[str, Any], state: SubjectState, expected: tuple[str, str]
) -> None:
    """A call of the past is decided by the revision that was in force then."""
    decision = decided(request(**given), state, at=parse_instant(f"{at}T18:00:00Z"))
    assert said(decision) == ("DENY", *expected)


def test_vacated_and_pending_rows_say_their_reason() -> None:
    """Rows in shadow carry the reason that they would have denied with."""
    asked = request(call_mode="PRERECORDED")
    past = decided(asked, EMPTY, at=parse_instant("2025-04-01T18:00:00Z"))
    reasons = {line.rule.name: line.reason for line in past.outcomes}
    assert reasons["US-FED-PEWC@2"] == "CONSENT_PEWC_MISSING"
    later = decided(asked, withdrawal(), at=parse_instant("2027-02-01T18:00:00Z"))
    reasons = {line.rule.name: line.reason for line in later.outcomes}
    assert reasons["US-FED-REVOKE-ALL@2"] == "CONSENT_REVOKED_ALL"


@pytest.mark.parametrize(
    ("state", "given"),
    [
        (listing(0), {"call_mode": "LIVE"}),
        (EMPTY, {"call_mode": "PRERECORDED"}),
        (EMPTY, GERMANY),
    ],
)
def test_past_denials_wait_for_an_event(state: SubjectState, given: dict[str, Any]) -> None:
    """Earlier revisions wait for the same events."""
    at = "2022-05-01T18:00:00Z" if given is GERMANY else "2025-04-01T18:00:00Z"
    decision = decided(request(**given), state, at=parse_instant(at))
    assert decision.next_allowed == NextAllowed("on_event")
