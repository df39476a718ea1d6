"""Scenarios and rulebooks of one row, for tests of scenario files."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from consent.decision import Decision
from consent.rulebook import Rulebook
from consent.scenario import Scenario, scenarios_of
from consent.scenario_results import evaluate
from tests.decisions import book, rule

AT = "2026-11-24T16:00:00Z"
REQUEST: dict[str, Any] = {
    "number": "+12125550142",
    "at": AT,
    "seller": "acme",
    "campaign": "spring",
    "subject_matter": "offer-1",
    "purpose": "MARKETING",
    "mode": "LIVE",
    "dial": "MANUAL",
    "party": "CONSUMER",
    "profile": "strict",
    "states": ["US-NY"],
    "zones": ["America/New_York"],
}
GRANT: dict[str, Any] = {
    "kind": "PEWC",
    "granted_at": "2026-06-01T15:00:00Z",
    "purposes": ["MARKETING"],
    "modes": ["LIVE"],
}


def scenario(
    facts: dict[str, Any] | None = None, expect: dict[str, Any] | None = None, **asked: Any
) -> Scenario:
    """One scenario: a live marketing call to New York at noon, unless something else is asked."""
    request = {name: value for name, value in (REQUEST | asked).items() if value is not None}
    content = {"id": "one", "request": request, "facts": facts or {}, "expect": expect or {}}
    return scenarios_of({"scenarios": [content]})[0]


def check_row(kind: str, params: dict[str, Any], **given: Any) -> dict[str, Any]:
    """A row with this check, for the whole of the US."""
    return rule(check={"kind": kind, "params": params}, **given)


@cache
def book_of(row: str) -> Rulebook:
    return book(json.loads(row))


def decision(row: dict[str, Any], one: Scenario) -> Decision:
    """What a rulebook of this one row decides."""
    return evaluate(one, book_of(json.dumps(row))).decision


def denied(row: dict[str, Any], facts: dict[str, Any] | None = None, **asked: Any) -> bool:
    """Whether the row denies the call."""
    found = decision(row, scenario(facts, **asked))
    assert found.verdict in ("ALLOW", "DENY")
    return found.verdict == "DENY"
