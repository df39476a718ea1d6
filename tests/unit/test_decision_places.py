"""Places and who is called, by worked examples."""

from __future__ import annotations

from typing import Any

import pytest

from consent.decision import NextAllowed
from consent.instants import parse_instant
from consent.state import EMPTY, SubjectState, merge
from consent.state_entries import Relationship
from tests.decisions import (
    DAY,
    FRANCE,
    GERMANY,
    NOW,
    SELLER,
    UK,
    attributes,
    decided,
    grants,
    outcome_of,
    refusal,
    request,
    said,
    withdrawal,
)

ALLOWED = ("ALLOW", None, None)


def test_germany_needs_opt_in_with_proof() -> None:
    """A German consumer must have opted in, documented; a business may be called."""
    asked = request(**GERMANY)
    assert said(decided(asked, EMPTY)) == ("DENY", "CONSENT_OPTIN_MISSING", "DE-OPTIN@2")
    assert outcome_of(decided(asked, EMPTY), "DE-PROOF") == "NOT_APPLICABLE"
    assert decided(asked, grants("PEWC")).reason == "CONSENT_OPTIN_MISSING"
    spoken = decided(asked, grants("OPT_IN", evidence=("wording",)))
    assert said(spoken) == ("DENY", "CONSENT_EVIDENCE_INCOMPLETE", "DE-PROOF@1")
    assert decided(asked, grants("OPT_IN", evidence=("recording_uri",))).allowed
    assert decided(request(party="BUSINESS", **GERMANY), EMPTY).allowed
    assert not decided(request(party="UNKNOWN", **GERMANY), EMPTY).allowed


def test_who_may_be_a_consumer_is_one() -> None:
    """If the dialer says business and the number's record says consumer, both are applied."""
    asked = request(party="BUSINESS", **GERMANY)
    assert not decided(asked, attributes(party=("CONSUMER",))).allowed


def test_france_needs_opt_in_since_its_day() -> None:
    """A French consumer must have opted in from 2026-08-11 on, Paris time."""
    asked, day = request(**FRANCE), parse_instant("2026-08-10T22:00:00Z")
    assert "CONSENT_OPTIN_MISSING" not in decided(asked, EMPTY, at=day - 1).reasons
    assert said(decided(asked, EMPTY, at=day))[1:] == ("CONSENT_OPTIN_MISSING", "FR-OPTIN@2")
    full = grants("OPT_IN", evidence=("positive_act", "notice_sha256"))
    assert decided(asked, full).allowed
    bare = grants("OPT_IN", evidence=("positive_act",))
    assert decided(asked, bare).reason == "CONSENT_EVIDENCE_INCOMPLETE"


@pytest.mark.parametrize(
    ("given", "saved"),
    [
        ({}, True),
        ({"status": "ENDED"}, False),
        ({"status": "UNKNOWN"}, False),
        ({"related_subject_matters": ("offer-2",)}, False),
        ({"related_subject_matters": ()}, False),
        ({"ended_on": 20780}, True),  # 2026-11-23, the last day
        ({"ended_on": 20779}, False),
        ({"at": NOW + 1}, False),
        ({"at": NOW}, True),
    ],
)
def test_ongoing_contract_saves_a_french_call(given: dict[str, Any], saved: bool) -> None:
    """A running contract to which the offer is related exempts, and the trace names it."""
    fields: dict[str, Any] = {
        "at": NOW - DAY,
        "event_id": "contract",
        "on": 20000,
        "status": "ACTIVE",
        "ended_on": None,
        "related_subject_matters": ("offer-1",),
        "affiliate_expected": False,
    }
    contract = Relationship(**(fields | given))
    state = SubjectState(relationships={(SELLER, "CONTRACT", "c"): contract})
    decision = decided(request(**FRANCE), state)
    assert decision.allowed is saved
    line = next(line for line in decision.outcomes if line.rule.id == "FR-OPTIN")
    assert line.exemption == ("ONGOING_CONTRACT" if saved else None)


