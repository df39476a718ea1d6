"""Rows of a rulebook as data for people: which are wanted, and what a field of a row says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from consent.document_values import closest
from consent.errors import Rejected
from consent.rule_context import EVERYWHERE
from consent.rulebook import Rulebook

Row = Mapping[str, Any]
"""One row as it is written in a rule file."""

CONFIDENCE: Final = {
    "P": "a source quotes or read the primary text",
    "S": "secondary sources only",
    "K": "from memory, not seen in a source",
    "H": "house policy",
}
_REASONS: Final = "reason"
"""How parameters end that hold another reason code."""


@dataclass(frozen=True, slots=True)
class RowFilter:
    """What rows are wanted; nothing stated wants all.

    `state` and `country` are where a row is written for, `applies_in` where it applies: there the
    country's and everybody's rows count as well. `at` is a date on which a row is in force.
    """

    states: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    applies_in: tuple[str, ...] = ()
    citation: str = ""
    statuses: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    confidences: tuple[str, ...] = ()
    at: str = ""

    def wants(self, row: Row, groups: Mapping[str, Iterable[str]]) -> bool:
        """True if the row is wanted; `groups` are the countries of a group such as the EU."""
        return (
            (not self.states or place_of(row) in self.states)
            and (not self.countries or row["jurisdiction"]["country"] in self.countries)
            and (not self.applies_in or any(_applies(row, at, groups) for at in self.applies_in))
            and any(self.citation.lower() in text.lower() for text in row["citation"])
            and (not self.statuses or row["status"] in self.statuses)
            and (not self.reasons or bool(reasons_of(row) & set(self.reasons)))
            and (not self.kinds or row["check"]["kind"] in self.kinds)
            and (not self.confidences or row["confidence"] in self.confidences)
            and (not self.at or in_force_on(row, self.at))
        )


def rows_of(rulebook: Rulebook, wanted: RowFilter | None = None) -> list[Row]:
    """Rows in the order of their names, those that are wanted."""
    content = content_of(rulebook)
    groups = content.get("groups", {})
    return [row for row in content.get("rules", ()) if wanted is None or wanted.wants(row, groups)]


def content_of(rulebook: Rulebook) -> dict[str, Any]:
    """All sections of a rulebook as data."""
    content: dict[str, Any] = json.loads(rulebook.content)
    return content


def revisions(rulebook: Rulebook, name: str) -> list[Row]:
    """The row of `ID@REV`, or every revision of `ID`; Rejected if there is none."""
    rows = rows_of(rulebook)
    found = [row for row in rows if name in (row["id"], name_of(row))]
    if not found:
        names = {row["id"] for row in rows} | {name_of(row) for row in rows}
        remedy = f"{closest(name, sorted(names))}`consent-ledger rules list` names them all"
        raise Rejected("NO_RULE", "RULE", name, remedy)
    return found


def name_of(row: Row) -> str:
    """ID@REV."""
    return f"{row['id']}@{row['rev']}"


def place_of(row: Row) -> str:
    """`US-TX`, `GB`, a group, or `*`."""
    jurisdiction = row["jurisdiction"]
    country: str = jurisdiction["country"]
    return f"{country}-{jurisdiction['subdivision']}" if jurisdiction["subdivision"] else country


def reasons_of(row: Row) -> set[str]:
    """Every code that the row can give."""
    params = row["check"]["params"]
    return {row["on_fail"]["reason"]} | {
        value for name, value in params.items() if name.endswith(_REASONS)
    }


def in_force_on(row: Row, date: str) -> bool:
    """True if the date is one of the effective ones; a row without a first date has none."""
    effective = row["effective"]
    begins, ends = effective["from"], effective["to"]
    return begins is not None and begins <= date and (ends is None or date <= ends)


def dates_of(row: Row) -> str:
    """When the row is in force, in words."""
    begins, ends = row["effective"]["from"], row["effective"]["to"]
    if begins is None:
        return "not dated" if ends is None else f"until {ends}"
    return f"from {begins}" if ends is None else f"{begins} to {ends}"


def flattened(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Values of a nested structure by their dotted path; lists of plain values stay whole."""
    if isinstance(value, Mapping) and value:
        for key in value:
            yield from flattened(value[key], f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        for index, one in enumerate(value):
            yield from flattened(one, f"{path}[{index}]")
    else:
        yield path, value


def value_text(value: Any) -> str:
    """A plain value or a list of them, as a person writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_alternatives(one) for one in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {value_text(one)}" for key, one in value.items()) or "any"
    return str(value)


def _alternatives(value: Any) -> str:
    """A list inside a list: any one of it is enough."""
    return " or ".join(map(value_text, value)) if isinstance(value, list) else value_text(value)


def _applies(row: Row, place: str, groups: Mapping[str, Iterable[str]]) -> bool:
    country, subdivision = row["jurisdiction"]["country"], row["jurisdiction"]["subdivision"]
    if country != EVERYWHERE and country != place[:2] and place[:2] not in groups.get(country, ()):
        return False
    return subdivision is None or place == f"{country}-{subdivision}"
