"""Scenario files: what they expect, how a result is told, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from consent.contracts import data_path
from consent.rulebook import Rulebook
from consent.scenario import ScenarioError, read_scenarios
from consent.scenario_results import Result, evaluate, result_fields
from tests.decisions import book, book_files, rule
from tests.scenarios import AT, GRANT, book_of, check_row, scenario

SCHEMA = json.loads((data_path("schemas") / "scenarios.schema.json").read_text())


def passes(row: dict[str, Any], expect: dict[str, Any], **asked: Any) -> bool | None:
    """Whether what is expected of a call under this row follows."""
    return evaluate(scenario(None, expect, **asked), book_of(json.dumps(row))).passed


WINDOW = check_row(
    "window",
    {"days": {"mon-sun": [["12:00", "20:00"]]}},
    on_fail={"effect": "deny", "reason": "QUIET_HOURS", "next": "window"},
)


@pytest.mark.parametrize(
    ("expect", "passed"),
    [
        ({}, None),
        ({"verdict": "deny"}, True),
        ({"verdict": "allow"}, False),
        ({"reason": "QUIET_HOURS"}, True),
        ({"reason": "DAY_BANNED"}, False),
        ({"reason": None}, False),
        ({"reasons": ["QUIET_HOURS"]}, True),
        ({"reasons": ["FREQ_CAP"]}, False),
        ({"next_allowed": "2026-11-24T17:00:00Z"}, True),
        ({"next_allowed": "2026-11-24T12:00:00-05:00"}, True),
        ({"next_allowed": "2026-11-24T17:00:01Z"}, False),
        ({"next_allowed": "on_event"}, False),
        ({"next_allowed": None}, False),
        ({"rule": "US-TEST"}, True),
        ({"rule": "US-TEST@1"}, True),
        ({"rule": "US-TEST@2"}, False),
        ({"rule": "US-OTHER"}, False),
    ],
)
def test_expectations_of_a_denial(expect: dict[str, Any], passed: bool | None) -> None:
    """Only what is stated is compared; a stated null is a statement."""
    assert passes(WINDOW, expect) is passed


@pytest.mark.parametrize(
    ("expect", "passed"),
    [
        ({"verdict": "allow", "reason": None, "next_allowed": None}, True),
        ({"verdict": "deny", "reason": "QUIET_HOURS"}, False),
        ({"verdict": "unavailable"}, False),
        ({"rule": "US-TEST"}, True),
        ({"rule": "US-TEST@1"}, True),
        ({"rule": "US-OTHER"}, False),
        ({"obligations": []}, True),
        ({"obligations": ["ANNOUNCE_ID"]}, False),
    ],
)
def test_expectations_of_an_allow(expect: dict[str, Any], passed: bool) -> None:
    """An expected rule must stand in the trace and pass."""
    assert passes(WINDOW, expect, at="2026-11-24T18:00:00Z") is passed


def test_obligations_are_expected_among_others() -> None:
    """And a rule that obliges is one that passed."""
    row = rule(on_fail={"effect": "oblige", "reason": "ANNOUNCE_ID"})
    assert passes(row, {"obligations": ["ANNOUNCE_ID"], "rule": "US-TEST"}) is True
    assert passes(row, {"obligations": ["AI_DISCLOSURE"]}) is False


def test_a_rule_that_did_not_apply_did_not_pass() -> None:
    """It is in the trace, but nothing was tested."""
    row = check_row(
        "consent", {"kinds": ["pewc"], "evidence_only": True, "evidence_required": ["signature"]}
    )
    assert passes(row, {"verdict": "allow"}) is True
    assert passes(row, {"rule": "US-TEST"}) is False


def result(row: dict[str, Any], **asked: Any) -> dict[str, Any]:
    """What is printed of the decision under this row."""
    found: Result = evaluate(scenario(None, {"verdict": "deny"}, **asked), book(row))
    printed: dict[str, Any] = json.loads(json.dumps(result_fields(found)))
    return printed


def test_form_of_a_denial() -> None:
    """Every field, with the rule that decided and how it came to that."""
    printed = result(WINDOW)
    (line,) = printed.pop("trace")
    assert printed == {
        "id": "one",
        "verdict": "deny",
        "reason": "QUIET_HOURS",
        "reasons": ["QUIET_HOURS"],
        "rule": "US-TEST@1",
        "next_allowed": "2026-11-24T17:00:00Z",
        "obligations": [],
        "passed": True,
    }
    assert (line["rule"], line["outcome"], line["citation"]) == ("US-TEST@1", "deny", ["Nothing"])
    assert isinstance(line["facts"], dict) and line["facts"]


def test_form_of_an_allow() -> None:
    """No rule decides an allow; what would have denied in shadow says so."""
    printed = result(WINDOW, at="2026-11-24T18:00:00Z")
    assert (printed["verdict"], printed["reason"], printed["reasons"]) == ("allow", None, [])
    assert (printed["rule"], printed["next_allowed"], printed["passed"]) == (None, None, False)
    assert [line["outcome"] for line in printed["trace"]] == ["pass"]
    shadow = result(WINDOW | {"status": "pending"})
    assert [line["outcome"] for line in shadow["trace"]] == ["shadow"]
    assert shadow["verdict"] == "allow"


FILE = """\
scenarios:
- id: A
  request:
    number: '+12125550142'
    at: '2026-11-24T16:00:00Z'
    seller: acme
    purpose: MARKETING
    mode: LIVE
  facts:
    line_type: MOBILE
    reassigned: {answer: NO, queried_on: 2026-11-20}
  expect:
    verdict: allow
