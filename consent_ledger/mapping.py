"""Mapping files: how a row of somebody's CSV or JSON becomes event documents.

A mapping is data with a JSON Schema (`schemas/mapping.schema.json`). It only rearranges and
renames: whether a document is acceptable is `consent.documents`' business. The same row and
mapping always give the same documents, event ids included, so a file can be sent again.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5
from zoneinfo import ZoneInfo

import jsonschema
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from consent.contracts import data_path
from consent.document_values import closest
from consent.documents import document_types
from consent.errors import Rejected
from consent.instants import instant_text, parse_instant
from consent.numbers import canonical_number
from consent.zones import zone, zone_names

Row = Mapping[str, Any]
Read = Callable[[Row], Any]

OMIT: Final = object()
"""What a rule gives where the field is to be left out."""

_TRUE: Final = frozenset({"1", "true", "yes", "y", "t"})
_FALSE: Final = frozenset({"0", "false", "no", "n", "f"})
_FORMATTER: Final = string.Formatter()


@dataclass(frozen=True, slots=True)
class CsvForm:
    """How a CSV file is written."""

    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8-sig"


@dataclass(frozen=True, slots=True)
class _Record:
    """One kind of document made from each row that fits."""

    fields: tuple[tuple[tuple[str, ...], Read], ...]
    condition: Callable[[Row], bool]


@dataclass(frozen=True, slots=True)
class MappingFile:
    """A compiled mapping. `columns` are those that it reads."""

    csv: CsvForm
    columns: frozenset[str]
    records: tuple[_Record, ...]
    region_default: str | None

    def check_columns(self, present: Iterable[str]) -> None:
        """Rejected if the file lacks a column that the mapping reads."""
        names = list(present)
        missing = sorted(self.columns.difference(names))
        if missing:
            remedy = f"{closest(missing[0], names)}the file has: {', '.join(names)}"
            raise Rejected("MISSING_COLUMN", ", ".join(missing), "nothing", remedy)

    def documents(self, row: Row) -> Iterator[dict[str, Any]]:
        """The documents of one row, in the order of the mapping.

        Rejected, naming the field, for a value that a rule can't read.
        """
        for record in self.records:
            if record.condition(row):
                document = _document(record, row)
                if self.region_default is not None and isinstance(document.get("number"), str):
                    document["number"] = canonical_number(document["number"], self.region_default)
                yield document


def load_mapping(path: Path) -> MappingFile:
    """Read and compile a mapping file; Rejected, naming the place, if it can't be used."""
    try:
        content = YAML(typ="safe").load(path.read_text())
    except (OSError, YAMLError, UnicodeDecodeError) as problem:
        raise Rejected("INVALID_MAPPING", str(path), "(not shown)", str(problem)) from problem
    return compile_mapping(content)


def compile_mapping(content: Any) -> MappingFile:
    """Compile a parsed mapping; Rejected, naming the place, if it can't be used."""
    schema = json.loads((data_path("schemas") / "mapping.schema.json").read_text())
    error = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(schema).iter_errors(content)
    )
    if error is not None:
        place = ".".join(str(part) for part in error.absolute_path) or "(the whole file)"
        raise Rejected("INVALID_MAPPING", place, "(not shown)", error.message)
    columns: set[str] = set()
    shared = content.get("fields", {})
    records = tuple(
        _compile_record({**entry, "fields": {**shared, **entry.get("fields", {})}}, columns)
        for entry in content["records"]
    )
    form = CsvForm(**content.get("csv", {}))
    return MappingFile(form, frozenset(columns), records, content.get("region_default"))


def _compile_record(entry: Mapping[str, Any], columns: set[str]) -> _Record:
    kind = entry["type"]
    if kind not in document_types():
        remedy = f"{closest(kind, document_types())}give one of {', '.join(document_types())}"
        raise Rejected("INVALID_MAPPING", "records.type", kind, remedy)
    fields: list[tuple[tuple[str, ...], Read]] = [(("type",), partial(_constant, kind))]
    for path, rule in entry["fields"].items():
        fields.append((tuple(path.split(".")), _compile_rule(path, rule, columns)))
    return _Record(tuple(fields), _compile_condition(entry.get("when", []), columns))


def _compile_condition(
    tests: Sequence[Mapping[str, Any]], columns: set[str]
) -> Callable[[Row], bool]:
    checks = []
    for test in tests:
        columns.add(test["column"])
        wanted = frozenset(str(value) for value in test.get("in", test.get("not_in", ())))
        checks.append((test["column"], wanted, "in" in test))
    return lambda row: all(
        (_cell(row, column) in wanted) == expected for column, wanted, expected in checks
    )


def _compile_rule(path: str, rule: Any, columns: set[str]) -> Read:
    if not isinstance(rule, Mapping) or "constant" in rule:
        return partial(_constant, rule["constant"] if isinstance(rule, Mapping) else rule)
    if "uuid5" in rule:
        columns.update(rule["uuid5"])
        return partial(_uuid5, rule.get("namespace", ""), tuple(rule["uuid5"]))
    if "template" in rule:
        parts = tuple((text, name) for text, name, _, _ in _FORMATTER.parse(rule["template"]))
        columns.update(name for _, name in parts if name)
        read: Read = partial(_template, parts)
    else:
        columns.add(rule["column"])
        read = partial(_column, rule["column"])
    for name, step in _STEPS.items():
        if name in rule:
            read = partial(step, path, rule, read)
    return read


