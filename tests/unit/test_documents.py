"""What becomes of single documents, field by field."""

from __future__ import annotations

from typing import Any

import pytest

from consent import codec
from consent.contracts import contracts
from consent.documents import DocumentRules, EventDraft, document_types, read_document, record_key
from consent.errors import Rejected
from consent.instants import MICROSECONDS, parse_instant

NOW = parse_instant("2026-11-22T12:00:00Z")
RULES = DocumentRules(NOW)
SALT = bytes(range(16))
ABSENT: Any = object()

GRANT: dict[str, Any] = {
    "type": "ConsentGranted",
    "event_id": "0b9f4c1e-6f0c-4c58-9d4b-3f1f7a3d2c10",
    "occurred_at": "2026-11-22T10:00:00Z",
    "number": "+14155550123",
    "seller_id": "acme",
    "source": {"system": "web", "channel": "WEB"},
    "consent_kind": "PEWC",
    "purposes": ["MARKETING"],
    "modes": ["LIVE", "PRERECORDED"],
    "evidence": {"name": "Jo Doe", "email": "jo@example.com", "wording": "I agree."},
}
WITHDRAWAL: dict[str, Any] = {
    **{name: GRANT[name] for name in ("event_id", "occurred_at", "number", "seller_id", "source")},
    "type": "ConsentWithdrawn",
    "purposes": ["MARKETING"],
}


def document(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    changed = {**base, **changes}
    return {name: value for name, value in changed.items() if value is not ABSENT}


def read(base: dict[str, Any], rules: DocumentRules = RULES, **changes: Any) -> EventDraft:
    return read_document(document(base, **changes), rules, SALT)


def refusal(base: dict[str, Any], **changes: Any) -> Rejected:
    with pytest.raises(Rejected) as caught:
        read(base, **changes)
    return caught.value


def test_a_document_becomes_the_event_its_schema_describes() -> None:
    """A valid document is encoded by the codec and decoded to the same fields, in schema form."""
    draft = read(GRANT, expires_at="2027-01-01T00:00:00+02:00")
    record, fields = codec.decode(codec.encode(draft.record.name, draft.fields))
    assert record.name == "ConsentGranted"
    assert fields == draft.fields
    assert fields["occurred_at"] == NOW - 7200 * MICROSECONDS
    assert fields["expires_at"] == parse_instant("2026-12-31T22:00:00Z")
    assert (fields["salt"], fields["test"], fields["evidence"]["ip"]) == (SALT, False, None)
    assert (draft.key, draft.notices) == (b"+14155550123", ())


def test_every_type_but_the_ledgers_own_can_be_sent() -> None:
    """Exactly the records of the source topics are accepted as documents, without decisions."""
    names = set(document_types())
    sources = {
        name for topic in contracts().topics.values() if topic.source for name in topic.records
    }
    assert names == sources - {"DialDecision"}
    assert refusal(GRANT, type="DialDecision").reason == "UNKNOWN_TYPE"


@pytest.mark.parametrize("field", ["event_id", "occurred_at", "seller_id", "source", "number"])
@pytest.mark.parametrize("base", [GRANT, WITHDRAWAL], ids=["grant", "withdrawal"])
@pytest.mark.parametrize("value", [ABSENT, None], ids=["absent", "null"])
def test_what_an_event_is_about_must_be_given(base: Any, field: str, value: Any) -> None:
    """Without id, time, seller, source or number nothing is accepted, whatever its effect."""
    problem = refusal(base, **{field: value})
    assert (problem.reason, problem.field) == ("MISSING_FIELD", field)
    assert problem.remedy


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"purpsoes": ["MARKETING"]}, "UNKNOWN_FIELD", "purpsoes"),
        ({"evidence": {"nmae": "x"}}, "UNKNOWN_FIELD", "evidence.nmae"),
        ({"consent_kind": "PEWK"}, "UNKNOWN_VALUE", "consent_kind"),
        ({"purposes": ["SALES"]}, "UNKNOWN_VALUE", "purposes[0]"),
        ({"purposes": "MARKETING"}, "WRONG_TYPE", "purposes"),
        ({"test": "false"}, "WRONG_TYPE", "test"),
        ({"seller_named": 1}, "WRONG_TYPE", "seller_named"),
        ({"notice_sha256": "abcd"}, "WRONG_TYPE", "notice_sha256"),
        ({"notice_sha256": "x" * 64}, "WRONG_TYPE", "notice_sha256"),
        ({"expires_at": 1_795_000_000}, "INVALID_TIME", "expires_at"),
        ({"expires_at": "2026-11-22T10:00:00"}, "INVALID_TIME", "expires_at"),
        ({"expires_at": "2026-02-30T10:00:00Z"}, "INVALID_TIME", "expires_at"),
        ({"occurred_at": "2026-11-22"}, "INVALID_TIME", "occurred_at"),
        ({"occurred_at": "1999-12-31T23:59:59Z"}, "DATED_BEFORE_2000", "occurred_at"),
        ({"occurred_at": "2026-11-22T12:05:01Z"}, "DATED_AHEAD", "occurred_at"),
        ({"event_id": "42"}, "INVALID_ID", "event_id"),
        ({"number": "555-0123"}, "NUMBER_INVALID", "number"),
        ({"number": 14155550123}, "WRONG_TYPE", "number"),
        ({"seller_id": "*"}, "SELLER_MISSING", "seller_id"),
        ({"seller_id": "test:acme"}, "RESERVED", "seller_id"),
        ({"seller_id": " "}, "MISSING_FIELD", "seller_id"),
        ({"campaign_id": "x" * 257}, "TOO_LONG", "campaign_id"),
        ({"campaign_id": "a\nb"}, "INVALID_TEXT", "campaign_id"),
        ({"campaign_id": "\ud800"}, "INVALID_TEXT", "campaign_id"),
        ({"subject_matters": ["x"] * 257}, "TOO_MANY", "subject_matters"),
        ({"source": {"channel": "WEB"}}, "MISSING_FIELD", "source.system"),
        ({"salt": "00"}, "WRONG_TYPE", "salt"),
        ({"type": "ConsentGranded"}, "UNKNOWN_TYPE", "type"),
        ({"type": "ledger.consent.ConsentGranted.v9"}, "UNKNOWN_TYPE", "type"),
    ],
)
def test_a_permitting_document_is_refused_for_its_form(
    changes: dict[str, Any], reason: str, field: str
) -> None:
    """Anything that is not as the schema says refuses a grant, with field and remedy."""
    problem = refusal(GRANT, **changes)
    assert (problem.reason, problem.field) == (reason, field)
    assert problem.remedy


