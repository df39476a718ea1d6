"""How one JSON value becomes one Avro value, compiled once per record from its schema.

Owns types, limits and what of a value may be shown; knows nothing of particular events. Every
reader raises Rejected for a value that does not fit, naming the field and the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from typing import Any
from uuid import UUID

from consent.errors import Rejected
from consent.instants import parse_date, parse_instant

INT_BITS = {"int": 32, "long": 64}
SHOWN_CHARS_MAX = 60
_PHONE_LIKE = re.compile(r"\+?\d(?:[\s().\-/]{0,2}\d){6,}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DATE_LIKE = re.compile(r"\d{4}-\d\d-\d\d([Tt ].*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """How much one document may carry, in characters and items."""

    identifier_chars_max: int = 256
    evidence_chars_max: int = 65_536
    list_items_max: int = 256


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about an accepted document that its sender should mend."""

    reason: str
    field: str
    value_shown: str
    remedy: str


@dataclass(slots=True)
class Reading:
    """What one document is read under, and what was found on the way.

    `lenient` is set for records that restrict: a value that can't be used is set aside instead
    of refusing the record.
    """

    limits: DocumentLimits
    lenient: bool
    notices: list[Notice] = field(default_factory=list)
    set_aside: list[tuple[str, Any]] = field(default_factory=list)

    def put_aside(self, problem: Rejected, value: Any) -> None:
        """Keep the value for the evidence, and tell the sender."""
        self.set_aside.append((problem.field, value))
        self.notices.append(
            Notice(problem.reason, problem.field, problem.value_shown, problem.remedy)
        )


ReadValue = Callable[[Any, str, Reading], Any]


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """How one field is read; `required` if the schema gives it no default."""

    name: str
    read: ReadValue
    required: bool


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """How the fields of one record, at any depth, are read."""

    fields: Mapping[str, FieldPlan]
    required: tuple[str, ...]
    defaults: Mapping[str, Any]


def shown(value: Any, path: str) -> str:
    """A value cut and masked so that it can stand in an answer or a log line.

    Numbers, evidence and anything like a phone number or an e-mail address are never shown.
    """
    if path == "number" or path.startswith("evidence") or "number" in path.rsplit(".", 1)[-1]:
        return "(not shown)"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = str(value)
    if "@" in text:
        return "(not shown)"
    if _DATE_LIKE.fullmatch(text) is None:
        text = _PHONE_LIKE.sub("***", text)
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 3] + "..."


def closest(word: str, known: Iterable[str]) -> str:
    """`did you mean "x"?`, or nothing if no known word is near."""
    names = list(known)
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    if not near:
        lower = {name.lower(): name for name in names}
        near = [lower[key] for key in get_close_matches(word.lower(), list(lower), n=1, cutoff=0.6)]
    return f'did you mean "{near[0]}"? ' if near else ""


def plan_of(schema: Mapping[str, Any]) -> RecordPlan:
    """Compile the plan of one record schema."""
    return _record_plan(schema, {})


def read_fields(plan: RecordPlan, given: Mapping[str, Any], path: str, reading: Reading) -> Any:
    """All fields of one record: given values read, defaults for the rest.

    Rejects a missing required field always; an unknown field or an unusable value of a field
    that has a default only where reading is not lenient.
    """
    fields = dict(plan.defaults)
    for name, value in given.items():
        where = path + str(name)
        field_plan = plan.fields.get(name)
        try:
            if field_plan is None:
                raise _unknown_field(where, name, value, plan)
            fields[name] = field_plan.read(value, where, reading)
        except Rejected as problem:
            if not reading.lenient or (field_plan is not None and field_plan.required):
                raise
            reading.put_aside(problem, value)
    for name in plan.required:
        if name not in fields:
            raise Rejected(
                "MISSING_FIELD", path + name, "nothing", f"give {path + name}; it has no default"
            )
    return fields


def _unknown_field(where: str, name: str, value: Any, plan: RecordPlan) -> Rejected:
    near = closest(str(name), plan.fields)
    remedy = f"{near}leave it out, or put it into evidence.extra as a name and a value"
    return Rejected("UNKNOWN_FIELD", shown(where, ""), shown(value, where), remedy)


