"""The examples are what they claim: readable, encodable, foldable, or refused for one reason."""

from __future__ import annotations

import json

import pytest

from consent.codec import decode, encode
from consent.columns import decode_columns
from consent.contracts import contracts, fact_schema
from consent.documents import document_types, read_document
from consent.errors import Rejected
from consent.lift import Position, lift
from consent.state import EMPTY
from tests.contract.examples import ROOT, RULES, SALT, Example, examples

NONCE = bytes(range(100, 116))
LOG_ID = bytes(16)
SAYS_NOTHING = {
    "ConsentGranted/valid-requested-only",
    "AccessRequested/valid-confirmed",
    "RectificationRequested/valid-name",
    "ErasureRefused/valid-legal-claim",
    "DialDecision/valid-deny",
    "DialDecision/valid-unavailable",
}
"""Examples that are about a number and change nothing about calling it."""


@pytest.mark.parametrize("example", examples("valid"), ids=str)
def test_a_valid_example_survives_the_wire(example: Example) -> None:
    """Reading, encoding and decoding a valid example gives back every field."""
    fields = example.fields()
    record, decoded = decode(encode(example.record.name, fields))
    assert record is example.record
    assert decoded == fields


@pytest.mark.parametrize("example", examples("valid"), ids=str)
def test_a_valid_example_decodes_as_columns(example: Example) -> None:
    """A valid example decodes to the same values when it is read as columns."""
    fields = example.fields()
    body = encode(example.record.name, fields)[5:]
    row = decode_columns(example.record, [body, body], NONCE).row(1, named=True)
    plain = {name: value for name, value in fields.items() if isinstance(value, str | int | bytes)}
    enums = {entry["name"] for entry in example.record.schema["fields"] if _is_enum(entry["type"])}
    assert {name: row[name] for name in plain if name not in enums} == {
        name: value for name, value in plain.items() if name not in enums
    }


def _is_enum(kind: object) -> bool:
    branches = kind if isinstance(kind, list) else [kind]
    return any(
        (isinstance(branch, str) and branch not in ("string", "null", "bytes", "int", "long"))
        or (isinstance(branch, dict) and branch["type"] == "enum")
        for branch in branches
    )


@pytest.mark.parametrize(
    "example",
    [example for example in examples("valid") if example.record.has_number],
    ids=str,
)
def test_a_valid_example_about_a_number_lifts(example: Example) -> None:
    """An event about a number becomes a state, unless it is one that says nothing about calls."""
    fields = example.fields()
    position = Position(example.record.topic, LOG_ID, 0, 0, fields["occurred_at"])
    state = lift(example.record.name, fields, fields["occurred_at"], position, party_key=b"p" * 32)
    assert (state is EMPTY) == (str(example) in SAYS_NOTHING)


@pytest.mark.parametrize("example", examples("invalid"), ids=str)
def test_an_invalid_example_is_refused_for_its_reason(example: Example) -> None:
    """An invalid example is refused with the reason and the field that it states."""
    with pytest.raises(Rejected) as refused:
        read_document(example.document, RULES, SALT)
    error = example.content["error"]
    assert (refused.value.reason, refused.value.field) == (error["reason"], error["field"])
    assert refused.value.remedy


@pytest.mark.parametrize("example", examples("noticed"), ids=str)
def test_a_noticed_example_is_accepted_and_its_sender_told(example: Example) -> None:
    """A document with a fault that must not stop it is accepted with exactly the stated notices."""
    draft = read_document(example.document, RULES, SALT)
    told = [{"reason": notice.reason, "field": notice.field} for notice in draft.notices]
    assert told == example.content["notices"]
    assert decode(encode(draft.record.name, draft.fields))[1] == draft.fields


@pytest.mark.parametrize("topic", list(contracts().topics))
def test_every_record_has_examples(topic: str) -> None:
    """Each record has a valid example, and each that people send one that shows a fault."""
    for name in contracts().topics[topic].records:
        folder = ROOT / topic / name
        assert list(folder.glob("valid-*.json")), f"{name} has no valid example"
        if name in document_types():
            faults = [*folder.glob("invalid-*.json"), *folder.glob("noticed-*.json")]
            assert faults, f"{name} has no example of a fault"


def test_every_file_is_an_example() -> None:
    """No file lies among the examples that no test reads."""
    read = {example.path for kind in ("valid", "invalid", "noticed") for example in examples(kind)}
    assert {path for path in ROOT.rglob("*") if path.is_file()} == read


def test_examples_show_fictional_people_only() -> None:
    """Numbers are of ranges reserved for fiction and addresses of reserved domains."""
    for path in ROOT.rglob("*.json"):
        text = path.read_text()
        assert "@" not in text.replace("@1", "").replace("@example.", "").replace(
            "@acme-solar.example", ""
        ), path
        document = json.loads(text)
        number = document.get("document", document).get("number", "+15555550100")
        assert "555" in number or "7700900" in number or len(number) < 9, path


def test_facts_of_examples_hold_no_evidence() -> None:
    """What history keeps of an example is its fields without number, salt and evidence."""
    for example in examples("valid"):
        if not example.record.event:
            continue
        kept = {field["name"] for field in fact_schema(example.record.name)["fields"]}
        assert kept == set(example.fields()) - {"number", "salt", "evidence"}
