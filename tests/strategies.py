"""Events made from the Avro schemas: for Hypothesis, and seeded ones in bulk.

Whatever field a schema gains is covered without a change here. Events are in good form: a
canonical number as key, dated before the broker's time, and no digits in texts, so that no
identifier contains the number.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from consent.codec import encode
from consent.contracts import RecordContract, contracts

BROKER_TIME_US = 1_790_000_000_000_000
_LONG_MAX = 2**40
_LETTERS = "abcdefghijklmnopqrstuvwxyzäé -_/"

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Raw:
    """A fetched record as the readers see it; `timestamp_type` 1 is the broker's own clock."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_type: int = 1


def event_records() -> tuple[RecordContract, ...]:
    """Every record that a publisher may send."""
    return tuple(record for record in contracts().records if record.event)


def numbers() -> st.SearchStrategy[str]:
    """Fictional numbers in E.164."""
    return st.integers(100, 199).map(lambda line: f"+1415555{line:04d}")


def events(record: RecordContract) -> st.SearchStrategy[Fields]:
    """Fields of an event of one type, every field drawn from its schema."""
    return st.fixed_dictionaries(
        {
            field["name"]: _OVERRIDDEN.get(field["name"], _values(field["type"], _named(record)))
            for field in record.schema["fields"]
        }
    )


def any_events() -> st.SearchStrategy[tuple[RecordContract, Fields]]:
    """An event of any type."""
    return st.sampled_from(event_records()).flatmap(
        lambda record: st.tuples(st.just(record), events(record))
    )


def raw_of(record: RecordContract, fields: Fields, offset: int, at: int = BROKER_TIME_US) -> Raw:
    """The event as a fetched record, recorded at broker time `at` in µs."""
    key = fields["number"] if record.has_number else fields["seller_id"]
    return Raw(offset, at // 1000, key.encode(), encode(record.name, fields))


def random_event(record: RecordContract, seed: random.Random) -> Fields:
    """Fields of one event drawn with a seed; about 30 µs, for events in bulk."""
    fields = {
        field["name"]: random_value(field["type"], _named(record), seed)
        for field in record.schema["fields"]
    }
    fields |= {
        "event_id": str(uuid.UUID(int=seed.getrandbits(128), version=4)),
        "occurred_at": BROKER_TIME_US - seed.randrange(1, 10**12),
        "seller_id": f"seller-{'abcdefgh'[seed.randrange(8)]}",
        "salt": seed.randbytes(16),
    }
    if record.has_number:
        fields["number"] = f"+1{seed.randrange(201, 990)}555{seed.randrange(100, 200):04d}"
    return fields


def filled(
    record: RecordContract, text_of: Callable[[tuple[str, ...]], str], number: str
) -> Fields:
    """An event in which everything optional is present; texts come from their path's function."""
    fields: Fields = {}
    for field in record.schema["fields"]:
        fields[field["name"]] = _filled(field["type"], _named(record), (field["name"],), text_of)
    fields |= {
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_OID, record.name)),
        "occurred_at": BROKER_TIME_US - 1_000_000,
    }
    if record.has_number:
        fields["number"] = number
    return fields


def random_value(schema: Any, named: Mapping[str, Any], seed: random.Random) -> Any:
    """A value of any Avro type without logical types."""
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    if isinstance(schema, list):
        branch = schema[-1] if seed.random() < 0.4 else schema[0]
        return random_value(branch, named, seed)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        return {
            field["name"]: random_value(field["type"], named, seed) for field in schema["fields"]
        }
    if kind == "array":
        return [
            random_value(schema["items"], named, seed) for _ in range(seed.choice((0, 0, 1, 2)))
        ]
    if kind == "enum":
        return seed.choice(schema["symbols"])
    if kind == "fixed":
        return seed.randbytes(schema["size"])
    if kind == "string":
        return "".join(seed.choices(_LETTERS, k=seed.randrange(1, 12)))
    if kind == "bytes":
        return seed.randbytes(8)
    if kind == "boolean":
        return seed.random() < 0.5
    if kind == "int":
        return seed.randrange(20_000)
    return {"long": seed.randrange(10**12), "null": None}[kind]


def _filled(
    schema: Any,
    named: Mapping[str, Any],
    path: tuple[str, ...],
    text_of: Callable[[tuple[str, ...]], str],
) -> Any:
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    if isinstance(schema, list):
        return _filled(schema[-1], named, path, text_of)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        return {
            field["name"]: _filled(field["type"], named, (*path, field["name"]), text_of)
            for field in schema["fields"]
        }
    if kind == "array":
        return [_filled(schema["items"], named, path, text_of)]
    if kind == "enum":
        return schema["symbols"][1]
    if kind == "fixed":
        return bytes(schema["size"])
    if kind == "string":
        return text_of(path)
    if kind == "bytes":
        return text_of(path).encode()
    return {"boolean": True, "int": 3, "long": 5, "null": None}[kind]


def _values(schema: Any, named: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    if isinstance(schema, list):
        return st.one_of([_values(branch, named) for branch in schema])
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        return st.fixed_dictionaries(
            {field["name"]: _values(field["type"], named) for field in schema["fields"]}
        )
    if kind == "array":
        return st.lists(_values(schema["items"], named), max_size=3)
    if kind == "enum":
        return st.sampled_from(schema["symbols"])
    if kind == "fixed":
        return st.binary(min_size=schema["size"], max_size=schema["size"])
    return {
        "null": st.none(),
        "boolean": st.booleans(),
        "int": st.integers(-(2**31), 2**31 - 1),
        "long": st.integers(-_LONG_MAX, _LONG_MAX),
        "string": st.text(_LETTERS, max_size=12),
        "bytes": st.binary(max_size=8),
    }[kind]


_OVERRIDDEN: dict[str, st.SearchStrategy[Any]] = {
    "event_id": st.uuids(version=4).map(str),
    "occurred_at": st.integers(BROKER_TIME_US - 10**14, BROKER_TIME_US),
    "seller_id": st.sampled_from(["acme", "globex", "initech"]),
    "number": numbers(),
}


def _named(record: RecordContract) -> dict[str, Any]:
    found = _NAMED.get(record.subject)
    if found is None:
        found = _NAMED[record.subject] = {}
        _collect(record.schema, found)
    return found


_NAMED: dict[str, dict[str, Any]] = {}


def _collect(node: Any, found: dict[str, Any]) -> None:
    if isinstance(node, list):
        for branch in node:
            _collect(branch, found)
    elif isinstance(node, dict):
        if node["type"] in ("record", "enum", "fixed"):
            found[node["name"]] = node
        for field in node.get("fields", ()):
            _collect(field["type"], found)
        _collect(node.get("items", ()), found)
        if isinstance(node["type"], dict | list):
            _collect(node["type"], found)
