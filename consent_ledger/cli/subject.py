"""`consent-ledger subject`: the token under which history holds a number, for questions in SQL."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from consent.privacy import subject_token
from consent_ledger.bootstrap_store import store_parameters
from consent_ledger.cli.access_reason import AccessReason, record_local_access
from consent_ledger.cli.addresses import number_given
from consent_ledger.keys import load_keys
from consent_ledger.settings import load_settings
from projections.clickhouse import Store


def command(
    number: Annotated[str, typer.Argument(help="E.164, e.g. +14155550123; - for standard input.")],
    why: AccessReason = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print the token of NUMBER, as the views of ClickHouse take it.

    Takes the history key, and is written down like every look at a person. Nothing is printed if
    that can't be.
    """
    settings = load_settings()
    token = subject_token(load_keys(settings).history, number_given(number, settings))
    store = Store.connect(store_parameters(settings))
    try:
        access_id = record_local_access(store, settings, "subject-token", why, token)
    finally:
        store.close()
    told = {"subject": token.hex(), "access_id": access_id}
    sys.stdout.write((json.dumps(told) if as_json else token.hex()) + "\n")