def test_french_refusal_buys_sixty_days() -> None:
    """After a refusal of anything, the French trader is silent for sixty days."""
    refused = refusal(NOW - 59 * DAY, subject="offer-2")
    state = merge(refused, grants("OPT_IN", evidence=("positive_act", "notice_sha256")))
    decision = decided(request(**FRANCE), state)
    assert said(decision) == ("DENY", "REFUSAL_COOLDOWN", "FR-REFUSAL@1")
    assert decision.next_allowed == NextAllowed("at", NOW + DAY)
    assert decided(request(**FRANCE), state, at=NOW + DAY).allowed
    assert not decided(request(**FRANCE), state, at=NOW + DAY - 1).allowed
    other = merge(
        refusal(seller="globex"), grants("OPT_IN", evidence=("positive_act", "notice_sha256"))
    )
    assert decided(request(**FRANCE), other).allowed
    statutory = decided(request(profile="STATUTORY", **FRANCE), state)
    assert statutory.allowed


def test_british_robocalls_need_their_own_consent() -> None:
    """Automated marketing in Britain needs consent to automated calls from this caller."""
    asked = request(call_mode="PRERECORDED", **UK)
    assert said(decided(asked, EMPTY)) == ("DENY", "CONSENT_SCOPE", "UK-AUTO@1")
    assert decided(asked, grants("OPT_IN", modes=("LIVE",))).reason == "CONSENT_SCOPE"
    assert decided(asked, grants("OPT_IN")).allowed
    assert decided(request(**UK), EMPTY).allowed


def test_nothing_resolved_is_denied() -> None:
    """A call to an unknown place is denied by the house, in both profiles."""
    for profile in ("STRICT", "STATUTORY"):
        decision = decided(request(states=(), zones=(), profile=profile), EMPTY)
        assert said(decision) == ("DENY", "DATA_MISSING", "POLICY-TZ@1")
        assert decision.next_allowed == NextAllowed("on_event")


def test_country_without_law_is_denied() -> None:
    """A country of which the rulebook holds no law is not called, also among candidates."""
    decision = decided(request(states=("BR",)), EMPTY)
    assert said(decision) == ("DENY", "DATA_MISSING", "POLICY-COVERAGE@1")
    assert decided(request(states=("US-TX", "BR")), EMPTY).reason == "DATA_MISSING"
    assert decided(request(states=("PL",)), EMPTY).reason == "DATA_MISSING"


def test_every_candidate_place_must_allow() -> None:
    """A place that the number's record adds is a candidate beside those of the request."""
    decision = decided(request(), attributes(**{"states:ADDRESS": ("DE",)}))
    assert said(decision) == ("DENY", "CONSENT_OPTIN_MISSING", "DE-OPTIN@2")
    assert decision.request.states == ("DE", "US-TX")
    narrowed = decided(request(states=("US",)), attributes(states=("US-CA",)))
    assert narrowed.request.states == ("US-CA",)


def test_territories_share_their_country_s_law() -> None:
    """Puerto Rico and Réunion are judged by the rows of the US and of France."""
    assert decided(request(states=("PR",)), withdrawal()).rule is not None
    assert said(decided(request(states=("PR",)), EMPTY)) == ALLOWED
    assert said(decided(request(states=("RE",)), EMPTY))[2] == "FR-OPTIN@2"


def test_rehearsals_don_t_meet_reality() -> None:
    """A test request is decided by test events only, a real one never by them."""
    real, rehearsed = withdrawal(), withdrawal(seller="test:acme")
    assert decided(request(test=True), real).allowed
    assert not decided(request(test=True), rehearsed).allowed
    assert not decided(request(test=True), withdrawal(seller="test:*")).allowed
    assert decided(request(), rehearsed).allowed
    asked = request(test=True, call_mode="PRERECORDED")
    assert decided(asked, grants("PEWC")).reason == "CONSENT_PEWC_MISSING"
    assert decided(asked, grants("PEWC", seller="test:acme")).allowed
