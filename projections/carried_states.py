"""States that were carried over when the evidence that they rest on passed its retention.

Evidence is where a number stands and what a part of a state is made of, so before it goes, the
state of each person's records in a range of a log is kept here, with the number. Whoever folds the
history takes it instead of those records. A row says the same however often it is written. An
erasure reaches it as it reaches evidence (`projections.erasures`). Retries nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow

from consent.facts import LogPartition
from projections.clickhouse import Store

TABLE: Final = "carried_states"
_ROWS_AT_ONCE: Final = 50_000

_RANGE: Final = "log_id = unhex({log_id:String}) AND partition = {partition:Int32}"
_GROUPS: Final = """
SELECT DISTINCT hex(log_id), offset_first FROM carried_states
WHERE partition = {partition:Int32} ORDER BY 1, 2
"""
_BODIES: Final = f"""
SELECT number, body FROM carried_states
WHERE {_RANGE} AND offset_first = {{first:Int64}} AND body != ''
"""  # noqa: S608
_COVERED: Final = f"""
SELECT DISTINCT subject, offset_first, offset_last FROM carried_states
WHERE {_RANGE} AND offset_first <= {{last:Int64}} AND offset_last >= {{first:Int64}}
    AND subject IN (
        SELECT subject FROM facts
        WHERE {_RANGE} AND topic = {{topic:String}}
            AND offset BETWEEN {{first:Int64}} AND {{last:Int64}}
    )
"""  # noqa: S608
_SUBJECTS: Final = f"""
SELECT DISTINCT subject FROM carried_states
WHERE {_RANGE} AND offset_first = {{first:Int64}} AND offset_last = {{last:Int64}}
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class LogRange:
    """Offsets of one log partition, the last one included."""

    origin: LogPartition
    offset_first: int
    offset_last: int

    @property
    def parameters(self) -> dict[str, Any]:
        """For statements."""
        return {
            "log_id": self.origin.log_id.hex(),
            "topic": self.origin.topic,
            "partition": self.origin.partition,
            "first": self.offset_first,
            "last": self.offset_last,
        }


class Covered:
    """Which records of a stretch are in a carried state, and so must not be folded again."""

    def __init__(self, rows: Sequence[tuple[bytes, int, int]]) -> None:
        self._ranges: dict[bytes, list[tuple[int, int]]] = {}
        for subject, first, last in rows:
            self._ranges.setdefault(bytes(subject), []).append((int(first), int(last)))

    def has(self, subject: bytes, offset: int) -> bool:
        """True if the record of this subject at this offset is carried."""
        return any(first <= offset <= last for first, last in self._ranges.get(subject, ()))


def carried_of(store: Store, partition: int) -> Iterator[tuple[bytes, bytes]]:
    """Number and state of everything carried from a partition, of every incarnation of the log."""
    for log_id, first in _rows(store, _GROUPS, {"partition": partition}):
        wanted = {"log_id": log_id.decode(), "partition": partition, "first": first}
        for number, body in _rows(store, _BODIES, wanted):
            yield bytes(number), bytes(body)


def covered_in(store: Store, stretch: LogRange) -> Covered:
    """What of a stretch is carried."""
    return Covered(_rows(store, _COVERED, stretch.parameters))


def subjects_carried(store: Store, over: LogRange) -> set[bytes]:
    """Subjects whose records of exactly this range are carried."""
    return {bytes(subject) for (subject,) in _rows(store, _SUBJECTS, over.parameters)}


def keep_carried(store: Store, over: LogRange, states: Mapping[bytes, tuple[str, bytes]]) -> None:
    """Keep, by subject, number and state of a range; on return they are stored."""
    subjects = sorted(states)
    for start in range(0, len(subjects), _ROWS_AT_ONCE):
        some = subjects[start : start + _ROWS_AT_ONCE]
        rows = [_row(over, subject, *states[subject]) for subject in some]
        table = pyarrow.Table.from_pylist(rows, schema=_SCHEMA)
        digest = hashlib.sha256(b"".join(some)).hexdigest()
        place = f"{over.origin.log_id.hex()}|{over.origin.partition}|{over.offset_first}"
        store.insert_arrow(TABLE, table, f"v1|{TABLE}|{place}-{over.offset_last}|{digest}")


def _row(over: LogRange, subject: bytes, number: str, body: bytes) -> dict[str, Any]:
    return {
        "log_id": over.origin.log_id,
        "topic": over.origin.topic,
        "partition": over.origin.partition,
        "offset_first": over.offset_first,
        "offset_last": over.offset_last,
        "subject": subject,
        "number": number,
        "body": body,
    }


def _rows(store: Store, query: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    table = store.query_arrow(query, parameters, strings_as_bytes=True)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


_SCHEMA: Final = pyarrow.schema(
    [
        ("log_id", pyarrow.binary()),
        ("topic", pyarrow.string()),
        ("partition", pyarrow.int32()),
        ("offset_first", pyarrow.int64()),
        ("offset_last", pyarrow.int64()),
        ("subject", pyarrow.binary()),
        ("number", pyarrow.string()),
        ("body", pyarrow.binary()),
    ]
)
