"""`consent-ledger keys`: make the secret keys of a ledger."""

from __future__ import annotations

import typer

from consent_ledger.keys import create_missing_keys, key_paths
from consent_ledger.settings import load_settings

group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@group.callback()
def _about() -> None:
    """Make the secret keys."""


@group.command("init")
def init() -> None:
    """Make each key that has no file yet. Never replaces one: a lost key can't be made again."""
    settings = load_settings()
    made = set(create_missing_keys(settings))
    for name, path in key_paths(settings).items():
        typer.echo(f"{'made' if path in made else 'kept'} {name} key {path}")
    if made:
        typer.echo("Keep a copy of the keys apart from the data: without them it can't be read.")
