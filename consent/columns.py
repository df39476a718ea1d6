"""Decode many Avro bodies of one schema at once, as columns.

A batch of bodies is wrapped as one Avro object container and read by Polars, about ten times as
fast as one by one. Binary Avro has no record boundaries, so a body that is too short could borrow
bytes from the next one; therefore a nonce that no publisher can know is put after every body and
declared as the last field. There are as many nonces in the data as rows, every row must end in
one, so every row is exactly one body: none was shortened, lengthened or merged.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import polars

from consent.contracts import RecordContract, Schema, named_types, resolved
from consent.errors import ConsentError

NONCE_BYTES = 16
_BOUNDARY = "__boundary"
_SYNC = b"consent-ledger.."
_ONE_BLOCK_BYTES_MAX = 1 << 30
_ROWS_FOR_THREADS = 1_000


class ColumnsUnreadable(ConsentError):
    """At least one body does not fit the schema: read them one by one to learn which."""


def decode_columns(
    record: RecordContract, bodies: Sequence[bytes], nonce: bytes, names: Sequence[str] = ()
) -> polars.DataFrame:
    """One row per body, in order; ColumnsUnreadable if any body is not exactly one record.

    Types are physical: an enum is the index of its symbol (checked to be one), a uuid a string,
    a timestamp int microseconds, a date int days. `names` limits the columns that are returned.
    `nonce` is 16 random bytes of the caller's process, never shown to a publisher.
    """
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"nonce must be {NONCE_BYTES} bytes, not {len(nonce)}")
    data = nonce.join(bodies) + nonce
    if len(data) > _ONE_BLOCK_BYTES_MAX:
        raise ValueError(f"{len(data)} bytes are too many for one batch; cap batches in bytes")
    container = b"".join(
        (
            _container_header(record.subject, record.version, _physical_json(record)),
            _long(len(bodies)),
            _long(len(data)),
            data,
            _SYNC,
        )
    )
    checked = (place.column for place in _enum_places(record))
    frame = _read(container, list(dict.fromkeys([*names, *checked])) if names else names)
    ends = frame.get_column(_BOUNDARY).to_list()
    if len(ends) != len(bodies) or ends.count(nonce) != len(ends):
        raise ColumnsUnreadable("rows and bodies do not correspond")
    _check_enums(record, frame)
    return frame[list(names or (name for name in frame.columns if name != _BOUNDARY))]


@cache
def field_symbols(record: RecordContract) -> dict[str, tuple[str, ...]]:
    """Symbols of every top-level field of a record that is an enum, optional or not, or a list."""
    named = named_types(record.schema)

    def symbols_of(schema: Any) -> tuple[str, ...]:
        schema = resolved(schema, named)
        if isinstance(schema, list):
            return next((found for branch in schema if (found := symbols_of(branch))), ())
        if isinstance(schema, dict) and schema["type"] == "array":
            return symbols_of(schema["items"])
        return tuple(schema["symbols"]) if isinstance(schema, dict) and "symbols" in schema else ()

    found = {field["name"]: symbols_of(field["type"]) for field in record.schema["fields"]}
    return {name: symbols for name, symbols in found.items() if symbols}


def _read(container: bytes, names: Sequence[str]) -> polars.DataFrame:
    columns = [*names, _BOUNDARY] if names else None
    try:
        return polars.read_avro(io.BytesIO(container), columns=columns)
    except (polars.exceptions.PolarsError, OSError, ValueError, OverflowError) as problem:
        raise ColumnsUnreadable(str(problem)) from None
    except BaseException as problem:
        # The reader panics on some malformed input, which surfaces outside Exception.
        if type(problem).__name__ != "PanicException":
            raise
        raise ColumnsUnreadable("the Avro reader gave up") from None


@dataclass(frozen=True, slots=True)
class _EnumPlace:
    """An enum somewhere in a record: its top-level column, where it is, and its symbols' count."""

    column: str
    index: polars.Expr
    symbols: int

    def bounds(self, number: int) -> tuple[polars.Expr, polars.Expr]:
        """The least and the greatest index, as two columns of names that `number` makes unique."""
        return self.index.min().alias(f"{number}<"), self.index.max().alias(f"{number}>")


@cache
def _enum_places(record: RecordContract) -> tuple[_EnumPlace, ...]:
    named = named_types(record.schema)

    def places(column: str, schema: Any, value: polars.Expr) -> Iterator[_EnumPlace]:
        schema = resolved(schema, named)
        if isinstance(schema, list):
            for branch in schema:
                yield from places(column, branch, value)
        elif isinstance(schema, dict) and schema["type"] == "enum":
            yield _EnumPlace(column, value, len(schema["symbols"]))
        elif isinstance(schema, dict) and schema["type"] == "array":
            yield from places(column, schema["items"], value.explode())
        elif isinstance(schema, dict) and schema["type"] == "record":
            for field in schema["fields"]:
                yield from places(column, field["type"], value.struct.field(field["name"]))

    return tuple(
        place
        for field in record.schema["fields"]
        for place in places(field["name"], field["type"], polars.col(field["name"]))
    )


@cache
def _enum_bounds(record: RecordContract) -> list[polars.Expr]:
    places = enumerate(_enum_places(record))
    return [bound for number, place in places for bound in place.bounds(number)]


def _check_enums(record: RecordContract, frame: polars.DataFrame) -> None:
    """Every index has a symbol, also in columns that nobody asked for: all readers must agree."""
    bounds = _enum_bounds(record)
    if not bounds or not frame.height:
        return
    # Handing a few rows to several threads takes longer than they do.
    select = frame.select if frame.height > _ROWS_FOR_THREADS else frame.select_seq
    found = select(bounds).row(0)
    for place, low, high in zip(_enum_places(record), found[::2], found[1::2], strict=True):
        if low is not None and (low < 0 or high >= place.symbols):
            raise ColumnsUnreadable(f"{place.column} holds an index that no symbol has")


@cache
def _container_header(_subject: str, _version: int, schema_json: bytes) -> bytes:
    name = b"avro.schema"
    return b"".join(
        (
            b"Obj\x01",
            _long(1),
            _long(len(name)),
            name,
            _long(len(schema_json)),
            schema_json,
            b"\x00",
            _SYNC,
        )
    )


@cache
def _physical_json(record: RecordContract) -> bytes:
    """The schema with enums as ints, and the boundary as last field.

    Both are binary identical to what publishers write; the reader knows no arrays of enums.
    """
    named = named_types(record.schema)
    fields = [
        {"name": field["name"], "type": _physical(field["type"], named)}
        for field in record.schema["fields"]
    ]
    boundary = {"type": "fixed", "name": "Boundary", "size": NONCE_BYTES}
    fields.append({"name": _BOUNDARY, "type": boundary})
    return json.dumps({"type": "record", "name": record.name, "fields": fields}).encode()


def _physical(schema: Any, named: dict[str, Schema]) -> Any:
    schema = resolved(schema, named)
    if isinstance(schema, list):
        return [_physical(branch, named) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    kind = schema["type"]
    if kind == "enum":
        return "int"
    if kind == "record":
        fields = [
            {"name": field["name"], "type": _physical(field["type"], named)}
            for field in schema["fields"]
        ]
        return {"type": "record", "name": schema["name"], "fields": fields}
    if kind == "array":
        return {"type": "array", "items": _physical(schema["items"], named)}
    if kind == "fixed":
        return {"type": "fixed", "name": schema["name"], "size": schema["size"]}
    return kind


def _long(value: int) -> bytes:
    value <<= 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
