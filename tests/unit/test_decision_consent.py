"""Consent and its evidence, by worked examples."""

from __future__ import annotations

from typing import Any

import pytest

from consent.decision import NextAllowed
from consent.instants import parse_instant
from consent.state import EMPTY, merge
from tests.decisions import (
    DAY,
    GERMANY,
    NOW,
    UK,
    WRITTEN,
    attributes,
    decided,
    grants,
    outcome_of,
    request,
    said,
    withdrawal,
)

ALLOWED = ("ALLOW", None, None)
MACHINES = ("PRERECORDED", "ARTIFICIAL", "AI_VOICE")


def test_manual_live_call_without_any_fact_is_allowed() -> None:
    """A live, manual US marketing call to an unknown number is allowed, with obligations."""
    decision = decided(request(), EMPTY)
    assert said(decision) == ALLOWED
    assert decision.reasons == ()
    assert decision.obligations == ("ANNOUNCE_ID", "RECORDING_NOTICE")
    assert decision.next_allowed is None


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
        ({"at": NOW}, None),
        ({"purposes": ("INFORMATIONAL",), "expires_at": NOW}, "CONSENT_PEWC_MISSING"),
    ],
)
def test_consent_for_something_else(given: dict[str, Any], reason: str | None) -> None:
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


def test_unstated_words_are_read_strictly() -> None:
    """A request that leaves its purpose, mode or subject open meets every withdrawal."""
    narrow = withdrawal(purpose="DEBT", mode="PRERECORDED", subject="offer-2")
    assert decided(request(), narrow).allowed
    asked = request(purpose="UNKNOWN", call_mode="UNKNOWN", subject_matter=None)
    assert decided(asked, narrow).reason == "CONSENT_REVOKED"
    assert decided(asked, grants("PEWC")).reason == "CONSENT_SCOPE"


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


@pytest.mark.parametrize("place", [{}, GERMANY, UK])
def test_generated_voice_says_so(place: dict[str, Any]) -> None:
    """An allowed call with a generated voice carries the disclosure everywhere."""
    kind = "OPT_IN" if place else "PEWC"
    state = grants(kind, evidence=(*WRITTEN, "recording_uri"))
    decision = decided(request(call_mode="AI_VOICE", **place), state)
    assert decision.allowed
    assert "AI_DISCLOSURE" in decision.obligations


def test_consent_of_the_instant_of_its_withdrawal_is_none() -> None:
    """Of a consent and a withdrawal at one instant only the withdrawal is left."""
    agreed = grants("EXPRESS", NOW - DAY, purposes=("INFORMATIONAL",))
    asked = request(purpose="INFORMATIONAL", call_mode="PRERECORDED")
    decision = decided(asked, merge(agreed, withdrawal(NOW - DAY)))
    assert decision.reasons == ("CONSENT_REVOKED", "CONSENT_PEC_MISSING")
    newer = decided(asked, merge(agreed, withdrawal(NOW - DAY - 1)))
    assert newer.allowed


@pytest.mark.parametrize(
    ("scope", "reason"),
    [
        ({"purpose": "DEBT"}, "CONSENT_PEC_MISSING"),
        ({"purpose": "DEBT", "mode": "LIVE"}, "CONSENT_PEC_MISSING"),
        ({"purpose": "DEBT", "seller": "*"}, "CONSENT_PEC_MISSING"),
        ({"purpose": "DEBT", "at": NOW - 90 * DAY}, "CONSENT_PEC_MISSING"),
        ({"purpose": "DEBT", "at": NOW - 91 * DAY}, "CONSENT_SCOPE"),
        ({"purpose": "DEBT", "mode": "AI_VOICE"}, "CONSENT_SCOPE"),
        ({"purpose": "DEBT", "seller": "globex"}, "CONSENT_SCOPE"),
        ({"purpose": "DEBT", "subject": "offer-2"}, "CONSENT_SCOPE"),
        ({"purpose": "SURVEY"}, "CONSENT_SCOPE"),
    ],
)
def test_consent_for_something_else_that_was_withdrawn(scope: dict[str, Any], reason: str) -> None:
    """A consent for another purpose, taken back since, is no consent of another scope."""
    agreed = grants("EXPRESS", purposes=("DEBT",), modes=("LIVE",))
    asked = request(purpose="INFORMATIONAL", call_mode="PRERECORDED")
    assert decided(asked, merge(agreed, withdrawal(**scope))).reason == reason