def _record_plan(schema: Mapping[str, Any], named: dict[str, ReadValue]) -> RecordPlan:
    fields: dict[str, FieldPlan] = {}
    defaults: dict[str, Any] = {}
    for entry in schema["fields"]:
        required = "default" not in entry
        fields[entry["name"]] = FieldPlan(entry["name"], _reader(entry, named), required)
        if not required:
            defaults[entry["name"]] = entry["default"]
    required_names = tuple(name for name, plan in fields.items() if plan.required)
    return RecordPlan(fields, required_names, defaults)


def _reader(entry: Mapping[str, Any], named: dict[str, ReadValue]) -> ReadValue:
    read = _type_reader(entry["type"], named)
    if entry["type"] == "string" and "default" not in entry:
        return partial(_required_text, read)
    return read


def _type_reader(kind: Any, named: dict[str, ReadValue]) -> ReadValue:
    if isinstance(kind, list):
        inner = _type_reader(next(branch for branch in kind if branch != "null"), named)
        return partial(_nullable, inner)
    if isinstance(kind, str):
        return _SCALARS[kind] if kind in _SCALARS else named[kind]
    logical = kind.get("logicalType")
    if logical in _LOGICAL:
        return _LOGICAL[logical]
    complex_reader = _COMPLEX.get(kind["type"])
    return complex_reader(kind, named) if complex_reader else _type_reader(kind["type"], named)


def _enum_reader(kind: Mapping[str, Any], named: dict[str, ReadValue]) -> ReadValue:
    read: ReadValue = partial(_enum, frozenset(kind["symbols"]), tuple(kind["symbols"]))
    named[kind["name"]] = read
    return read


def _nested_reader(kind: Mapping[str, Any], named: dict[str, ReadValue]) -> ReadValue:
    read: ReadValue = partial(_nested, _record_plan(kind, named))
    named[kind["name"]] = read
    return read


def _array_reader(kind: Mapping[str, Any], named: dict[str, ReadValue]) -> ReadValue:
    return partial(_array, _type_reader(kind["items"], named))


def _fixed_reader(kind: Mapping[str, Any], named: dict[str, ReadValue]) -> ReadValue:
    read: ReadValue = partial(_fixed, int(kind["size"]))
    named[kind["name"]] = read
    return read


def _wrong_type(value: Any, path: str, expected: str) -> Rejected:
    return Rejected("WRONG_TYPE", path, shown(value, path), f"give {expected}")


def _nullable(read: ReadValue, value: Any, path: str, reading: Reading) -> Any:
    return None if value is None else read(value, path, reading)


def _text(value: Any, path: str, reading: Reading) -> str:
    if not isinstance(value, str):
        raise _wrong_type(value, path, "text")
    limits = reading.limits
    evidence = path.startswith("evidence.")
    chars_max = limits.evidence_chars_max if evidence else limits.identifier_chars_max
    if len(value) > chars_max:
        shown_length = f"{len(value)} characters"
        raise Rejected("TOO_LONG", path, shown_length, f"give at most {chars_max} characters")
    if not evidence and _CONTROL.search(value):
        remedy = "leave control characters out"
        raise Rejected("INVALID_TEXT", path, shown(value, path), remedy)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            remedy = "give well-formed Unicode; half of a surrogate pair is not"
            raise Rejected("INVALID_TEXT", path, "(not shown)", remedy) from None
    return value


def _required_text(read: ReadValue, value: Any, path: str, reading: Reading) -> Any:
    empty = isinstance(value, str) and not value.strip() and not path.startswith("evidence.")
    if value is None or empty:
        raise Rejected("MISSING_FIELD", path, "empty", f"give {path}; it has no default")
    return read(value, path, reading)


def _boolean(value: Any, path: str, _reading: Reading) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(value, path, "true or false, without quotes")
    return value


