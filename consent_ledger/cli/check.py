"""`consent-ledger check`: may this number be called now?"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from consent_ledger.cli.addresses import api_address, number_given
from consent_ledger.client import ApiAddress, ApiClient
from consent_ledger.explanation import explain, explanation_view
from consent_ledger.settings import load_settings
from consent_ledger.terminal import out

_STYLES = {"allow": "bold green", "deny": "bold red", "unavailable": "bold yellow"}
_EXIT_CODES = {"allow": 0, "deny": 1, "unavailable": 3}


def command(
    number: Annotated[str, typer.Argument(help="E.164, e.g. +14155550123; - for standard input.")],
    seller: Annotated[str, typer.Option(help="On whose behalf.")],
    purpose: Annotated[str, typer.Option(help="MARKETING, INFORMATIONAL, …")] = "MARKETING",
    mode: Annotated[str, typer.Option(help="LIVE, PRERECORDED, ARTIFICIAL, AI_VOICE")] = "LIVE",
    dial: Annotated[str, typer.Option(help="MANUAL, PREVIEW, PROGRESSIVE, PREDICTIVE, ATDS")] = (
        "MANUAL"
    ),
    party: Annotated[str, typer.Option(help="CONSUMER, BUSINESS")] = "UNKNOWN",
    campaign: Annotated[str | None, typer.Option(help="Id of the campaign.")] = None,
    subject: Annotated[str | None, typer.Option(help="Goods or services it is about.")] = None,
    state: Annotated[
        list[str] | None, typer.Option(help="Where the person is, e.g. US-TX; repeatable.")
    ] = None,
    zone: Annotated[list[str] | None, typer.Option(help="IANA zone; repeatable.")] = None,
    test: Annotated[bool, typer.Option("--test", help="By rehearsed events only.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show by which rules and facts.")
    ] = False,
    to: Annotated[str | None, typer.Option(help="Address of `serve`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Ask whether NUMBER may be called now; the answer is recorded as a decision.

    Exit code 0 for allow, 1 for deny, 3 for unavailable.
    """
    settings = load_settings()
    request: dict[str, Any] = {
        "number": number_given(number, settings),
        "seller_id": seller,
        "purpose": purpose.upper(),
        "call_mode": mode.upper(),
        "dial_mode": dial.upper(),
        "party": party.upper(),
        "states": state or [],
        "zones": zone or [],
        "test": test,
        "explain": explain,
    }
    if campaign is not None:
        request["campaign_id"] = campaign
    if subject is not None:
        request["subject_matter"] = subject
    answer = asyncio.run(_ask(api_address(settings, to), request))
    if as_json:
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        _show(answer)
    raise typer.Exit(_EXIT_CODES[answer["verdict"]])


async def _ask(address: ApiAddress, request: dict[str, Any]) -> dict[str, Any]:
    async with ApiClient(address) as client:
        return await client.check(request)


def _show(answer: dict[str, Any]) -> None:
    verdict = answer["verdict"]
    out.print(Text(verdict.upper(), style=_STYLES[verdict]))
    for reason in answer["reasons"]:
        out.print(f"  {reason['code']}: {reason['text']}")
    for obligation in answer["obligations"]:
        out.print(f"  do: {obligation['text']} ({obligation['code']})")
    facts = Table.grid(padding=(0, 2))
    freshness = answer["freshness"]
    age = "unknown" if freshness["age_ms"] is None else f"{freshness['age_ms']} ms"
    for name, value in (
        ("rule", answer["rule"]),
        ("next allowed", answer["next_allowed"]),
        ("judged for", ", ".join(answer["states"])),
        ("age of the facts", age),
        ("permit", _permit(answer["permit"])),
        ("decision", answer["decision_id"]),
        ("rulebook", answer["rulebook"][:16]),
    ):
        if value:
            facts.add_row(Text(name, style="dim"), Text(str(value)))
    out.print(facts)
    if answer.get("trace"):
        reasons = [reason["code"] for reason in answer["reasons"]]
        out.print(explanation_view(explain(answer["trace"], answer["rule"], reasons)))


def _permit(permit: dict[str, str] | None) -> str | None:
    return None if permit is None else f"{permit['id']}, good until {permit['expires_at']}"