@pytest.mark.parametrize("word", ["purpsoes", "Purposes", "consentkind"])
def test_the_closest_known_name_is_offered(word: str) -> None:
    """A misspelled field or value is answered with the one that was probably meant."""
    expected = "purposes" if word.lower().startswith("p") else "consent_kind"
    assert f'did you mean "{expected}"?' in refusal(GRANT, **{word: []}).remedy
    assert 'did you mean "PEWC"?' in refusal(GRANT, consent_kind="PEWK").remedy
    assert 'did you mean "ConsentGranted"?' in refusal(GRANT, type="ConsentGrant").remedy


@pytest.mark.parametrize(
    ("changes", "reason", "effect"),
    [
        ({"purpsoes": ["SURVEY"], "purposes": ABSENT}, "UNKNOWN_FIELD", {"purposes": []}),
        ({"purposes": ["SALES"]}, "UNKNOWN_VALUE", {"purposes": ["UNKNOWN"]}),
        ({"purposes": "MARKETING"}, "WRONG_TYPE", {"purposes": []}),
        ({"all_sellers": "yes"}, "WRONG_TYPE", {"all_sellers": False}),
        ({"call_id": "x" * 300}, "TOO_LONG", {"call_id": None}),
        ({"call_id": "call-4155550123"}, "PERSON_IN_PAYLOAD", {"call_id": None}),
        ({"occurred_at": "2026-11-23T10:00:00Z"}, "DATED_AHEAD", {}),
        ({"evidence": "a letter"}, "WRONG_TYPE", {}),
        ({"source": {"system": "web", "channel": "PHONE"}}, "UNKNOWN_VALUE", {}),
    ],
)
def test_an_opt_out_is_never_dropped_for_its_form(
    changes: dict[str, Any], reason: str, effect: dict[str, Any]
) -> None:
    """What can't be used of a withdrawal is set aside, its scope widens, and the sender is told."""
    draft = read(WITHDRAWAL, **changes)
    assert [notice.reason for notice in draft.notices] == [reason]
    assert effect.items() <= draft.fields.items()
    codec.encode(draft.record.name, draft.fields)


def test_what_is_set_aside_is_kept_as_evidence() -> None:
    """The unusable value of an opt-out stands in its evidence, beside what was given."""
    draft = read(WITHDRAWAL, manner={"by": "mail"}, evidence={"wording": "Stop"}, foo=[1, "a"])
    assert draft.fields["evidence"]["wording"] == "Stop"
    assert draft.fields["evidence"]["extra"] == [
        {"name": "manner", "value": '{"by": "mail"}'},
        {"name": "foo", "value": '[1, "a"]'},
    ]


