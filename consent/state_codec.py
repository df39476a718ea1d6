"""A number's state, and the watermark of a partition, as bytes; deterministic.

Plain Avro by `schemas/suppression`. Every entry is an array block of its own that carries its size,
and entries stand in the order of their keys' bytes. So equal states have equal bytes, and two
encoded states can be merged by moving entries, without decoding what does not meet
(`consent.state_bytes`). Readers accept any block layout that Avro allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from operator import call, itemgetter
from typing import Any, Final, NamedTuple

from consent.avro_values import (
    Reader,
    Writer,
    long_bytes,
    read_long,
    reader,
    record_reader,
    writer,
)
from consent.codec import frame, unframe
from consent.contracts import contracts, named_types
from consent.errors import Unreadable
from consent.state import (
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
    newest_attempts,
)

STATE: Final = "SubjectState"
WATERMARK: Final = "Watermark"
ONE_ENTRY: Final = b"\x01"
"""A block count of -1: one entry, whose size follows."""
NO_ENTRY: Final = b"\x00"

SECTIONS: Final = (
    "grants",
    "withdrawals",
    "dnc",
    "refusals",
    "relationships",
    "attempts",
    "outcomes",
    "attributes",
    "reassignments",
    "legal_holds",
    "erased",
    "applied",
)
"""In the order of the schema's fields."""

ERASED: Final = SECTIONS.index("erased")


class _Shape(NamedTuple):
    value: Any
    key_fields: tuple[str, ...]


_SHAPES: Final = {
    "grants": _Shape(Grant, ("seller_id", "purpose", "mode", "consent_kind")),
    "withdrawals": _Shape(Withdrawal, ("seller_id", "purpose", "mode", "subject_matter")),
    "dnc": _Shape(DncEntry, ("seller_id", "list_kind", "list_id")),
    "refusals": _Shape(Refusal, ("seller_id", "subject_matter")),
    "relationships": _Shape(Relationship, ("seller_id", "relationship_kind", "relationship_id")),
    "attempts": _Shape(Attempt, ("seller_id", "subject_matter")),
    "outcomes": _Shape(LastOutcome, ("seller_id", "outcome")),
    "attributes": _Shape(Attribute, ("name",)),
    "reassignments": _Shape(Reassignment, ("seller_id",)),
    "legal_holds": _Shape(LegalHold, ("hold_id",)),
    "applied": _Shape(AppliedOffset, ("topic", "log_id")),
}


class Watermark(NamedTuple):
    """How far a partition of the projection is; `true_at` and `written_at` in µs.

    All records that the broker held at `true_at` are folded. `applied` holds, per source topic and
    log id, the last offset that is.
    """

    partition: int
    true_at: int
    written_at: int
    applied: dict[tuple[str, bytes], AppliedOffset]
    owner: str


@dataclass(frozen=True, slots=True)
class SectionCodec:
    """One section's entries: `write_key` and `write_value` in this order make an entry."""

    name: str
    write_key: Callable[[Any], bytes]
    write_value: Writer
    read: Callable[[bytes, int], tuple[Any, Any, int]]
    read_key: Reader


def encode_state(state: SubjectState) -> bytes:
    """A framed value for the suppression topic; equal states give equal bytes."""
    return frame(_state_id(), encode_state_body(state))


def decode_state(value: bytes | None) -> SubjectState:
    """The state of a framed value; Unreadable if it is none."""
    schema_id, body = unframe(value)
    if schema_id != _state_id():
        raise Unreadable("WRONG_SCHEMA_ID", f"schema id {schema_id} is not that of a state")
    return decode_state_body(body)


def encode_state_body(state: SubjectState) -> bytes:
    """Without the frame."""
    return b"".join(_section_bytes(state, section) for section in SECTIONS)


def decode_state_body(body: bytes) -> SubjectState:
    """Without the frame; any layout of blocks is read."""
    at = 0
    sections: dict[str, Any] = {}
    try:
        for name in SECTIONS:
            if body[at] == 0:
                at += 1
            elif name == "erased":
                sections[name], at = _erasure_codec()[1](body, at)
            else:
                sections[name], at = _read_section(section_codec(name), body, at)
    except (IndexError, ValueError) as problem:
        detail = f"the state does not fit its schema ({type(problem).__name__})"
        raise Unreadable("UNDECODABLE", detail) from None
    if at != len(body):
        raise Unreadable("UNDECODABLE", f"{len(body) - at} bytes are left after the state")
    return SubjectState(**sections)


def entry_bytes(section: str, key: Any, value: Any) -> bytes:
    """One entry, without its block."""
    codec = section_codec(section)
    return codec.write_key(key) + codec.write_value(value)


def erased_bytes(erased: Erasure | None) -> bytes:
    """The section `erased`."""
    return _erasure_codec()[0](erased)


def section_of(entries: Iterable[bytes]) -> bytes:
    """A section of entries that are in order."""
    blocks = [ONE_ENTRY + long_bytes(len(entry)) + entry for entry in entries]
    return b"".join(blocks) + NO_ENTRY if blocks else NO_ENTRY


