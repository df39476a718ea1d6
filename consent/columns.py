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
from collections.abc import Sequence
from functools import cache
from typing import Any

import polars

from consent.contracts import RecordContract, Schema
from consent.errors import ConsentError

NONCE_BYTES = 16
_BOUNDARY = "__boundary"
_SYNC = b"consent-ledger.."
_ONE_BLOCK_BYTES_MAX = 1 << 30


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
    frame = _read(container, names)
    boundary = frame.get_column(_BOUNDARY)
    if frame.height != len(bodies) or not (boundary == polars.Series([nonce])).all():
        raise ColumnsUnreadable("rows and bodies do not correspond")
    _check_enums(record, frame)
    return frame.drop(_BOUNDARY)


def enum_symbols(schema: Any) -> tuple[str, ...]:
    """Symbols of an enum type, of an array of it, or of an optional one; empty for other types."""
    for branch in schema if isinstance(schema, list) else [schema]:
        if isinstance(branch, dict):
            if branch["type"] == "enum":
                return tuple(branch["symbols"])
            if branch["type"] == "array":
                return enum_symbols(branch["items"])
    return ()


@cache
def field_symbols(record: RecordContract) -> dict[str, tuple[str, ...]]:
    """Symbols of every top-level field of a record that is an enum or holds enums."""
    named = _named_types(record.schema)
    found = {
        field["name"]: enum_symbols(_resolve(field["type"], named))
        for field in record.schema["fields"]
    }
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


def _check_enums(record: RecordContract, frame: polars.DataFrame) -> None:
    for name, symbols in field_symbols(record).items():
        if name not in frame.columns:
            continue
        column = frame.get_column(name)
        if isinstance(column.dtype, polars.List):
            column = column.list.explode(keep_nulls=False, empty_as_null=False)
        low, high = column.min(), column.max()
        if low is not None and (int(low) < 0 or int(high) >= len(symbols)):  # type: ignore[arg-type]
            raise ColumnsUnreadable(f"{name} holds an index that no symbol has")


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
    named = _named_types(record.schema)
    fields = [
        {"name": field["name"], "type": _physical(field["type"], named)}
        for field in record.schema["fields"]
    ]
    boundary = {"type": "fixed", "name": "Boundary", "size": NONCE_BYTES}
    fields.append({"name": _BOUNDARY, "type": boundary})
    return json.dumps({"type": "record", "name": record.name, "fields": fields}).encode()


def _physical(schema: Any, named: dict[str, Schema]) -> Any:
    schema = _resolve(schema, named)
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


def _resolve(schema: Any, named: dict[str, Schema]) -> Any:
    return named[schema] if isinstance(schema, str) and schema in named else schema


def _named_types(schema: Any) -> dict[str, Schema]:
    found: dict[str, Schema] = {}

    def walk(node: Any) -> None:
        if isinstance(node, list):
            for branch in node:
                walk(branch)
        elif isinstance(node, dict):
            if node["type"] in ("record", "enum", "fixed"):
                found[node["name"]] = node
            for field in node.get("fields", ()):
                walk(field["type"])
            walk(node.get("items", "null"))
            if isinstance(node["type"], dict | list):
                walk(node["type"])

    walk(schema)
    return found


def _long(value: int) -> bytes:
    value <<= 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
