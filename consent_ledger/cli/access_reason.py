"""The reason why somebody looks, and writing an access down from the command line."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from typing import Annotated

import typer

from consent.accesses import Access, checked_reason
from consent_ledger.bootstrap_store import access_reason_required
from consent_ledger.settings import Settings
from projections.access_log import record_access
from projections.clickhouse import Store

AccessReason = Annotated[
    str | None,
    typer.Option("--why", help="Why you look: a case or a request, never a person. Kept for ever."),
]
"""The option of every command that shows what history holds."""

_ROLE = "operator"


def record_local_access(
    store: Store,
    settings: Settings,
    what: str,
    why: str | None,
    subject: bytes | None = None,
    parameters: Mapping[str, str] | None = None,
) -> str:
    """Keep that the user of this machine looks; call it before reading.

    Rejected for a reason that is missing, where one is required, or that names a person.
    """
    reason = checked_reason(why, access_reason_required(settings))
    return record_access(
        store, Access(local_user(), _ROLE, what, reason, subject, parameters or {})
    )


def local_user() -> str:
    """Who runs a command on this machine, as entries of the log name them."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli:unknown"
