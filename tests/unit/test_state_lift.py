"""What each type of event says about a number."""

from __future__ import annotations

from typing import Any

import pytest

from consent.contracts import contracts
from consent.evidence import BITS
from consent.lift import Position, evolve, lift, lift_unreadable
from consent.lifters import LIFTERS, SUBJECT_MATTERS_MAX, WITHDRAWN_MATTERS_MAX
from consent.state import (
    EMPTY,
    AppliedOffset,
    Attempt,
    Attribute,
    CutOff,
    DncEntry,
    Erasure,
    Grant,
    LastOutcome,
    LegalHold,
    Reassignment,
    Refusal,
    Relationship,
    SubjectState,
    Withdrawal,
    attribute_values,
    counted_attempts,
    merge,
)
from tests.events import NOW_US, event

EVENT_ID = "0f0e0d0c-0b0a-4908-8706-050403020100"
LOG_ID = b"l" * 16


def lifted(name: str, at: int = NOW_US, **given: Any) -> SubjectState:
    """State of one event at offset 7."""
    fields = event(name, event_id=EVENT_ID, occurred_at=at, **given)
    return lift(name, fields, at, place(name))


def place(name: str) -> Position:
    """Where the events of these tests are."""
    return Position(contracts().record(name).topic, LOG_ID, 3, 7, NOW_US + 5)


def granted(**given: Any) -> SubjectState:
    """State of a grant of live and prerecorded marketing calls."""
    wanted: dict[str, Any] = {
        "consent_kind": "PEWC",
        "change": "GIVEN",
        "purposes": ["MARKETING"],
        "modes": ["LIVE", "PRERECORDED"],
        "party": "CONSUMER",
    }
    return lifted("ConsentGranted", **(wanted | given))


def test_a_grant_is_kept_per_purpose_and_mode() -> None:
    """Purposes times modes, each with the evidence elements and the limits."""
    state = granted(signed_at=NOW_US - 1, subject_matters=["loans", "cards"], seller_named=True)
    elements = 1 << BITS["signed_at"] | 1 << BITS["seller_named"]
    grant = Grant(NOW_US, EVENT_ID, None, NOW_US - 1, elements, ("cards", "loans"), "CONSUMER")
    assert state.grants == {
        ("acme", "MARKETING", "LIVE", "PEWC"): grant,
        ("acme", "MARKETING", "PRERECORDED", "PEWC"): grant,
    }
    assert state.applied == {("consent-events", LOG_ID): AppliedOffset(7, NOW_US + 5)}


@pytest.mark.parametrize(
    "given",
    [
        {"consent_kind": "UNKNOWN"},
        {"purposes": ["UNKNOWN"]},
        {"purposes": []},
        {"modes": ["UNKNOWN"]},
        {"change": "REQUESTED"},
        {"seller_id": "*"},
    ],
)
def test_what_is_unknown_in_a_grant_grants_nothing(given: dict[str, Any]) -> None:
    """An unknown kind, purpose or mode, a double opt-in not answered, no seller: no state."""
    assert granted(**given) == EMPTY


def test_a_grant_ends_with_its_stated_validity() -> None:
    """The earlier of validity and expiry; a validity that can't be read has run out."""
    day_us = 86_400_000_000
    key = ("acme", "MARKETING", "LIVE", "PEWC")
    assert granted(validity="P2D").grants[key].expires_at == NOW_US + 2 * day_us
    both = granted(validity="P2D", expires_at=NOW_US + day_us)
    assert both.grants[key].expires_at == NOW_US + day_us
    assert granted(validity="for ever").grants[key].expires_at == NOW_US


def test_a_grant_covers_a_bounded_number_of_subject_matters() -> None:
    """What is beyond the limit it does not cover."""
    matters = [f"matter-{number:03d}" for number in range(SUBJECT_MATTERS_MAX + 5)]
    grant = granted(subject_matters=matters).grants["acme", "MARKETING", "LIVE", "PEWC"]
    assert grant.subject_matters == tuple(matters[:SUBJECT_MATTERS_MAX])


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        ({}, {("acme", "*", "*", "*")}),
        ({"purposes": ["MARKETING", "UNKNOWN"]}, {("acme", "*", "*", "*")}),
        ({"all_sellers": True}, {("*", "*", "*", "*")}),
        (
            {"purposes": ["MARKETING"], "modes": ["LIVE", "AI_VOICE"]},
            {("acme", "MARKETING", "LIVE", "*"), ("acme", "MARKETING", "AI_VOICE", "*")},
        ),
        ({"subject_matters": ["loans"]}, {("acme", "*", "*", "loans")}),
        (
            {"subject_matters": [str(n) for n in range(WITHDRAWN_MATTERS_MAX + 1)]},
            {("acme", "*", "*", "*")},
        ),
        ({"test": True, "all_sellers": True}, {("test:*", "*", "*", "*")}),
    ],
)
def test_a_withdrawal_without_a_scope_is_of_everything(given: dict[str, Any], keys: Any) -> None:
    """Empty, unknown and too many scopes are all; what is named is named."""
    state = lifted("ConsentWithdrawn", **given)
    assert state.withdrawals == dict.fromkeys(keys, Withdrawal(NOW_US, EVENT_ID, "WITHDRAWN"))


