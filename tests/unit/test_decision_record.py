"""A decision as an event: complete, encodable, and enough to decide again."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest

from consent.call import (
    Calendar,
    CallerId,
    Campaign,
    Emergency,
    Holiday,
    ListMembership,
    Program,
    Registration,
    Registries,
    Surroundings,
    Tally,
)
from consent.codec import cloudevents_headers, decode, encode
from consent.contracts import contracts, fact_schema
from consent.decision import Decision, decide, unavailable
from consent.decision_bytes import encoded_decision
from consent.decision_record import (
    LinkedNumber,
    Permit,
    RecordContext,
    Watermark,
    decision_record,
    fact_text,
    request_of,
    verdict_fields,
)
from consent.state import EMPTY, SubjectState, merge
from consent.state_entries import AppliedOffset, Attribute
from tests.decisions import (
    DAY,
    NOW,
    book,
    decided,
    grants,
    listing,
    packaged_rulebook,
    refusal,
    request,
    rule,
    withdrawal,
)

NUMBER = "+14155550123"
LOG_ID = bytes(range(16))
CONTEXT = RecordContext(
    event_id=str(uuid.UUID(int=7)),
    occurred_at=NOW + 3,
    number=NUMBER,
    salt=bytes(16),
    system="serve",
    partition=2,
    applied={
        ("dnc-updates", LOG_ID): AppliedOffset(5, NOW),
        ("consent-events", LOG_ID): AppliedOffset(41, NOW),
    },
    watermark=Watermark(2, NOW - 20_000, 20),
    settings={"view_max_age_ms": "5000"},
    area_table_digest=b"\x01" * 32,
    permit=Permit(str(uuid.UUID(int=8)), NOW + 60_000_000, "key-1"),
)
AROUND = Surroundings(
    Registries((ListMembership("a-list", "415", "v1", 20000, False, None),)),
    Calendar(
        (Holiday("US-LA", 20790, "Storm day", ("US-LA/Orleans",)),),
        (
            Emergency("e1", "US-NY", NOW - DAY, None, ("US-NY/Erie",)),
            Emergency("e2", "US-LA", 1, 2),
        ),
    ),
    Campaign((Tally("THIRTY_DAYS", 200, 3, NOW - 9 * DAY), Tally("CALENDAR_MONTH"))),
    Program(
        registrations=(Registration("r-1", "US-TX", "BOND", 20000, None, "spring", "415"),),
        caller_ids=(CallerId("a-1", "+15125550199", NOW - DAY, NOW + DAY, "geographic", True),),
        seller_type="nonprofit",
        sectors=("PENSIONS", "OTHER"),
        message_class="ADVERTISING",
        ring_seconds_min=15,
        recording_notice_available=False,
        machine_detection_false_positives_ppm=0,
    ),
)


def recorded(decision: Decision, context: RecordContext = CONTEXT) -> dict[str, Any]:
    """The decision's event after a round trip over the wire, which knows one form of it only."""
    fields = decision_record(decision, context)
    value = encode("DialDecision", fields)
    headers = cloudevents_headers(contracts().record("DialDecision"), fields)
    assert encoded_decision(decision, context) == (value, headers)
    return decode(value)[1]


def again(record: dict[str, Any], state: SubjectState) -> Decision:
    """The decision that a record and the number's state give."""
    call = request_of(record)
    return decide(call.request, state, call.surroundings, packaged_rulebook(), call.at)


STATES = {
    "nothing": EMPTY,
    "consent": grants("PEWC"),
    "incomplete": grants("PEWC", evidence=("signature",)),
    "withdrawn": merge(grants("PEWC"), withdrawal()),
    "refused": merge(grants("PEWC"), refusal()),
    "elsewhere": SubjectState(attributes={"states": Attribute(1, ("DE",))}),
}


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("mode", ["LIVE", "AI_VOICE", "UNKNOWN"])
def test_recorded_decision_is_decided_alike(name: str, mode: str) -> None:
    """From its record and the number's state a decision comes out again to the last fact."""
    asked = request(
        call_mode=mode,
        counties=("US-TX/Travis",),
        sector="PENSIONS",
        message_class="ADVERTISING",
        emergency_purpose=False,
        failed_signature_attempts=1,
        request_id="r-1",
    )
    decision = decide(asked, STATES[name], AROUND, packaged_rulebook(), NOW)
    record = recorded(decision)
    repeated = again(record, STATES[name])
    assert recorded(repeated) == record
    assert request_of(record).surroundings == AROUND
    assert request_of(record).rulebook_digest == packaged_rulebook().digest


LINKED = (
    LinkedNumber(b"\x01" * 16, 3, {("call-events", LOG_ID): AppliedOffset(7, NOW)}),
    LinkedNumber(b"\x02" * 16, 1, {}, Watermark(1, NOW - 40_000, 40)),
)