@pytest.mark.parametrize("mode", MACHINES)
def test_every_machine_voice_is_covered(mode: str) -> None:
    """Rules for robocalls are for prerecorded, artificial and generated voices alike."""
    british = request(call_mode=mode, **UK)
    assert decided(british, EMPTY).reason == "CONSENT_SCOPE"
    informational = request(call_mode=mode, purpose="INFORMATIONAL")
    assert decided(informational, EMPTY).reason == "CONSENT_PEC_MISSING"
    allowed = decided(informational, grants("EXPRESS", purposes=("INFORMATIONAL",)))
    assert allowed.obligations[:2] == ("ANNOUNCE_ID", "OPT_OUT_2S")
    for at in ("2026-11-23", "2027-02-01"):
        shadow = decided(
            request(call_mode=mode),
            withdrawal(0, purpose="DEBT"),
            at=parse_instant(f"{at}T18:00:00Z"),
        )
        reasons = [line.reason for line in shadow.outcomes if line.rule.id == "US-FED-REVOKE-ALL"]
        assert reasons == ["CONSENT_REVOKED_ALL"]


@pytest.mark.parametrize("purpose", ["INFORMATIONAL", "TRANSACTIONAL", "SURVEY", "DEBT"])
@pytest.mark.parametrize("line", ["MOBILE", "VOIP", "PAGER", "TOLL_FREE", "UNKNOWN", "LANDLINE"])
def test_automated_calls_to_wireless_lines(purpose: str, line: str) -> None:
    """Every purpose but marketing needs express consent, on every line that may be charged."""
    state = attributes(line_type=(line,))
    for given in ({"call_mode": "PRERECORDED"}, {"dial_mode": "ATDS"}):
        decision = decided(request(purpose=purpose, **given), state)
        assert decision.reason == (None if line == "LANDLINE" else "CONSENT_PEC_MISSING")


@pytest.mark.parametrize("line", ["MOBILE", "VOIP", "PAGER", "TOLL_FREE", "UNKNOWN", "LANDLINE"])
@pytest.mark.parametrize("at", ["2025-04-01", "2026-11-23"])
def test_marketing_by_atds_to_wireless_lines(line: str, at: str) -> None:
    """Marketing by random dialling needs written consent on every line that may be charged."""
    state = attributes(line_type=(line,))
    decision = decided(request(dial_mode="ATDS"), state, at=parse_instant(f"{at}T18:00:00Z"))
    assert decision.reason == (None if line == "LANDLINE" else "CONSENT_PEWC_MISSING")


@pytest.mark.parametrize(
    ("purpose", "line", "offered"),
    [
        ("MARKETING", "MOBILE", True),
        ("MARKETING", "LANDLINE", True),
        ("INFORMATIONAL", "LANDLINE", True),
        ("INFORMATIONAL", "VOIP", True),
        ("INFORMATIONAL", "UNKNOWN", True),
        ("INFORMATIONAL", "MOBILE", False),
    ],
)
def test_automated_opt_out_is_offered(purpose: str, line: str, offered: bool) -> None:
    """Marketing robocalls, and those to homes, offer an opt-out within two seconds."""
    state = merge(attributes(line_type=(line,)), grants("PEWC", purposes=(purpose,)))
    decision = decided(request(purpose=purpose, call_mode="PRERECORDED"), state)
    assert decision.allowed
    assert ("OPT_OUT_2S" in decision.obligations) is offered
