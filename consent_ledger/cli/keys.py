"""`consent-ledger keys`: make the secret keys of a ledger, and keys for its API."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from consent.errors import Rejected
from consent_ledger.cli.permit_keys import permit_group
from consent_ledger.keys import create_missing_keys, key_paths
from consent_ledger.permit_keys import create_missing_permit_key, permit_keys_folder
from consent_ledger.settings import load_settings, variable_name

group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
group.add_typer(permit_group, name="permit")


class RoleName(StrEnum):
    """The roles of the API, here once more so that help needs no web framework."""

    PUBLISHER = "publisher"
    DIALER = "dialer"
    AUDITOR = "auditor"
    PRIVACY = "privacy"
    ADMIN = "admin"


@group.callback()
def _about() -> None:
    """Make the secret keys of a ledger, and keys for its API."""


@group.command("init")
def init() -> None:
    """Make each secret key that has no file yet. Never replaces one: a lost key is lost."""
    settings = load_settings()
    made = set(create_missing_keys(settings))
    for name, path in key_paths(settings).items():
        typer.echo(f"{'made' if path in made else 'kept'} {name} key {path}")
    permit_keys = create_missing_permit_key(settings)
    shown = permit_keys or [permit_keys_folder(settings)]
    typer.echo(f"{'made' if permit_keys else 'kept'} permit key {shown[0]}")
    if made or permit_keys:
        typer.echo("Keep a copy of the keys apart from the data: without them it can't be read.")


@group.command("log")
def log() -> None:
    """Print the public key of the proof log, for those who verify it or cosign it."""
    from consent_ledger.bootstrap_log import log_verifier_key

    typer.echo(log_verifier_key(load_settings()).encoded)


@group.command("api")
def api(
    name: Annotated[str, typer.Argument(help="Whose key it is; stands in logs.")],
    role: Annotated[list[RoleName], typer.Option(help="What it may do; repeatable.")],
    seller: Annotated[
        list[str] | None, typer.Option(help="Bind it to this seller; repeatable.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Succeed, and change nothing, if there is one already.")
    ] = False,
) -> None:
    """Make a key for the HTTP API: its digest goes to the file that `serve` reads at its start.

    The key itself goes to `api-NAME.key` in the data folder and is kept nowhere else.
    """
    from consent_ledger.api_key_file import NewApiKey, add_api_key

    settings = load_settings()
    if settings.api_keys_file is None:
        variable = variable_name("api_keys_file")
        raise Rejected("MISSING_SETTING", variable, "nothing", "say which file holds the keys")
    token_path = settings.data_dir / f"api-{name}.key"
    wanted = NewApiKey(name, tuple(one.value for one in role), tuple(seller or ()))
    if add_api_key(settings.api_keys_file, token_path, wanted):
        typer.echo(f"made the key {token_path} and its entry in {settings.api_keys_file}")
    elif once:
        typer.echo(f"kept the key of {name} in {settings.api_keys_file}")
    else:
        shown = str(settings.api_keys_file)
        raise Rejected("NAME_TAKEN", name, shown, "choose another name, or remove that entry")
