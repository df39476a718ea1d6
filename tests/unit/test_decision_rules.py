"""The shipped rules, by worked examples."""

from __future__ import annotations

from typing import Any

import pytest

from consent.decision import Decision, NextAllowed
from consent.instants import parse_date, parse_instant
from consent.lift import Position, lift, lift_unreadable
from consent.state import EMPTY, SubjectState, merge
from consent.state_entries import Attribute, Erasure, Relationship
from tests.decisions import (
    DAY,
    NOW,
    SELLER,
    WRITTEN,
    decided,
    grants,
    listing,
    outcome_of,
    refusal,
    request,
    withdrawal,
)
from tests.events import event

UK: dict[str, Any] = {"states": ("GB",), "zones": ("Europe/London",)}
GERMANY: dict[str, Any] = {"states": ("DE",), "zones": ("Europe/Berlin",)}
FRANCE: dict[str, Any] = {"states": ("FR",), "zones": ("Europe/Paris",)}
POSITION = Position("consent-events", bytes(16), 0, 7, NOW)


def said(decision: Decision) -> tuple[str, str | None, str | None]:
    """Verdict, primary reason and deciding rule."""
    return decision.verdict, decision.reason, decision.rule and decision.rule.name


def attributes(**values: tuple[str, ...]) -> SubjectState:
    """What is known about the number itself."""
    return SubjectState(attributes={name: Attribute(1, found) for name, found in values.items()})


ALLOWED = ("ALLOW", None, None)


def test_manual_live_call_without_any_fact_is_allowed() -> None:
    """A live, manual US marketing call to an unknown number is allowed, with obligations."""
    decision = decided(request(), EMPTY)
    assert said(decision) == ALLOWED
    assert decision.reasons == ()
    assert decision.obligations == ("ANNOUNCE_ID", "RECORDING_NOTICE")
    assert decision.next_allowed is None


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


def test_ai_voice_needs_written_consent() -> None:
    """An AI voice is an artificial voice: oral consent is not enough for marketing."""
    decision = decided(request(call_mode="AI_VOICE"), grants("EXPRESS"))
    assert said(decision) == ("DENY", "CONSENT_PEWC_MISSING", "US-FED-PEWC@3")
    assert decision.next_allowed == NextAllowed("on_event")


@pytest.mark.parametrize("lacking", WRITTEN)
def test_written_consent_needs_every_element(lacking: str) -> None:
    """Without any one element of its evidence a written consent is incomplete."""
    evidence = tuple(name for name in WRITTEN if name != lacking)
    decision = decided(request(call_mode="PRERECORDED"), grants("PEWC", evidence=evidence))
    assert said(decision) == ("DENY", "CONSENT_EVIDENCE_INCOMPLETE", "US-FED-PEWC@3")
    line = next(line for line in decision.outcomes if line.rule.name == "US-FED-PEWC@3")
    lacks = dict(line.facts)["lacking"]
    assert lacks == (("signature|signature_method",) if lacking == "signature" else (lacking,))


def test_method_of_signature_is_a_signature() -> None:
    """A check-box, key-press or recording counts as the signature."""
    evidence = ("signature_method", *WRITTEN[1:])
    decision = decided(request(call_mode="PRERECORDED"), grants("PEWC", evidence=evidence))
    assert said(decision) == ALLOWED
    assert "OPT_OUT_2S" in decision.obligations
    assert outcome_of(decision, "US-FED-PEWC") in ("PASS", "SHADOW")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"seller": "globex"}, "CONSENT_SCOPE"),
        ({"purposes": ("INFORMATIONAL",)}, "CONSENT_SCOPE"),
        ({"modes": ("LIVE",)}, "CONSENT_SCOPE"),
        ({"subject_matters": ("offer-2",)}, "CONSENT_SCOPE"),
        ({"expires_at": NOW}, "CONSENT_EXPIRED"),
        ({"at": NOW + 1}, "CONSENT_PEWC_MISSING"),
        ({"purposes": ("INFORMATIONAL",), "expires_at": NOW}, "CONSENT_PEWC_MISSING"),
    ],
)
def test_consent_for_something_else(given: dict[str, Any], reason: str) -> None:
    """A consent for another seller, purpose, mode, subject or time says why it does not do."""
    state = grants("PEWC", **given)
    assert decided(request(call_mode="PRERECORDED"), state).reason == reason


def test_consent_ends_at_its_instant() -> None:
    """A consent holds until the microsecond before it runs out."""
    state = grants("PEWC", expires_at=NOW)
    asked = request(call_mode="PRERECORDED")
    assert decided(asked, state, at=NOW - 1).allowed
    assert not decided(asked, state, at=NOW).allowed


