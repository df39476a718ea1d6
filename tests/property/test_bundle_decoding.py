"""The auditor's decoder reads every event and its evidence as the ledger's own codec does."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consent.codec import encode_body
from consent.contracts import RecordContract, fact_schema, named_types, parse_schema
from consent.document_form import document_fields
from consent.merkle import inclusion_proof, leaf_hash, root_of
from consent_ledger.evidence_story import event_schemas
from consent_ledger.verify_bundle import climbed, decoded
from tests.strategies import any_events


@given(any_events())
@settings(max_examples=200)
def test_every_event_is_read_alike(one: tuple[RecordContract, dict[str, Any]]) -> None:
    """Payload and evidence, of any type of event, in the form of documents."""
    record, fields = one
    schemas = event_schemas(record.name, record.version)
    parsed = fact_schema(record.name, record.version)
    payload = {field["name"]: fields[field["name"]] for field in parsed["fields"]}
    expected = document_fields(record.schema, payload)
    assert decoded(schemas["payload"], encode_body(parsed, payload)) == expected
    if fields["evidence"] is not None:
        branches = next(f["type"] for f in record.schema["fields"] if f["name"] == "evidence")
        body = encode_body(parse_schema(branches[1]), fields["evidence"])
        shown = document_fields(record.schema, {"evidence": fields["evidence"]})["evidence"]
        assert decoded(schemas["evidence"], body) == shown


def test_no_schema_of_a_bundle_refers_to_another_type() -> None:
    """The auditor's program knows no names."""
    schema = event_schemas("DialDecision", 1)["payload"]
    assert "Applied" in named_types(schema)
    assert '"items": "Applied"' not in str(schema)


@given(st.integers(1, 70), st.data())
@settings(max_examples=100)
def test_paths_lead_to_the_root(size: int, data: st.DataObject) -> None:
    """Proofs that the ledger makes are those that the auditor's program follows."""
    leaves = [bytes([number]) for number in range(size)]
    hashes = [leaf_hash(leaf) for leaf in leaves]
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_proof(index, size, lambda start, end: root_of(hashes[start:end]))
    texts = [base64.b64encode(one).decode() for one in path]
    assert climbed(leaves[index], index, size, texts) == root_of(hashes)