@pytest.mark.parametrize(
    ("name", "given", "lenient"),
    [
        ("RelationshipRecorded", {"on": "2026-01-02", "status": "ENDED"}, True),
        ("RelationshipRecorded", {"on": "2026-01-02", "status": "ACTIVE"}, False),
        ("ReassignmentChecked", {"query_date": "2026-01-02", "answer": "YES"}, True),
        ("ReassignmentChecked", {"query_date": "2026-01-02", "answer": "NO"}, False),
    ],
)
def test_effect_goes_by_content(name: str, given: dict[str, Any], lenient: bool) -> None:
    """An event whose kind can permit or restrict is read as strictly as its content asks."""
    base = document(WITHDRAWAL, type=name, purposes=ABSENT, **given)
    if lenient:
        assert read(base, unheard_of=1).notices[0].reason == "UNKNOWN_FIELD"
    else:
        assert refusal(base, unheard_of=1).reason == "UNKNOWN_FIELD"


@pytest.mark.parametrize(
    "text", ["(415) 555-0123", "1-415-555-0123", "+1 (415) 555-0123", "tel:+1-415-555-0123"]
)
def test_numbers_are_normalised_where_that_is_unambiguous(text: str) -> None:
    """With a default region every usual form of a number becomes E.164, and the sender is told."""
    draft = read(GRANT, DocumentRules(NOW, "US"), number=text)
    assert draft.fields["number"] == "+14155550123"
    assert draft.key == b"+14155550123"
    assert [notice.reason for notice in draft.notices] == ["NUMBER_FORMAT"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("campaign_id", "c-14155550123"),
        ("campaign_id", "415-555-0123"),
        ("campaign_id", "415.555.0123/x"),
        ("subject_matters", ["loans", "jo@example.com"]),
        ("seller_id", "acme-4155550123"),
        ("source", {"system": "dialer-+14155550123"}),
        ("event_id", "00000000-0000-4000-8014-155550123000"),
    ],
)
def test_identifiers_may_not_hold_the_person(field: str, value: Any) -> None:
    """The number or the e-mail address outside evidence refuses a grant, and is not repeated."""
    problem = refusal(GRANT, **{field: value})
    assert (problem.reason, problem.field) == ("PERSON_IN_PAYLOAD", field)
    assert "5550123" not in str(problem)
    assert "jo@" not in str(problem)


def test_a_grant_that_grants_nothing_is_pointed_out() -> None:
    """A grant without kind, purposes or modes is accepted with a notice for each."""
    draft = read(GRANT, consent_kind=ABSENT, purposes=[], modes=["UNKNOWN"])
    noticed = [(notice.reason, notice.field) for notice in draft.notices]
    names = ("consent_kind", "purposes", "modes")
    assert noticed == [("GRANTS_NOTHING", name) for name in names]


CLOUD_EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "type": "ledger.consent.ConsentWithdrawn.v1",
    "source": "/sms-gateway",
    "id": "msg-77",
    "time": "2026-11-22T10:00:00Z",
    "datacontenttype": "application/json",
    "partitionkey": "ignored",
    "data": {"number": "+14155550123", "seller_id": "acme"},
}


def test_cloud_events_are_read() -> None:
    """Envelope attributes stand in for what the data lacks; equal source and id give equal ids."""
    draft = read(CLOUD_EVENT)
    assert draft.record.name == "ConsentWithdrawn"
    assert draft.fields["source"]["system"] == "sms-gateway"
    assert draft.fields["occurred_at"] == parse_instant("2026-11-22T10:00:00Z")
    assert draft.event_id == read(CLOUD_EVENT).event_id
    assert draft.event_id != read(CLOUD_EVENT, source="/other").event_id
    uuid = "0B9F4C1E-6F0C-4C58-9D4B-3F1F7A3D2C10"
    assert read(CLOUD_EVENT, id=uuid).event_id == uuid.lower()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"data": ABSENT}, "data"),
        ({"data": "text"}, "data"),
        ({"time": ABSENT}, "occurred_at"),
        ({"id": ABSENT}, "event_id"),
        ({"type": "com.example.optout"}, "type"),
    ],
)
def test_cloud_events_of_another_form_are_refused(changes: dict[str, Any], field: str) -> None:
    """An envelope that lacks what an event needs is refused by field."""
    assert refusal(CLOUD_EVENT, **changes).field == field


@pytest.mark.parametrize("value", [None, 1, "text", [1]])
def test_what_is_no_object_is_refused(value: Any) -> None:
    """Only a JSON object can be a document."""
    with pytest.raises(Rejected) as caught:
        read_document(value, RULES, SALT)
    assert caught.value.reason == "WRONG_TYPE"


def test_keys_follow_the_contracts() -> None:
    """Each topic's key is made of the fields that its contract names."""
    by_key = {"number": "n", "seller_id": "s", "list_id": "l", "area": "a", "jurisdiction": "j"}
    found = {
        topic.key: record_key(contracts().record(topic.records[0]), by_key)
        for topic in contracts().topics.values()
        if topic.source
    }
    assert found == {"number": b"n", "seller": b"s", "list_area": b"l/a", "jurisdiction": b"j"}