def test_an_invalidation_withdraws() -> None:
    """A grant that was never valid is withdrawn, with its cause."""
    state = lifted("ConsentInvalidated", purposes=["DEBT"])
    invalidated = Withdrawal(NOW_US, EVENT_ID, "INVALIDATED")
    assert state.withdrawals == {("acme", "DEBT", "*", "*"): invalidated}


def test_an_objection_outlives_a_later_refusal() -> None:
    """It is also a do-not-call entry, since the refusal's slot holds only the latest."""
    objected = lifted("ConsentRefused", objection=True, subject_matter="loans")
    assert objected.refusals == {("acme", "loans"): Refusal(NOW_US, EVENT_ID, True)}
    refused = lifted("ConsentRefused", at=NOW_US + 1, subject_matter="loans")
    merged = merge(objected, refused)
    assert merged.refusals == {("acme", "loans"): Refusal(NOW_US + 1, EVENT_ID, False)}
    assert merged.dnc["acme", "INTERNAL", "objection"].listed


def test_an_opt_out_in_a_call_is_a_withdrawal_and_an_internal_entry() -> None:
    """In the scope that the person named, for whom and since when."""
    state = lifted(
        "CallEnded",
        outcome="ANSWERED_LIVE",
        opted_out=True,
        opted_out_at=NOW_US - 9,
        purposes=["MARKETING"],
        opt_out_all_sellers=True,
        opt_out_whole_party=True,
    )
    withdrawal = Withdrawal(NOW_US, EVENT_ID, "OPTED_OUT_IN_CALL")
    assert state.withdrawals == {("*", "MARKETING", "*", "*"): withdrawal}
    entry = DncEntry(NOW_US, EVENT_ID, True, NOW_US - 9, True)
    assert state.dnc == {
        ("*", "INTERNAL", "internal"): entry,
        ("*", "INTERNAL", "internal/whole-party"): entry,
    }
    assert state.outcomes == {("acme", "ANSWERED_LIVE"): LastOutcome(NOW_US, EVENT_ID)}


def test_the_end_of_a_call_says_how_it_ended() -> None:
    """Flags count as outcomes, and a declined offer is a refusal."""
    state = lifted("CallEnded", outcome="UNKNOWN", abandoned=True, answered_live=True, refused=True)
    ended = LastOutcome(NOW_US, EVENT_ID)
    assert state.outcomes == {("acme", "ABANDONED"): ended, ("acme", "ANSWERED_LIVE"): ended}
    assert state.refusals == {("acme", "*"): Refusal(NOW_US, EVENT_ID, False)}


def test_a_request_for_a_whole_party_is_not_narrowed_by_a_later_one() -> None:
    """A plain request leaves the wider one in place; a removal ends both."""
    wide = lifted("DncAdded", list_kind="UNKNOWN", whole_party=True)
    narrow = lifted("DncAdded", at=NOW_US + 1, list_kind="INTERNAL")
    merged = merge(wide, narrow)
    assert merged.dnc["acme", "INTERNAL", "internal/whole-party"].whole_party
    assert not merged.dnc["acme", "INTERNAL", "internal"].whole_party
    removed = lifted("DncRemoved", at=NOW_US + 2, list_kind="INTERNAL")
    assert not any(entry.listed for entry in merge(merged, removed).dnc.values())


def test_a_removal_from_an_unknown_list_removes_nothing() -> None:
    """It is a permission in doubt."""
    assert lifted("DncRemoved", list_kind="UNKNOWN") == EMPTY


def test_a_registry_entry_names_its_list() -> None:
    """Kind, id and date of the listing are kept."""
    state = lifted("DncAdded", list_kind="NATIONAL", list_id="us_national_dnc", listed_on=20_000)
    entry = DncEntry(NOW_US, EVENT_ID, True, NOW_US, False, 20_000)
    assert state.dnc == {("acme", "NATIONAL", "us_national_dnc"): entry}


