"""What an entry of the proof log is: the bytes of a record of `ledger-blocks`, with its type.

An entry is the line `Name.vN`, and behind its newline the Avro body of the record, without the
frame, since schema ids may differ between deployments. The SHA-256 of a block's entry is what the
next header of its partition names as the previous one.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from consent.codec import Fields, decode_body, encode_body, record_of, unframe
from consent.contracts import contracts
from consent.errors import Unreadable
from consent.tiles import ENTRY_BYTES_MAX

BLOCK: Final = "BlockSealed"
OTHER: Final = "LogEntry"
_TYPE_BYTES_MAX: Final = 64


def encode_entry(name: str, fields: Mapping[str, Any]) -> bytes:
    """The entry of a record in its newest version; equal fields give equal bytes."""
    record = contracts().record(name)
    return f"{record.name}.v{record.version}\n".encode() + encode_body(record.parsed, fields)


def entry_of_value(value: bytes | None) -> tuple[bytes, str, Fields]:
    """The entry that a value of `ledger-blocks` is, its record's name, and its fields.

    Unreadable if it is none of the log's records, in another spelling than ours, or too long.
    """
    schema_id, body = unframe(value)
    record = record_of(schema_id)
    if record.name not in (BLOCK, OTHER):
        raise Unreadable("NOT_AN_ENTRY", f"{record.name} is no record of the log")
    fields = decode_body(record.parsed, body)
    entry = f"{record.name}.v{record.version}\n".encode() + body
    if encode_body(record.parsed, fields) != body:
        raise Unreadable("NOT_CANONICAL", "the record is spelled in another way than this ledger's")
    if len(entry) > ENTRY_BYTES_MAX:
        raise Unreadable("TOO_LONG", f"an entry has at most {ENTRY_BYTES_MAX} bytes")
    return entry, record.name, fields


def decode_entry(entry: bytes) -> tuple[str, Fields]:
    """Name and fields of an entry; Unreadable if it is none of this release."""
    line, newline, body = entry.partition(b"\n")
    try:
        kind = line.decode("ascii")
    except UnicodeDecodeError:
        kind = ""
    if not newline or not kind or len(line) > _TYPE_BYTES_MAX:
        raise Unreadable("NOT_AN_ENTRY", "an entry begins with the line of its type")
    for name in (BLOCK, OTHER):
        record = contracts().record(name)
        if kind == f"{record.name}.v{record.version}":
            return name, decode_body(record.parsed, body)
    raise Unreadable("UNKNOWN_ENTRY", "the entry is of a type that this release does not know")


def entry_sha256(entry: bytes) -> bytes:
    """What names an entry in the header that follows it."""
    return sha256(entry).digest()


def header_sha256(header: Mapping[str, Any]) -> bytes:
    """What names a block's header, given its fields, in the header that follows it."""
    return entry_sha256(encode_entry(BLOCK, header))
