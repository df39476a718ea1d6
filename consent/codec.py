"""The wire form of one record: Confluent framing around an Avro body, and CloudEvents headers.

Timestamps are int microseconds UTC, dates int days since 1970-01-01, enums and uuids strings.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import fastavro

from consent.contracts import NAMESPACE, RecordContract, Schema, contracts
from consent.errors import Unreadable

MAGIC = b"\x00"
FRAME_BYTES = 5

Fields = dict[str, Any]
Headers = list[tuple[str, bytes]]


def frame(schema_id: int, body: bytes) -> bytes:
    """Put the magic byte and the schema id before an Avro body."""
    return MAGIC + schema_id.to_bytes(4, "big") + body


def unframe(value: bytes | None) -> tuple[int, bytes]:
    """Schema id and Avro body of a value; Unreadable if there is no frame."""
    if value is None:
        raise Unreadable("NULL_VALUE", "the record has no value; events are never deleted by key")
    if len(value) <= FRAME_BYTES or value[:1] != MAGIC:
        raise Unreadable("NOT_FRAMED", "the value does not begin with 0 and a 4-byte schema id")
    return int.from_bytes(value[1:FRAME_BYTES], "big"), value[FRAME_BYTES:]


def encode(name: str, fields: Mapping[str, Any]) -> bytes:
    """Frame and encode the newest version of a record; ValueError or TypeError if it does not fit.

    Deterministic: equal fields give equal bytes.
    """
    record = contracts().record(name)
    return frame(record.schema_id, encode_body(record.parsed, fields))


def encode_body(parsed: Schema, fields: Mapping[str, Any]) -> bytes:
    """Avro body without a frame."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed, fields, strict=True)
    return out.getvalue()


def decode(value: bytes | None) -> tuple[RecordContract, Fields]:
    """The record type and the fields of a value; Unreadable with a reason code otherwise."""
    schema_id, body = unframe(value)
    record = record_of(schema_id)
    return record, decode_body(record.parsed, body)


def record_of(schema_id: int) -> RecordContract:
    """The record that a schema id names; Unreadable if this release does not know it."""
    record = contracts().by_id(schema_id)
    if record is None:
        raise Unreadable("UNKNOWN_SCHEMA_ID", f"schema id {schema_id} is not one of this ledger's")
    return record


def decode_body(parsed: Schema, body: bytes) -> Fields:
    """Fields of an Avro body that must be used up to its last byte."""
    source = io.BytesIO(body)
    try:
        fields = cast(Fields, fastavro.schemaless_reader(source, parsed, None))
    except (EOFError, ValueError, IndexError, KeyError, TypeError, OverflowError) as problem:
        detail = f"the Avro body does not fit its schema ({type(problem).__name__})"
        raise Unreadable("UNDECODABLE", detail) from None
    left = len(body) - source.tell()
    if left:
        raise Unreadable("UNDECODABLE", f"{left} bytes are left after the Avro body")
    return fields


def cloudevents_headers(record: RecordContract, fields: Mapping[str, Any]) -> Headers:
    """CloudEvents 1.0 binary-mode headers (Kafka binding) of an event.

    No header names the number: `partitionkey` and `subject` are left out on purpose.
    """
    at = datetime.fromtimestamp(fields["occurred_at"] / 1e6, UTC)
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", fields["event_id"].encode()),
        ("ce_source", ("/" + fields["source"]["system"]).encode()),
        ("ce_type", f"{NAMESPACE}.{record.name}.v{record.version}".encode()),
        ("ce_time", at.isoformat().replace("+00:00", "Z").encode()),
        ("content-type", b"application/vnd.confluent.avro"),
    ]
