"""`consent-ledger retention`: let evidence go that nobody has to keep any more."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from consent.columns import NONCE_BYTES
from consent.retention_entries import month_text
from consent_ledger.bootstrap_brokers import keyed_partitions
from consent_ledger.bootstrap_log import log_verifier_key
from consent_ledger.bootstrap_store import log_folder, store_parameters
from consent_ledger.cli.access_reason import local_user
from consent_ledger.expiring import Expired, Expiring
from consent_ledger.keys import load_keys
from consent_ledger.logging import configure_logging
from consent_ledger.settings import Settings, load_settings
from consent_ledger.terminal import err, out
from projections.clickhouse import Store
from projections.log_folder import LogFolder
from projections.retention import ExpiredMonth, Retention, RetentionConfig
from projections.retention import Progress as Told
from projections.state_folding import FoldingConfig
from projections.verification import Sources

_FINDING = 1
_FINDINGS_SHOWN_MAX = 20

group = typer.Typer(no_args_is_help=True, help="Let evidence go that is past its retention.")

AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON line per month, then the sums.")]


@group.command()
def plan(as_json: AsJson = False) -> None:
    """Show which months of evidence are past their retention, and what of them would stay.

    Changes nothing. The retention is CONSENT_RETENTION_EVIDENCE_MONTHS.
    """
    with _retention(load_settings()) as (retention, _):
        months = retention.plan()
    if as_json:
        for month in months:
            _print(_fields(month))
        _print({"kept_from": month_text(retention.kept_from), "rows": _rows(months)})
        return
    _show_plan(months, retention.kept_from)


@group.command()
def apply(as_json: AsJson = False) -> None:
    """Delete the evidence that `plan` shows, each month once the proof log says so.

    A month is verified first: exit code 1, and nothing of it deleted, if anything was altered.
    Needs the log's folder and a running `worker seal`; exit code 3 if it does not seal in time.
    Ended in the middle, run it again.
    """
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format, "retention")
    results = []
    with _retention(settings) as (retention, sources):
        expiring = Expiring(sources, retention, settings.retention_seal_timeout_ms / 1000)
        for month in retention.plan():
            if month.rows:
                with _progress(month_text(month.month)) as told:
                    results.append(expiring.apply(month, told))
                _show_result(results[-1], as_json)
    gone = sum(one.rows for one in results)
    if as_json:
        _print({"kept_from": month_text(retention.kept_from), "rows": gone})
    elif not results:
        out.print(f"Nothing to do: none from before {month_text(retention.kept_from)} has to go.")
    if any(one.findings for one in results):
        raise typer.Exit(_FINDING)


@contextmanager
def _retention(settings: Settings) -> Iterator[tuple[Retention, Sources]]:
    keys = load_keys(settings)
    store = Store.connect(store_parameters(settings))
    try:
        nonce = os.urandom(NONCE_BYTES)
        config = RetentionConfig(
            months=settings.retention_evidence_months,
            now=time.time_ns() // 1000,
            who=local_user(),
            folding=FoldingConfig(keyed_partitions(settings), keys.suppression, nonce),
            dead_letter_key=keys.dead_letters,
        )
        sources = Sources(store, LogFolder(log_folder(settings)), [log_verifier_key(settings)])
        yield Retention(store, config), sources
    finally:
        store.close()


@contextmanager
def _progress(month: str) -> Iterator[Told]:
    """A bar over the partitions of a month, on a terminal only."""
    if not err.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn(f"{month}: carrying states over"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err, transient=True) as shown:
        task = shown.add_task("partitions", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _show_plan(months: list[ExpiredMonth], kept_from: int) -> None:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("month")
    for name in ("goes", "stays: called since", "stays: legal hold"):
        table.add_column(name, justify="right")
    for month in months:
        counts = (month.rows, month.in_use, month.under_hold)
        table.add_row(month_text(month.month), *(f"{count:,}" for count in counts))
    if months:
        out.print(table)
    out.print(
        f"{_rows(months):,} rows of evidence from before {month_text(kept_from)} would go. "
        "Facts and their proofs stay."
    )


def _show_result(result: Expired, as_json: bool) -> None:
    month = month_text(result.month)
    if as_json:
        found = [finding.as_fields() for finding in result.findings]
        _print({"month": month, "rows": result.rows, "findings": found})
        return
    if not result.findings:
        out.print(f"{month}: {result.rows:,} rows of evidence deleted")
        return
    out.print(f"{month}: nothing deleted, since it does not verify:")
    for finding in result.findings[:_FINDINGS_SHOWN_MAX]:
        out.print(f"  {finding}", markup=False, soft_wrap=True)
    if len(result.findings) > _FINDINGS_SHOWN_MAX:
        out.print("  and more; `consent-ledger verify` shows all")


def _fields(month: ExpiredMonth) -> dict[str, Any]:
    return {
        "month": month_text(month.month),
        "rows": month.rows,
        "in_use": month.in_use,
        "under_hold": month.under_hold,
    }


def _rows(months: list[ExpiredMonth]) -> int:
    return sum(month.rows for month in months)


def _print(fields: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
