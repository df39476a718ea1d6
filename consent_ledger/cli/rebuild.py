"""`consent-ledger rebuild`: fold the history back into the projection of a log that began anew."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from consent.errors import Corrupt
from consent_ledger.adapters import topic_administration
from consent_ledger.bootstrap import rebuild_counts, rebuild_suppression, tallies_folder
from consent_ledger.bootstrap_brokers import admin_connection, adopt_registry_ids, topic_layout
from consent_ledger.bootstrap_store import prepare_store
from consent_ledger.logging import configure_logging
from consent_ledger.settings import Settings, load_settings


def command(
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Create missing topics and tables first.")
    ] = False,
) -> None:
    """Fold the history back into an empty projection.

    For a log that was lost or began anew: writes every number's state, as history knows it, to the
    suppression topic, and campaigns' counts to theirs. Harmless to repeat. Run it before workers
    and API start; `up` does.
    """
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format, "rebuild")
    asyncio.run(adopt_registry_ids(settings))
    if prepare:
        _prepare(settings)
    report = asyncio.run(rebuild_suppression(settings))
    # Where workers start after this, on this machine, they go on from what was counted.
    folder = tallies_folder(settings) if prepare and settings.embedded else None
    counts = asyncio.run(rebuild_counts(settings, folder))
    typer.echo(f"{report.facts} facts folded into the states of {report.numbers} numbers")
    typer.echo(f"{counts} counts of campaigns' calls written")
    if report.facts_of_erased:
        typer.echo(f"{report.facts_of_erased} facts of erased people stay without a number")
    if report.opt_outs_lost or report.unreadable_now:
        raise Corrupt(
            f"{report.opt_outs_lost} unreadable opt-outs name nobody any more, "
            f"{report.unreadable_now} records can't be read again: see the log"
        )


def _prepare(settings: Settings) -> None:
    topics = topic_administration.apply(admin_connection(settings), topic_layout(settings))
    migrations = prepare_store(settings)
    typer.echo(f"{len(topics.created)} topics created, {len(migrations)} migrations applied")