def test_a_relationship_is_kept_with_its_dates() -> None:
    """An unknown kind is none."""
    given: dict[str, Any] = {
        "on": 20_000,
        "status": "ENDED",
        "ended_on": 20_100,
        "relationship_id": "c-1",
        "related_subject_matters": ["loans"],
    }
    state = lifted("RelationshipRecorded", relationship_kind="CONTRACT", **given)
    expected = Relationship(NOW_US, EVENT_ID, 20_000, "ENDED", 20_100, ("loans",), False)
    assert state.relationships == {("acme", "CONTRACT", "c-1"): expected}
    assert lifted("RelationshipRecorded", relationship_kind="UNKNOWN", **given) == EMPTY


def test_places_of_one_source_do_not_hide_those_of_another() -> None:
    """Every candidate state stays one; of one source the latest word counts."""
    by_area = lifted("NumberAttributesRecorded", states=["US-NJ"], place_source="AREA_CODE")
    by_address = lifted(
        "NumberAttributesRecorded", at=NOW_US + 1, states=["US-NY"], place_source="ADDRESS"
    )
    moved = lifted(
        "NumberAttributesRecorded", at=NOW_US + 2, states=["US-FL"], place_source="ADDRESS"
    )
    merged = merge(merge(by_area, by_address), moved)
    assert attribute_values(merged, "states") == ("US-FL", "US-NJ")
    assert by_area.attributes == {"states:AREA_CODE": Attribute(NOW_US, ("US-NJ",))}


def test_only_given_attributes_are_changed() -> None:
    """What an event does not give stays what it was."""
    first = lifted("NumberAttributesRecorded", line_type="MOBILE", tags=["LITIGATOR"])
    second = lifted("NumberAttributesRecorded", at=NOW_US + 1, line_type="VOIP", ported_at=NOW_US)
    merged = merge(first, second)
    assert attribute_values(merged, "line_type") == ("VOIP",)
    assert attribute_values(merged, "tags") == ("LITIGATOR",)
    assert attribute_values(merged, "ported_at") == (str(NOW_US),)


def test_an_address_in_evidence_names_a_state() -> None:
    """The state is kept, the address is not."""
    address = {
        "lines": "1 Main St",
        "city": None,
        "county": None,
        "postal_code": None,
        "subdivision": "tx",
        "country": "US",
    }
    evidence = dict.fromkeys(_evidence_fields()) | {
        "certificate_urls": [],
        "extra": [],
        "address": address,
    }
    state = lifted("ConsentWithdrawn", evidence=evidence)
    assert state.attributes == {"states:ADDRESS": Attribute(NOW_US, ("US-TX",))}


def _evidence_fields() -> list[str]:
    schema = contracts().record("ConsentWithdrawn").schema
    union = next(field["type"] for field in schema["fields"] if field["name"] == "evidence")
    return [field["name"] for field in union[1]["fields"]]


def test_an_unknown_answer_replaces_no_known_one() -> None:
    """A database that said nothing is not asked."""
    state = lifted("ReassignmentChecked", answer="YES", query_date=20_000)
    assert state.reassignments == {"acme": Reassignment(NOW_US, EVENT_ID, "YES", 20_000)}
    assert lifted("ReassignmentChecked", answer="UNKNOWN") == EMPTY


def test_a_permit_counts_until_it_expires_or_a_call_cites_it() -> None:
    """An allow with a permit is an attempt; the call made with it takes its place."""
    permit_id = "11111111-1111-4111-8111-111111111111"
    given: dict[str, Any] = {"purpose": "MARKETING", "call_mode": "LIVE", "permit_id": permit_id}
    allowed = lifted(
        "DialDecision", verdict="ALLOW", permit_expires_at=NOW_US + 60_000_000, **given
    )
    attempts = allowed.attempts["acme", "*"]
    assert len(counted_attempts(attempts, NOW_US + 59_999_999)) == 1
    assert counted_attempts(attempts, NOW_US + 60_000_000) == ()
    called = lifted("CallPlaced", at=NOW_US + 3, call_id="c-1", **given)
    both = merge(allowed, called).attempts["acme", "*"]
    assert [attempt.call_id for attempt in both] == ["c-1", ""]
    for at in (NOW_US + 10, NOW_US + 10**12):
        assert [attempt.call_id for attempt in counted_attempts(both, at)] == ["c-1"]
    assert both[0] == Attempt(
        NOW_US + 3, EVENT_ID, "c-1", permit_id, None, "MARKETING", "LIVE", "UNKNOWN"
    )


@pytest.mark.parametrize("given", [{"verdict": "DENY"}, {"verdict": "ALLOW", "permit_id": None}])
def test_a_decision_without_a_permit_says_nothing(given: dict[str, Any]) -> None:
    """It leaves the state, and its offsets, as they were."""
    permit_id = "11111111-1111-4111-8111-111111111111"
    assert lifted("DialDecision", **({"permit_id": permit_id} | given)) == EMPTY


