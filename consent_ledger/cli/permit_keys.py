"""`consent-ledger keys permit`: make, show and retire the keys that sign permits."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from consent.instants import instant_text
from consent_ledger.permit_keys import (
    HeldKey,
    make_permit_key,
    permit_keys_folder,
    read_permit_keys,
    retire_permit_key,
)
from consent_ledger.settings import load_settings

permit_group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@permit_group.callback()
def _about() -> None:
    """Make, show and retire the keys that sign permits. `serve` notices within seconds."""


@permit_group.command("new")
def new(
    at_once: Annotated[
        bool,
        typer.Option(
            "--at-once", help="Sign with it at once: some verifiers will not know it yet."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is published at once, and signs once every verifier can know it."""
    settings, now = load_settings(), _now()
    folder = permit_keys_folder(settings)
    waits_us = settings.permit_key_overlap_ms * 1_000
    first = at_once or not read_permit_keys(folder).signs(now)
    path = make_permit_key(folder, now, now if first else now + waits_us)
    made = read_permit_keys(folder).find(path.stem)
    if as_json:
        typer.echo(json.dumps(_document(made, now)))
    else:
        typer.echo(f"made {path}; it signs from {instant_text(made.signs_from)}")
        typer.echo("Keep a copy apart from the data, and give it to every `serve` of this ledger.")


@permit_group.command("list")
def show(as_json: AsJson = False) -> None:
    """Show every key: which one signs, which wait, which are published only."""
    now = _now()
    keys = read_permit_keys(permit_keys_folder(load_settings())).keys
    if as_json:
        typer.echo(json.dumps([_document(key, now) for key in keys]))
        return
    for key in keys:
        dates = f"made {instant_text(key.created_at)}, signs from {instant_text(key.signs_from)}"
        if key.retired_at is not None and key.listed_until is not None:
            dates += f", retired {instant_text(key.retired_at)}"
            dates += f", published until {instant_text(key.listed_until)}"
        typer.echo(f"{key.key_id}  {key.state(now):7}  {dates}")


@permit_group.command("retire")
def retire(
    key: Annotated[str, typer.Argument(help="Its id, or how the id begins.")],
    at_once: Annotated[
        bool,
        typer.Option(
            "--at-once", help="Others may have it: publish it no more, its permits are void."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take a key out of use and delete its private part; another one must sign by then.

    It stays published until the last permit of it has run out, and the overlap after that.
    """
    settings, now = load_settings(), _now()
    overlap_us = settings.permit_key_overlap_ms * 1_000
    folder = permit_keys_folder(settings)
    retired = retire_permit_key(folder, key, now, overlap_us, at_once)
    if as_json:
        typer.echo(json.dumps(_document(retired, now)))
    else:
        until = instant_text(retired.listed_until or now)
        typer.echo(f"retired {retired.key_id}; it is published until {until}")


def _document(key: HeldKey, now: int) -> dict[str, str | None]:
    return {
        "key_id": key.key_id,
        "state": key.state(now),
        "created_at": instant_text(key.created_at),
        "signs_from": instant_text(key.signs_from),
        "retired_at": None if key.retired_at is None else instant_text(key.retired_at),
        "listed_until": None if key.listed_until is None else instant_text(key.listed_until),
    }


def _now() -> int:
    return time.time_ns() // 1_000
