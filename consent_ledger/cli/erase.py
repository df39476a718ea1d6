"""`consent-ledger erase`: erase a person, and get the certificate."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from consent_ledger.cli.access_reason import AccessReason
from consent_ledger.cli.addresses import api_address
from consent_ledger.cli.privacy_number import NumberFile, SubjectNumber, subject_number
from consent_ledger.client import ApiAddress, ApiClient
from consent_ledger.settings import load_settings
from consent_ledger.terminal import out

_FINDING = 1


def command(
    request_id: Annotated[str, typer.Option("--request", help="Your id of the person's request.")],
    number: SubjectNumber = None,
    number_file: NumberFile = None,
    regulation: Annotated[
        str | None, typer.Option(help="Law that the person invoked, e.g. GDPR.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Write the certificate, as JSON, to this file.")
    ] = None,
    why: AccessReason = None,
    to: Annotated[str | None, typer.Option(help="Address of `serve`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Erase number and evidence of a person, and go on refusing to call them.

    Safe to repeat with the same --request: it goes on where it stopped. Exit code 0 if erased, 1
    if a legal hold stands in the way, 3 if a part is away: then do it again.
    """
    settings = load_settings()
    asked: dict[str, Any] = {
        "number": subject_number(number, number_file, settings),
        "request_id": request_id,
    }
    if regulation is not None:
        asked["regulation"] = regulation
    answer = asyncio.run(_erase(api_address(settings, to), asked, why))
    if certificate is not None and answer["certificate"] is not None:
        certificate.write_text(json.dumps(answer["certificate"], indent=1) + "\n")
    if as_json:
        sys.stdout.write(json.dumps(answer) + "\n")
    elif answer["status"] == "erased":
        out.print(answer["certificate_text"], markup=False, highlight=False, soft_wrap=True)
    else:
        holds = ", ".join(answer["hold_ids"])
        out.print(f"Refused: {answer['ground']} ({holds})", markup=False, soft_wrap=True)
    if answer["status"] != "erased":
        raise typer.Exit(_FINDING)


async def _erase(address: ApiAddress, asked: dict[str, Any], why: str | None) -> dict[str, Any]:
    async with ApiClient(address) as client:
        return await client.erase(asked, why)
