"""The page that says which field brings which fact names only places that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from consent.contracts import data_path

PAGE = Path(__file__).parents[2] / "docs" / "facts-coverage.md"
PLACE = re.compile(r"`([a-z-]+)/([A-Za-z]+)#([a-z_.0-9]+)(?:=([A-Z_0-9]+))?`")


def _rows() -> list[tuple[str, str]]:
    """First and last cell of every row of every table."""
    rows = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and not line.startswith("|---") and cells[-1] != "brought by":
            rows.append((" / ".join(cells[:-1]), cells[-1]))
    return rows


def _schema(topic: str, record: str) -> dict[str, Any]:
    path = data_path("schemas") / topic / f"{record}.v1.avsc"
    return dict(json.loads(path.read_text()))


def _branches(kind: Any, named: dict[str, Any]) -> Any:
    """The type behind null, a list or a reference."""
    while True:
        if isinstance(kind, list):
            kind = kind[1]
        elif isinstance(kind, str) and kind in named:
            kind = named[kind]
        elif isinstance(kind, dict) and kind["type"] == "array":
            kind = kind["items"]
        else:
            return kind


def _collect(kind: Any, named: dict[str, Any]) -> None:
    if isinstance(kind, list):
        for branch in kind:
            _collect(branch, named)
    elif isinstance(kind, dict):
        if "name" in kind:
            named[kind["name"]] = kind
        _collect(kind.get("items"), named)
        for field in kind.get("fields", ()):
            _collect(field["type"], named)


def problem_of(topic: str, record: str, path: str, symbol: str | None) -> str | None:
    """Why a place does not exist, or None if it does."""
    try:
        schema: Any = _schema(topic, record)
    except FileNotFoundError:
        return "no such record"
    named: dict[str, Any] = {}
    _collect(schema, named)
    for part in path.split("."):
        fields = {field["name"]: field["type"] for field in schema.get("fields", ())}
        if part not in fields:
            return f"no field {part}"
        schema = _branches(fields[part], named)
        schema = schema if isinstance(schema, dict) else {"type": schema}
    if symbol is not None and symbol not in schema.get("symbols", ()):
        return f"no symbol {symbol}"
    return None


@pytest.mark.parametrize(("fact", "places"), _rows(), ids=[row[0][:60] for row in _rows()])
def test_every_named_place_exists(fact: str, places: str) -> None:
    """Each row names at least one field, and every field and symbol named is in the schemas."""
    found = PLACE.findall(places)
    assert found, f"{fact}: no field is named"
    assert len(found) == places.count("#"), f"{fact}: a place is misspelt"
    problems = {place: problem_of(*place[:3], place[3] or None) for place in found}
    assert {place: problem for place, problem in problems.items() if problem} == {}


def test_the_reader_of_places_knows_what_is_missing() -> None:
    """A record, field or symbol that does not exist is found to be missing."""
    assert problem_of("consent-events", "ConsentSold", "at", None) == "no such record"
    assert problem_of("consent-events", "ConsentGranted", "evidence.colour", None)
    assert problem_of("consent-events", "ConsentGranted", "consent_kind", "PEWS")
    assert problem_of("dial-decisions", "DialDecision", "lists.version", None) is None
    assert len(_rows()) > 150
