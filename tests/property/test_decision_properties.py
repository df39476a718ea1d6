"""What must hold of every decision, whatever the state and the request."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consent.call import CALL_MODES, DIAL_MODES, PARTIES, PROFILES, PURPOSES, CallRequest
from consent.codec import decode, encode
from consent.decision import decide
from consent.decision_bytes import encoded_decision
from consent.decision_record import RecordContext, decision_record, request_of
from consent.evidence import BITS
from consent.rulebook import Rulebook
from consent.state import SubjectState, absorb, merge, newest_attempts
from consent.state_entries import (
    Attempt,
    Attribute,
    DncEntry,
    Erasure,
    Grant,
    LastOutcome,
    Reassignment,
    Refusal,
    Relationship,
    Withdrawal,
)
from tests.decisions import DAY, NOW, book, decided, packaged_rulebook, rule

SELLERS = ("acme", "globex", "*", "test:acme")
SUBJECTS = ("offer-1", "offer-2")
UNKNOWN = ("UNKNOWN",)
KINDS = ("IMPLIED", "EXPRESS", "OPT_IN", "WRITTEN_DNC", "PEWC")
times = st.integers(NOW - 100, NOW + 5)
ids = st.uuids().map(str)


def words(*choices: str) -> st.SearchStrategy[str]:
    """One of the words."""
    return st.sampled_from(choices)


def slots(key: Any, value: Any) -> Any:
    """A section of a state."""
    return st.dictionaries(key, value, max_size=3)


grant_keys = st.tuples(words(*SELLERS), words(*PURPOSES), words(*CALL_MODES), words(*KINDS))
some_grants = st.builds(
    Grant,
    at=times,
    event_id=ids,
    expires_at=st.none() | times,
    signed_at=st.none() | times,
    elements=st.just(sum(1 << bit for bit in BITS.values())) | st.integers(0, 2**50 - 1),
    subject_matters=st.just(()) | st.just(("offer-1",)),
    party=words("CONSUMER"),
)
withdrawal_keys = st.tuples(
    words(*SELLERS), words("*", *PURPOSES), words("*", *CALL_MODES), words("*", *SUBJECTS)
)
some_withdrawals = st.builds(Withdrawal, at=times, event_id=ids, cause=words("WITHDRAWN"))
dnc_keys = st.tuples(
    words(*SELLERS), words("INTERNAL", "NATIONAL", "STATE", "OTHER"), words("internal", "x")
)
some_entries = st.builds(
    DncEntry,
    at=times,
    event_id=ids,
    listed=st.booleans(),
    requested_at=times,
    whole_party=st.booleans(),
)
some_refusals = st.builds(Refusal, at=times, event_id=ids, objection=st.booleans())
some_contracts = st.builds(
    Relationship,
    at=times,
    event_id=ids,
    on=st.just(20000),
    status=words("ACTIVE", "ENDED", "UNKNOWN"),
    ended_on=st.none() | st.integers(20778, 20782),
    related_subject_matters=st.just(()) | st.just(("offer-1",)),
    affiliate_expected=st.booleans(),
)
some_attempts = st.builds(
    Attempt,
    at=st.integers(NOW - 40 * DAY, NOW + 5),
    event_id=ids,
    call_id=ids,
    permit_id=st.none(),
    permit_expires_at=st.none() | times,
    purpose=words(*PURPOSES, *UNKNOWN),
    call_mode=words(*CALL_MODES, *UNKNOWN),
    dial_mode=words(*DIAL_MODES),
)
some_outcomes = st.builds(LastOutcome, st.integers(NOW - 4 * DAY, NOW + 5), ids)
some_answers = st.builds(
    Reassignment,
    at=st.integers(NOW - 40 * DAY, NOW),
    event_id=ids,
    answer=words("YES", "NO", "NO_DATA"),
    query_date=st.just(20700),
)
some_attributes = st.fixed_dictionaries(
    {},
    optional={
        "states": st.builds(Attribute, times, st.just(("DE",)) | st.just(("US-CA",))),
        "line_type": st.builds(Attribute, times, st.just(("LANDLINE",)) | st.just(("MOBILE",))),
        "party": st.builds(Attribute, times, st.just(("BUSINESS",))),
    },
)
states = st.builds(
    SubjectState,
    grants=slots(grant_keys, some_grants),
    withdrawals=slots(withdrawal_keys, some_withdrawals),
    dnc=slots(dnc_keys, some_entries),
    refusals=slots(st.tuples(words(*SELLERS), words("*", *SUBJECTS)), some_refusals),
    relationships=slots(
        st.tuples(words("acme"), words("CONTRACT", "PURCHASE", "INQUIRY", "PERSONAL"), ids),
        some_contracts,
    ),
    attempts=slots(
        st.tuples(words(*SELLERS), words("*", *SUBJECTS)),
        st.lists(some_attempts, min_size=1, max_size=4).map(newest_attempts),
    ),
    outcomes=slots(st.tuples(words(*SELLERS), words("ABANDONED", "REFUSED")), some_outcomes),
    reassignments=slots(words(*SELLERS), some_answers),
    attributes=some_attributes,
    erased=st.none() | st.builds(Erasure, times, ids, st.just(())),
).map(absorb)
restrictions = st.one_of(
    st.builds(
        SubjectState,
        attempts=slots(
            st.tuples(words(*SELLERS), words("*", *SUBJECTS)),
            st.lists(some_attempts, min_size=1, max_size=4).map(newest_attempts),
        ),
    ),
    st.builds(
        SubjectState,
        outcomes=slots(st.tuples(words(*SELLERS), words("ABANDONED")), some_outcomes),
    ),
    st.builds(SubjectState, withdrawals=slots(withdrawal_keys, some_withdrawals)),
    st.builds(
        SubjectState,
        dnc=slots(dnc_keys, some_entries.map(lambda entry: entry._replace(listed=True))),
    ),
    st.builds(
        SubjectState,
        refusals=slots(st.tuples(words(*SELLERS), words("*", *SUBJECTS)), some_refusals),
    ),
)
requests = st.builds(
    CallRequest,
    seller_id=words("acme", "globex"),
    purpose=words(*PURPOSES, *UNKNOWN),
    call_mode=words(*CALL_MODES, *UNKNOWN),
    dial_mode=words(*DIAL_MODES, *UNKNOWN),
    party=words(*PARTIES, *UNKNOWN),
    profile=words(*PROFILES, *UNKNOWN),
    states=st.lists(
        words("US", "US-TX", "US-OR", "US-ME", "US-WA", "DE", "FR", "GB", "CA-ON", "ES", "BR"),
        max_size=2,
    ).map(tuple),
    zones=st.lists(words("Europe/Paris", "America/Chicago", "America/New_York"), max_size=2).map(
        tuple
    ),
    sector=words("OTHER", "CHARITY", "ENERGY_RENOVATION", *UNKNOWN),
    message_class=words("ADVERTISING", "NONPROFIT", *UNKNOWN),
    caller_id_number=st.none() | words("+15125550199"),
    subject_matter=st.none() | words(*SUBJECTS),
    test=st.booleans(),
)


@settings(deadline=None)
@given(requests, states)
def test_deterministic(request: CallRequest, state: SubjectState) -> None:
    """The same inputs give the same decision, to the last fact of its trace."""
    assert decided(request, state) == decided(request, state)


@settings(deadline=None)
@given(requests, states)
def test_order_of_the_state_does_not_matter(request: CallRequest, state: SubjectState) -> None:
    """However a state came about, its entries in any order give the same decision and trace."""
    sections: dict[str, Any] = {
        field.name: dict(reversed(getattr(state, field.name).items()))
        for field in fields(state)
        if field.name != "erased"
    }
    assert decided(request, replace(state, **sections)) == decided(request, state)


@settings(deadline=None)
@given(requests, states)
def test_any_denial_denies(request: CallRequest, state: SubjectState) -> None:
    """The verdict is a denial exactly if some deciding rule denied, and only then has reasons."""
    decision = decided(request, state)
    denials = [line for line in decision.outcomes if line.outcome == "DENY"]
    assert (decision.verdict == "DENY") == bool(denials)
    assert all(line.rule.decides for line in denials)
    assert set(decision.reasons) == {line.reason for line in denials}
    assert (decision.next_allowed is None) == decision.allowed
    assert decision.allowed or decision.obligations == ()


@settings(deadline=None)
@given(requests, states)
def test_primary_reason_is_first_of_the_order(request: CallRequest, state: SubjectState) -> None:
    """Reasons stand in the total order, the primary one is the first, and its rule decided."""
    decision = decided(request, state)
    rank = packaged_rulebook().reasons.rank
    ranks = [rank(code) for code in decision.reasons]
    assert ranks == sorted(set(ranks))
    if decision.reasons:
        assert decision.reason == decision.reasons[0]
        deciding = [
            line.rule
            for line in decision.outcomes
            if line.outcome == "DENY" and line.reason == decision.reason
        ]
        assert decision.rule in deciding
        assert decision.rule is not None
        assert decision.rule.narrowness == max(one.narrowness for one in deciding)


@settings(deadline=None)
@given(requests, states, restrictions)
def test_restriction_never_permits(
    request: CallRequest, state: SubjectState, restriction: SubjectState
) -> None:
    """Learning of a withdrawal, a listing or a refusal never turns a no into a yes."""
    if not decided(request, state).allowed:
        assert not decided(request, merge(state, restriction)).allowed


@settings(deadline=None)
@given(requests, states, states, restrictions)
def test_other_numbers_never_permit(
    request: CallRequest, state: SubjectState, linked: SubjectState, restriction: SubjectState
) -> None:
    """What is known of the person's other numbers never turns a no into a yes."""
    if not decided(request, state).allowed:
        assert not decided(request, state, linked=(linked,)).allowed
    if not decided(request, state, linked=(linked,)).allowed:
        more = merge(linked, restriction)
        assert not decided(request, state, linked=(more,)).allowed
        assert not decided(request, state, linked=(linked, restriction)).allowed


