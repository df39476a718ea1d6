"""Rulebooks, states and requests for tests of decisions."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

from consent.call import (
    PERIODS,
    REGISTRATION_KINDS,
    CallerId,
    CallRequest,
    Campaign,
    ListMembership,
    Program,
    Registration,
    Registries,
    Surroundings,
    Tally,
)
from consent.contracts import data_path
from consent.decision import Decision, decide
from consent.evidence import bits_of
from consent.instants import parse_instant
from consent.rule_source import read_rule_file
from consent.rulebook import Rulebook
from consent.state import SubjectState
from consent.state_entries import Attribute, DncEntry, Grant, Refusal, Withdrawal

NOW = parse_instant("2026-11-23T16:00:00Z")
DAY = 86_400_000_000
SELLER = "acme"

UK: dict[str, Any] = {"states": ("GB",), "zones": ("Europe/London",)}
GERMANY: dict[str, Any] = {"states": ("DE",), "zones": ("Europe/Berlin",)}
FRANCE: dict[str, Any] = {"states": ("FR",), "zones": ("Europe/Paris",)}

WRITTEN = (
    "signature",
    "seller_named",
    "number_named",
    "authorises_automated",
    "not_a_condition",
    "request_copy_sha256",
)
"""Elements that prior express written consent needs."""


@cache
def packaged_files() -> dict[str, str]:
    """The text of every rule file of this release, by name."""
    return {path.name: path.read_text() for path in sorted(data_path("rules").glob("*.yaml"))}


@cache
def packaged_rulebook() -> Rulebook:
    """The rulebook of this release."""
    return Rulebook.load(packaged_files())


def rule(**given: Any) -> dict[str, Any]:
    """A valid row that denies every call to the US, unless something else is given."""
    entry: dict[str, Any] = {
        "id": "US-TEST",
        "rev": 1,
        "title": "A row of a test",
        "citation": ["Nothing"],
        "jurisdiction": {"country": "US", "subdivision": None, "match": ["address"]},
        "effective": {"from": "2020-01-01", "to": None},
        "known": {"from": "2026-01-01", "to": None},
        "status": "in_force",
        "applies_when": {},
        "check": {"kind": "fact", "params": {"fact": "always_due"}},
        "on_fail": {"effect": "deny", "reason": "SECTOR_BAN", "next": "on_event"},
        "on_missing": "deny",
        "needs": [],
        "confidence": "H",
        "source": ["HOUSE"],
    }
    return entry | given


_KEPT = ("rulebook.yaml", "reasons.yaml", "jurisdictions.yaml")


def book_files(*rules: dict[str, Any]) -> dict[str, str]:
    """Files of a rulebook with only these rows, but every reason and zone of the release."""
    files = {name: packaged_files()[name] for name in _KEPT}
    if rules:
        files["rows.yaml"] = json.dumps({"rules": list(rules)}, indent=1)
    lists = {name for row in rules for name in _params(row).get("registries", ())}
    described = [
        {"id": name, "jurisdiction": "US", "level": "national", "title": "A list of a test"}
        for name in sorted(lists - _described())
    ]
    if described:
        files["lists.yaml"] = json.dumps({"registries": described})
    return files


@cache
def _described() -> frozenset[str]:
    """Ids of the lists that these files describe."""
    read = [read_rule_file(name, packaged_files()[name]).data for name in _KEPT]
    return frozenset(entry["id"] for data in read for entry in data.get("registries", ()))


def _params(row: dict[str, Any]) -> dict[str, Any]:
    params: dict[str, Any] = row.get("check", {}).get("params", {})
    return params


def book(*rules: dict[str, Any]) -> Rulebook:
    """A rulebook with only these rows."""
    return Rulebook.load(book_files(*rules))


def request(**given: Any) -> CallRequest:
    """A live manual marketing call to a consumer in Texas, unless something else is given."""
    fields: dict[str, Any] = {
        "seller_id": SELLER,
        "purpose": "MARKETING",
        "call_mode": "LIVE",
        "dial_mode": "MANUAL",
        "party": "CONSUMER",
        "states": ("US-TX",),
        "zones": ("America/Chicago",),
        "campaign_id": "spring",
        "subject_matter": "offer-1",
        "caller_id_number": "+15125550199",
        "sector": "OTHER",
        "message_class": "ADVERTISING",
    }
    return CallRequest(**(fields | given))


def in_order(asked: CallRequest, rulebook: Rulebook, at: int = NOW) -> Surroundings:
    """Surroundings in which nothing is amiss.

    Every list is loaded, five days old and does not hold the number; no call was abandoned; the
    seller is registered everywhere, and its campaign declares what it must.
    """
    lists = (
        ListMembership(one.id, None, "v1", at // DAY - 5, False) for one in rulebook.registries
    )
    places = {place for state in asked.states for place in (state, state[:2])}
    registrations = (
        Registration(f"{place}/{kind}", place, kind, 0)
        for place in sorted(places)
        for kind in REGISTRATION_KINDS
    )
    number = asked.caller_id_number or ""
    return Surroundings(
        registries=Registries(tuple(lists)),
        campaign=Campaign(tuple(Tally(period, 0, 0, at) for period in PERIODS)),
        program=Program(
            registrations=tuple(registrations),
            caller_ids=(CallerId("authorised", number, 0, None, "geographic", True),),
            ring_seconds_min=30,
            ring_count_min=6,
            recording_notice_available=True,
        ),
    )


def decided(
    asked: CallRequest,
    state: SubjectState,
    rulebook: Rulebook | None = None,
    at: int = NOW,
    **surroundings: Any,
) -> Decision:
    """The decision where all is in order around the call, but for the surroundings given."""
    rules = packaged_rulebook() if rulebook is None else rulebook
    around = replace(in_order(asked, rules, at), **surroundings)
    return decide(asked, state, around, rules, at)


def grants(kind: str, at: int = NOW - 90 * DAY, **given: Any) -> SubjectState:
    """A grant for marketing in every mode, with all written evidence unless stated otherwise."""
    seller = given.pop("seller", SELLER)
    modes = given.pop("modes", ("LIVE", "PRERECORDED", "ARTIFICIAL", "AI_VOICE"))
    purposes = given.pop("purposes", ("MARKETING",))
    evidence = given.pop("evidence", WRITTEN)
    fields: dict[str, Any] = {
        "at": at,
        "event_id": f"grant-{kind}-{at}",
        "expires_at": None,
        "signed_at": None,
        "elements": bits_of(evidence),
        "subject_matters": (),
        "party": "CONSUMER",
    }
    grant = Grant(**(fields | given))
    keys = [(seller, purpose, mode, kind) for purpose in purposes for mode in modes]
    return SubjectState(grants=dict.fromkeys(keys, grant))


def withdrawal(at: int = NOW - DAY, **scope: str) -> SubjectState:
    """A withdrawal of everything from the seller, unless a scope is given."""
    parts = {"seller": SELLER, "purpose": "*", "mode": "*", "subject": "*"} | scope
    key = (parts["seller"], parts["purpose"], parts["mode"], parts["subject"])
    return SubjectState(withdrawals={key: Withdrawal(at, f"withdrawal-{at}", "WITHDRAWN")})


def listing(
    at: int = NOW - DAY,
    listed: bool = True,
    key: tuple[str, str, str] = (SELLER, "INTERNAL", "internal"),
) -> SubjectState:
    """A do-not-call entry, or its removal."""
    return SubjectState(dnc={key: DncEntry(at, f"dnc-{at}", listed, at, False)})


def refusal(at: int = NOW - DAY, seller: str = SELLER, subject: str = "offer-1") -> SubjectState:
    """A refusal of one subject."""
    return SubjectState(refusals={(seller, subject): Refusal(at, f"refusal-{at}", False)})


def outcome_of(decision: Decision, rule_id: str) -> str | None:
    """What a rule said in the trace; None if it is not in it."""
    return next((line.outcome for line in decision.outcomes if line.rule.id == rule_id), None)


def said(decision: Decision) -> tuple[str, str | None, str | None]:
    """Verdict, primary reason and deciding rule."""
    rule_name = None if decision.rule is None else decision.rule.name
    return decision.verdict, decision.reason, rule_name


def attributes(**values: tuple[str, ...]) -> SubjectState:
    """What is known about the number itself."""
    return SubjectState(attributes={name: Attribute(1, found) for name, found in values.items()})
