"""What may and may not change between versions of a record."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from consent_ledger.schema_evolution import VersionedSchema, evolution_problems

Schema = dict[str, Any]

FIRST: Schema = {
    "type": "record",
    "name": "Visit",
    "namespace": "ledger.test",
    "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {
            "name": "kind",
            "type": {
                "type": "enum",
                "name": "Kind",
                "symbols": ["UNKNOWN", "A", "B"],
                "default": "UNKNOWN",
            },
            "default": "UNKNOWN",
        },
        {"name": "label", "type": ["null", "string"], "default": None},
        {"name": "digest", "type": {"type": "fixed", "name": "Digest", "size": 16}},
        {
            "name": "parts",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Part",
                    "fields": [{"name": "name", "type": "string"}],
                },
            },
            "default": [],
        },
    ],
}


def problems(*schemas: Schema) -> list[str]:
    versions = [VersionedSchema("Visit", index + 1, one) for index, one in enumerate(schemas)]
    return list(evolution_problems(versions))


def changed(change: Callable[[list[Schema]], object]) -> Schema:
    second = copy.deepcopy(FIRST)
    change(second["fields"])
    return second


def part_fields(fields: list[Schema]) -> list[Schema]:
    return fields[4]["type"]["items"]["fields"]


OPTIONAL = {"name": "room", "type": ["null", "string"], "default": None}

ALLOWED = {
    "nothing": lambda fields: None,
    "a doc": lambda fields: fields[0].update(doc="When."),
    "an optional field at the end": lambda fields: fields.append(OPTIONAL),
    "an optional field in between": lambda fields: fields.insert(2, OPTIONAL),
    "a symbol": lambda fields: fields[1]["type"]["symbols"].append("C"),
    "an optional field of a part": lambda fields: part_fields(fields).append(OPTIONAL),
    "an earlier use of a named type": lambda fields: (
        fields.insert(0, {"name": "other", "type": ["null", fields[3]["type"]], "default": None}),
        fields[4].update(type="Digest"),
    ),
}

REFUSED = {
    "a required field": lambda fields: fields.append({"name": "room", "type": "string"}),
    "a required field of a part": lambda fields: part_fields(fields).append(
        {"name": "room", "type": "string"}
    ),
    "a field is gone": lambda fields: fields.pop(2),
    "a required field is gone": lambda fields: fields.pop(0),
    "another type": lambda fields: fields[2].update(type=["null", "long"]),
    "a wider type": lambda fields: fields[0].update(type="double"),
    "milliseconds for microseconds": lambda fields: fields[0].update(
        type={"type": "long", "logicalType": "timestamp-millis"}
    ),
    "no unit any more": lambda fields: fields[0].update(type="long"),
    "bytes for text": lambda fields: fields[2].update(type=["null", "bytes"]),
    "no longer optional": lambda fields: fields[2].update(type="string", default=""),
    "another size": lambda fields: fields[3]["type"].update(size=32),
    "a symbol is gone": lambda fields: fields[1]["type"]["symbols"].remove("B"),
    "a symbol is put in between": lambda fields: fields[1]["type"]["symbols"].insert(1, "C"),
    "symbols change places": lambda fields: fields[1]["type"]["symbols"].reverse(),
    "another default symbol": lambda fields: fields[1]["type"].update(default="A"),
    "another default": lambda fields: fields[1].update(default="A"),
    "a field changes its name": lambda fields: fields[2].update(name="title"),
    "fields change places": lambda fields: fields.insert(0, fields.pop(2)),
}


@pytest.mark.parametrize("change", ALLOWED.values(), ids=ALLOWED)
def test_an_addition_is_allowed(change: Callable[[list[Schema]], object]) -> None:
    """A version that only adds, with defaults, may follow."""
    assert problems(FIRST, changed(change)) == []


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_anything_else_is_refused(change: Callable[[list[Schema]], object]) -> None:
    """A version that changes or takes away may not follow, and it is said what it alters."""
    assert problems(FIRST, changed(change))


def test_every_pair_of_versions_is_compared() -> None:
    """A third version must also fit the first, not only the second."""
    second = changed(lambda fields: fields.append(OPTIONAL))
    third = changed(lambda fields: fields.append({**OPTIONAL, "type": ["null", "long"]}))
    found = problems(FIRST, second, third)
    assert found
    assert all("Visit.v3" in problem and "Visit.v2" in problem for problem in found)
    fourth = changed(lambda fields: fields.append({"name": "x", "type": "string"}))
    assert any(
        "Visit.v4" in problem and "Visit.v1" in problem
        for problem in problems(FIRST, second, second, fourth)
    )