@settings(deadline=None)
@given(requests, states, states, states)
def test_order_of_the_other_numbers_does_not_matter(
    request: CallRequest, state: SubjectState, one: SubjectState, other: SubjectState
) -> None:
    """The person's other numbers give the same decision and trace in whatever order."""
    decision = decided(request, state, linked=(one, other))
    turned = decided(request, state, linked=(other, one))
    assert turned.outcomes == decision.outcomes
    assert turned.next_allowed == decision.next_allowed


@settings(deadline=None)
@given(requests, states, times)
def test_erasure_denies_until_a_newer_grant(
    request: CallRequest, state: SubjectState, cutoff_at: int
) -> None:
    """After an erasure only a grant that is newer can make an allow."""
    erased = merge(state, SubjectState(erased=Erasure(cutoff_at, "erasure", ())))
    assert erased.erased is not None
    if decided(request, erased).allowed:
        assert any(grant.at > erased.erased.cutoff_at for grant in erased.grants.values())


@settings(deadline=None)
@given(requests, states)
def test_later_withdrawal_denies(request: CallRequest, state: SubjectState) -> None:
    """A withdrawal at or after every grant denies, whatever else is known."""
    latest = max((grant.at for grant in state.grants.values()), default=NOW)
    seller = ("test:" if request.test else "") + request.seller_id
    ended = SubjectState(
        withdrawals={(seller, "*", "*", "*"): Withdrawal(latest, "w", "WITHDRAWN")}
    )
    decision = decided(request, merge(replace(state, erased=None), ended))
    assert "CONSENT_REVOKED" in decision.reasons


