"""Fields of an event as a document would give them: the other direction of `consent.documents`.

For showing what is stored; nothing is left out or added. Never fails on what Avro could hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consent.contracts import named_types
from consent.instants import date_text, instant_text

Schema = Any
Named = dict[str, Schema]


def document_fields(schema: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The given fields of a record: times and dates as text, bytes in hexadecimal."""
    return _record_form(schema, fields, named_types(schema))


def _record_form(schema: Schema, fields: Mapping[str, Any], named: Named) -> dict[str, Any]:
    types = {entry["name"]: entry["type"] for entry in schema["fields"]}
    return {name: _form(types[name], value, named) for name, value in fields.items()}


def _form(kind: Schema, value: Any, named: Named) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(kind, list):
        kind = next(branch for branch in kind if branch != "null")
    if isinstance(kind, str):
        kind = named.get(kind)
    if value is None or kind is None:
        return value
    logical = kind.get("logicalType")
    if logical == "timestamp-micros":
        return instant_text(value)
    if logical == "date":
        return date_text(value)
    if kind["type"] == "array":
        return [_form(kind["items"], part, named) for part in value]
    if kind["type"] == "record":
        return _record_form(kind, value, named)
    return value
