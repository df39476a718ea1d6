"""Minimal valid events for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from consent import codec
from consent.contracts import contracts

NOW_US = 1_795_000_000_000_000
"""A fixed instant in November 2026; tests that need a broker use its own clock."""

_SOURCE = {"system": "crm", "channel": "WEB", "actor": "CONSUMER"}
_BY_TYPE: dict[str, Any] = {"string": "x", "bytes": b"x", "int": 1, "long": 1, "boolean": False}


@dataclass(frozen=True, slots=True)
class RawEvent:
    """A record as it was fetched."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def event(name: str, /, **given: Any) -> dict[str, Any]:
    """A valid event of a type: given fields, else defaults, else plain values."""
    base: dict[str, Any] = {
        "event_id": str(uuid4()),
        "occurred_at": NOW_US,
        "seller_id": "acme",
        "source": dict(_SOURCE),
        "number": "+14155550123",
        "salt": uuid4().bytes,
    }
    fields: dict[str, Any] = {}
    for field in contracts().record(name).parsed["fields"]:
        if field["name"] in given:
            fields[field["name"]] = given.pop(field["name"])
        elif field["name"] in base:
            fields[field["name"]] = base[field["name"]]
        elif "default" in field:
            fields[field["name"]] = field["default"]
        else:
            fields[field["name"]] = _plain(field["type"])
    if given:
        raise KeyError(f"{name} has no field {sorted(given)}")
    return fields


def raw(name: str, offset: int = 0, timestamp_ms: int = NOW_US // 1000, **given: Any) -> RawEvent:
    """A record that holds an event, keyed as it should be."""
    fields = event(name, **given)
    key = fields.get("number", fields["seller_id"])
    return RawEvent(offset, timestamp_ms, key.encode(), codec.encode(name, fields))


def _plain(schema: Any) -> Any:
    if isinstance(schema, str):
        return _BY_TYPE[schema]
    if schema["type"] == "enum":
        return schema["symbols"][0]
    if schema["type"] == "fixed":
        return bytes(schema["size"])
    if schema["type"] == "array":
        return []
    return _BY_TYPE[schema["type"]]
