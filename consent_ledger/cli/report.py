"""`consent-ledger report`: the questions that a regulator asks, from ClickHouse."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from consent.document_values import closest
from consent.errors import Rejected
from consent.instants import parse_instant
from consent_ledger.bootstrap_store import store_parameters
from consent_ledger.cli.access_reason import AccessReason, record_local_access
from consent_ledger.report_files import FORMS, shown
from consent_ledger.settings import load_settings
from consent_ledger.terminal import err, out
from projections.clickhouse import Store
from projections.report_catalogue import Report, packaged_reports
from projections.report_run import Question, ReportAnswer, run_report
from projections.report_tables import Period

Form = Literal["table", "csv", "parquet", "json"]
_FINDING = 1
_DAYS = 30
_SHOWN_MAX = 1_000


def command(
    name: Annotated[str | None, typer.Argument(help="Which report; none: list them.")] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="First instant, RFC 3339. Default: 30 days ago.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Last instant, not included. Default: now.")
    ] = None,
    known_at: Annotated[
        str | None, typer.Option(help="As it was known then, RFC 3339. Default: now.")
    ] = None,
    seller: Annotated[list[str] | None, typer.Option(help="Of this seller; repeatable.")] = None,
    given: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of a parameter; repeatable.")
    ] = None,
    personal: Annotated[
        bool, typer.Option("--personal", help="Show numbers and names, where not erased.")
    ] = False,
    form: Annotated[Form, typer.Option("--format", help="How to print it.")] = "table",
    to_file: Annotated[Path | None, typer.Option("--out", help="Write to a file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As --format json.")] = False,
    why: AccessReason = None,
) -> None:
    """Run a report. Exit code 1 if it has findings.

    What it rests on (query id, times, checkpoint) is printed with it: for CSV and Parquet on the
    error stream. Who asked is written down first.
    """
    reports = packaged_reports()
    if name is None:
        _list(list(reports.values()), as_json)
        return
    if name not in reports:
        remedy = f"{closest(name, reports)}see consent-ledger report"
        raise Rejected("UNKNOWN_REPORT", "name", name[:60], remedy)
    period = _period(since, until, known_at)
    question = Question(period, tuple(seller or ()), _given(given or ()), personal)
    answer = _answer(reports[name], question, why)
    _show(answer, "json" if as_json else form, to_file)
    if answer.findings:
        raise typer.Exit(_FINDING)


def _answer(report: Report, question: Question, why: str | None) -> ReportAnswer:
    settings = load_settings()
    if report.whole_ledger and question.sellers:
        raise Rejected("NO_SELLERS", "--seller", report.name, "it is about the whole ledger")
    store = Store.connect(store_parameters(settings))
    try:
        about = {"report": report.name, "personal": str(question.personal).lower()}
        record_local_access(store, settings, "report", why, None, about)
        if not err.is_terminal:
            return run_report(store, report, question)
        with err.status(f"reading {report.name}") as status:
            return run_report(
                store,
                report,
                question,
                lambda what, rows: status.update(f"read {rows:,} rows of {what}"),
            )
    finally:
        store.close()


def _show(answer: ReportAnswer, form: Form, to_file: Path | None) -> None:
    if form == "table" and to_file is None:
        out.print(_table(answer))
        out.print(_about(answer), markup=False, soft_wrap=True)
        return
    content = FORMS["csv" if form == "table" else form](answer)
    if to_file is not None:
        to_file.write_bytes(content)
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    if form != "json" or to_file is not None:
        err.print(_about(answer), markup=False, soft_wrap=True)


def _table(answer: ReportAnswer) -> Table:
    table = Table(
        *answer.rows.column_names, box=SIMPLE_HEAD, pad_edge=False, title=answer.report.title
    )
    for row in answer.rows.slice(0, _SHOWN_MAX).to_pylist():
        table.add_row(*("" if value is None else str(shown(value)) for value in row.values()))
    return table


def _about(answer: ReportAnswer) -> str:
    about = answer.about
    made = about["checkpoint"]
    checkpoint = (
        made if isinstance(made, str) else f"{made['origin']} {made['size']} {made['root']}"
    )
    hidden = max(0, answer.rows.num_rows - _SHOWN_MAX)
    more = f"; the table shows {_SHOWN_MAX:,}, --format has all" if hidden else ""
    return "\n".join(
        (
            f"{about['rows']:,} rows, {about['findings']:,} findings{more}",
            f"from {about['from']} to {about['to']}, as known at {about['known_at']}",
            f"query {about['query_id']}",
            f"checkpoint {checkpoint}",
            *(f"note: {note}" for note in answer.report.notes),
        )
    )


def _list(reports: list[Report], as_json: bool) -> None:
    if as_json:
        told = [{"name": one.name, "title": one.title, "answers": one.answers} for one in reports]
        sys.stdout.write(json.dumps(told) + "\n")
        return
    table = Table("report", "what it shows", box=SIMPLE_HEAD, pad_edge=False)
    for one in reports:
        table.add_row(one.name, one.title)
    out.print(table)


def _period(since: str | None, until: str | None, known_at: str | None) -> Period:
    now = _instant(time.time_ns() // 1_000)
    last = now if until is None else _parsed("--to", until)
    first = last - timedelta(days=_DAYS) if since is None else _parsed("--from", since)
    if first >= last:
        raise Rejected("INVALID_PERIOD", "--from", str(since), "give one before --to")
    return Period(first, last, now if known_at is None else _parsed("--known-at", known_at))


def _parsed(option: str, text: str) -> datetime:
    try:
        return _instant(parse_instant(text))
    except ValueError:
        raise Rejected("INVALID_TIME", option, text[:60], "as 2026-11-25T17:30:00Z") from None


def _instant(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def _given(pairs: list[str] | tuple[str, ...]) -> dict[str, str]:
    made = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise Rejected("INVALID_PARAMETER", "--set", pair[:60], "write it as NAME=VALUE")
        made[name] = value
    return made
