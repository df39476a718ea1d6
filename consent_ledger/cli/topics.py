"""`consent-ledger topics`: create the topics, or compare them with the contracts."""

from __future__ import annotations

import asyncio

import typer

from consent_ledger.adapters import topic_administration
from consent_ledger.adapters.topic_administration import TopicReport
from consent_ledger.bootstrap_brokers import (
    admin_connection,
    register_schemas,
    registry_connection,
    topic_layout,
)
from consent_ledger.settings import load_settings

group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@group.callback()
def _about() -> None:
    """Create the topics, or compare them with the contracts."""


@group.command("apply")
def apply() -> None:
    """Create what is missing and compare all; an existing topic is never changed.

    With a schema registry, registers every schema as well. Exit code 1 if a topic differs.
    """
    settings = load_settings()
    report = topic_administration.apply(admin_connection(settings), topic_layout(settings))
    connection = registry_connection(settings)
    if connection is not None:
        ids = asyncio.run(register_schemas(connection))
        typer.echo(f"{len(ids)} schemas are registered")
    _print(report)


@group.command("verify")
def verify() -> None:
    """Compare the topics with the contracts; changes nothing. Exit code 1 if one differs."""
    settings = load_settings()
    _print(topic_administration.verify(admin_connection(settings), topic_layout(settings)))


def _print(report: TopicReport) -> None:
    for name in report.created:
        typer.echo(f"created  {name}")
    for name in report.existing:
        typer.echo(f"as planned  {name}")
    for unverified in report.unverified:
        typer.echo(f"not reported by this broker  {unverified}")
    if report.not_enforced:
        typer.echo("kept but not acted on by this broker  " + ", ".join(report.not_enforced))
