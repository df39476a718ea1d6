"""What of a trace a person is shown, and in which order."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from consent_ledger.explanation import explain, explanation_view


def line(rule: str, outcome: str, **given: Any) -> dict[str, Any]:
    """One line of a trace."""
    return {"rule": rule, "outcome": outcome, "facts": {}, "citation": ["a law"], **given}


TRACE = [
    line("A@1", "PASS"),
    line("B@1", "PASS", exemption="EBR", facts={"purchase": "relationships[0]", "listed": True}),
    line("C@1", "OBLIGE", reason="ANNOUNCE_ID"),
    line("D@1", "DENY", reason="QUIET_HOURS", facts={"zones": ["America/New_York"]}),
    line("E@1", "NOT_APPLICABLE"),
    line("F@1", "DENY", reason="NATIONAL_DNC", title="Numbers on the list are not called"),
    line("G@1", "SHADOW", reason="CONSENT_REVOKED"),
    line("H@1", "SHADOW"),
    line("I@2", "DENY", reason="NATIONAL_DNC"),
    line("J@1", "NOT_APPLICABLE"),
    line("K@1", "WARN", reason="REGISTRATION_MISSING"),
    line("L@1", "UNKNOWN", reason="REGISTRY_UNLOADED"),
]
REASONS = ["NATIONAL_DNC", "QUIET_HOURS"]


def test_what_decided_comes_first() -> None:
    """Deciding rule, other denials by reason, unknown, obligations, what saved, shadow."""
    found = explain(TRACE, "I@2", REASONS)
    rules = [shown["rule"] for shown in found.shown]
    assert rules == ["I@2", "F@1", "D@1", "L@1", "C@1", "K@1", "B@1", "G@1"]


def test_the_rest_is_counted() -> None:
    """Rules that simply passed are named; those that did not apply are a number."""
    found = explain(TRACE, "I@2", REASONS)
    assert found.passed == ("A@1",)
    assert (found.not_applicable, found.shadow) == (2, 1)


def test_the_view_has_citations_and_facts() -> None:
    """Each row has its code, its facts in words, and where it is written; lines fit."""
    for width in (80, 120):
        console = Console(width=width, record=True, file=None)
        with console.capture() as captured:
            console.print(explanation_view(explain(TRACE, "I@2", REASONS)))
        text = captured.get()
        assert max(map(len, text.splitlines())) <= width
        for word in ("I@2", "NATIONAL_DNC", "EBR", "listed: yes", "a law", "did not apply"):
            assert word in text
        assert "zones: America/New_York" in text


def test_an_empty_trace_shows_nothing() -> None:
    """As that of an answer that is unavailable."""
    console = Console(width=80)
    with console.capture() as captured:
        console.print(explanation_view(explain([], None, [])))
    assert captured.get().strip() == ""
