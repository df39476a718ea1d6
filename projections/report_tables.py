"""Tables of decoded events, for one report: what SQL can't read out of a fact's bytes.

They are temporary tables of a session, so they end with it and nothing of them is stored. Facts
come in pages that hold all copies of an event, of which the first counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import polars
import pyarrow

from consent.columns import NONCE_BYTES, decode_columns, field_symbols
from consent.contracts import Schema, named_types, resolved
from consent.fact_columns import NO_SUBJECT, envelopes_of_facts, fact_contract
from projections.clickhouse import Store
from projections.report_catalogue import Reading

_PAGE_FACTS: Final = 200_000
_PLACE: Final = {
    "event_id": "String",
    "at": "DateTime64(6, 'UTC')",
    "recorded_at": "DateTime64(6, 'UTC')",
    "seller_id": "String",
    "subject": "String",
    "log_id": "String",
    "topic": "String",
    "partition": "Int32",
    "offset": "Int64",
    "elements": "Int64",
}
"""Columns that every table has; subject and log_id in hexadecimal."""

_WINDOWS: Final[Mapping[str, str]] = {
    "during": "recorded_at >= {from:DateTime64(6, 'UTC')} - INTERVAL 1 DAY "
    "AND effective_at >= {from:DateTime64(6, 'UTC')} AND effective_at < {to:DateTime64(6, 'UTC')}",
    "until": "effective_at < {to:DateTime64(6, 'UTC')}",
    "always": "1",
}
_MATCHING: Final = (
    "FROM facts WHERE event_name = {event:String} AND unreadable = '' AND NOT test "
    "AND recorded_at <= {known_at:DateTime64(6, 'UTC')} AND %s"
)
_COUNT: Final = "SELECT count() " + _MATCHING
_PAGE: Final = (
    "SELECT fact, toUnixTimestamp64Micro(effective_at) AS effective_us "
    + _MATCHING
    + " AND cityHash64(event_id) %% {pages:UInt32} = {page:UInt32} "
    "ORDER BY recorded_at, topic, partition, offset LIMIT 1 BY event_id"
)


@dataclass(frozen=True, slots=True)
class Period:
    """From when to when (not included), as known at a moment."""

    since: datetime
    until: datetime
    known_at: datetime

    def parameters(self) -> dict[str, Any]:
        """As parameters of a query."""
        times = {"from": self.since, "to": self.until, "known_at": self.known_at}
        return {name: f"{at:%Y-%m-%d %H:%M:%S.%f}" for name, at in times.items()}


def fill_table(store: Store, reading: Reading, period: Period, session: str) -> int:
    """Make the table of one reading in a session; the number of its rows."""
    contract = fact_contract(reading.event, 1)
    if reading.exploded is None:
        shapes = _shapes(contract.schema, reading.fields)
    else:
        entry = _entry_schema(contract.schema, reading.exploded)
        shapes = _shapes(contract.schema, _own(contract.schema, reading.fields))
        rest = [one for one in reading.fields if one not in shapes]
        found = _shapes(entry, rest)
        shapes |= {_entry_column(reading.exploded, name): found[name] for name in rest}
    columns = {**_PLACE, **{name: shape.column for name, shape in shapes.items()}}
    declared = ", ".join(f"`{name}` {kind}" for name, kind in columns.items())
    inside = {"session_id": session}
    store.command(f"CREATE TEMPORARY TABLE {reading.table} ({declared}) ENGINE = Memory", inside)
    rows = 0
    for facts, times in _pages(store, reading, period):
        table = _decoded(reading, facts, times, columns)
        store.insert_temporary(reading.table, table, session)
        rows += table.num_rows
    return rows


def _pages(
    store: Store, reading: Reading, period: Period
) -> Iterator[tuple[list[bytes], list[int]]]:
    asked = {**period.parameters(), "event": reading.event}
    window = _WINDOWS[reading.window]
    count = int(store.query_rows(_COUNT % window, asked)[0][0])
    pages = -(-count // _PAGE_FACTS)
    for page in range(pages):
        found = store.query_arrow(
            _PAGE % window, {**asked, "pages": pages, "page": page}, strings_as_bytes=True
        )
        if found.num_rows:
            facts = found.column("fact").cast(pyarrow.large_binary()).to_pylist()
            yield facts, found.column("effective_us").to_pylist()


def _decoded(
    reading: Reading, facts: Sequence[bytes], times: Sequence[int], columns: Mapping[str, str]
) -> pyarrow.Table:
    nonce = os.urandom(NONCE_BYTES)
    envelopes = envelopes_of_facts(facts, nonce)
    place = envelopes.select(
        polars.Series("at", times, dtype=polars.Int64()),
        "recorded_at",
        polars.col("subject").fill_null(NO_SUBJECT).bin.encode("hex"),
        polars.col("log_id").bin.encode("hex"),
        "topic",
        "partition",
        "offset",
        "elements",
    )
    frames = []
    for version in sorted(set(envelopes.get_column("event_version").to_list())):
        rows = envelopes.get_column("event_version") == version
        payloads = envelopes.filter(rows).get_column("payload").to_list()
        frame = _payload(reading, version, payloads, nonce)
        frames.append(polars.concat([place.filter(rows), frame], how="horizontal"))
    whole = polars.concat(frames, how="diagonal")
    if reading.exploded is not None:
        whole = _unpacked(whole, reading.exploded, columns)
    missing = [polars.lit(None).alias(name) for name in columns if name not in whole.columns]
    typed = whole.with_columns(missing).select(
        _as_column(whole, name, kind) for name, kind in columns.items()
    )
    return typed.to_arrow(compat_level=polars.CompatLevel.oldest())


def _unpacked(whole: polars.DataFrame, name: str, columns: Mapping[str, str]) -> polars.DataFrame:
    """A row for each entry of a list of records, or for each record that is there."""
    if isinstance(whole.schema[name], polars.List):
        whole = whole.explode(name)
    whole = whole.drop_nulls(name)
    entry = polars.col(name).struct
    fields = whole.schema[name].to_schema()  # type: ignore[attr-defined]
    named = {_entry_column(name, field): field for field in fields}
    return whole.with_columns(
        entry.field(field).alias(column) for column, field in named.items() if column in columns
    )


def _entry_column(name: str, field: str) -> str:
    return f"{name}_{field}" if field in _PLACE else field


def _payload(
    reading: Reading, version: int, payloads: list[bytes], nonce: bytes
) -> polars.DataFrame:
    contract = fact_contract(reading.event, version)
    present = [field["name"] for field in contract.schema["fields"]]
    wanted = ["event_id", "seller_id", *_own(contract.schema, reading.fields)]
    if reading.exploded is not None:
        wanted.append(reading.exploded)
    names = [name for name in present if name in wanted]
    frame = decode_columns(contract, payloads, nonce, names)
    symbols = field_symbols(contract)
    return frame.with_columns(
        _words(polars.col(name), frame.schema[name], symbols[name])
        for name in names
        if name in symbols and name != reading.exploded
    )


def _words(column: polars.Expr, dtype: polars.DataType, symbols: tuple[str, ...]) -> polars.Expr:
    numbers = list(range(len(symbols)))
    if isinstance(dtype, polars.List):
        return column.list.eval(
            polars.element().replace_strict(numbers, symbols, return_dtype=polars.String())
        )
    return column.replace_strict(numbers, symbols, return_dtype=polars.String())


def _as_column(frame: polars.DataFrame, name: str, kind: str) -> polars.Expr:
    column = polars.col(name)
    if "DateTime64" in kind:
        return column.cast(polars.Datetime("us", "UTC"))
    if "Date32" in kind:
        return column.cast(polars.Date())
    if name in frame.columns and frame.schema[name] == polars.Binary():
        return column.bin.encode("hex")
    if kind.startswith("Array"):
        return column.fill_null([])
    if name not in frame.columns:
        return column.cast(polars.String())
    return column


@dataclass(frozen=True, slots=True)
class _Shape:
    column: str


def _own(schema: Schema, fields: Sequence[str]) -> list[str]:
    names = {field["name"] for field in schema["fields"]}
    return [name for name in fields if name in names]


def _shapes(schema: Schema, fields: Sequence[str]) -> dict[str, _Shape]:
    named = named_types(schema)
    types = {field["name"]: field["type"] for field in schema["fields"]}
    unknown = [name for name in fields if name not in types]
    if unknown:
        raise ValueError(f"{schema['name']} has no field {', '.join(unknown)}")
    return {name: _Shape(_column_type(types[name], named)) for name in fields}


def _column_type(schema: Any, named: Mapping[str, Any]) -> str:
    schema = resolved(schema, named)
    if isinstance(schema, list):
        inner = next(one for one in schema if one != "null")
        column = _column_type(inner, named)
        return column if column.startswith("Array") else f"Nullable({column})"
    kind = schema if isinstance(schema, str) else schema["type"]
    logical = schema.get("logicalType") if isinstance(schema, dict) else None
    if logical == "timestamp-micros":
        return "DateTime64(6, 'UTC')"
    if logical == "date":
        return "Date32"
    if kind == "array":
        return f"Array({_column_type(schema['items'], named)})"
    return {"boolean": "Bool", "int": "Int32", "long": "Int64"}.get(kind, "String")


def _entry_schema(schema: Schema, name: str) -> Schema:
    named = named_types(schema)
    listed = next(field["type"] for field in schema["fields"] if field["name"] == name)
    listed = resolved(listed, named)
    if isinstance(listed, list):
        listed = resolved(next(one for one in listed if one != "null"), named)
    entry = resolved(listed["items"], named) if listed["type"] == "array" else listed
    found: Schema = entry
    return found