def encode_watermark(watermark: Watermark) -> bytes:
    """A framed value for the key of a partition's watermark."""
    write = _watermark_codec()[0]
    offsets = [(*key, *offset) for key, offset in sorted(watermark.applied.items())]
    *stamps, _applied, owner = watermark
    return frame(contracts().record(WATERMARK).schema_id, write((*stamps, offsets, owner)))


def decode_watermark(value: bytes | None) -> Watermark:
    """The watermark of a framed value; Unreadable if it is none."""
    schema_id, body = unframe(value)
    if schema_id != contracts().record(WATERMARK).schema_id:
        raise Unreadable("WRONG_SCHEMA_ID", f"schema id {schema_id} is not that of a watermark")
    try:
        (partition, true_at, written_at, offsets, owner), at = _watermark_codec()[1](body, 0)
    except (IndexError, ValueError) as problem:
        detail = f"the watermark does not fit its schema ({type(problem).__name__})"
        raise Unreadable("UNDECODABLE", detail) from None
    if at != len(body):
        raise Unreadable("UNDECODABLE", f"{len(body) - at} bytes are left after the watermark")
    applied = {
        (topic, log_id): AppliedOffset(offset_last, recorded_at)
        for topic, log_id, offset_last, recorded_at in offsets
    }
    return Watermark(partition, true_at, written_at, applied, owner)


def _state_id() -> int:
    return contracts().record(STATE).schema_id


def _section_bytes(state: SubjectState, section: str) -> bytes:
    content = getattr(state, section)
    if section == "erased":
        return erased_bytes(content)
    if not content:
        return NO_ENTRY
    if section == "attempts":
        return section_of(
            sorted(
                entry_bytes(section, key, attempt)
                for key, attempts in content.items()
                for attempt in attempts
            )
        )
    return section_of(sorted(entry_bytes(section, key, value) for key, value in content.items()))


def _read_section(codec: SectionCodec, body: bytes, at: int) -> tuple[dict[Any, Any], int]:
    found: dict[Any, Any] = {}
    attempts = codec.name == "attempts"
    while True:
        count, at = read_long(body, at)
        if count == 0:
            break
        if count < 0:
            _size, at = read_long(body, at)
        for _ in range(abs(count)):
            key, value, at = codec.read(body, at)
            if attempts:
                found.setdefault(key, []).append(value)
            else:
                found[key] = value
    if attempts:
        return {key: newest_attempts(values) for key, values in found.items()}, at
    return found, at


@cache
def section_codec(name: str) -> SectionCodec:
    """How the entries of a section are written and read."""
    named, fields = _schema_of_section(name)
    shape = _SHAPES[name]
    plain = len(shape.key_fields) == 1
    key_writers = [writer(fields[field], named) for field in shape.key_fields]
    on_wire = [field for field in fields if field not in shape.key_fields]
    value_writers = [writer(fields[field], named) for field in on_wire]
    pick = _picker(shape.value._fields, on_wire)
    read_key = record_reader([reader(fields[field], named) for field in shape.key_fields])
    read_value = record_reader([reader(fields[field], named) for field in on_wire])
    unpick = _picker(on_wire, shape.value._fields)
    make = shape.value._make

    @lru_cache(maxsize=1 << 16)
    def write_key(key: Any) -> bytes:
        return b"".join(map(call, key_writers, (key,) if plain else key))

    def write_value(value: Any) -> bytes:
        return b"".join(map(call, value_writers, pick(value)))

    def read(body: bytes, at: int) -> tuple[Any, Any, int]:
        key, at = read_key(body, at)
        value, at = read_value(body, at)
        return key[0] if plain else key, make(unpick(value)), at

    return SectionCodec(name, write_key, write_value, read, read_key)


def _picker(have: Sequence[str], want: Sequence[str]) -> Callable[[Any], Any]:
    if list(have) == list(want):
        return lambda values: values
    return itemgetter(*(list(have).index(field) for field in want))


def _schema_of_section(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Named types of the state, and the fields of a section's entries in wire order."""
    schema = contracts().record(STATE).schema
    named = named_types(schema)
    section = next(field["type"] for field in schema["fields"] if field["name"] == name)
    return named, {field["name"]: field["type"] for field in section["items"]["fields"]}


@cache
def _erasure_codec() -> tuple[Writer, Callable[[bytes, int], tuple[Erasure | None, int]]]:
    schema = contracts().record(STATE).schema
    union = next(field["type"] for field in schema["fields"] if field["name"] == "erased")
    named = named_types(schema)
    read_union = reader(union, named)

    def read(body: bytes, at: int) -> tuple[Erasure | None, int]:
        found, at = read_union(body, at)
        if found is None:
            return None, at
        cutoff_at, event_id, cutoffs = found
        return Erasure(cutoff_at, event_id, tuple(CutOff._make(cutoff) for cutoff in cutoffs)), at

    return writer(union, named), read


@cache
def _watermark_codec() -> tuple[Writer, Reader]:
    schema = contracts().record(WATERMARK).schema
    named = named_types(schema)
    return writer(schema, named), reader(schema, named)
