"""`consent-ledger demo`: show everything once with sample data, then stop."""

from __future__ import annotations

import asyncio
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from consent_ledger.cli.addresses import api_address
from consent_ledger.cli.main import INTERRUPTED
from consent_ledger.client import ApiClient
from consent_ledger.demonstration import (
    Change,
    DeadLetter,
    Demonstration,
    DemonstrationFailed,
    Published,
    TopicCount,
)
from consent_ledger.embedded import (
    LABELS,
    claimed_directory,
    embedded_settings,
    free_ports,
    make_supervisor,
)
from consent_ledger.keys import create_missing_keys
from consent_ledger.permit_keys import create_missing_permit_key
from consent_ledger.sample import SEED, make_sample
from consent_ledger.settings import Settings, load_settings
from consent_ledger.supervisor import Supervisor
from consent_ledger.terminal import observer, out

_STYLES = {"allow": "bold green", "deny": "bold red", "unavailable": "bold yellow"}


def command(
    running: Annotated[
        bool,
        typer.Option("--running", help="Use the ledger that the settings name; start nothing."),
    ] = False,
    keep: Annotated[
        Path | None, typer.Option(help="Keep the data in this folder, for `up` to go on with.")
    ] = None,
) -> None:
    """Start a ledger on free ports, publish a sample, show what a ledger shows, stop it.

    Exit code 0 if everything that was published is in the history once and a withdrawn consent
    denied the call, else 1.
    """
    if running:
        settings = load_settings()
        asyncio.run(_show(settings, secrets.randbits(32)))
        return
    with tempfile.TemporaryDirectory(prefix="consent-ledger-demo-") as temporary:
        folder = keep if keep is not None else Path(temporary)
        settings = embedded_settings(load_settings(**{**free_ports(), "data_dir": folder}))
        with claimed_directory(settings.data_dir):
            create_missing_keys(settings)
            create_missing_permit_key(settings)
            asyncio.run(_with_own_ledger(settings))


async def _with_own_ledger(settings: Settings) -> None:
    _title("A ledger of its own, on free ports")
    shown = observer(LABELS, {}, "Everything runs.")
    async with _running(make_supervisor(settings, shown)):
        await _show(settings, SEED)


@asynccontextmanager
async def _running(supervisor: Supervisor) -> AsyncIterator[None]:
    """Everything runs inside the block; a crash loop or a signal ends the block as well."""
    here, interrupted = asyncio.current_task(), False
    assert here is not None

    def interrupt() -> None:
        nonlocal interrupted
        if interrupted:
            supervisor.request_stop()
        interrupted = True
        here.cancel()

    def ended(_: object) -> None:
        here.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    run = asyncio.create_task(supervisor.run())
    run.add_done_callback(ended)
    try:
        await supervisor.wait_ready()
        yield
    except asyncio.CancelledError:
        if not interrupted and not run.done():
            raise
    finally:
        run.remove_done_callback(ended)
        supervisor.request_stop()
        await run
    if interrupted:
        raise typer.Exit(INTERRUPTED)


async def _show(settings: Settings, seed: int) -> None:
    async with ApiClient(api_address(settings, None)) as client:
        demonstration = Demonstration(settings, client)
        sample = make_sample(seed)
        _title("Publishing the sample")
        out.print(
            f"{len(sample.documents):,} events of fictional people: {sample.late} of them late, "
            f"{sample.repeated} sent twice."
        )
        _show_published(await demonstration.publish(sample))
        _show_rejected(await demonstration.reject())
        _title("May a machine call this number?")
        _show_verdict("consent given", await demonstration.renew())
        _show_verdict("to advertise, at this hour", await demonstration.check_advertising())
        change = await demonstration.withdraw()
        _show_verdict("after STOP", change.after)
        _show_change(change)
        await _show_history(demonstration)


async def _show_history(demonstration: Demonstration) -> None:
    store = await asyncio.to_thread(demonstration.connect_store)
    try:
        _title("The whole story of that number")
        _show_timeline(await demonstration.timeline())
        _title("A record that nobody can read")
        _show_dead_letter(await demonstration.bury(store))
        _title("Published and recorded")
        counts = await demonstration.counts(store)
        _show_counts(counts)
    finally:
        await asyncio.to_thread(store.close)
    if not all(count.equal for count in counts):
        raise DemonstrationFailed("history does not have each event that was published once")
    out.print(Text("Every event that was accepted is in the history, once.", style="bold green"))


def _title(text: str) -> None:
    out.print()
    out.rule(Text(text, style="bold"), align="left")


def _show_published(published: Published) -> None:
    parts = [f"{count:,} {status}" for status, count in sorted(published.statuses.items())]
    durable = "; each was answered once it was on disk" if published.recorded else ""
    out.print(f"{', '.join(parts)}, in {published.took_ms / 1000:.1f} s{durable}.")


def _show_rejected(result: dict[str, Any]) -> None:
    out.print(
        f"An event without a time is {result['status']}: {result['reason']} in "
        f"{result['field']}. To mend it, {result['remedy']}."
    )


def _show_verdict(when: str, answer: dict[str, Any]) -> None:
    line = Text(f"{when}: ").append(answer["verdict"].upper(), style=_STYLES[answer["verdict"]])
    for reason in answer["reasons"][:1]:
        line.append(f"  {reason['code']}: {reason['text']}")
    out.print(line)
    if answer["next_allowed"] not in (None, "on_event"):
        out.print(Text(f"  next allowed {answer['next_allowed']}", style="dim"))
    places = ", ".join([*answer["states"], *answer["zones"]])
    age_ms = answer["freshness"]["age_ms"]
    out.print(Text(f"  judged for {places}; facts up to {age_ms} ms before", style="dim"))


def _show_change(change: Change) -> None:
    out.print(
        Text("Denied ")
        .append(f"{change.denied_after_ms} ms", style="bold")
        .append(
            f" after the withdrawal was sent, on check {change.checks}; the sender was answered "
            f"after {change.accepted_after_ms} ms{', when it was on disk' * change.recorded}."
        )
    )


def _show_timeline(entries: Sequence[dict[str, Any]]) -> None:
    table = Table("happened (UTC)", "event", "what it means")
    for (kind, summary), same in groupby(entries, lambda one: (one["type"], one["summary"])):
        repeated = list(same)
        at = repeated[0]["occurred_at"][:19].replace("T", " ")
        times = f" ({len(repeated)} times)" if len(repeated) > 1 else ""
        table.add_row(at, kind, summary + times)
    out.print(table)


def _show_dead_letter(letter: DeadLetter) -> None:
    out.print(
        f"A malformed consent was written to the log itself. It permits nothing, and is kept, "
        f"encrypted, as a dead letter: {letter.reason} at {letter.topic}, partition "
        f"{letter.partition}, offset {letter.offset} ({letter.detail})."
    )


def _show_counts(counts: Sequence[TopicCount]) -> None:
    table = Table("topic")
    for heading in ("published", "in ClickHouse", "rows", ""):
        table.add_column(heading, justify="right")
    for count in counts:
        mark = Text("equal", style="green") if count.equal else Text("DIFFERENT", style="bold red")
        numbers = (f"{n:,}" for n in (count.published, count.recorded, count.rows))
        table.add_row(count.topic, *numbers, mark)
    out.print(table)
