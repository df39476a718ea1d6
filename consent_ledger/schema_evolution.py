"""Whether versions of one record may follow each other: FULL_TRANSITIVE, and what we promise more.

Avro's own rules are judged by the official `avro` package. They let pass what would change the
meaning of history (milliseconds for microseconds, bytes for text, a field that disappears), so
the ledger's own rules come on top: a version adds, it never changes or takes away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

Schema = Mapping[str, Any]

_NO_DEFAULT = object()
_checker: Any = ReaderWriterCompatibilityChecker


@dataclass(frozen=True, slots=True)
class VersionedSchema:
    """One version of a record as its file holds it."""

    name: str
    version: int
    schema: Schema

    def __str__(self) -> str:
        return f"{self.name}.v{self.version}"


def evolution_problems(versions: Sequence[VersionedSchema]) -> Iterator[str]:
    """What is wrong between any two of these versions of one record, one sentence each."""
    ordered = sorted(versions, key=lambda version: version.version)
    for older, newer in combinations(ordered, 2):
        for reader, writer in ((newer, older), (older, newer)):
            for problem in unreadable_parts(reader.schema, writer.schema):
                yield f"{reader} can't read what {writer} wrote: {problem}"
        for problem in _altered(_spelt_out(older.schema, {}), _spelt_out(newer.schema, {}), ""):
            yield f"{newer} alters {older}: {problem}"


def unreadable_parts(reader: Schema, writer: Schema) -> list[str]:
    """Why a reader of one schema can't read another's records, by the `avro` package."""
    result = _checker().get_compatibility(
        avro.schema.parse(json.dumps(reader)), avro.schema.parse(json.dumps(writer))
    )
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    where = ", ".join(sorted(result.locations))
    what = ", ".join(kind.value for kind in result.incompatibilities)
    return [f"{what} ({'; '.join(sorted(result.messages))}) at {where}"]


def _spelt_out(kind: Any, named: dict[str, Any]) -> Any:
    """The type with every reference to a named type replaced by its definition."""
    if isinstance(kind, str):
        return named.get(kind, kind)
    if isinstance(kind, list):
        return [_spelt_out(branch, named) for branch in kind]
    spelt = dict(kind)
    if "fields" in kind:
        spelt["fields"] = [
            {**field, "type": _spelt_out(field["type"], named)} for field in kind["fields"]
        ]
    if "items" in kind:
        spelt["items"] = _spelt_out(kind["items"], named)
    if "name" in kind:
        named[kind["name"]] = spelt
    return spelt


def _altered(older: Any, newer: Any, path: str) -> Iterator[str]:
    """Differences of two types that are more than additions."""
    if isinstance(older, dict) and isinstance(newer, dict):
        if older["type"] != newer["type"] and isinstance(older["type"], str):
            yield f"{path or '/'}: {older['type']} became {newer['type']}"
        elif older["type"] == "record":
            yield from _altered_record(older, newer, path)
        elif older["type"] == "enum":
            yield from _altered_enum(older, newer, path)
        elif older["type"] == "array":
            yield from _altered(older["items"], newer["items"], f"{path}[]")
        elif _attributes(older) != _attributes(newer):
            yield f"{path}: {_attributes(older)} became {_attributes(newer)}"
    elif isinstance(older, list) and isinstance(newer, list) and len(older) == len(newer):
        for one, other in zip(older, newer, strict=True):
            yield from _altered(one, other, path)
    elif older != newer:
        yield f"{path}: the type changed"


def _attributes(kind: Schema) -> dict[str, Any]:
    return {key: kind.get(key) for key in ("type", "logicalType", "size", "name")}


def _altered_record(older: Schema, newer: Schema, path: str) -> Iterator[str]:
    if older["name"] != newer["name"]:
        yield f"{path or '/'}: record {older['name']} became {newer['name']}"
    fields = {field["name"]: field for field in newer["fields"]}
    names = [field["name"] for field in older["fields"]]
    for field in older["fields"]:
        where = f"{path}/{field['name']}"
        now = fields.get(field["name"])
        if now is None:
            yield f"{where}: the field is gone"
            continue
        yield from _altered(field["type"], now["type"], where)
        if field.get("default", _NO_DEFAULT) != now.get("default", _NO_DEFAULT):
            yield f"{where}: the default changed"
    kept = [name for name in fields if name in names]
    if kept != [name for name in names if name in fields]:
        yield f"{path or '/'}: fields changed their order"


def _altered_enum(older: Schema, newer: Schema, path: str) -> Iterator[str]:
    if older["name"] != newer["name"]:
        yield f"{path}: enum {older['name']} became {newer['name']}"
    if newer["symbols"][: len(older["symbols"])] != older["symbols"]:
        yield f"{path}: symbols are only ever appended"
    if older.get("default") != newer.get("default"):
        yield f"{path}: the default symbol changed"
