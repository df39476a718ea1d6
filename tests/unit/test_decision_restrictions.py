"""Withdrawals, lists, refusals and erasure, by worked examples."""

from __future__ import annotations

from typing import Any

import pytest

from consent.decision import NextAllowed
from consent.instants import parse_instant
from consent.lift import Position, lift, lift_unreadable
from consent.state import EMPTY, SubjectState, merge
from consent.state_entries import Erasure, Relationship
from tests.decisions import (
    DAY,
    FRANCE,
    GERMANY,
    NOW,
    SELLER,
    UK,
    decided,
    grants,
    listing,
    outcome_of,
    refusal,
    request,
    said,
    withdrawal,
)
from tests.events import event

POSITION = Position("consent-events", bytes(16), 0, 7, NOW)
STATED = ("EXPRESS", "OPT_IN", "WRITTEN_DNC", "PEWC")


def test_company_request_ends_everything() -> None:
    """A do-not-call request overrides a purchase and a consent, for good."""
    purchase = Relationship(NOW - 300 * DAY, "p", 20463, "ACTIVE", None, (), False)
    state = merge(
        SubjectState(relationships={(SELLER, "PURCHASE", ""): purchase}),
        merge(listing(parse_instant("2026-02-01T15:00:00Z")), grants("PEWC", NOW - DAY)),
    )
    decision = decided(request(states=("US-NY",), zones=("America/New_York",)), state)
    assert said(decision) == ("DENY", "INTERNAL_DNC", "US-FED-IDNC@2")
    assert decision.next_allowed == NextAllowed("on_event")


def test_withdrawal_stops_calls_that_need_no_consent() -> None:
    """A withdrawal denies live marketing too, by the federal rule in the US."""
    decision = decided(request(), withdrawal())
    assert said(decision) == ("DENY", "CONSENT_REVOKED", "US-FED-REVOKE@1")
    assert outcome_of(decision, "POLICY-REVOKED") == "DENY"
    assert decision.obligations == ()


def test_withdrawal_stops_calls_elsewhere() -> None:
    """Where no law's row matches, the house rule honours the withdrawal, in both profiles."""
    for profile in ("STRICT", "STATUTORY"):
        decision = decided(request(profile=profile, **UK), withdrawal())
        assert said(decision) == ("DENY", "CONSENT_REVOKED", "POLICY-REVOKED@1")


@pytest.mark.parametrize(
    ("scope", "blocked"),
    [
        ({}, True),
        ({"seller": "*"}, True),
        ({"seller": "globex"}, False),
        ({"purpose": "MARKETING"}, True),
        ({"purpose": "INFORMATIONAL"}, False),
        ({"mode": "LIVE"}, True),
        ({"mode": "PRERECORDED"}, False),
        ({"subject": "offer-1"}, True),
        ({"subject": "offer-2"}, False),
        ({"seller": "test:acme"}, False),
        ({"seller": "test:*"}, False),
    ],
)
def test_withdrawal_blocks_what_it_names(scope: dict[str, Any], blocked: bool) -> None:
    """A withdrawal blocks its seller, purpose, mode and subject, and `*` is all of them."""
    assert decided(request(), withdrawal(**scope)).allowed is not blocked


@pytest.mark.parametrize("kind", ["EXPRESS", "OPT_IN", "WRITTEN_DNC", "PEWC"])
def test_newer_consent_ends_a_withdrawal(kind: str) -> None:
    """A newer stated consent that covers the call lifts a withdrawal; at one instant it stands."""
    ended = withdrawal(NOW - 2 * DAY)
    assert decided(request(), merge(ended, grants(kind, NOW - DAY))).allowed
    same = decided(request(), merge(ended, grants(kind, NOW - 2 * DAY)))
    assert same.reason == "CONSENT_REVOKED"
    other = merge(ended, grants(kind, NOW - DAY, modes=("PRERECORDED",)))
    assert decided(request(), other).reason == "CONSENT_REVOKED"
    expired = merge(ended, grants(kind, NOW - DAY, expires_at=NOW))
    assert decided(request(), expired).reason == "CONSENT_REVOKED"


def test_conduct_does_not_end_a_withdrawal() -> None:
    """Implied consent never lifts a withdrawal."""
    state = merge(withdrawal(NOW - 2 * DAY), grants("IMPLIED", NOW - DAY))
    assert decided(request(), state).reason == "CONSENT_REVOKED"