def _document(record: _Record, row: Row) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for path, read in record.fields:
        value = read(row)
        if value is OMIT:
            continue
        place = document
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value
    return document


def _cell(row: Row, column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value).strip()


def _constant(value: Any, _row: Row) -> Any:
    return value


def _column(column: str, row: Row) -> Any:
    value = row.get(column)
    if isinstance(value, str):
        value = value.strip()
    return OMIT if value is None or value == "" else value


def _template(parts: Sequence[tuple[str, str | None]], row: Row) -> str:
    return "".join(text + (_cell(row, name) if name else "") for text, name in parts)


def _uuid5(namespace: str, columns: Sequence[str], row: Row) -> str:
    parts = json.dumps([namespace, *(_cell(row, column) for column in columns)])
    return str(uuid5(NAMESPACE_URL, parts))


def _values(path: str, rule: Mapping[str, Any], read: Read, row: Row) -> Any:
    value = read(row)
    known = {str(key): mapped for key, mapped in rule["values"].items()}
    if isinstance(value, list):
        mapped = [_mapped(path, rule, known, part) for part in value]
        return [part for part in mapped if part is not OMIT]
    return _mapped(path, rule, known, value)


def _mapped(path: str, rule: Mapping[str, Any], known: Mapping[str, Any], value: Any) -> Any:
    key = "" if value is OMIT else str(value)
    if key in known:
        return OMIT if known[key] is None else known[key]
    if "otherwise" in rule:
        return OMIT if rule["otherwise"] is None else rule["otherwise"]
    if value is OMIT:
        return OMIT
    remedy = f"{closest(key, known)}add it to `values`, or give `otherwise`"
    raise Rejected("UNMAPPED_VALUE", path, "(not shown)", remedy)


def _time(path: str, rule: Mapping[str, Any], read: Read, row: Row) -> Any:
    value = read(row)
    if value is OMIT:
        return OMIT
    form = rule["format"]
    if form == "rfc3339":
        try:
            return instant_text(parse_instant(str(value)))
        except ValueError as problem:
            raise _unreadable_time(path, f"{form} ({problem})") from None
    if form in _EPOCH_UNITS:
        try:
            return instant_text(int(float(value) * _EPOCH_UNITS[form]))
        except (ValueError, OverflowError):
            raise _unreadable_time(path, form) from None
    try:
        written = datetime.strptime(str(value), form)
    except ValueError:
        raise _unreadable_time(path, form) from None
    if rule.get("as") == "date":
        return written.date().isoformat()
    if written.tzinfo is not None:
        return written.isoformat()
    return _local(path, written, _zone_of(path, rule, row), rule.get("ambiguous")).isoformat()


_EPOCH_UNITS: Final = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}


def _unreadable_time(path: str, form: str) -> Rejected:
    return Rejected("INVALID_TIME", path, "(not shown)", f"the value is not written as {form}")


def _zone_of(path: str, rule: Mapping[str, Any], row: Row) -> ZoneInfo:
    given = rule.get("zone")
    name = _cell(row, given["column"]) if isinstance(given, Mapping) else given
    if not name:
        remedy = "give `zone`: a local time without one may be hours off"
        raise Rejected("INVALID_TIME", path, "(not shown)", remedy)
    if name not in zone_names():
        remedy = f"{closest(name, zone_names())}give an IANA zone, e.g. America/New_York"
        raise Rejected("INVALID_TIME", path, name[:40], remedy)
    return zone(name)


def _local(path: str, written: datetime, where: ZoneInfo, ambiguous: str | None) -> datetime:
    """A local time in its zone; one that happens twice, or never, is not guessed."""
    earlier, later = written.replace(tzinfo=where, fold=0), written.replace(tzinfo=where, fold=1)
    if earlier.utcoffset() == later.utcoffset():
        return earlier
    if (later.utcoffset() or 0) > (earlier.utcoffset() or 0):  # type: ignore[operator]
        remedy = "the clocks skipped this local time; correct it in the file"
        raise Rejected("INVALID_TIME", path, written.isoformat(), remedy)
    if ambiguous is None:
        remedy = "this local time happened twice; give `ambiguous: earlier` or `later`"
        raise Rejected("INVALID_TIME", path, written.isoformat(), remedy)
    return earlier if ambiguous == "earlier" else later


def _split(_path: str, rule: Mapping[str, Any], read: Read, row: Row) -> Any:
    value = read(row)
    if value is OMIT:
        return OMIT
    return [part.strip() for part in str(value).split(rule["split"]) if part.strip()]


def _typed(path: str, rule: Mapping[str, Any], read: Read, row: Row) -> Any:
    value = read(row)
    if value is OMIT or rule["as"] == "date":
        return value
    kind = rule["as"]
    if kind == "list":
        return value if isinstance(value, list) else [value]
    text = str(value).lower()
    if kind == "boolean" and text in _TRUE | _FALSE:
        return text in _TRUE
    try:
        if kind == "integer":
            return int(str(value))
        if kind == "text":
            return str(value)
    except ValueError:
        pass
    raise Rejected("WRONG_TYPE", path, "(not shown)", f"the value is no {kind}")


_STEPS: Final[Mapping[str, Callable[[str, Mapping[str, Any], Read, Row], Any]]] = {
    "split": _split,
    "values": _values,
    "format": _time,
    "as": _typed,
}
"""What a rule does to a value, in this order."""
