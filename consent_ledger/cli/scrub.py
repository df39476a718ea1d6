"""`consent-ledger scrub`: which numbers of a list may not be called?"""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from consent.errors import Rejected
from consent_ledger.cli.access_reason import AccessReason
from consent_ledger.cli.addresses import api_address
from consent_ledger.client import ApiClient, ApiUnavailable
from consent_ledger.settings import Settings, load_settings
from consent_ledger.terminal import err

_CHUNK_BYTES = 64 * 1024
_COLUMNS = ("number", "verdict", "reason", "next_allowed")

Line = dict[str, Any]


def command(
    file: Annotated[Path, typer.Argument(help="A number a line.", exists=True, dir_okay=False)],
    seller: Annotated[str, typer.Option(help="On whose behalf.")],
    purpose: Annotated[str, typer.Option(help="MARKETING, INFORMATIONAL, …")] = "MARKETING",
    mode: Annotated[str, typer.Option(help="LIVE, PRERECORDED, ARTIFICIAL, AI_VOICE")] = "LIVE",
    dial: Annotated[str, typer.Option(help="MANUAL, PREVIEW, PROGRESSIVE, PREDICTIVE, ATDS")] = (
        "MANUAL"
    ),
    party: Annotated[str, typer.Option(help="CONSUMER, BUSINESS")] = "UNKNOWN",
    campaign: Annotated[str | None, typer.Option(help="Id of the campaign.")] = None,
    subject: Annotated[str | None, typer.Option(help="Goods or services it is about.")] = None,
    results: Annotated[
        Path | None, typer.Option("--out", help="Write the answer there. Default: standard output.")
    ] = None,
    why: AccessReason = None,
    to: Annotated[str | None, typer.Option(help="Address of `serve`.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines instead of CSV; the last is the run.")
    ] = False,
) -> None:
    """Judge every number of FILE now. It permits no call: check each number when it is dialled.

    The log records one run, with counts by reason, and no number. Exit code 0 if every number was
    judged, 1 if some are no numbers, 3 if some are unavailable or the run was not recorded.
    """
    settings = load_settings()
    call: Line = {
        "seller_id": seller,
        "purpose": purpose.upper(),
        "call_mode": mode.upper(),
        "dial_mode": dial.upper(),
        "party": party.upper(),
    }
    given = {"campaign_id": campaign, "subject_matter": subject}
    call |= {name: text for name, text in given.items() if text is not None}
    with _written(results) as target, _progress(file) as show:
        writer = _JsonLines(target) if as_json else _Csv(target, file)
        run = asyncio.run(_scrub(settings, to, call, file, why, writer, show))
    _tell(run)
    raise typer.Exit(_exit_code(run))


class _JsonLines:
    """The answer as it comes."""

    def __init__(self, target: IO[str]) -> None:
        self._target = target

    def write(self, line: Line) -> None:
        self._target.write(json.dumps(line) + "\n")


class _Csv:
    """The answer beside the numbers that it is about, which it does not hold."""

    def __init__(self, target: IO[str], file: Path) -> None:
        self._rows = csv.writer(target, lineterminator="\n")
        self._rows.writerow(_COLUMNS)
        self._numbers = self._given(file)

    @staticmethod
    def _given(file: Path) -> Iterator[str]:
        with file.open(encoding="utf-8", errors="replace") as lines:
            yield from (text for text in (line.strip() for line in lines) if text)

    def write(self, line: Line) -> None:
        if "run" not in line:
            named = (line.get(name, "") for name in _COLUMNS[1:])
            self._rows.writerow((next(self._numbers), *named))


async def _scrub(
    settings: Settings,
    to: str | None,
    call: Line,
    file: Path,
    why: str | None,
    writer: _JsonLines | _Csv,
    show: Any,
) -> Line:
    line: Line = {}
    async with ApiClient(api_address(settings, to)) as client:
        async for line in client.scrub(call, _chunks(file), why):
            writer.write(line)
            show(line)
    if "run" not in line:
        raise ApiUnavailable("the answer ended before its last line: it is not whole")
    return dict(line["run"])


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as source:
        while part := source.read(_CHUNK_BYTES):
            yield part


@contextmanager
def _written(results: Path | None) -> Iterator[IO[str]]:
    if results is None:
        yield sys.stdout
        return
    try:
        with results.open("w", encoding="utf-8", newline="") as target:
            yield target
    except OSError as problem:
        raise Rejected("NO_FILE", "--out", str(results), problem.strerror or "") from problem


@contextmanager
def _progress(file: Path) -> Iterator[Any]:
    """Shows how many numbers are judged, on a terminal only."""
    if not err.is_terminal:
        yield lambda _line: None
        return
    columns = (TextColumn("scrubbing"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with file.open("rb") as lines, Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("scrubbing", total=sum(1 for _ in lines))
        yield lambda line: bar.update(task, completed=line.get("line"))


def _tell(run: Line) -> None:
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in run["verdicts"].items())
    err.print(f"{run['numbers']} numbers: {verdicts or 'none'}; run {run['run_id']}")
    for reason, count in sorted(run["reasons"].items(), key=lambda entry: -entry[1]):
        err.print(f"  {reason}: {count}")
    if not run.get("recorded", True):
        err.print("The run could not be recorded: do not rely on it.")


def _exit_code(run: Line) -> int:
    if not run.get("recorded", True) or run["verdicts"].get("unavailable"):
        return 3
    return 1 if run["verdicts"].get("rejected") else 0
