"""`consent-ledger access`: export everything that is held on a person."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from consent_ledger.cli.access_reason import AccessReason
from consent_ledger.cli.addresses import api_address
from consent_ledger.cli.privacy_number import NumberFile, SubjectNumber, subject_number
from consent_ledger.client import ApiAddress, ApiClient
from consent_ledger.settings import load_settings


def command(
    number: SubjectNumber = None,
    number_file: NumberFile = None,
    file: Annotated[
        Path | None,
        typer.Option("--out", help="Write to this file, which only you can read, not to stdout."),
    ] = None,
    why: AccessReason = None,
    to: Annotated[str | None, typer.Option(help="Address of `serve`.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Machine-readable, instead of text.")
    ] = False,
) -> None:
    """Export all that is held on a person: events, evidence, decisions, state, dead letters."""
    settings = load_settings()
    asked = {"number": subject_number(number, number_file, settings)}
    answer = asyncio.run(_read(api_address(settings, to), asked, why))
    text = json.dumps(answer["content"], indent=1) + "\n" if as_json else answer["text"]
    if file is None:
        sys.stdout.write(text)
        return
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as written:
        written.write(text)


async def _read(address: ApiAddress, asked: dict[str, Any], why: str | None) -> dict[str, Any]:
    async with ApiClient(address) as client:
        return await client.access(asked, why)
