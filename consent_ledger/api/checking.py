"""Deciding about calls at the edge: look up, decide, record, answer, in this order.

Clock, ids and the suppression view enter here; the rules do not know them. Nothing is answered
that is not recorded, or about to be beyond recall: an allow waits for the log, and where that
takes too long the answer is `unavailable`.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import structlog

from consent.contracts import contracts
from consent.decision import Decision, decide, unavailable
from consent.decision_bytes import encoded_decision
from consent.decision_record import RECORD, RecordContext
from consent.decision_replay import unrecorded
from consent.errors import Rejected
from consent.instants import instant_text
from consent.numbers import canonical_number
from consent.partitioning import partition_of
from consent.places import area_table_digest
from consent.privacy import SALT_BYTES
from consent.reasons import PARTY_TOO_LARGE, VIEW_STALE, VIEW_UNLOADED
from consent.rulebook import Rulebook
from consent_ledger.adapters.publisher import OutgoingRecord
from consent_ledger.api.answer_parts import next_allowed_text, trace_of
from consent_ledger.api.authentication import Principal
from consent_ledger.api.call_requests import call_request
from consent_ledger.api.linked_numbers import LinkedNumbers, linked_numbers, watermark_of
from consent_ledger.api.metrics import ApiMetrics
from consent_ledger.api.models import (
    CallQuestion,
    CheckAnswer,
    CheckOutcome,
    CheckRequest,
    Freshness,
    PermitAnswer,
    Reason,
)
from consent_ledger.api.problems import field_error
from consent_ledger.api.surrounding import CallSurroundings
from consent_ledger.decision_log import DecisionLog, DecisionUnrecorded, PendingDecision
from consent_ledger.permit_issuing import PermitIssuer, PreparedPermit
from projections.view import SuppressionView, ViewAnswer

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """What decides beside the rules: the reading of the law, and how numbers are understood."""

    profile: str = "STRICT"
    system: str = "consent-ledger"
    keyed_partitions: int = 12
    region_default: str | None = None
    recorded_settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Known:
    """What was looked up for a decision; `linked` is what counted in it."""

    number: str
    view: ViewAnswer
    linked: LinkedNumbers


@dataclass(frozen=True, slots=True)
class _Checked:
    """One decision on its way to an answer."""

    request: CheckRequest
    decision: Decision
    pending: PendingDecision
    known: _Known
    permit: PreparedPermit | None = None

    @property
    def event_id(self) -> str:
        """Id of the decision's record."""
        return self.pending.event_id


