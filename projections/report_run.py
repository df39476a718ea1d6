"""Runs one report: makes its tables, asks its question, and says what the answer rests on.

Everything happens in one session of the store, under one query id; nothing is stored. The answer
names the period, the moment from which it is looked at, and the newest signed checkpoint then: what
was recorded before that can't have been altered since without `verify` telling.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import pyarrow

from consent.errors import Rejected
from projections.clickhouse import Store
from projections.errors import StoreRejected
from projections.report_catalogue import EVERY_ROW, Report
from projections.report_evidence import fill_evidence
from projections.report_tables import Period, fill_table

NO_CHECKPOINT: Final = "no checkpoint yet"
_EVIDENCE: Final = "personal_evidence"

Told = Callable[[str, int], None]
"""Called with what was read, and how many rows of it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: the period, sellers (none: all), other parameters, and if personal columns
    may be shown."""

    period: Period
    sellers: tuple[str, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict)
    personal: bool = False


@dataclass(frozen=True, slots=True)
class SeenCheckpoint:
    """The newest checkpoint when a report was made."""

    origin: str
    size: int
    root: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ReportAnswer:
    """The rows in their order; `findings` is how many of them are findings."""

    report: Report
    question: Question
    query_id: str
    checkpoint: SeenCheckpoint | None
    rows: pyarrow.Table
    findings: int

    @property
    def about(self) -> dict[str, Any]:
        """What the answer rests on, as plain values."""
        period, made = self.question.period, self.checkpoint
        return {
            "report": self.report.name,
            "title": self.report.title,
            "query_id": self.query_id,
            "from": period.since.isoformat(),
            "to": period.until.isoformat(),
            "known_at": period.known_at.isoformat(),
            "sellers": list(self.question.sellers),
            "parameters": _parameters(self.report, self.question.given),
            "checkpoint": NO_CHECKPOINT
            if made is None
            else {
                "origin": made.origin,
                "size": made.size,
                "root": made.root,
                "at": made.at.isoformat(),
            },
            "rows": self.rows.num_rows,
            "findings": self.findings,
        }


def _told_nobody(what: str, rows: int) -> None:
    del what, rows


def run_report(
    store: Store, report: Report, question: Question, told: Told = _told_nobody
) -> ReportAnswer:
    """The report's answer; Rejected for a parameter that it does not have.

    The same question gives the same rows as long as nothing was recorded after `known_at` under an
    earlier time. Personal columns are empty unless the question allows them.
    """
    given = _parameters(report, question.given)
    session, query_id = f"report-{uuid.uuid4()}", str(uuid.uuid4())
    checkpoint = _newest_checkpoint(store)
    for reading in report.readings:
        told(reading.table, fill_table(store, reading, question.period, session))
    if report.personal:
        told(_EVIDENCE, fill_evidence(store, report, session, question.personal))
    asked = {
        **question.period.parameters(),
        **given,
        "sellers": list(question.sellers),
        "personal": question.personal,
    }
    settings: dict[str, Any] = {"session_id": session, "query_id": query_id, "join_use_nulls": 1}
    try:
        rows = store.query_arrow(report.sql, asked, settings)
    except StoreRejected as problem:
        if question.given and problem.name == "BAD_QUERY_PARAMETER":
            remedy = "give values of the parameters' types"
            raise Rejected("INVALID_PARAMETER", "parameter", "(not shown)", remedy) from None
        raise
    _check_columns(report, rows.column_names)
    return ReportAnswer(report, question, query_id, checkpoint, rows, _findings(report, rows))


def _parameters(report: Report, given: Mapping[str, str]) -> dict[str, str]:
    known = {parameter.name: parameter.default for parameter in report.parameters}
    for name in given:
        if name not in known:
            remedy = f"it has {', '.join(known) or 'none'}"
            raise Rejected("UNKNOWN_PARAMETER", "parameter", name[:60], remedy)
    return {**known, **given}


def _newest_checkpoint(store: Store) -> SeenCheckpoint | None:
    rows = store.query_rows(
        "SELECT origin, size, lower(hex(root)), at FROM checkpoints "
        "ORDER BY at DESC, size DESC LIMIT 1"
    )
    return (
        SeenCheckpoint(str(rows[0][0]), int(rows[0][1]), rows[0][2], rows[0][3]) if rows else None
    )


def _check_columns(report: Report, names: Sequence[str]) -> None:
    documented = [column.name for column in report.columns]
    if list(names) != documented:
        raise ValueError(f"{report.name}: has columns {names}, documents {documented}")


def _findings(report: Report, rows: pyarrow.Table) -> int:
    if report.finding == EVERY_ROW:
        return int(rows.num_rows)
    if report.finding == "none":
        return 0
    return sum(bool(said) for said in rows.column(report.finding).to_pylist())
