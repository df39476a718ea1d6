"""`consent-ledger verify`: prove that nothing in history or log was altered or left out."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consent.columns import NONCE_BYTES
from consent.errors import Rejected
from consent.notes import NoteInvalid, VerifierKey
from consent.numbers import canonical_number
from consent.privacy import subject_token
from consent_ledger.bootstrap_log import log_verifier_key
from consent_ledger.bootstrap_store import log_folder, store_parameters
from consent_ledger.cli.access_reason import AccessReason, record_local_access
from consent_ledger.cli.addresses import number_given
from consent_ledger.keys import load_keys
from consent_ledger.settings import Settings, load_settings
from consent_ledger.terminal import err, out
from projections.clickhouse import Store
from projections.log_folder import LogFolder
from projections.verification import Progress as Told
from projections.verification import (
    Sources,
    Verification,
    VerificationLimits,
    VerificationReport,
    VerificationScope,
)
from projections.verification_findings import Place
from projections.verification_log import GivenCheckpoint

_FINDING = 1
_SHOWN_MAX = 1_000


def command(
    month: Annotated[str | None, typer.Option(help="Facts of one month only, YYYY-MM.")] = None,
    number: Annotated[
        str | None, typer.Option(help="Blocks with facts of one number; - for standard input.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="A checkpoint that somebody kept; repeatable.", exists=True),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(help="Public key of the log, or a file with it. Default: of `log.key`."),
    ] = None,
    at_rest: Annotated[
        bool, typer.Option("--at-rest", help="Nothing is being written: all must be sealed.")
    ] = False,
    evidence: Annotated[
        bool, typer.Option("--evidence/--no-evidence", help="Evidence against its commitments.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print findings as JSON lines.")] = False,
    why: AccessReason = None,
) -> None:
    """Check every fact against its block, every block against the log, the log against its
    checkpoints.

    Reads ClickHouse and the log's files only, and changes nothing; that you look at one number is
    written down. Exit code 0 if all is as it was
    sealed, 1 and each finding with its place if not. Give checkpoints that you kept, or had from a
    witness: without them, who has the log's key could have rewritten everything.
    """
    settings = load_settings()
    scope = VerificationScope(
        month=None if month is None else _month(month),
        subject=None if number is None else _subject(number, settings),
        checkpoints=[_given(path) for path in checkpoint or ()],
        at_rest=at_rest,
        evidence=evidence,
    )
    keys = [_key(text) for text in key] if key else [log_verifier_key(settings)]
    started = time.monotonic()
    report = _verified(settings, scope, keys, why)
    _show(report, time.monotonic() - started, as_json)
    if report.findings:
        raise typer.Exit(_FINDING)


def _verified(
    settings: Settings, scope: VerificationScope, keys: list[VerifierKey], why: str | None
) -> VerificationReport:
    """What was found; a look at one person is written down first."""
    store = Store.connect(store_parameters(settings))
    try:
        if scope.subject is not None:
            record_local_access(store, settings, "verify", why, scope.subject)
        sources = Sources(store, LogFolder(log_folder(settings)), keys)
        now, nonce = time.time_ns() // 1000, os.urandom(NONCE_BYTES)
        verification = Verification(sources, scope, VerificationLimits(), nonce, now)
        with _progress() as told:
            return verification.run(told)
    finally:
        store.close()


@contextmanager
def _progress() -> Iterator[Told]:
    """A bar with the rate, on a terminal only."""
    if not err.is_terminal:
        yield lambda done, total: None
        return
    columns = (
        TextColumn("verifying"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=err, transient=True) as shown:
        task = shown.add_task("facts", total=None, rate="")

        def told(done: int, total: int) -> None:
            rate = done / max(time.monotonic() - started, 0.001)
            shown.update(task, completed=done, total=total, rate=f"{rate:,.0f} facts/s")

        yield told


def _show(report: VerificationReport, seconds: float, as_json: bool) -> None:
    rate = report.facts / max(seconds, 0.001)
    if as_json:
        for finding in report.findings:
            sys.stdout.write(json.dumps(finding.as_fields()) + "\n")
        summary = {
            "entries": report.entries,
            "blocks": report.blocks,
            "blocks_unsealed": report.blocks_unsealed,
            "facts": report.facts,
            "evidence": report.evidence,
            "findings": len(report.findings),
            "seconds": round(seconds, 3),
            "facts_per_s": round(rate),
        }
        sys.stdout.write(json.dumps(summary) + "\n")
        return
    for finding in report.findings[:_SHOWN_MAX]:
        out.print(str(finding), markup=False, soft_wrap=True)
    if len(report.findings) > _SHOWN_MAX:
        out.print(f"... and {len(report.findings) - _SHOWN_MAX:,} more; --json prints all")
    pending = f", {report.blocks_unsealed:,} not yet in the log" if report.blocks_unsealed else ""
    out.print(
        f"{report.entries:,} log entries, {report.blocks:,} blocks{pending}, "
        f"{report.facts:,} facts, {report.evidence:,} evidence rows in {seconds:.1f} s "
        f"({rate:,.0f} facts/s)"
    )
    out.print(f"{len(report.findings):,} findings" if report.findings else "no findings")


def _month(text: str) -> int:
    found = re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", text)
    if found is None:
        raise Rejected("INVALID_MONTH", "--month", text, "Write it as 2026-11.")
    return int(found[1]) * 100 + int(found[2])


def _subject(number: str, settings: Settings) -> bytes:
    given = canonical_number(number_given(number, settings), settings.region_default)
    return subject_token(load_keys(settings).history, given)


def _given(path: Path) -> GivenCheckpoint:
    return GivenCheckpoint(path.read_text(), Place(path=str(path)))


def _key(text: str) -> VerifierKey:
    """A key as text, or as a file that holds it; the log's own must not be read from the log."""
    path = Path(text)
    try:
        return VerifierKey.parse(path.read_text() if "+" not in text and path.is_file() else text)
    except NoteInvalid as problem:
        raise Rejected("INVALID_KEY", "--key", str(problem), "Copy the log's public key.") from None
