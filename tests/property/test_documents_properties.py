"""What holds for every document, however odd."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from consent import codec
from consent.contracts import RecordContract, contracts
from consent.document_form import document_fields
from consent.documents import DocumentRules, document_types, read_document
from consent.errors import Rejected
from consent.instants import instant_text, parse_instant
from consent.intake import Origin, read_batch
from consent.partitioning import partition_of
from tests.events import RawEvent, event
from tests.strategies import any_events

NOW = parse_instant("2026-11-22T12:00:00Z")
SALT = bytes(16)
NUMBER = "+14155550123"
PARTITIONS = 4

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3)
    ),
    max_leaves=8,
)
field_names = st.sampled_from(
    sorted(
        {
            entry["name"]
            for name in document_types()
            for entry in contracts().record(name).schema["fields"]
        }
    )
)


@st.composite
def plausible_values(draw: st.DrawFn) -> Any:
    """Values of which some fit some field."""
    words = st.sampled_from(
        ["MARKETING", "LIVE", "PEWC", "UNKNOWN", "NO", "ENDED", "x", NUMBER, "ab" * 32]
    )
    times = st.integers(0, 2 * NOW).map(instant_text)
    return draw(
        words | times | st.booleans() | st.integers() | st.lists(words, max_size=3) | json_values
    )


def identity(name: str) -> dict[str, Any]:
    return {
        "type": name,
        "event_id": "0b9f4c1e-6f0c-4c58-9d4b-3f1f7a3d2c10",
        "occurred_at": "2026-11-22T10:00:00Z",
        "number": NUMBER,
        "seller_id": "acme",
        "source": {"system": "web"},
    }


@given(st.dictionaries(st.text(max_size=12) | field_names, json_values) | json_values)
def test_any_json_is_read_or_rejected(value: Any) -> None:
    """No document makes anything but an event or a Rejected."""
    try:
        read_document(value, DocumentRules(NOW), SALT)
    except Rejected as problem:
        assert problem.reason
        assert problem.remedy


@given(
    st.sampled_from(document_types()), st.dictionaries(field_names, plausible_values(), max_size=6)
)
def test_what_is_accepted_is_readable_from_the_log(name: str, given: dict[str, Any]) -> None:
    """Every accepted document gives a record that the workers can read under its key."""
    document = {**identity(name), **given}
    try:
        draft = read_document(document, DocumentRules(NOW), SALT)
    except Rejected:
        return
    value = codec.encode(draft.record.name, draft.fields)
    topic = contracts().topics[draft.record.topic]
    partitions = topic.partitions or PARTITIONS
    origin = Origin(topic.name, partition_of(draft.key, partitions), partitions)
    reading = read_batch([RawEvent(0, NOW // 1000, draft.key, value)], origin, bytes(16))
    assert not reading.unreadable
    assert not reading.forwards
    assert [group.record.name for group in reading.groups] == [name]


@given(
    st.sampled_from(["ConsentWithdrawn", "ConsentRefused", "ConsentInvalidated", "DncAdded"]),
    st.dictionaries(
        st.text(max_size=12) | field_names, plausible_values() | json_values, max_size=8
    ),
)
def test_an_opt_out_of_somebody_is_always_accepted(name: str, junk: dict[str, Any]) -> None:
    """With id, time, number, seller and source given, nothing else can refuse an opt-out."""
    document = {**junk, **identity(name)}
    for field in ("salt", "specversion"):
        document.pop(field, None)
    draft = read_document(document, DocumentRules(NOW), SALT)
    assert draft.record.name == name
    codec.encode(name, draft.fields)


@given(
    st.dictionaries(field_names, plausible_values(), max_size=6), st.sampled_from(["grant", "stop"])
)
def test_nothing_personal_is_shown(given: dict[str, Any], kind: str) -> None:
    """Neither a rejection nor a notice repeats the number, whatever field it stands in."""
    name = "ConsentGranted" if kind == "grant" else "ConsentWithdrawn"
    document = {**given, **identity(name), "evidence": {"email": "jo@example.com", "name": NUMBER}}
    document["campaign_id"] = {"x": NUMBER}
    document["call_id"] = f"tel {NUMBER}"
    try:
        notices = list(read_document(document, DocumentRules(NOW), SALT).notices)
    except Rejected as problem:
        shown = str(problem)
    else:
        shown = json.dumps([[part.field, part.value_shown, part.remedy] for part in notices])
    assert "5550123" not in shown
    assert "jo@example.com" not in shown


def ended_relationship(**given: Any) -> tuple[RecordContract, dict[str, Any]]:
    """An event that restricts, of a type that permits: such a one is read leniently."""
    name = "RelationshipRecorded"
    return contracts().record(name), event(name, status="ENDED", **given)


@given(any_events())
@example(ended_relationship(provided_on=-719_163))
@example(ended_relationship(call_from_at=1 << 62))
def test_a_stored_event_told_as_a_document_is_the_same_event(
    drawn: tuple[RecordContract, dict[str, Any]],
) -> None:
    """Fields written as a document and read again are the fields; the form is plain JSON.

    But a date or time that no calendar has: it is kept with the evidence, and a notice says so.
    """
    record, fields = drawn[0], _with_whole_digests(drawn[1])
    told = document_fields(record.schema, fields)
    assert json.loads(json.dumps(told)) == told
    if record.name == "DialDecision" or record.effect != "permits":
        return
    try:
        draft = read_document({"type": record.name, **told}, DocumentRules(1 << 60), SALT)
    except Rejected:
        return
    aside = {notice.field for notice in draft.notices if notice.reason == "INVALID_TIME"}
    assert all(isinstance(fields[name], int) for name in aside)
    left = aside | {"evidence"} if aside else aside
    assert _without(draft.fields, left) == _without(fields, left)
    if aside:
        extra = {one["name"]: one["value"] for one in draft.fields["evidence"]["extra"]}
        assert {name: extra[name] for name in aside} == {name: told[name] for name in aside}


def _without(fields: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def _with_whole_digests(value: Any, name: str = "") -> Any:
    """The fields with a digest of 32 bytes wherever they have one.

    The log takes bytes of any length there, the document door sets them aside with a notice.
    """
    if isinstance(value, dict):
        return {key: _with_whole_digests(part, key) for key, part in value.items()}
    if isinstance(value, bytes) and name.endswith("sha256"):
        return hashlib.sha256(value).digest()
    return value