- id: B
  request: {number: '+12125550142', at: 2026-11-24T16:00:00Z, seller: a, purpose: DEBT, mode: LIVE}
"""


def test_a_file_is_read_in_its_order() -> None:
    """Times need no quotes, nor does NO; what is optional may lack."""
    one, two = read_scenarios("cases.yaml", FILE)
    assert (one.id, two.id) == ("A", "B")
    assert one.at == two.at and one.expectation is not None and two.expectation is None
    (answer,) = one.state.reassignments.values()
    assert answer.answer == "NO"


@pytest.mark.parametrize(
    ("was", "becomes", "line", "field"),
    [
        ("verdict: allow", "verdict: maybe", 13, "verdict"),
        ("verdict: allow", "verdct: allow", 13, "verdct"),
        ("line_type: MOBILE", "line_type: CELL", 10, "line_type"),
        ("line_type: MOBILE", "line: MOBILE", 10, "line"),
        ("answer: NO", "answer: MAYBE", 11, "answer"),
        ("2026-11-20", "20.11.2026", 11, "queried_on"),
        ("2026-11-20", "2026-11-31", 11, "queried_on"),
        ("at: '2026-11-24T16:00:00Z'", "at: '2026-11-24 16:00'", 5, "at"),
        ("at: '2026-11-24T16:00:00Z'", "at: '2026-11-24'", 5, "at"),
        ("number: '+12125550142'\n    at", "number: 'twelve'\n    at", 4, "number"),
        ("    seller: acme\n", "", 3, "seller"),
        ("seller: acme\n    purpose", "seller: '*'\n    purpose", 6, "seller"),
        ("purpose: MARKETING", "purpose: SALES", 7, "purpose"),
        ("mode: LIVE\n  facts", "mode: LIVE\n    zones: [Mars/Base]\n  facts", 9, "zones"),
        ("mode: LIVE\n  facts", "mode: LIVE\n    states: [Texas]\n  facts", 9, "states"),
        ("mode: LIVE\n  facts", "mode: LIVE\n    known_at: soon\n  facts", 9, "known_at"),
        ("- id: B", "- id: A", 14, "id"),
        ("- id: B", "- id: B\n  facts: {foo: 1}", 15, "foo"),
        ("scenarios:", "scenario:", 1, "scenario"),
        ("  expect:\n", "  expect:\n    next_allowed: later\n", 13, "next_allowed"),
    ],
)
def test_what_is_refused(was: str, becomes: str, line: int, field: str) -> None:
    """The error names file, line, field and what to do."""
    assert was in FILE
    with pytest.raises(ScenarioError) as caught:
        read_scenarios("cases.yaml", FILE.replace(was, becomes, 1))
    assert (caught.value.file, caught.value.line) == ("cases.yaml", line)
    assert field in caught.value.message and caught.value.remedy
    assert str(caught.value).startswith(f"cases.yaml:{line}: ")


@pytest.mark.parametrize("text", ["", "[]", "scenarios: []", "scenarios: [", "- id: A", "a: {b"])
def test_what_is_no_scenario_file(text: str) -> None:
    """Nothing, something else, and what is not YAML."""
    with pytest.raises(ScenarioError):
        read_scenarios("cases.yaml", text)


def test_the_schema_is_one() -> None:
    """Editors can use it, and every mapping in it refuses unknown keys."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    open_maps = {"registries", "evidence"}
    for name, part in [("", SCHEMA), *SCHEMA["$defs"].items()]:
        if part.get("type") == "object" and name not in open_maps:
            assert part["additionalProperties"] is False, name


FACTS: dict[str, Any] = {
    "line_type": "MOBILE",
    "registries": {"national": {"listed": True}},
    "grants": [GRANT],
    "withdrawals": [{"occurred_at": AT}],
    "internal_dnc": [{"requested_at": AT}],
    "listed": [{"list_kind": "LITIGATOR", "at": AT}],
    "refusals": [{"at": AT}],
    "relationships": [{"kind": "PURCHASE", "on": "2026-11-01"}],
    "attempts": [{"at": AT}],
    "outcomes": [{"at": AT, "outcome": "ABANDONED"}],
    "reassigned": {"answer": "YES", "queried_on": "2026-11-20"},
    "campaign": {"live_answered": 100},
    "program": {"ring_seconds": 1},
    "emergencies": [{"jurisdiction": "US-NY", "from": AT}],
    "holidays": [{"jurisdiction": "US-NY", "date": "2026-11-24"}],
    "counties": ["Erie"],
    "tags": ["HEALTH_FACILITY"],
    "ported_at": AT,
    "party": "BUSINESS",
    "erased_at": AT,
    "preference": "BANKING",
    "linked": [{"attempts": [{"at": AT}]}],
}


def test_every_fact_is_known() -> None:
    """Each fact of the schema has an example below."""
    assert set(FACTS) == set(SCHEMA["$defs"]["facts"]["properties"])


@pytest.mark.parametrize("name", FACTS)
def test_every_fact_changes_something(name: str) -> None:
    """No fact can be stated that is then passed over."""

    def inputs(facts: dict[str, Any]) -> tuple[Any, ...]:
        one = scenario(facts)
        return one.request, one.state, one.stated, one.lists.given

    assert inputs({name: FACTS[name]}) != inputs({})


def test_files_of_a_rulebook_need_not_be_packaged() -> None:
    """Scenarios are decided by whatever rulebook is given."""
    other = Rulebook.load(book_files(rule()))
    assert evaluate(scenario(), other).decision.rulebook_digest == other.digest
