"""Personal columns of a report: joined from `evidence`, where the asker may see them.

A row of evidence that is no more there was erased; the report says so instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import pyarrow

from consent.codec import decode_body
from consent.contracts import contracts, named_types, parse_schema, resolved
from projections.clickhouse import Store
from projections.report_catalogue import Report

TABLE: Final = "personal_evidence"
_TEXTS: Final = (
    "name",
    "email",
    "wording",
    "request_copy_uri",
    "consent_copy_uri",
    "recording_uri",
    "signature_method",
    "signature",
    "actor",
    "other_number",
)
_COLUMNS: Final = (
    "log_id String, partition Int32, offset Int64, number Nullable(String), "
    "address Nullable(String), " + ", ".join(f"{name} Nullable(String)" for name in _TEXTS)
)
_PAGE_ROWS: Final = 100_000
_FOUND: Final = """
SELECT lower(hex(e.log_id)) AS log_id, partition, offset, number, evidence FROM evidence AS e
WHERE (e.log_id, partition, offset) IN
    (SELECT toFixedString(unhex(log_id), 16), partition, offset FROM {table}
     ORDER BY log_id, partition, offset LIMIT {{rows:UInt32}} OFFSET {{skip:UInt64}})
"""


def fill_evidence(store: Store, report: Report, session: str, personal: bool) -> int:
    """Make the table of evidence of what the report reads; empty unless it may be shown."""
    inside: Mapping[str, str] = {"session_id": session}
    store.command(f"CREATE TEMPORARY TABLE {TABLE} ({_COLUMNS}) ENGINE = Memory", inside)
    if not personal:
        return 0
    rows = 0
    for reading in report.readings:
        query, skip = _FOUND.format(table=reading.table), 0
        held = int(store.query_rows(f"SELECT count() FROM {reading.table}", None, inside)[0][0])  # noqa: S608
        while skip < held:
            found = store.query_arrow(
                query, {"rows": _PAGE_ROWS, "skip": skip}, inside, strings_as_bytes=True
            )
            if found.num_rows:
                store.insert_temporary(TABLE, _readable(found), session)
            rows += found.num_rows
            skip += _PAGE_ROWS
    return rows


def _readable(found: pyarrow.Table) -> pyarrow.Table:
    rows = []
    for row in found.to_pylist():
        said = {} if row["evidence"] is None else decode_body(_evidence_schema(), row["evidence"])
        made: dict[str, Any] = {name: said.get(name) for name in _TEXTS}
        number = row["number"].decode() or None
        place = {"partition": row["partition"], "offset": row["offset"]}
        rows.append({"log_id": row["log_id"].decode(), **place, "number": number, **made})
        rows[-1]["address"] = _address(said.get("address"))
    return pyarrow.Table.from_pylist(rows, schema=_SCHEMA)


def _address(said: Mapping[str, Any] | None) -> str | None:
    parts = [] if said is None else [str(part) for part in said.values() if part]
    return ", ".join(parts).replace("\n", ", ") or None


@cache
def _evidence_schema() -> Any:
    schema = contracts().record("ConsentGranted").schema
    field = next(field for field in schema["fields"] if field["name"] == "evidence")
    record = resolved(field["type"][1], named_types(schema))
    return parse_schema(record)


_SCHEMA: Final = pyarrow.schema(
    [
        ("log_id", pyarrow.string()),
        ("partition", pyarrow.int32()),
        ("offset", pyarrow.int64()),
        ("number", pyarrow.string()),
        ("address", pyarrow.string()),
        *((name, pyarrow.string()) for name in _TEXTS),
    ]
)
