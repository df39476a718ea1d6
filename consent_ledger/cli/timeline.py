"""`consent-ledger timeline`: all that history holds of a number, in order, in plain words."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from consent.document_values import closest
from consent.errors import Rejected
from consent.zones import zone, zone_names
from consent_ledger.cli.access_reason import AccessReason
from consent_ledger.cli.addresses import api_address, number_given
from consent_ledger.client import ApiAddress, ApiClient
from consent_ledger.settings import load_settings
from consent_ledger.terminal import out

_PAGE_ENTRIES = 1_000


def command(
    number: Annotated[str, typer.Argument(help="E.164, e.g. +14155550123; - for standard input.")],
    zone_name: Annotated[
        str, typer.Option("--zone", help="Zone of the times shown, e.g. America/New_York.")
    ] = "UTC",
    entries_max: Annotated[
        int, typer.Option("--limit", min=1, help="Show at most so many, oldest first.")
    ] = 10_000,
    include_test: Annotated[bool, typer.Option("--test", help="Rehearsals too.")] = False,
    why: AccessReason = None,
    to: Annotated[str | None, typer.Option(help="Address of `serve`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per entry.")] = False,
) -> None:
    """Show every event and decision of NUMBER, oldest first."""
    if zone_name not in zone_names():
        remedy = f"{closest(zone_name, zone_names())}give an IANA zone, e.g. America/New_York"
        raise Rejected("INVALID_ZONE", "--zone", zone_name, remedy)
    settings = load_settings()
    request = {"number": number_given(number, settings), "include_test": include_test}
    entries = asyncio.run(_read(api_address(settings, to), request, entries_max, why))
    if as_json:
        for entry in entries:
            sys.stdout.write(json.dumps(entry) + "\n")
        return
    if not entries:
        out.print("Nothing is held of this number.")
        return
    out.print(_table(entries, zone(zone_name)))


async def _read(
    address: ApiAddress, request: dict[str, Any], entries_max: int, why: str | None
) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    after: str | None = None
    async with ApiClient(address) as client:
        while len(entries) < entries_max:
            size = min(_PAGE_ENTRIES, entries_max - len(entries))
            asked = {**request, "entries_max": size, "after": after}
            page = await client.timeline(asked, why)
            entries += page["entries"]
            after = page["next"]
            if after is None:
                break
    return entries


def _table(entries: list[dict[str, Any]], where: ZoneInfo) -> Table:
    table = Table("happened", "seller", "what", box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[:2]:
        column.no_wrap = True
    for entry in entries:
        what = Text(entry["summary"])
        for line in _details(entry, where):
            what.append(f"\n{line}", style="dim")
        table.add_row(_local(entry["occurred_at"], where), entry["seller_id"], what)
    table.caption = f"times in {where.key}"
    return table


def _details(entry: dict[str, Any], where: ZoneInfo) -> Iterator[str]:
    for reason in entry.get("reasons", ()):
        yield f"{reason['code']}: {reason['text']}"
    if entry.get("evidence"):
        yield "with " + ", ".join(entry["evidence"]).replace("_", " ")
    if entry.get("repeated"):
        yield "sent again; counted once"
    if entry.get("test"):
        yield "rehearsal"
    yield f"recorded {_local(entry['recorded_at'], where)}"


def _local(text: str, where: ZoneInfo) -> str:
    at = datetime.fromisoformat(text).astimezone(where)
    return at.strftime("%Y-%m-%d %H:%M:%S")
