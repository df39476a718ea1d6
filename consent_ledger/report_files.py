"""A report's answer in each form in which it can be had: JSON, CSV, Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, Final

import pyarrow
import pyarrow.parquet

from projections.report_run import ReportAnswer

_META: Final = b"consent-ledger.report"


def as_json(answer: ReportAnswer) -> bytes:
    """An object: what the answer rests on, what its columns mean, and `rows`."""
    content = {
        **answer.about,
        "answers": answer.report.answers,
        "notes": list(answer.report.notes),
        "columns": {column.name: column.meaning for column in answer.report.columns},
        "rows": [_plain(row) for row in answer.rows.to_pylist()],
    }
    return json.dumps(content, indent=1).encode() + b"\n"


def as_csv(answer: ReportAnswer) -> bytes:
    """A line of names, then a line for each row; what it rests on has to be told beside it.

    A text that a spreadsheet would take for a formula is put behind an apostrophe.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(answer.rows.column_names)
    for row in answer.rows.to_pylist():
        writer.writerow(_cell(value) for value in _plain(row).values())
    return text.getvalue().encode()


def as_parquet(answer: ReportAnswer) -> bytes:
    """A Parquet file; what it rests on is in its metadata under `consent-ledger.report`."""
    about = {_META: json.dumps(answer.about).encode()}
    table = answer.rows.replace_schema_metadata({**(answer.rows.schema.metadata or {}), **about})
    out = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, out)
    return bytes(out.getvalue().to_pybytes())


FORMS: Final[Mapping[str, Callable[[ReportAnswer], bytes]]] = {
    "json": as_json,
    "csv": as_csv,
    "parquet": as_parquet,
}

MEDIA_TYPES: Final[Mapping[str, str]] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: shown(value) for name, value in row.items()}


def shown(value: Any) -> Any:
    """A value as text where JSON has no such type; instants are RFC 3339."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list):
        return [shown(one) for one in value]
    return value


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        # A telephone number begins with a plus; it is no formula.
        return value if value[1:].isdigit() else "'" + value
    return value
