"""What a drawn event says, by its type: fields by chance, of an instant in ms."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from consent.contracts import contracts
from tests.events import event

DAY_MS: Final = 86_400_000
US: Final = 1_000
"""Microseconds of a millisecond."""

Made = Callable[[random.Random, int], dict[str, Any]]


def _granted(draw: random.Random, at_ms: int) -> dict[str, Any]:
    at = at_ms * US
    return {
        "consent_kind": draw.choice(("PEWC", "PEWC", "EXPRESS", "IMPLIED")),
        "change": "GIVEN",
        "purposes": draw.choice((["MARKETING"], ["MARKETING", "SURVEY"])),
        "modes": draw.choice((["LIVE"], ["LIVE", "AI_VOICE"], ["PRERECORDED"])),
        "subject_matters": draw.choice(([], [], ["loans"], ["cards", "loans"])),
        "expires_at": draw.choice((None, None, at + 5 * DAY_MS * US)),
        "signed_at": draw.choice((None, at - 5_000_000)),
        "validity": None,
        "party": draw.choice(("CONSUMER", "UNKNOWN")),
        "seller_named": draw.random() < 0.5,
        "evidence": draw.choice((None, _SIGNED)),
    }


def _withdrawn(draw: random.Random, _at_ms: int) -> dict[str, Any]:
    return {
        "purposes": draw.choice(([], [], ["MARKETING"])),
        "modes": draw.choice(([], ["LIVE"])),
        "subject_matters": draw.choice(([], ["loans"])),
        "all_sellers": draw.random() < 0.1,
    }


def _refused(draw: random.Random, _at_ms: int) -> dict[str, Any]:
    return {
        "subject_matter": draw.choice((None, "loans")),
        "objection": draw.random() < 0.3,
    }


def _listed(draw: random.Random, at_ms: int) -> dict[str, Any]:
    kind = draw.choice(("INTERNAL", "INTERNAL", "NATIONAL"))
    return {
        "list_kind": kind,
        "list_id": "internal" if kind == "INTERNAL" else "us_national_dnc",
        "all_sellers": False,
        "whole_party": draw.random() < 0.2,
        "requested_at": draw.choice((None, at_ms * US - 10**9)),
        "listed_on": draw.choice((None, at_ms // DAY_MS)),
    }


def _unlisted(draw: random.Random, at_ms: int) -> dict[str, Any]:
    listed = _listed(draw, at_ms)
    return {name: listed[name] for name in ("list_kind", "list_id", "all_sellers")}


def _related(draw: random.Random, at_ms: int) -> dict[str, Any]:
    return {
        "relationship_kind": draw.choice(("PURCHASE", "INQUIRY", "CONTRACT")),
        "relationship_id": draw.choice((None, "r-1")),
        "on": at_ms // DAY_MS - draw.randrange(60),
        "status": draw.choice(("ACTIVE", "ENDED")),
        "ended_on": None,
        "related_subject_matters": [],
        "affiliate_expected": False,
        "call_from_at": None,
        "call_until_at": None,
    }


def _attributes(draw: random.Random, _at_ms: int) -> dict[str, Any]:
    return dict.fromkeys(_ATTRIBUTES) | {
        "place_source": draw.choice(("ADDRESS", "UNKNOWN")),
        "line_type": draw.choice((None, "MOBILE", "LANDLINE")),
        "party": draw.choice((None, "CONSUMER", "BUSINESS")),
        "states": draw.choice((None, ["US-TX"], ["US-FL", "US-NY"])),
        "zones": draw.choice((None, ["America/Chicago"])),
    }


def _checked(draw: random.Random, at_ms: int) -> dict[str, Any]:
    return {
        "answer": draw.choice(("NO", "NO", "YES", "NO_DATA")),
        "query_date": at_ms // DAY_MS - draw.randrange(40),
    }


def _placed(draw: random.Random, _at_ms: int) -> dict[str, Any]:
    return {
        "call_id": f"call {draw.getrandbits(40):x}",
        "permit_id": None,
        "subject_matter": draw.choice((None, "loans", "loans", "loans")),
        "purpose": "MARKETING",
        "call_mode": draw.choice(("LIVE", "AI_VOICE")),
        "dial_mode": draw.choice(("MANUAL", "PREDICTIVE")),
        "contact_kind": "CALL",
        "shipment_id": None,
    }


def _ended(draw: random.Random, _at_ms: int) -> dict[str, Any]:
    outcome = draw.choice(("ANSWERED_LIVE", "NO_ANSWER", "ABANDONED", "REFUSED", "MACHINE"))
    return {
        "subject_matter": draw.choice((None, "loans")),
        "outcome": outcome,
        "abandoned": outcome == "ABANDONED",
        "answered_live": outcome == "ANSWERED_LIVE",
        "refused": outcome == "REFUSED",
        "opted_out": draw.random() < 0.1,
        "opted_out_at": None,
        "purposes": [],
        "modes": [],
        "opt_out_all_sellers": False,
        "opt_out_whole_party": False,
    }


def _erased(draw: random.Random, at_ms: int) -> dict[str, Any]:
    return {"cutoff_at": at_ms * US - draw.randrange(10**9), "cutoffs": []}


MADE: Final[dict[str, Made]] = {
    "ConsentGranted": _granted,
    "ConsentWithdrawn": _withdrawn,
    "ConsentRefused": _refused,
    "DncAdded": _listed,
    "DncRemoved": _unlisted,
    "RelationshipRecorded": _related,
    "NumberAttributesRecorded": _attributes,
    "ReassignmentChecked": _checked,
    "CallPlaced": _placed,
    "CallEnded": _ended,
    "ErasureExecuted": _erased,
}
NAMES: Final = tuple(MADE)
WEIGHTS: Final = (16, 6, 3, 4, 2, 6, 6, 3, 30, 23, 1)
NAMES_OF_PARTIES: Final = ("ConsentGranted", "RelationshipRecorded", "DncAdded")
TEMPLATES: Final = {name: event(name) for name in NAMES}


def _nulls(record: str) -> dict[str, Any]:
    schema: Any = next(
        one for one in contracts().record(record).schema["fields"] if one["name"] == "evidence"
    )
    fields: list[Any] = schema["type"][1]["fields"]
    return {one["name"]: one.get("default") for one in fields}


EVIDENCE: Final = _nulls("ConsentGranted")
_SIGNED: Final = EVIDENCE | {"signature": "on file", "wording": "I agree to be called"}
_ATTRIBUTES: Final = tuple(
    name
    for name, value in TEMPLATES["NumberAttributesRecorded"].items()
    if name
    not in ("event_id", "occurred_at", "seller_id", "source", "test", "number", "salt", "evidence")
    and value is None
)