def test_other_numbers_of_the_person_are_named() -> None:
    """The record has token, offsets and freshness of each number whose state counted."""
    states = (listing(key=("acme", "INTERNAL", "internal/whole-party")), STATES["nothing"])
    params = {"list_kinds": ["internal"], "linked": "whole_party"}
    on_fail = {"effect": "deny", "reason": "INTERNAL_DNC_PARTY", "next": "on_event"}
    rulebook = book(rule(check={"kind": "list_absent", "params": params}, on_fail=on_fail))
    decision = decided(request(), EMPTY, rulebook, linked=states)
    assert decision.reason == "INTERNAL_DNC_PARTY"
    record = recorded(decision, replace(CONTEXT, linked=LINKED))
    assert [(one["token"], one["watermark"]) for one in record["linked"]] == [
        (b"\x01" * 16, None),
        (b"\x02" * 16, {"partition": 1, "true_at": NOW - 40_000, "lag_ms": 40}),
    ]
    call = request_of(record)
    assert [one.token for one in call.linked] == [one.token for one in LINKED]
    assert [dict(one) for one in call.linked[0].applied] == [
        {"topic": "call-events", "log_id": LOG_ID, "partition": 3, "offset_last": 7}
    ]
    assert call.surroundings.linked == ()
    around = replace(call.surroundings, linked=states)
    again = decide(call.request, EMPTY, around, rulebook, call.at)
    assert verdict_fields(again) == verdict_fields(decision)
    alone = decide(call.request, EMPTY, call.surroundings, rulebook, call.at)
    assert alone.allowed


def test_no_number_that_counted_is_left_out() -> None:
    """A record that names fewer or more numbers than counted is refused."""
    decision = decided(request(), EMPTY, linked=(EMPTY,))
    for linked in ((), LINKED):
        with pytest.raises(ValueError, match="linked"):
            decision_record(decision, replace(CONTEXT, linked=linked))


def test_what_nobody_looked_up_stays_unknown() -> None:
    """That nobody looked for registrations differs, in the record too, from that there are none."""
    for program in (Program(), Program(registrations=()), Program(caller_ids=())):
        record = recorded(decided(request(), EMPTY, program=program))
        assert request_of(record).surroundings.program == program


def test_record_has_every_field_of_its_schema() -> None:
    """The record names exactly the fields of the event's schema."""
    record = decision_record(decided(request(), EMPTY), CONTEXT)
    fields = [field["name"] for field in contracts().record("DialDecision").schema["fields"]]
    assert sorted(record) == sorted(fields)


def test_record_says_what_was_decided() -> None:
    """Verdict, reasons, rule, trace, state offsets, watermark and permit are in the event."""
    record = recorded(decided(request(call_mode="PRERECORDED"), STATES["refused"]))
    assert (record["verdict"], record["reason"]) == ("DENY", "REFUSAL_COOLDOWN")
    assert record["rule"] == "POLICY-REFUSAL@1"
    assert record["next_allowed_at"] == NOW + 29 * DAY
    assert record["next_allowed"] is None
    assert record["applied"] == [
        {"topic": "consent-events", "log_id": LOG_ID, "partition": 2, "offset_last": 41},
        {"topic": "dnc-updates", "log_id": LOG_ID, "partition": 2, "offset_last": 5},
    ]
    assert record["watermark"] == {"partition": 2, "true_at": NOW - 20_000, "lag_ms": 20}
    assert record["settings"] == [{"name": "view_max_age_ms", "value": "5000"}]
    assert record["permit_key_id"] == "key-1"
    line = next(line for line in record["outcomes"] if line["rule"] == "POLICY-REFUSAL@1")
    assert line["reason"] == "REFUSAL_COOLDOWN"
    assert {"name": "silent_until", "value": str(NOW + 29 * DAY)} in line["facts"]


def test_allow_names_the_consent_it_relies_on() -> None:
    """An allow lists the grants that rules passed on; a denial lists none."""
    state = grants("PEWC")
    (event_id,) = {grant.event_id for grant in state.grants.values()}
    allow = verdict_fields(decided(request(call_mode="PRERECORDED"), state))
    assert allow["grant_event_ids"] == [event_id]
    assert verdict_fields(decided(request(), state))["grant_event_ids"] == []
    denied = decided(request(call_mode="PRERECORDED"), STATES["refused"])
    assert verdict_fields(denied)["grant_event_ids"] == []


def test_no_answer_is_recorded_too() -> None:
    """An unavailable answer is an event with its reason and without a trace."""
    record = recorded(unavailable(request(), "VIEW_STALE", packaged_rulebook(), NOW))
    assert (record["verdict"], record["reasons"]) == ("UNAVAILABLE", ["VIEW_STALE"])
    assert record["outcomes"] == []
    assert request_of(record).request == request()


def test_what_can_not_be_dated_is_worded() -> None:
    """Where no instant can be given the record says in a word what is waited for."""
    on_fail = {"effect": "deny", "reason": "SECTOR_BAN", "next": "never"}
    record = recorded(decided(request(), EMPTY, book(rule(on_fail=on_fail))))
    assert (record["next_allowed"], record["next_allowed_at"]) == ("never", None)


def test_record_from_history_is_enough() -> None:
    """The fact that history keeps, without number, salt and evidence, can be decided again."""
    record = recorded(decided(request(), STATES["withdrawn"]))
    kept = {field["name"] for field in fact_schema("DialDecision")["fields"]}
    fact = {name: value for name, value in record.items() if name in kept}
    assert set(record) - kept == {"number", "salt", "evidence"}
    assert verdict_fields(again(fact, STATES["withdrawn"])) == verdict_fields(
        decided(request(), STATES["withdrawn"])
    )
    assert NUMBER not in repr(fact)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        (-7, "-7"),
        (True, "true"),
        (False, "false"),
        (None, "null"),
        (("US-TX", "Zürich"), '["US-TX","Z\\u00fcrich"]'),
        ({"a": [1.5, None]}, '{"a":[1.5,null]}'),
    ],
)
def test_facts_are_recorded_as_text(value: object, text: str) -> None:
    assert fact_text(value) == text