def test_a_request_for_erasure_stops_calls_at_once() -> None:
    """Before anything is erased."""
    state = lifted("ErasureRequested")
    assert state.withdrawals == {("acme", "*", "*", "*"): Withdrawal(NOW_US, EVENT_ID, "WITHDRAWN")}


def test_an_erasure_absorbs_what_is_older_and_keeps_what_restricts() -> None:
    """Do-not-call entries and legal holds stay; a later grant stands."""
    cutoffs = [{"topic": "consent-events", "log_id": LOG_ID, "partition": 3, "offset_last": 9}]
    erased = lifted(
        "ErasureExecuted", at=NOW_US + 10, cutoff_at=NOW_US + 5, cutoffs=cutoffs, seller_id="*"
    )
    cut = CutOff("consent-events", LOG_ID, 3, 9)
    assert erased.erased == Erasure(NOW_US + 5, EVENT_ID, (cut,))
    held = lifted("LegalHoldPlaced", hold_id="h")
    listed = lifted("DncAdded")
    before = merge(merge(granted(), held), listed)
    after = merge(before, erased)
    assert after.grants == {}
    assert after.dnc == listed.dnc
    assert after.legal_holds == {"h": LegalHold(NOW_US, True)}
    assert merge(after, granted(at=NOW_US + 6)).grants != {}


def test_an_erasure_can_not_reach_beyond_itself() -> None:
    """A cut-off in the future would absorb events that nobody has seen."""
    state = lifted("ErasureExecuted", cutoff_at=NOW_US + 10**15, cutoffs=[])
    assert state.erased is not None
    assert state.erased.cutoff_at == NOW_US


def test_a_legal_hold_stands_until_it_is_released() -> None:
    """At one instant it stands."""
    held = lifted("LegalHoldPlaced", hold_id="h")
    released = lifted("LegalHoldReleased", hold_id="h")
    assert merge(held, released).legal_holds["h"].held
    later = lifted("LegalHoldReleased", at=NOW_US + 1, hold_id="h")
    assert not merge(held, later).legal_holds["h"].held


def test_a_rehearsal_never_meets_the_real_state() -> None:
    """Test events live under names of their own, and a rehearsed erasure erases nothing."""
    real = merge(granted(), lifted("LegalHoldPlaced", hold_id="h"))
    rehearsed = [
        granted(test=True),
        lifted("ConsentWithdrawn", at=NOW_US + 1, test=True, all_sellers=True),
        lifted("LegalHoldReleased", at=NOW_US + 1, test=True, hold_id="h"),
        lifted("NumberAttributesRecorded", test=True, line_type="PAGER"),
        lifted("ErasureExecuted", at=NOW_US + 9, test=True, cutoff_at=NOW_US + 9, cutoffs=[]),
    ]
    state = real
    for one in rehearsed:
        state = merge(state, one)
    assert state.erased is None
    assert state.legal_holds["h"].held
    assert attribute_values(state, "line_type") == ()
    assert [key for key in state.grants if not key[0].startswith("test:")] == list(real.grants)
    assert all(key[0].startswith("test:") for key in state.withdrawals)


def test_an_unreadable_opt_out_withdraws_everything() -> None:
    """At broker time, from every seller; repeated, it is the same."""
    state = lift_unreadable(place("ConsentWithdrawn"))
    (withdrawal,) = state.withdrawals.values()
    assert list(state.withdrawals) == [("*", "*", "*", "*")]
    assert (withdrawal.at, withdrawal.cause) == (NOW_US + 5, "UNREADABLE_OPT_OUT")
    assert merge(state, lift_unreadable(place("ConsentWithdrawn"))) == state


def test_evolving_is_merging_what_was_lifted() -> None:
    """The state after an event is the state before, merged with the event's own."""
    fields = event("DncAdded", event_id=EVENT_ID)
    before = granted()
    after = evolve(before, "DncAdded", fields, NOW_US, place("DncAdded"))
    assert after == merge(before, lift("DncAdded", fields, NOW_US, place("DncAdded")))


def test_every_number_keyed_record_is_lifted_or_says_nothing_on_purpose() -> None:
    """A new record type must be decided about."""
    records = {
        record.name
        for record in contracts().records
        if record.topic in contracts().keyed_source_topics
    }
    assert records - set(LIFTERS) == {
        "AccessRequested",
        "RectificationRequested",
        "ErasureRefused",
    }
    for name, lifter in LIFTERS.items():
        present = {field["name"] for field in contracts().record(name).schema["fields"]}
        assert set(lifter.columns) <= present
