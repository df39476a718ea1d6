"""`consent-ledger reconstruct`: a number, or a decision, as it was at a past moment."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from consent.errors import Rejected
from consent.privacy import subject_token
from consent_ledger.api.reconstruct_answers import (
    later_answer,
    reconstruct_answer,
    replay_answer,
)
from consent_ledger.api.reconstruct_models import ReconstructRequest
from consent_ledger.api.reconstructions import moment_of
from consent_ledger.bootstrap_store import store_parameters
from consent_ledger.cli.access_reason import AccessReason, record_local_access
from consent_ledger.cli.addresses import number_given
from consent_ledger.keys import load_keys
from consent_ledger.past_tables import show_past, show_replay
from consent_ledger.reconstruction import Reconstructor
from consent_ledger.rule_files import load_rulebook, text_of
from consent_ledger.settings import Settings, load_settings
from projections.clickhouse import Store
from projections.past import Past

_FINDING = 1


Number = Annotated[str | None, typer.Option(help="E.164, e.g. +14155550123; - for standard input.")]
At = Annotated[str | None, typer.Option(help="The moment asked about, RFC 3339.")]
KnownAt = Annotated[
    str | None,
    typer.Option(help="As known when; the moment itself, as the dialer knew, if not given."),
]
Later = Annotated[
    str | None, typer.Option(help="A later time to look from: what arrived in between?")
]
CallFile = Annotated[Path | None, typer.Option(help="A JSON file with the call to ask about.")]
Seller = Annotated[str | None, typer.Option(help="Ask about a call on its behalf.")]
Purpose = Annotated[str, typer.Option(help="MARKETING, INFORMATIONAL, …")]
Mode = Annotated[str, typer.Option(help="LIVE, PRERECORDED, ARTIFICIAL, AI_VOICE")]
Dial = Annotated[str, typer.Option(help="MANUAL, PREVIEW, PROGRESSIVE, PREDICTIVE, ATDS")]
Campaign = Annotated[str | None, typer.Option(help="Id of the campaign.")]
Matter = Annotated[str | None, typer.Option(help="Goods or services it is about.")]
States = Annotated[
    list[str] | None, typer.Option(help="Where the person is, e.g. US-TX; repeatable.")
]
DecisionId = Annotated[
    str | None, typer.Option(help="Make the recorded decision of this id again.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def command(
    number: Number = None,
    at: At = None,
    known_at: KnownAt = None,
    difference: Later = None,
    request: CallFile = None,
    seller: Seller = None,
    purpose: Purpose = "MARKETING",
    mode: Mode = "LIVE",
    dial: Dial = "MANUAL",
    campaign: Campaign = None,
    subject: Matter = None,
    state: States = None,
    decision: DecisionId = None,
    why: AccessReason = None,
    as_json: AsJson = False,
) -> None:
    """Show what was true and known of a number at a past moment, or make a decision again.

    Asked about a call, what it would have been answered. Reads ClickHouse only. Exit code 0; with
    --decision 1 if it does not come out as it was recorded.
    """
    settings = load_settings()
    if decision is not None:
        if number is not None or at is not None:
            raise Rejected("AMBIGUOUS", "--decision", "", "give it alone, or --number and --at")
        _again(settings, decision, why, as_json)
        return
    if number is None:
        raise Rejected("MISSING", "--number", "", "give --number and --at, or --decision")
    asked: dict[str, Any] = {"at": at, "known_at": known_at, "difference": difference}
    if request is not None:
        asked["call"] = _from_file(request)
    elif seller is not None:
        words = {"purpose": purpose, "call_mode": mode, "dial_mode": dial}
        asked["call"] = {
            "seller_id": seller,
            **{name: word.upper() for name, word in words.items()},
            "campaign_id": campaign,
            "subject_matter": subject,
            "states": state or [],
        }
    _at_moment(settings, number_given(number, settings), _read(asked), why, as_json)


def _at_moment(
    settings: Settings, number: str, asked: ReconstructRequest, why: str | None, as_json: bool
) -> None:
    moment, later = moment_of(asked)
    history_key = load_keys(settings).history
    store = Store.connect(store_parameters(settings))
    try:
        token = subject_token(history_key, number)
        record_local_access(store, settings, "reconstruct", why, token)
        made = _reconstructor(settings, store, history_key)
        if later is None:
            answer = reconstruct_answer(made.at_moment(number, moment, asked.call))
        else:
            answer = later_answer(made.difference(number, moment, later, asked.call))
    finally:
        store.close()
    if as_json:
        _print(answer)
    else:
        show_past(answer)


def _again(settings: Settings, event_id: str, why: str | None, as_json: bool) -> None:
    history_key = load_keys(settings).history
    store = Store.connect(store_parameters(settings))
    try:
        named = {"decision_id": event_id}
        record_local_access(store, settings, "reconstruct", why, None, named)
        answer = replay_answer(_reconstructor(settings, store, history_key).decision(event_id))
    finally:
        store.close()
    if as_json:
        _print(answer)
    else:
        show_replay(answer)
    if not answer.same:
        raise typer.Exit(_FINDING)


def _reconstructor(settings: Settings, store: Store, history_key: bytes) -> Reconstructor:
    return Reconstructor(
        Past(store),
        history_key,
        load_rulebook(None),
        settings.rule_profile.upper(),
        settings.view_party_numbers_max,
    )


def _from_file(path: Path) -> Any:
    """The call in a file; what only a check has says nothing here."""
    try:
        said = json.loads(text_of(path, "--request"))
    except ValueError:
        raise Rejected("INVALID_JSON", "--request", str(path), "write one JSON object") from None
    if not isinstance(said, dict):
        raise Rejected("INVALID_JSON", "--request", str(path), "write one JSON object")
    beside = ("number", "explain", "freshness_ms_max")
    return {name: value for name, value in said.items() if name not in beside}


def _read(asked: dict[str, Any]) -> ReconstructRequest:
    try:
        return msgspec.convert(asked, ReconstructRequest)
    except msgspec.ValidationError as problem:
        text = str(problem).replace("`", "")
        raise Rejected("INVALID_CALL", "call", text[:200], "see docs/http.md") from None


def _print(answer: Any) -> None:
    sys.stdout.write(json.dumps(msgspec.to_builtins(answer)) + "\n")
