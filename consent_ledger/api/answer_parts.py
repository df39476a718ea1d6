"""Parts of an answer that follow from a decision alone."""

from __future__ import annotations

from consent.decision import Decision
from consent.decision_record import fact_text
from consent.instants import instant_text
from consent.shown_facts import shown_facts
from consent_ledger.api.models import RuleTrace


def next_allowed_text(decision: Decision) -> str | None:
    """When the same call may be tried again: a word, or an instant."""
    following = decision.next_allowed
    if following is None:
        return None
    return following.when if following.at is None else instant_text(following.at)


def trace_of(decision: Decision) -> list[RuleTrace]:
    """Every rule that was run, in the order of the rulebook."""
    return [
        RuleTrace(
            rule=line.rule.name,
            title=line.rule.title,
            outcome=line.outcome,
            reason=line.reason or "",
            exemption=line.exemption or "",
            facts={name: fact_text(value) for name, value in shown_facts(line.facts).items()},
            citation=list(line.rule.citation),
        )
        for line in decision.outcomes
    ]
