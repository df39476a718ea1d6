"""Reads the examples of `schemas/examples`, which are also what the docs show.

`valid-*` is a document; `invalid-*` and `noticed-*` hold one beside what is expected of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consent.contracts import RecordContract, contracts, data_path
from consent.documents import DocumentRules, document_types, read_document
from consent.instants import parse_date, parse_instant

ROOT = data_path("schemas") / "examples"
NOW = parse_instant("2026-11-22T10:00:00Z")
RULES = DocumentRules(now=NOW)
SALT = bytes(range(16))


@dataclass(frozen=True, slots=True)
class Example:
    """One example file; its folder names topic and record."""

    path: Path
    content: dict[str, Any]

    @property
    def record(self) -> RecordContract:
        return contracts().record(self.path.parent.name)

    @property
    def document(self) -> dict[str, Any]:
        return self.content if self.kind == "valid" else self.content["document"]

    @property
    def kind(self) -> str:
        return self.path.name.split("-", 1)[0]

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    def fields(self) -> dict[str, Any]:
        """The fields as the codec takes them."""
        if self.record.name in document_types():
            return dict(read_document(self.document, RULES, SALT).fields)
        schema = self.record.schema
        return dict(_avro_value(schema, self.document, _named_types(schema, {})))


def examples(kind: str) -> list[Example]:
    """All examples of one kind, in a fixed order."""
    return [
        Example(path, json.loads(path.read_text()))
        for path in sorted(ROOT.glob(f"*/*/{kind}-*.json"))
    ]


def _avro_value(kind: Any, value: Any, named: dict[str, Any]) -> Any:
    """What the codec takes for a JSON value; knows no leniency, our own examples need none."""
    if isinstance(kind, list):
        return None if value is None else _avro_value(kind[1], value, named)
    if isinstance(kind, str):
        return bytes.fromhex(value) if kind == "bytes" else _named_value(kind, value, named)
    if kind["type"] == "record":
        return {
            field["name"]: _avro_value(field["type"], value[field["name"]], named)
            if field["name"] in value
            else field["default"]
            for field in kind["fields"]
        }
    if kind["type"] == "array":
        return [_avro_value(kind["items"], item, named) for item in value]
    if kind["type"] == "fixed":
        return bytes.fromhex(value)
    readers = {"timestamp-micros": parse_instant, "date": parse_date}
    read = readers.get(kind.get("logicalType", ""))
    return read(value) if read else value


def _named_value(kind: str, value: Any, named: dict[str, Any]) -> Any:
    return _avro_value(named[kind], value, named) if kind in named else value


def _named_types(kind: Any, found: dict[str, Any]) -> dict[str, Any]:
    if isinstance(kind, list):
        for branch in kind:
            _named_types(branch, found)
    elif isinstance(kind, dict):
        if "name" in kind:
            found[kind["name"]] = kind
        for part in [kind.get("items"), *(field["type"] for field in kind.get("fields", ()))]:
            _named_types(part, found)
    return found