def test_withdrawal_dated_ahead_stops_at_once() -> None:
    """A withdrawal from a clock that runs fast is honoured now, not when its time comes."""
    assert decided(request(), withdrawal(NOW + 60_000_000)).reason == "CONSENT_REVOKED"
    assert decided(request(), listing(NOW + 60_000_000)).reason == "INTERNAL_DNC"
    assert decided(request(), refusal(NOW + 60_000_000)).reason == "REFUSAL_COOLDOWN"


def test_spoken_opt_out_stops_the_next_call() -> None:
    """An opt-out spoken in a call revokes consent, and is a do-not-call request."""
    ended = event("CallEnded", opted_out=True, answered_live=True)
    state = merge(grants("PEWC"), lift("CallEnded", ended, NOW - DAY, POSITION))
    decision = decided(request(), state)
    assert decision.reasons[:2] == ("CONSENT_REVOKED", "INTERNAL_DNC")


def test_unreadable_opt_out_stops_every_seller() -> None:
    """An opt-out of which only kind and number could be read withdraws everything."""
    decision = decided(request(seller_id="anyone", **UK), lift_unreadable(POSITION))
    assert decision.reason == "CONSENT_REVOKED"


@pytest.mark.parametrize("kind", ["INTERNAL", "LITIGATOR", "CARRIER", "OTHER"])
@pytest.mark.parametrize("seller", [SELLER, "*"])
def test_house_lists_stop_calls_everywhere(kind: str, seller: str) -> None:
    """An entry of any list that sellers keep denies, in every country and under newer consent."""
    entry = listing(key=(seller, kind, "a-list"))
    decision = decided(request(**UK), merge(entry, grants("OPT_IN", NOW - 1)))
    assert (decision.verdict, decision.reason) == ("DENY", "INTERNAL_DNC")
    assert outcome_of(decision, "POLICY-IDNC") == "DENY"


def test_list_of_another_seller_does_not_stop_calls() -> None:
    """An entry for one seller is not an entry for another, nor is a list of wireless numbers."""
    assert decided(request(), listing(key=("globex", "INTERNAL", "internal"))).allowed
    assert decided(request(), listing(key=(SELLER, "WIRELESS", "ports"))).allowed


def test_removal_counts_from_its_time() -> None:
    """A number taken off the list may be called from that time on, and not before."""
    assert decided(request(), listing(NOW, listed=False)).allowed
    assert not decided(request(), listing(NOW + 1, listed=False)).allowed


def test_house_lists_and_other_purposes() -> None:
    """In strict a do-not-call entry stops every purpose, in statutory only what the law says."""
    transactional = {"purpose": "TRANSACTIONAL"}
    assert decided(request(**transactional), listing()).reason == "INTERNAL_DNC"
    assert decided(request(profile="STATUTORY", **transactional), listing()).allowed
    assert not decided(request(profile="STATUTORY"), listing()).allowed


@pytest.mark.parametrize(("kind", "reason"), [("NATIONAL", "NATIONAL_DNC"), ("STATE", "STATE_DNC")])
def test_reported_listings_stop_marketing(kind: str, reason: str) -> None:
    """A listing that was reported as an event stops marketing without written permission."""
    entry = listing(key=("*", kind, "a-list"))
    assert decided(request(), entry).reason == reason
    assert decided(request(), merge(entry, grants("WRITTEN_DNC"))).allowed
    withdrawn = merge(merge(entry, grants("WRITTEN_DNC")), withdrawal())
    assert reason in decided(request(), withdrawn).reasons
    assert decided(request(purpose="INFORMATIONAL"), entry).allowed


def test_forgotten_person_is_not_called() -> None:
    """After an erasure nothing is called until a newer consent."""
    erased = SubjectState(erased=Erasure(NOW - DAY, "erasure", ()))
    decision = decided(request(), erased)
    assert said(decision) == ("DENY", "CONSENT_REVOKED", "POLICY-ERASED@1")
    assert decided(request(), merge(erased, grants("EXPRESS", NOW - 1))).allowed
    late = merge(erased, grants("EXPRESS", NOW - DAY))
    assert not decided(request(), late).allowed


