"""The official `avro` package reads what we write, and writes what we read, byte for byte."""

from __future__ import annotations

import io
import json
from typing import Any

import avro.io
import avro.schema
import pytest

from consent.codec import decode_body, encode_body
from consent.contracts import fact_schema, without_logical_types
from consent_ledger.contract_checks import fact_fields
from tests.contract.examples import Example, examples


def _second_opinion(schema: dict[str, Any]) -> avro.schema.Schema:
    return avro.schema.parse(json.dumps(without_logical_types(schema)))


def _written(schema: avro.schema.Schema, fields: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    avro.io.DatumWriter(schema).write(fields, avro.io.BinaryEncoder(out))
    return out.getvalue()


@pytest.mark.parametrize("example", examples("valid"), ids=str)
def test_both_libraries_write_the_same_bytes(example: Example) -> None:
    """An example has one encoding, whichever library writes it."""
    fields = example.fields()
    ours = encode_body(example.record.parsed, fields)
    assert _written(_second_opinion(example.record.schema), fields) == ours


@pytest.mark.parametrize("example", examples("valid"), ids=str)
def test_each_library_reads_what_the_other_wrote(example: Example) -> None:
    """Fields written by one library come back equal from the other."""
    fields = example.fields()
    schema = _second_opinion(example.record.schema)
    assert decode_body(example.record.parsed, _written(schema, fields)) == fields
    ours = avro.io.BinaryDecoder(io.BytesIO(encode_body(example.record.parsed, fields)))
    assert avro.io.DatumReader(schema).read(ours) == fields


@pytest.mark.parametrize(
    "example", [example for example in examples("valid") if example.record.event], ids=str
)
def test_a_fact_is_the_beginning_of_its_event(example: Example) -> None:
    """What history keeps of an event is a byte prefix of it, readable by the fact's schema."""
    fields = example.fields()
    kept = {field["name"] for field in fact_fields(example.record.schema)}
    fact = {name: value for name, value in fields.items() if name in kept}
    payload = encode_body(fact_schema(example.record.name, example.record.version), fact)
    assert encode_body(example.record.parsed, fields).startswith(payload)