def test_subject_must_be_known_where_consent_is_limited() -> None:
    """A consent limited to some subjects does not cover a call of no stated subject."""
    state = grants("PEWC", subject_matters=("offer-1",))
    assert decided(request(call_mode="PRERECORDED"), state).allowed
    unstated = request(call_mode="PRERECORDED", subject_matter=None)
    assert decided(unstated, state).reason == "CONSENT_SCOPE"


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
def test_withdrawal_blocks_what_it_names(scope: dict[str, str], blocked: bool) -> None:
    """A withdrawal blocks its seller, purpose, mode and subject, and `*` is all of them."""
    assert decided(request(), withdrawal(**scope)).allowed is not blocked


def test_unstated_words_are_read_strictly() -> None:
    """A request that leaves its purpose, mode or subject open meets every withdrawal."""
    narrow = withdrawal(purpose="DEBT", mode="PRERECORDED", subject="offer-2")
    assert decided(request(), narrow).allowed
    asked = request(purpose="UNKNOWN", call_mode="UNKNOWN", subject_matter=None)
    assert decided(asked, narrow).reason == "CONSENT_REVOKED"
    assert decided(asked, grants("PEWC")).reason == "CONSENT_SCOPE"


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


@pytest.mark.parametrize("kind", ["INTERNAL", "LITIGATOR", "CARRIER", "OTHER", "UNKNOWN"])
@pytest.mark.parametrize("seller", [SELLER, "*"])
def test_house_lists_stop_calls_everywhere(kind: str, seller: str) -> None:
    """An entry of any list that sellers keep denies, in every country and under newer consent."""
    entry = listing(key=(seller, kind, "a-list"))
    decision = decided(request(**UK), merge(entry, grants("OPT_IN", NOW - 1)))
    assert said(decision) == ("DENY", "INTERNAL_DNC", "POLICY-IDNC@1")


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


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("MOBILE", "CONSENT_PEWC_MISSING"),
        ("VOIP", "CONSENT_PEWC_MISSING"),
        ("UNKNOWN", "CONSENT_PEWC_MISSING"),
        (None, "CONSENT_PEWC_MISSING"),
        ("LANDLINE", None),
    ],
)
def test_atds_to_mobiles_needs_written_consent(line: str | None, reason: str | None) -> None:
    """Random or sequential dialling to what may be a mobile needs written consent."""
    state = EMPTY if line is None else attributes(line_type=(line,))
    assert decided(request(dial_mode="ATDS"), state).reason == reason
    assert decided(request(dial_mode="PREDICTIVE"), state).allowed


def test_informational_robocalls_need_express_consent() -> None:
    """A prerecorded informational call to what may be a mobile needs express consent."""
    asked = request(purpose="INFORMATIONAL", call_mode="PRERECORDED")
    assert said(decided(asked, EMPTY)) == ("DENY", "CONSENT_PEC_MISSING", "US-FED-PEC@1")
    assert decided(asked, grants("EXPRESS", purposes=("INFORMATIONAL",))).allowed
    assert decided(asked, attributes(line_type=("LANDLINE",))).allowed
    implied = grants("IMPLIED", purposes=("INFORMATIONAL",))
    assert decided(asked, implied).reason == "CONSENT_PEC_MISSING"


def test_revoked_consent_is_no_consent() -> None:
    """A consent taken back counts as none, beside the reason that it was taken back."""
    state = merge(grants("EXPRESS", purposes=("INFORMATIONAL",)), withdrawal())
    decision = decided(request(purpose="INFORMATIONAL", call_mode="PRERECORDED"), state)
    assert decision.reasons == ("CONSENT_REVOKED", "CONSENT_PEC_MISSING")


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
    assert decided(asked, EMPTY, at=day - 1).allowed
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


@pytest.mark.parametrize("place", [{}, GERMANY, UK])
def test_generated_voice_says_so(place: dict[str, Any]) -> None:
    """An allowed call with a generated voice carries the disclosure everywhere."""
    kind = "OPT_IN" if place else "PEWC"
    state = grants(kind, evidence=(*WRITTEN, "recording_uri"))
    decision = decided(request(call_mode="AI_VOICE", **place), state)
    assert decision.allowed
    assert "AI_DISCLOSURE" in decision.obligations


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


def test_house_rules_of_the_strict_profile() -> None:
    """Reported listings, cooling-off and the disclosure in every country are strict policy only."""
    for kind in ("NATIONAL", "STATE"):
        entry = listing(key=("*", kind, "a-list"))
        assert not decided(request(), entry).allowed
        assert decided(request(profile="STATUTORY"), entry).allowed
    asked = request(call_mode="AI_VOICE", profile="STATUTORY")
    assert "AI_DISCLOSURE" not in decided(asked, grants("PEWC")).obligations
    german = request(call_mode="AI_VOICE", profile="STATUTORY", **GERMANY)
    agreed = grants("OPT_IN", evidence=("recording_uri",))
    assert "AI_DISCLOSURE" in decided(german, agreed).obligations