def _integer(bits: int, value: Any, path: str, _reading: Reading) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(value, path, "a whole number, without quotes")
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        remedy = f"give a number that fits into {bits} bits"
        raise Rejected("OUT_OF_RANGE", path, shown(value, path), remedy)
    return value


def _hex_bytes(value: Any, path: str, _reading: Reading) -> bytes:
    try:
        raw = bytes.fromhex(value) if isinstance(value, str) else None
    except ValueError:
        raw = None
    if raw is None:
        raise _wrong_type(value, path, "bytes as hexadecimal text")
    if path.endswith("sha256") and len(raw) != 32:
        remedy = "give a SHA-256 digest: 64 hexadecimal digits"
        raise Rejected("WRONG_TYPE", path, f"{len(raw)} bytes", remedy)
    return raw


def _fixed(size: int, value: Any, path: str, reading: Reading) -> bytes:
    raw = _hex_bytes(value, path, reading)
    if len(raw) != size:
        remedy = f"give {2 * size} hexadecimal digits"
        raise Rejected("WRONG_TYPE", path, f"{len(raw)} bytes", remedy)
    return raw


def _instant(value: Any, path: str, _reading: Reading) -> int:
    remedy = "give an RFC 3339 time with its zone, e.g. 2026-11-22T10:00:00Z"
    if not isinstance(value, str):
        raise Rejected("INVALID_TIME", path, shown(value, path), remedy)
    try:
        micros = parse_instant(value)
    except ValueError as problem:
        text = f"{remedy} ({problem})"
        raise Rejected("INVALID_TIME", path, shown(value, path), text) from None
    if micros < 0:
        raise Rejected("INVALID_TIME", path, shown(value, path), "give a time after 1970")
    return micros


def _date(value: Any, path: str, _reading: Reading) -> int:
    try:
        if isinstance(value, str):
            return parse_date(value)
    except ValueError:
        pass
    remedy = "give a date like 2026-11-22"
    raise Rejected("INVALID_TIME", path, shown(value, path), remedy)


def _uuid(value: Any, path: str, _reading: Reading) -> str:
    try:
        if isinstance(value, str) and len(value) == 36:
            return str(UUID(value))
    except ValueError:
        pass
    remedy = "give a UUID like 0b9f4c1e-6f0c-4c58-9d4b-3f1f7a3d2c10"
    raise Rejected("INVALID_ID", path, shown(value, path), remedy)


def _enum(
    symbols: frozenset[str], ordered: tuple[str, ...], value: Any, path: str, reading: Reading
) -> str:
    if isinstance(value, str) and value in symbols:
        return value
    near = closest(value, ordered) if isinstance(value, str) else ""
    remedy = f"{near}give one of {', '.join(ordered)}"
    problem = Rejected("UNKNOWN_VALUE", path, shown(value, path), remedy)
    if not reading.lenient:
        raise problem
    reading.put_aside(problem, value)
    return "UNKNOWN"


def _array(read: ReadValue, value: Any, path: str, reading: Reading) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong_type(value, path, "a list")
    items_max = reading.limits.list_items_max
    if len(value) > items_max:
        raise Rejected("TOO_MANY", path, f"{len(value)} items", f"give at most {items_max} items")
    return [read(item, f"{path}[{position}]", reading) for position, item in enumerate(value)]


def _nested(plan: RecordPlan, value: Any, path: str, reading: Reading) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong_type(value, path, "an object")
    return read_fields(plan, value, path + ".", reading)


_SCALARS: Mapping[str, ReadValue] = {
    "string": _text,
    "boolean": _boolean,
    "bytes": _hex_bytes,
    "int": partial(_integer, 32),
    "long": partial(_integer, 64),
}
_LOGICAL: Mapping[str | None, ReadValue] = {
    "timestamp-micros": _instant,
    "date": _date,
    "uuid": _uuid,
}
_COMPLEX: Mapping[str, Callable[[Mapping[str, Any], dict[str, ReadValue]], ReadValue]] = {
    "enum": _enum_reader,
    "record": _nested_reader,
    "array": _array_reader,
    "fixed": _fixed_reader,
}
