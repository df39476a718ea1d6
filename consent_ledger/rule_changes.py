"""What changed between two rulebooks: rows, fields of rows, and the sections beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from consent.rulebook import Rulebook
from consent_ledger.rule_rows import content_of, flattened, name_of

Kind = Literal["added", "removed", "changed"]

_BY_CODE: Final = ("reasons", "obligations")
_BY_ID: Final = ("registries",)
_ORDER: Final = ("order of the codes",)


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field before and after; None is not there."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Change:
    """One row, or one entry of another section, that is not as before.

    `fields` are those that differ, of an entry that is there on both sides.
    """

    section: str
    name: str
    kind: Kind
    title: str
    fields: tuple[FieldChange, ...] = ()


def changes(before: Rulebook, after: Rulebook) -> list[Change]:
    """Every change, rows first, each section in the order of the names."""
    old, new = content_of(before), content_of(after)
    found: list[Change] = []
    for section in sorted({*old, *new}, key=lambda name: (name != "rules", name)):
        found += _section_changes(section, _entries(section, old), _entries(section, new))
    for section in _BY_CODE:
        codes = [[entry["code"] for entry in content.get(section, ())] for content in (old, new)]
        kept = [[code for code in side if code in codes[0] and code in codes[1]] for side in codes]
        if kept[0] != kept[1]:
            field = FieldChange(_ORDER[0], codes[0], codes[1])
            found.append(Change(section, section, "changed", "", (field,)))
    return found


def change_fields(change: Change) -> dict[str, Any]:
    """A change as JSON."""
    return {
        "section": change.section,
        "name": change.name,
        "change": change.kind,
        "title": change.title,
        "fields": [
            {"field": one.field, "before": one.before, "after": one.after} for one in change.fields
        ],
    }


def _entries(section: str, content: Mapping[str, Any]) -> dict[str, Any]:
    entries = content.get(section, {})
    if section == "rules":
        return {name_of(row): row for row in entries}
    if section in _BY_CODE:
        return {entry["code"]: entry for entry in entries}
    if section in _BY_ID:
        return {entry["id"]: entry for entry in entries}
    return dict(entries)


def _section_changes(
    section: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[Change]:
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        title = _title(after if name in new else before)
        if name not in old:
            yield Change(section, name, "added", title)
        elif name not in new:
            yield Change(section, name, "removed", title)
        elif before != after:
            yield Change(section, name, "changed", title, tuple(_field_changes(before, after)))


def _field_changes(before: Any, after: Any) -> Iterator[FieldChange]:
    old, new = dict(flattened(before)), dict(flattened(after))
    for path in [*old, *(path for path in new if path not in old)]:
        if old.get(path) != new.get(path) or (path in old) != (path in new):
            yield FieldChange(path, old.get(path), new.get(path))


def _title(entry: Any) -> str:
    if isinstance(entry, Mapping):
        return str(entry.get("title") or entry.get("text") or "")
    return ""
