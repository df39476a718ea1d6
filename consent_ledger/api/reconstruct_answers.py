"""What is answered about a past moment, from what was found; for HTTP and for the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from consent.decision_replay import Difference
from consent.instants import MICROSECONDS, instant_text
from consent.reasons import ReasonCatalogue
from consent.reconstruction import KnownFact, StateChange
from consent.state_words import Sellers, change_words, is_shown, state_words
from consent_ledger.api.answer_parts import next_allowed_text, trace_of
from consent_ledger.api.models import Reason
from consent_ledger.api.reconstruct_models import (
    LaterView,
    PastDecision,
    PastEvent,
    PastRulebook,
    ReconstructAnswer,
    RecordDifference,
    ReplayAnswer,
)
from consent_ledger.reconstruction import Reconstruction, ReplayedDecision, ViewedLater
from consent_ledger.words import summary_of

_VERDICTS = {"ALLOW": "allow", "DENY": "deny", "UNAVAILABLE": "unavailable"}
_EVERY_SELLER = "*"


def reconstruct_answer(
    found: Reconstruction, explain: bool = True, sellers: Sellers = None
) -> ReconstructAnswer:
    """A number at a moment, as who may see these sellers may see it; None is all."""
    return ReconstructAnswer(
        at=instant_text(found.moment.at),
        known_at=instant_text(found.moment.known_at),
        facts=len(found.facts),
        state=state_words(found.state, sellers),
        linked_numbers=len(found.linked),
        rulebook=_rulebook(found),
        decision=_decision(found, explain),
        late=_events(found.late, sellers),
        late_changes=_changes(found.late_changes, sellers),
        repeated_event_ids=list(found.repeated),
        notes=list(found.notes),
    )


def later_answer(
    viewed: ViewedLater, explain: bool = True, sellers: Sellers = None
) -> ReconstructAnswer:
    """The same with what became known later."""
    answer = reconstruct_answer(viewed.before, explain, sellers)
    after = viewed.after
    answer.later = LaterView(
        known_at=instant_text(after.moment.known_at),
        arrived=_events(viewed.arrived, sellers),
        changes=_changes(viewed.changes, sellers),
        verdict_changed=viewed.verdict_changed,
        decision=_decision(after, explain),
        rulebook=_rulebook(after),
        notes=list(after.notes),
    )
    return answer


def replay_answer(again: ReplayedDecision) -> ReplayAnswer:
    """A recorded decision made again."""
    record, result = again.record, again.result
    return ReplayAnswer(
        decision_id=again.fact.event_id,
        same=result.same,
        decided_at=instant_text(record["at"]),
        seller_id=record["seller_id"],
        verdict=_VERDICTS[record["verdict"]],
        reason=record["reason"],
        rulebook=again.rulebook.digest.hex(),
        facts=again.facts,
        linked_numbers=len(record["linked"]),
        difference=None if result.difference is None else _difference(result.difference),
        made_by=[_difference(one) for one in result.made_by],
    )


def _rulebook(found: Reconstruction) -> PastRulebook:
    activation = found.activation
    return PastRulebook(
        digest=found.rulebook.digest.hex(),
        version=found.rulebook.version,
        activated_at=None if activation is None else instant_text(activation.recorded_at),
    )


def _decision(found: Reconstruction, explain: bool) -> PastDecision | None:
    decision = found.decision
    if decision is None:
        return None
    texts = found.rulebook.reasons
    reasons = _reasons(decision.reasons, texts)
    return PastDecision(
        verdict=_VERDICTS[decision.verdict],
        reason=reasons[0] if reasons else None,
        reasons=reasons,
        rule=None if decision.rule is None else decision.rule.name,
        obligations=_reasons(decision.obligations, texts),
        next_allowed=next_allowed_text(decision),
        states=list(decision.request.states),
        zones=list(decision.request.zones),
        trace=trace_of(decision) if explain else None,
    )


def _reasons(codes: Iterable[str], texts: ReasonCatalogue) -> list[Reason]:
    return [Reason(code, texts.text(code)) for code in codes]


def _events(facts: Iterable[KnownFact], sellers: Sellers) -> list[PastEvent]:
    return [
        _event(fact)
        for fact in facts
        if sellers is None or fact.seller_id == _EVERY_SELLER or fact.seller_id in sellers
    ]


def _event(fact: KnownFact) -> PastEvent:
    place = fact.position
    summary = f"A record that could not be read ({fact.unreadable})"
    if fact.fields is not None:
        summary = summary_of(fact.name, fact.fields, fact.derived.party is not None)
    return PastEvent(
        type=fact.name or "unknown",
        summary=summary,
        occurred_at=instant_text(fact.effective_at),
        recorded_at=instant_text(place.recorded_at),
        late_s=max(0, place.recorded_at - fact.effective_at) // MICROSECONDS,
        seller_id=fact.seller_id,
        source_system=fact.source_system,
        event_id=fact.event_id,
        topic=place.topic,
        partition=place.partition,
        offset=place.offset,
        test=fact.test,
    )


def _changes(changes: Iterable[StateChange], sellers: Sellers) -> list[dict[str, Any]]:
    return [
        change_words(change) for change in changes if is_shown(change.section, change.key, sellers)
    ]


def _difference(one: Difference) -> RecordDifference:
    return RecordDifference(one.place, _plain(one.recorded), _plain(one.again))


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value