def test_refusal_elsewhere_is_house_policy() -> None:
    """Elsewhere a refusal buys thirty days for its subject, unless the person agrees anew."""
    decision = decided(request(), refusal(NOW - DAY))
    assert said(decision) == ("DENY", "REFUSAL_COOLDOWN", "POLICY-REFUSAL@1")
    assert decision.next_allowed == NextAllowed("at", NOW + 29 * DAY)
    assert decided(request(subject_matter="offer-2"), refusal()).allowed
    assert decided(request(profile="STATUTORY"), refusal()).allowed
    assert decided(request(), merge(refusal(NOW - DAY), grants("EXPRESS", NOW - 1))).allowed


def test_objection_is_absolute() -> None:
    """An objection to marketing is a do-not-call entry: a later refusal does not soften it."""
    objected = lift("ConsentRefused", event("ConsentRefused", objection=True), NOW - DAY, POSITION)
    state = merge(merge(objected, refusal(NOW - 1)), grants("OPT_IN", evidence=("recording_uri",)))
    decision = decided(request(**GERMANY), state)
    assert said(decision) == ("DENY", "INTERNAL_DNC", "EU-OBJECT@1")


def test_house_rules_of_the_strict_profile() -> None:
    """Reported listings, cooling-off and the disclosure in every country are strict policy only."""
    entry = listing(key=("*", "STATE", "a-list"))
    assert not decided(request(), entry).allowed
    assert decided(request(profile="STATUTORY"), entry).allowed
    asked = request(call_mode="AI_VOICE", profile="STATUTORY")
    assert "AI_DISCLOSURE" not in decided(asked, grants("PEWC")).obligations
    german = request(call_mode="AI_VOICE", profile="STATUTORY", **GERMANY)
    agreed = grants("OPT_IN", evidence=("recording_uri",))
    assert "AI_DISCLOSURE" in decided(german, agreed).obligations


@pytest.mark.parametrize("kind", STATED)
def test_every_stated_consent_counts(kind: str) -> None:
    """Whatever its form, a newer stated consent ends an erasure, a withdrawal and a silence."""
    agreed = grants(kind, NOW - 1)
    erased = SubjectState(erased=Erasure(NOW - DAY, "erasure", ()))
    assert decided(request(), merge(erased, agreed)).allowed
    assert decided(request(), merge(refusal(), agreed)).allowed
    informational = grants(kind, NOW - 1, purposes=("INFORMATIONAL",))
    asked = request(purpose="INFORMATIONAL", call_mode="PRERECORDED")
    assert decided(asked, informational).allowed
    listed = merge(listing(key=("*", "NATIONAL", "a-list")), agreed)
    assert decided(request(), listed).allowed is (kind in ("WRITTEN_DNC", "PEWC"))
    for at in (NOW, parse_instant("2027-02-01T18:00:00Z")):
        taken_back = merge(withdrawal(mode="PRERECORDED"), agreed)
        shadow = decided(request(call_mode="AI_VOICE"), taken_back, at=at)
        lines = [line for line in shadow.outcomes if line.rule.id.startswith("US-FED-REVOKE-")]
        assert [(line.outcome, line.reason) for line in lines] == [("SHADOW", None)] * 2


def test_surveys_respect_a_refusal() -> None:
    """The house's silence after a refusal is for surveys too."""
    assert decided(request(purpose="SURVEY"), refusal()).reason == "REFUSAL_COOLDOWN"


@pytest.mark.parametrize(
    ("given", "state"),
    [
        (GERMANY, EMPTY),
        (GERMANY, grants("OPT_IN", evidence=())),
        ({**GERMANY, "profile": "STATUTORY"}, listing(key=(SELLER, "INTERNAL", "objection"))),
        (FRANCE, EMPTY),
        ({"call_mode": "PRERECORDED", **UK}, EMPTY),
        ({"states": ("BR",)}, EMPTY),
        (UK, withdrawal()),
        ({}, withdrawal()),
        (UK, SubjectState(erased=Erasure(NOW - DAY, "erasure", ()))),
        ({**UK, "profile": "STATUTORY"}, listing()),
        ({}, listing(key=("*", "NATIONAL", "a-list"))),
        ({}, listing(key=("*", "STATE", "a-list"))),
        ({"purpose": "DEBT", "call_mode": "PRERECORDED"}, EMPTY),
        ({"call_mode": "PRERECORDED"}, EMPTY),
    ],
)
def test_lasting_denials_wait_for_an_event(given: dict[str, Any], state: SubjectState) -> None:
    """What ends only by a consent, a removal or a fact is tried again on that event."""
    decision = decided(request(**given), state)
    assert decision.next_allowed == NextAllowed("on_event")