@settings(deadline=None)
@given(requests, states)
def test_shadow_rules_change_nothing(request: CallRequest, state: SubjectState) -> None:
    """Without the rows in shadow every decision is the same."""
    decision = decided(request, state)
    without = decided(request, state, _without_shadow())
    kept = [line for line in decision.outcomes if line.rule.decides]
    assert without.verdict == decision.verdict
    assert without.reasons == decision.reasons
    assert without.next_allowed == decision.next_allowed
    assert [line.rule.name for line in without.outcomes] == [line.rule.name for line in kept]


@settings(deadline=None)
@given(requests, states)
def test_one_more_denying_rule_denies_all(request: CallRequest, state: SubjectState) -> None:
    """A rulebook that has a rule denying everything allows nothing."""
    everywhere = {"country": "*", "subdivision": None, "match": ["address"]}
    assert not decided(request, state, book(rule(jurisdiction=everywhere))).allowed


@settings(deadline=None)
@given(requests, states)
def test_strict_is_never_laxer(request: CallRequest, state: SubjectState) -> None:
    """What the strict profile allows, the statutory one allows too."""
    if decided(replace(request, profile="STRICT"), state).allowed:
        assert decided(replace(request, profile="STATUTORY"), state).allowed


@settings(deadline=None)
@given(requests, states)
def test_unstated_is_never_laxer(request: CallRequest, state: SubjectState) -> None:
    """Leaving words of a request open never turns a no into a yes."""
    opened = replace(request, purpose="UNKNOWN", call_mode="UNKNOWN", dial_mode="UNKNOWN")
    if decided(opened, state).allowed:
        assert decided(request, state).allowed


@settings(deadline=None)
@given(requests, states)
def test_next_allowed_is_allowed_by_time(request: CallRequest, state: SubjectState) -> None:
    """At the instant that a denial names, no rule denies for timing any more, unless at once."""
    decision = decided(request, state)
    if decision.next_allowed is not None and decision.next_allowed.at is not None:
        assert decision.next_allowed.at > NOW
        later = decided(request, state, at=decision.next_allowed.at)
        timing = [line for line in later.outcomes if line.rule.passes_with_time]
        assert all(line.outcome != "DENY" for line in timing)


@settings(deadline=None)
@given(requests, states)
def test_record_decides_again(request: CallRequest, state: SubjectState) -> None:
    """Every decision survives the wire, and comes out of its record the same."""
    context = RecordContext("id", NOW, "+14155550123", bytes(16), "s", 0)
    decision = decided(request, state)
    value = encode("DialDecision", decision_record(decision, context))
    assert encoded_decision(decision, context)[0] == value
    record = decode(value)[1]
    call = request_of(record)
    again = decide(call.request, state, call.surroundings, packaged_rulebook(), call.at)
    assert decode(encode("DialDecision", decision_record(again, context)))[1] == record


@cache
def _without_shadow() -> Rulebook:
    content = json.loads(packaged_rulebook().content)
    content["rules"] = [row for row in content["rules"] if row["status"] == "in_force"]
    encoded = json.dumps(content).encode()
    return Rulebook.from_content(encoded, hashlib.sha256(encoded).digest())
