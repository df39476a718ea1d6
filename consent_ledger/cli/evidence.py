"""`consent-ledger evidence`: one number's story with its proofs, for somebody outside."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from consent.errors import Rejected
from consent.privacy import subject_token
from consent_ledger.bootstrap_log import log_signing_key
from consent_ledger.bootstrap_store import log_folder, store_parameters
from consent_ledger.cli.access_reason import AccessReason, record_local_access
from consent_ledger.cli.addresses import number_given
from consent_ledger.evidence_bundle import EvidenceBundle, EvidenceBundler, EvidenceQuestion
from consent_ledger.evidence_period import EvidencePeriod, period_of
from consent_ledger.evidence_scope import EvidenceScope
from consent_ledger.keys import load_keys
from consent_ledger.rule_files import load_rulebook
from consent_ledger.settings import load_settings
from consent_ledger.terminal import err, out
from projections.clickhouse import Store
from projections.log_folder import LogFolder


def command(
    number: Annotated[
        str,
        typer.Option(help="E.164, e.g. +14155550123; - for standard input.", show_default=False),
    ],
    path: Annotated[Path, typer.Option("--out", help="The .zip to write; must not exist yet.")],
    begin: Annotated[
        str | None, typer.Option("--from", help="First day or instant; everything if not given.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="Day or instant at which it ends; now if not given.")
    ] = None,
    zone_name: Annotated[
        str, typer.Option("--zone", help="Zone of days and of the times on the page.")
    ] = "UTC",
    copy: Annotated[
        list[Path] | None,
        typer.Option(help="A document whose SHA-256 an event states; repeatable.", exists=True),
    ] = None,
    why: AccessReason = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Write a bundle of evidence about NUMBER: the story to read, and proofs to check offline.

    It holds personal data. Reads ClickHouse and the log's folder, signs with the log's key. Exit
    code 3 if nothing was sealed yet.
    """
    settings = load_settings()
    canonical = number_given(number, settings)
    now = time.time_ns() // 1000
    period = period_of(begin, end, zone_name, now)
    if path.exists():
        raise Rejected("OUT_EXISTS", "--out", str(path), "give a name that is free")
    history_key, signing_key = load_keys(settings).history, log_signing_key(settings)
    store = Store.connect(store_parameters(settings))
    try:
        subject = subject_token(history_key, canonical)
        parameters = {"from": begin or "", "to": end or ""}
        record_local_access(store, settings, "evidence", why, subject, parameters)
        folder, reasons = LogFolder(log_folder(settings)), load_rulebook(None).reasons
        bundler = EvidenceBundler(store, folder, signing_key, history_key, reasons)
        copies = [one.read_bytes() for one in copy or ()]
        with _progress() as told:
            made = bundler.make(_question(canonical, period, now, zone_name, copies), told)
    finally:
        store.close()
    _write(path, made.data)
    _show(path, made, signing_key.verifier.encoded, as_json)


def _question(
    number: str, period: EvidencePeriod, now: int, zone_name: str, copies: list[bytes]
) -> EvidenceQuestion:
    scope = EvidenceScope(period.begin, period.end)
    return EvidenceQuestion(number, scope, now, zone_name, period.begin_given, copies)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, and for its owner only."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _show(path: Path, made: EvidenceBundle, key: str, as_json: bool) -> None:
    if as_json:
        told = {
            "out": str(path),
            "bytes": len(made.data),
            "facts": made.facts,
            "not_sealed_yet": made.unsealed,
            "checkpoint_size": made.checkpoint_size,
            "key": key,
        }
        sys.stdout.write(json.dumps(told) + "\n")
        return
    for line in made.checks:
        out.print(f"ok  {line}", markup=False, soft_wrap=True)
    if made.unsealed:
        out.print(f"{made.unsealed:,} records are not sealed yet, and left out: try again soon.")
    out.print(f"{path}: open story.html in it; an auditor runs", markup=False, soft_wrap=True)
    command_line = f'  python verify_bundle.py {path.name} --key "{key}"'
    out.print(command_line, markup=False, soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar, on a terminal only."""
    if not err.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn("proving"), BarColumn(), MofNCompleteColumn(), TextColumn("facts"))
    with Progress(*columns, console=err, transient=True) as shown:
        task = shown.add_task("facts", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
