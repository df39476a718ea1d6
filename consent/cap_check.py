"""The kind `cap`: at most so many attempts in a rolling stretch of time, to one person.

The attempts on every number of the person count. Where it can't be known how many there were, the
cap is taken to be used up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from consent.call_facts import CallFacts
from consent.findings import Finding, Result
from consent.instants import MICROSECONDS
from consent.rule_context import ParameterError, RuleContext
from consent.state import ATTEMPTS_MAX, SubjectState, counted_attempts
from consent.state_entries import ANY, Attempt
from consent.zones import DAY_US

_HOUR_US = 3600 * MICROSECONDS
_UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class CapCheck:
    """Fewer than `max` attempts since `period_us` ago, an attempt exactly so long ago not counted.

    An attempt whose word is unknown counts as any. `None` in a filter is every one.
    """

    max: int
    period_us: int
    per_subject: bool
    modes: frozenset[str] | None
    contact_kinds: frozenset[str] | None
    purposes: frozenset[str] | None
    shipment: bool

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Count the attempts on all numbers of the person."""
        if self.shipment and facts.request.shipment_id is None:
            return Finding(Result.MISSING, (("shipment_id", None),))
        linked = facts.surroundings.linked
        if not facts.state.attempts and not any(state.attempts for state in linked):
            return _NONE_MADE
        allowed = self.max
        if self.shipment:
            allowed += facts.request.failed_signature_attempts or 0
        ends: list[int] = []
        unknown_until = facts.at
        for state in (facts.state, *linked):
            for attempts in self._lists(facts, state):
                ends += self._ends(facts, attempts)
                if len(attempts) >= ATTEMPTS_MAX:
                    # Older ones were dropped: how many there were is not known until then.
                    oldest = min(attempt.at for attempt in attempts)
                    unknown_until = max(unknown_until, oldest + self.period_us)
        ends.sort()
        clears_at = ends[len(ends) - allowed] if len(ends) >= allowed else facts.at
        clears_at = max(clears_at, unknown_until)
        used = (("attempts", len(ends)), ("most", allowed))
        if clears_at <= facts.at:
            return Finding(Result.HOLDS, used)
        return Finding(Result.FAILS, (*used, ("clears_at", clears_at)), clears_at=clears_at)

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where an attempt stops counting."""
        for state in (facts.state, *facts.surroundings.linked):
            for attempts in self._lists(facts, state):
                for attempt in attempts:
                    for at in (attempt.at + self.period_us, attempt.permit_expires_at):
                        if at is not None and after < at <= until:
                            yield at

    def _lists(self, facts: CallFacts, state: SubjectState) -> Iterator[tuple[Attempt, ...]]:
        for (seller, subject), attempts in state.attempts.items():
            if seller in facts.sellers and (not self.per_subject or facts.about(subject)):
                yield attempts

    def _ends(self, facts: CallFacts, attempts: tuple[Attempt, ...]) -> Iterator[int]:
        """Until when each attempt that counts now goes on counting."""
        for attempt in counted_attempts(attempts, facts.at):
            end = attempt.at + self.period_us
            if attempt.permit_expires_at is not None:
                end = min(end, attempt.permit_expires_at)
            if end > facts.at and self._counts(facts, attempt):
                yield end

    def _counts(self, facts: CallFacts, attempt: Attempt) -> bool:
        return (
            _named(attempt.call_mode, self.modes)
            and _named(attempt.purpose, self.purposes)
            and _contacted(attempt.contact_kind, self.contact_kinds)
            and (not self.shipment or attempt.shipment_id in (None, facts.request.shipment_id))
        )


_NONE_MADE = Finding(Result.HOLDS, (("attempts", 0),))


def _named(word: str, words: frozenset[str] | None) -> bool:
    return words is None or word in words or word in (_UNKNOWN, ANY)


def _contacted(kind: str, kinds: frozenset[str] | None) -> bool:
    """What was sent in an unknown way counts as a call."""
    return kinds is None or ("CALL" if kind == _UNKNOWN else kind) in kinds


def compile_cap(params: Mapping[str, Any], context: RuleContext) -> CapCheck:
    """Check of the parameters in a rule file."""
    hours = params.get("hours")
    if (hours is None) == ("days" not in params):
        message = "a cap is for a number of hours or of days"
        raise ParameterError((), message, "Give exactly one of `hours` and `days`.")
    return CapCheck(
        max=params["max"],
        period_us=params["days"] * DAY_US if hours is None else hours * _HOUR_US,
        per_subject=params["per"] == "subject_matter",
        modes=_words(params.get("modes")),
        contact_kinds=_words(params.get("contact_kinds")),
        purposes=_words(params.get("purposes")),
        shipment=params.get("shipment", False),
    )


def _words(words: list[str] | None) -> frozenset[str] | None:
    return None if words is None else frozenset(word.upper() for word in words)
