"""Deciding a scenario, comparing it with what it expects, and the form in which it is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from consent.call import CallRequest, Surroundings
from consent.decision import Decision, RuleOutcome, decide
from consent.instants import instant_text
from consent.rulebook import Rulebook
from consent.scenario import Expectation, Scenario
from consent.shown_facts import shown_facts
from consent.state import SubjectState

_OUTCOMES: Final = {"OBLIGE": "pass", "WARN": "pass"}
"""What obliges or warns lets the call pass. UNKNOWN, a list that is not loaded, is told as such."""


@dataclass(frozen=True, slots=True)
class Result:
    """A scenario and its decision; `differences` say in words what is not as expected."""

    scenario: Scenario
    decision: Decision
    differences: tuple[str, ...]

    @property
    def passed(self) -> bool | None:
        """Whether all is as expected; None if nothing is expected."""
        return None if self.scenario.expectation is None else not self.differences


def arguments(
    scenario: Scenario, rulebook: Rulebook
) -> tuple[CallRequest, SubjectState, Surroundings, Rulebook, int]:
    """What `decide` takes, in its order; the rulebook is the one known when the scenario says."""
    if scenario.known_on is not None:
        rulebook = _known_on(rulebook, scenario.known_on)
    registries = scenario.lists.registries(rulebook)
    request, surroundings = scenario.stated.around(scenario.request, registries, rulebook)
    return request, scenario.state, surroundings, rulebook, scenario.at


def evaluate(scenario: Scenario, rulebook: Rulebook) -> Result:
    """Decide a scenario; SourceError if it names a list that the rulebook does not."""
    decision = decide(*arguments(scenario, rulebook))
    expectation = scenario.expectation
    differences = () if expectation is None else tuple(_differences(expectation, decision))
    return Result(scenario, decision, differences)


def result_fields(result: Result) -> dict[str, Any]:
    """The result as it is printed, one JSON object for each scenario."""
    decision = result.decision
    return {
        "id": result.scenario.id,
        "verdict": decision.verdict.lower(),
        "reason": decision.reason,
        "reasons": list(decision.reasons),
        "rule": None if decision.rule is None else decision.rule.name,
        "next_allowed": next_allowed_text(decision),
        "obligations": list(decision.obligations),
        "trace": [_line_fields(line) for line in decision.outcomes],
        "passed": result.passed,
    }


def next_allowed_text(decision: Decision) -> str | None:
    """An instant, or the word for what has to happen first; None if nothing is denied."""
    following = decision.next_allowed
    if following is None:
        return None
    return following.when if following.at is None else instant_text(following.at)


@lru_cache(maxsize=8)
def _known_on(rulebook: Rulebook, day: int) -> Rulebook:
    return rulebook.known_on(day)


def _line_fields(line: RuleOutcome) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "rule": line.rule.name,
        "outcome": _OUTCOMES.get(line.outcome, line.outcome.lower()),
        "facts": shown_facts(line.facts),
        "citation": list(line.rule.citation),
    }
    if line.reason is not None:
        fields["reason"] = line.reason
    if line.exemption is not None:
        fields["exemption"] = line.exemption
    return fields


def _differences(expected: Expectation, decision: Decision) -> Iterator[str]:
    verdict = decision.verdict.lower()
    if expected.verdict is not None and expected.verdict != verdict:
        # Nothing else can be as expected, and saying so would hide what matters.
        wanted = " ".join(filter(None, (expected.verdict, expected.reason)))
        yield f"{wanted} expected, {' '.join(filter(None, (verdict, decision.reason)))} found"
        return
    if "reason" in expected.stated and expected.reason != decision.reason:
        yield f"reason: {expected.reason} expected, {decision.reason} found"
    for name, words, given in (
        ("reasons", expected.reasons, decision.reasons),
        ("obligations", expected.obligations, decision.obligations),
    ):
        lacking = [word for word in words if word not in given]
        if lacking:
            found = ", ".join(given) or "none"
            yield f"{name}: {', '.join(lacking)} expected among them, {found} found"
    if "next_allowed" in expected.stated:
        following = decision.next_allowed
        found_next = None if following is None else (following.at or following.when)
        if found_next != expected.next_allowed:
            following_wanted = expected.next_allowed
            shown = (
                instant_text(following_wanted)
                if isinstance(following_wanted, int)
                else following_wanted
            )
            yield f"next_allowed: {shown} expected, {next_allowed_text(decision)} found"
    if expected.rule is not None:
        yield from _rule_difference(expected.rule, decision)


def _rule_difference(wanted: str, decision: Decision) -> Iterator[str]:
    if not decision.allowed:
        rule = decision.rule
        if rule is None or wanted not in (rule.id, rule.name):
            yield f"rule: {wanted} expected, {None if rule is None else rule.name} found"
        return
    lines = [line for line in decision.outcomes if wanted in (line.rule.id, line.rule.name)]
    outcomes = {_OUTCOMES.get(line.outcome, line.outcome.lower()) for line in lines}
    if "pass" not in outcomes:
        found = ", ".join(sorted(outcomes)) or "not in the trace"
        yield f"rule: {wanted} expected to pass, {found}"
