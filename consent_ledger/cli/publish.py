"""`consent-ledger publish`: publish the events of a file, and say what became of each."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from consent.errors import Rejected, Retryable
from consent_ledger.adapters.publisher import EventPublisher, PublisherConfig
from consent_ledger.bootstrap_brokers import adopt_registry_ids, broker_security
from consent_ledger.cli.addresses import api_address
from consent_ledger.client import ApiClient
from consent_ledger.mapping import CsvForm, MappingFile, load_mapping
from consent_ledger.publishing import (
    FilePublisher,
    HttpSink,
    LogSink,
    PublishLimits,
    Sink,
    Tally,
)
from consent_ledger.row_files import ResultFiles, RowEvent, csv_events, done_before, json_events
from consent_ledger.settings import Settings, load_settings
from consent_ledger.terminal import err, out, print_problem

Format = Literal["auto", "jsonl", "csv"]


@dataclass(frozen=True, slots=True)
class _Source:
    """The file to read; `size_bytes` is None where it can't be known."""

    file: TextIO
    position: io.BufferedReader | None
    size_bytes: int | None
    form: Literal["jsonl", "csv"]
    mapping: MappingFile | None


def command(
    file: Annotated[Path, typer.Argument(help="JSON lines or CSV; - for standard input.")],
    mapping: Annotated[
        Path | None, typer.Option(help="Mapping file (YAML): which column is which field.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="auto goes by the name.")] = "auto",
    to: Annotated[str | None, typer.Option(help="Address of `serve`.")] = None,
    kafka: Annotated[bool, typer.Option("--kafka", help="Write to the log itself.")] = False,
    wait: Annotated[
        str | None, typer.Option(help="Wait per batch until `projected` or `recorded`.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Keep one JSON line per event; events in it are not sent again."),
    ] = None,
    rejects: Annotated[
        Path | None, typer.Option(help="Keep rejected rows with the reason, as JSON lines.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Events in one request.")] = 500,
    in_flight: Annotated[int, typer.Option(min=1, max=64, help="Requests at once.")] = 4,
    retry_s: Annotated[int, typer.Option(min=0, help="How long to try again when away.")] = 60,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Publish the events of FILE; each is accepted, a duplicate, or rejected for itself.

    Sending the same file again is harmless: events go by their ids. Exit code 0 if all were taken,
    1 if some were rejected, 2 for a wrong mapping or option, 3 if the ledger could not be reached
    (run the same command again to go on).
    """
    if kafka and (to is not None or wait is not None):
        raise Rejected("INVALID_OPTION", "--kafka", "given", "leave out --to and --wait with it")
    if wait not in (None, "projected", "recorded"):
        raise Rejected("INVALID_OPTION", "--wait", wait or "", "give projected or recorded")
    settings = load_settings()
    limits = PublishLimits(batch, in_flight, retry_s * 1000)
    started = time.monotonic()
    with _opened(file, form, mapping) as source, _progress(source) as show:
        files = ResultFiles(results, rejects)
        publishing = _publish(source, files, done_before(results), limits, show)
        try:
            tally, away = asyncio.run(publishing(settings, to, kafka, wait))
        finally:
            files.close()
    _summarise(tally, time.monotonic() - started, as_json)
    if away is not None:
        print_problem(f"{away}; what was sent is kept, run the same command again to go on")
        raise typer.Exit(3)
    raise typer.Exit(1 if tally.statuses.get("rejected") else 0)


def _publish(
    source: _Source,
    files: ResultFiles,
    done: frozenset[str],
    limits: PublishLimits,
    show: Any,
) -> Any:
    async def run(
        settings: Settings, to: str | None, kafka: bool, wait: str | None
    ) -> tuple[Tally, Retryable | None]:
        async with _sink(settings, to, kafka, wait) as sink:
            publisher = FilePublisher(sink, files, done, limits, show)
            try:
                return await publisher.run(_events(source)), None
            except Retryable as problem:
                return publisher.tally, problem

    return run


@asynccontextmanager
async def _sink(
    settings: Settings, to: str | None, kafka: bool, wait: str | None
) -> AsyncIterator[Sink]:
    if not kafka:
        async with ApiClient(api_address(settings, to)) as client:
            yield HttpSink(client, wait)
        return
    await adopt_registry_ids(settings)
    config = PublisherConfig(
        bootstrap=settings.kafka_bootstrap,
        client_id="consent-ledger-publish",
        idempotent=not settings.embedded,
        security=broker_security(settings).aiokafka_options(),
    )
    publisher = EventPublisher(config)
    await publisher.start()
    try:
        yield LogSink(publisher, settings.region_default)
    finally:
        await publisher.stop()


def _events(source: _Source) -> Iterator[RowEvent]:
    if source.form == "jsonl":
        return json_events(source.file, source.mapping)
    if source.mapping is None:
        remedy = "say which column is which field, see docs/publishing.md"
        raise Rejected("MISSING_OPTION", "--mapping", "nothing", remedy)
    return csv_events(source.file, source.mapping, source.mapping.csv)


@contextmanager
def _opened(file: Path, form: Format, mapping_path: Path | None) -> Iterator[_Source]:
    mapping = None if mapping_path is None else load_mapping(mapping_path)
    kind: Literal["jsonl", "csv"] = "csv" if file.suffix.lower() == ".csv" else "jsonl"
    if form != "auto":
        kind = form
    csv_form = CsvForm() if mapping is None else mapping.csv
    encoding = csv_form.encoding if kind == "csv" else "utf-8-sig"
    if str(file) == "-":
        stream = io.TextIOWrapper(sys.stdin.buffer, encoding=encoding, newline="")
        yield _Source(stream, None, None, kind, mapping)
        return
    try:
        raw = file.open("rb")
    except OSError as problem:
        reason = problem.strerror or "can't be read"
        raise Rejected("NO_FILE", "FILE", str(file), reason) from problem
    with raw:
        text = io.TextIOWrapper(raw, encoding=encoding, errors="surrogateescape", newline="")
        yield _Source(text, raw, file.stat().st_size, kind, mapping)


@contextmanager
def _progress(source: _Source) -> Iterator[Any]:
    """Shows how far the file is read, on a terminal only."""
    if not err.is_terminal or source.size_bytes is None or source.position is None:
        yield lambda _tally: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[counts]}"),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("publishing", total=source.size_bytes, counts="")
        position = source.position

        def show(tally: Tally) -> None:
            counts = ", ".join(f"{count} {status}" for status, count in tally.statuses.items())
            bar.update(task, completed=position.tell(), counts=counts)

        yield show


def _summarise(tally: Tally, seconds: float, as_json: bool) -> None:
    sent = sum(tally.statuses.values())
    summary = {
        "rows": tally.rows,
        "events": tally.events,
        "skipped": tally.skipped,
        **{
            status: tally.statuses.get(status, 0)
            for status in ("accepted", "duplicate", "rejected")
        },
        "reasons": tally.reasons,
        "notices": tally.notices,
        "seconds": round(seconds, 3),
        "events_per_second": round(sent / seconds) if seconds else 0,
    }
    if as_json:
        sys.stdout.write(json.dumps(summary) + "\n")
        return
    out.print(
        f"{summary['rows']} rows, {summary['events']} events: {summary['accepted']} accepted, "
        f"{summary['duplicate']} duplicates, {summary['rejected']} rejected, "
        f"{summary['skipped']} done before; {summary['events_per_second']} events/s"
    )
    for title, counts in (("rejected", tally.reasons), ("notice", tally.notices)):
        for reason, count in sorted(counts.items(), key=lambda entry: -entry[1]):
            out.print(f"  {title} {reason}: {count}")