class CallChecker:
    """Answers checks from the view; safe for many requests at once on one event loop."""

    def __init__(
        self,
        view: SuppressionView,
        surroundings: CallSurroundings,
        rulebook: Rulebook,
        decisions: DecisionLog,
        metrics: ApiMetrics,
        settings: CheckSettings,
        history_key: bytes,
        permits: PermitIssuer,
    ) -> None:
        self._permits = permits
        self._view = view
        self._surroundings = surroundings
        self._rulebook = rulebook
        self._decisions = decisions
        self._metrics = metrics
        self._settings = settings
        self._topic = contracts().record(RECORD).topic
        self._area_table_digest = area_table_digest()  # read now, not at the first check
        self._history_key = history_key

    async def check(self, request: CheckRequest, principal: Principal) -> CheckAnswer:
        """One answer; Rejected for a request that can't be decided about."""
        answer = (await self.check_many([request], principal))[0]
        if isinstance(answer, Rejected):
            raise answer
        return answer

    async def check_many(
        self, requests: Sequence[CheckRequest], principal: Principal
    ) -> list[CheckAnswer | Rejected]:
        """An answer, or why there is none, for each request in order.

        Each decision is an event of its own. Denials don't wait for the log, allows do, and only
        then get their permit.
        """
        checked: list[_Checked | Rejected] = []
        for request in requests:
            try:
                checked.append(self._decide(request, principal))
            except Rejected as problem:
                checked.append(problem)
        instead = await self._record([one for one in checked if isinstance(one, _Checked)])
        return [
            one if isinstance(one, Rejected) else self._answer(one, instead.get(one.event_id))
            for one in checked
        ]

    def judge(self, call: CallQuestion, number: str, principal: Principal) -> Decision:
        """What a check would answer about a number now. It is not recorded, so it permits nothing.

        Rejected for a number or a call that can't be decided about.
        """
        return self._judged(call, number, principal, None)[0]

    def _decide(self, request: CheckRequest, principal: Principal) -> _Checked:
        decision, known = self._judged(request, request.number, principal, request.freshness_ms_max)
        event_id = str(uuid.uuid4())
        permit = None
        if decision.allowed:
            permit = self._permits.prepare(decision, known.view.state, known.number, event_id)
        pending = self._pending(decision, known, event_id, permit)
        return _Checked(request, decision, pending, known, permit)

    def _judged(
        self, request: CallQuestion, given: str, principal: Principal, freshness_ms_max: int | None
    ) -> tuple[Decision, _Known]:
        principal.for_seller(request.seller_id)
        number = canonical_number(given, self._settings.region_default)
        at = time.time_ns() // 1000
        view = self._view.look_up(number, request.seller_id, request.test)
        call = call_request(request, number, view.state, self._settings.profile)
        reason = _unusable(view, freshness_ms_max)
        reason = reason or self._surroundings.unusable(call, at)
        if reason is None:
            linked = linked_numbers(view, self._history_key)
            around = self._surroundings.around(call, at)
            surroundings = replace(around, linked=linked.states)
            decision = decide(call, view.state, surroundings, self._rulebook, at)
        else:
            linked = LinkedNumbers()
            decision = unavailable(call, reason, self._rulebook, at)
        return decision, _Known(number, view, linked)

    def _pending(
        self,
        decision: Decision,
        known: _Known,
        event_id: str,
        permit: PreparedPermit | None = None,
    ) -> PendingDecision:
        number, view = known.number, known.view
        context = RecordContext(
            event_id=event_id,
            occurred_at=decision.at,
            number=number,
            salt=os.urandom(SALT_BYTES),
            system=self._settings.system,
            partition=partition_of(number.encode(), self._settings.keyed_partitions),
            applied=view.state.applied,
            watermark=watermark_of(view.age),
            settings=self._settings.recorded_settings,
            area_table_digest=self._area_table_digest,
            permit=None if permit is None else permit.recorded,
            linked=known.linked.numbers,
        )
        value, headers = encoded_decision(decision, context)
        outgoing = OutgoingRecord(self._topic, number.encode(), value, headers)
        return PendingDecision(event_id, outgoing)

    async def _record(self, checked: Sequence[_Checked]) -> dict[str, str]:
        """Ids of decisions that may not be answered, and of what is recorded instead of each."""
        allows = [one for one in checked if one.decision.allowed]
        others = [one for one in checked if not one.decision.allowed]
        recorded = await self._decisions.record_before([one.pending for one in allows])
        instead: dict[str, str] = {}
        behind = [one.pending for one in others]
        for one, done in zip(allows, recorded, strict=True):
            if not done:
                correction = str(uuid.uuid4())
                instead[one.event_id] = correction
                behind.append(self._pending(unrecorded(one.decision), one.known, correction))
        try:
            await self._decisions.record_behind(behind)
        except DecisionUnrecorded as problem:
            log.error("decisions_unrecorded", decisions=len(others), error=str(problem))
            instead.update((one.event_id, one.event_id) for one in others)
        return instead

    def _answer(self, one: _Checked, instead: str | None) -> CheckAnswer:
        decision = one.decision if instead is None else unrecorded(one.decision)
        self._metrics.checks.labels(decision.verdict.lower(), decision.reason or "").inc()
        texts = self._rulebook.reasons
        reasons = [Reason(code, texts.text(code)) for code in decision.reasons]
        view = one.known.view
        true_at = None if view.true_at is None else instant_text(view.true_at)
        return CheckAnswer(
            verdict=_VERDICTS[decision.verdict],
            reason=reasons[0] if reasons else None,
            reasons=reasons,
            rule=None if decision.rule is None else decision.rule.name,
            obligations=[Reason(code, texts.text(code)) for code in decision.obligations],
            next_allowed=next_allowed_text(decision),
            decision_id=instead or one.event_id,
            permit=None if instead is not None else self._permit(one.permit),
            decided_at=instant_text(decision.at),
            freshness=Freshness(true_at, view.age_ms),
            rulebook=decision.rulebook_digest.hex(),
            request_id=one.request.request_id,
            states=list(decision.request.states),
            zones=list(decision.request.zones),
            trace=trace_of(decision) if one.request.explain else None,
        )

    def _permit(self, prepared: PreparedPermit | None) -> PermitAnswer | None:
        if prepared is None:
            return None
        terms = prepared.terms
        expires_at = instant_text(terms.expires_at)
        return PermitAnswer(terms.permit_id, self._permits.give(prepared), expires_at)


def outcomes_of(results: Sequence[CheckAnswer | Rejected]) -> list[CheckOutcome]:
    """Results of a batch as they are answered."""
    return [
        CheckOutcome(error=field_error(one)) if isinstance(one, Rejected) else CheckOutcome(one)
        for one in results
    ]


_VERDICTS: Final[Mapping[str, Literal["allow", "deny", "unavailable"]]] = {
    "ALLOW": "allow",
    "DENY": "deny",
    "UNAVAILABLE": "unavailable",
}


def _unusable(view: ViewAnswer, freshness_ms_max: int | None) -> str | None:
    """Why the view can't be relied on, None if it can."""
    if view.freshness.unloaded:
        return VIEW_UNLOADED
    if view.freshness.stale:
        return VIEW_STALE
    if freshness_ms_max is not None and (view.age_ms or 0) > freshness_ms_max:
        return VIEW_STALE
    return PARTY_TOO_LARGE if view.party_too_large else None
