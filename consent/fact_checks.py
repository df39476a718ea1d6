"""The kind `fact`: one named fact about the call must be so.

Each name is one question with its own parameters. The questions are general; which jurisdiction
asks them, since when, and with which figures is written in the rule files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from consent.call_facts import CallFacts, WithdrawalScope
from consent.findings import HOLDS, Check, Finding, Result, Timeless
from consent.number_checks import NUMBER_FACTS
from consent.program_checks import PROGRAM_FACTS
from consent.relationships import grant_edges
from consent.rule_context import RuleContext
from consent.zones import DAY_US


@dataclass(frozen=True, slots=True)
class NotWithdrawn:
    """No withdrawal covers the call, or a grant of `lifted_by` that covers it is newer.

    At the same instant the withdrawal stands.
    """

    scope: WithdrawalScope
    lifted_by: frozenset[str]

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the newest withdrawal in scope."""
        if not facts.state.withdrawals:
            return _NOT_WITHDRAWN
        newest = max(
            ((entry.at, entry.event_id, entry.cause) for _, entry in facts.withdrawals(self.scope)),
            default=None,
        )
        if newest is None:
            return _NOT_WITHDRAWN
        at, event_id, cause = newest
        used = (("withdrawal", event_id), ("withdrawn_at", at), ("cause", cause))
        return _lifted(facts, at, self.lifted_by, used)

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterable[int]:
        """Where grants that lift it begin and end."""
        return grant_edges(facts, self.lifted_by, after, until)


@dataclass(frozen=True, slots=True)
class NotErased:
    """The person did not ask to be forgotten, or agreed again since."""

    lifted_by: frozenset[str]

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the erasure cut-off."""
        erased = facts.state.erased
        if erased is None:
            return _NOT_ERASED
        used = (("erasure", erased.event_id), ("cutoff_at", erased.cutoff_at))
        return _lifted(facts, erased.cutoff_at, self.lifted_by, used)

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterable[int]:
        """Where grants that lift it begin and end."""
        return grant_edges(facts, self.lifted_by, after, until)


@dataclass(frozen=True, slots=True)
class NoRefusalWithin:
    """The person did not say no to this seller, or to this subject, in the last `period_us`."""

    period_us: int
    per_subject: bool
    lifted_by: frozenset[str]

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the newest refusal; exactly at the end of the period the call may be made."""
        if not facts.state.refusals:
            return _NOT_REFUSED
        newest = max(
            ((entry.at, entry.event_id) for _, entry in facts.refusals(self.per_subject)),
            default=None,
        )
        if newest is None:
            return _NOT_REFUSED
        at, event_id = newest
        clears_at = at + self.period_us
        used = (("refusal", event_id), ("refused_at", at), ("silent_until", clears_at))
        if clears_at <= facts.at:
            return Finding(Result.HOLDS, used)
        return _lifted(facts, at, self.lifted_by, used, clears_at)

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterable[int]:
        """Where periods of silence end, and where grants that lift them begin and end."""
        for _, refusal in facts.refusals(self.per_subject):
            if after < refusal.at + self.period_us <= until:
                yield refusal.at + self.period_us
        yield from grant_edges(facts, self.lifted_by, after, until)


@dataclass(frozen=True, slots=True)
class PlaceKnown(Timeless):
    """At least one jurisdiction and one zone of the called party are known.

    A country alone is no jurisdiction where its subdivisions have law of their own.
    """

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the candidates."""
        known = facts.states and facts.zones and facts.geography.divided.isdisjoint(facts.states)
        used = (("states", facts.states), ("zones", facts.zones))
        return Finding(Result.HOLDS if known else Result.FAILS, used)


@dataclass(frozen=True, slots=True)
class LawKnown(Timeless):
    """Every candidate country has rows of its own in the rulebook."""

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the candidate countries; where none is known, nothing is asked."""
        for state in facts.states:
            if state[:2] not in facts.geography.lawful_countries:
                break
        else:
            return HOLDS
        unknown = sorted({state[:2] for state in facts.states} - facts.geography.lawful_countries)
        return Finding(Result.FAILS, (("countries", tuple(unknown)),))


@dataclass(frozen=True, slots=True)
class AlwaysDue(Timeless):
    """Never in order by itself: for obligations that every call carries."""

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Always fails."""
        return _DUE


_DUE: Final = Finding(Result.FAILS)
_NOT_WITHDRAWN: Final = Finding(Result.HOLDS, (("withdrawals", 0),))
_NOT_ERASED: Final = Finding(Result.HOLDS, (("erasures", 0),))
_NOT_REFUSED: Final = Finding(Result.HOLDS, (("refusals", 0),))


def _lifted(
    facts: CallFacts,
    at: int,
    kinds: frozenset[str],
    used: tuple[tuple[str, object], ...],
    clears_at: int | None = None,
) -> Finding:
    """Holds if the person agreed again after `at` to a call like this one."""
    agreed = facts.agreed_since(at, kinds) if kinds else None
    if agreed is None:
        return Finding(Result.FAILS, used, clears_at=clears_at)
    return Finding(Result.HOLDS, (*used, ("newer_grant", agreed[1].event_id)))


def _kinds(params: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(kind.upper() for kind in params.get("lifted_by", ()))


FACTS: Final[Mapping[str, Callable[[Mapping[str, Any], RuleContext], Check]]] = {
    "place_known": lambda params, context: PlaceKnown(),
    "law_known": lambda params, context: LawKnown(),
    "always_due": lambda params, context: AlwaysDue(),
    "not_withdrawn": lambda params, context: NotWithdrawn(
        params.get("scope", "request"), _kinds(params)
    ),
    "not_erased": lambda params, context: NotErased(_kinds(params)),
    "no_refusal_within": lambda params, context: NoRefusalWithin(
        params["days"] * DAY_US, params["per"] == "subject_matter", _kinds(params)
    ),
    **NUMBER_FACTS,
    **PROGRAM_FACTS,
}
"""Every fact that a rule can ask for, by name."""


def compile_fact(params: Mapping[str, Any], context: RuleContext) -> Check:
    """Check of the parameters in a rule file."""
    return FACTS[params["fact"]](params, context)
