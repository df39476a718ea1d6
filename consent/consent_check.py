"""The kind `consent`: a grant of a listed kind covers the call, with its evidence.

Of several grants one that is good in every way is enough. Otherwise the one that comes closest
says why: evidence incomplete, then run out, then for something else, then none at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from consent.call_facts import CallFacts
from consent.evidence import bits_of
from consent.findings import NOT_APPLICABLE, Finding, Result, UsedFacts
from consent.rule_context import RuleContext
from consent.state_entries import Grant, GrantKey
from consent.zones import DAY_US

CONSENT_REASONS: Final[Mapping[str, str]] = {
    "incomplete_reason": "CONSENT_EVIDENCE_INCOMPLETE",
    "scope_reason": "CONSENT_SCOPE",
    "expired_reason": "CONSENT_EXPIRED",
}
"""What the check gives beside its rule's own reason, unless its parameters name others."""

_FAR, _ELSEWHERE, _EXPIRED, _INCOMPLETE, _GOOD = range(5)
"""How close a grant comes to what is needed."""


@dataclass(frozen=True, slots=True)
class ConsentCheck:
    """Needs one of the `kinds`, in scope, live, not revoked since, with all `evidence`.

    `evidence` is a conjunction of alternatives: of each set of bits at least one must be there.
    With `evidence_only` the check judges the evidence of a consent that is otherwise good, and
    does not apply where there is none. Without an `incomplete_reason` the rule's own is given.
    """

    kinds: frozenset[str]
    evidence: tuple[int, ...]
    evidence_names: tuple[str, ...]
    evidence_only: bool
    max_age_us: int | None
    incomplete_reason: str | None
    scope_reason: str
    expired_reason: str

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the grant that comes closest; of equally close ones, the newest."""
        closest: tuple[int, int, str] | None = None
        grant_found: Grant | None = None
        for key, grant in facts.state.grants.items():
            if key[3] in self.kinds:
                closeness = self._closeness(facts, key, grant)
                rank = (closeness, grant.at, grant.event_id)
                if closeness and (closest is None or rank > closest):
                    closest, grant_found = rank, grant
        if closest is None or grant_found is None:
            return NOT_APPLICABLE if self.evidence_only else Finding(Result.FAILS)
        return self._found(closest[0], grant_found)

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterable[int]:
        """Where grants of these kinds begin and end."""
        for key, grant in facts.state.grants.items():
            if key[3] in self.kinds:
                for at in (grant.at, self._ends_at(grant)):
                    if at is not None and after < at <= until:
                        yield at

    def _ends_at(self, grant: Grant) -> int | None:
        ends = [] if grant.expires_at is None else [grant.expires_at]
        if self.max_age_us is not None:
            ends.append((grant.signed_at or grant.at) + self.max_age_us)
        return min(ends, default=None)

    def _closeness(self, facts: CallFacts, key: GrantKey, grant: Grant) -> int:
        if grant.at > facts.at or not facts.same_world(key[0]):
            return _FAR
        ends_at = self._ends_at(grant)
        expired = ends_at is not None and ends_at <= facts.at
        if not facts.in_scope(key, grant):
            return _FAR if expired or facts.is_revoked(key, grant) else _ELSEWHERE
        if grant.at <= facts.revoked_at:
            return _FAR
        if expired:
            return _EXPIRED
        complete = all(grant.elements & alternatives for alternatives in self.evidence)
        return _GOOD if complete else _INCOMPLETE

    def _found(self, closeness: int, grant: Grant) -> Finding:
        used: UsedFacts = (("grant", grant.event_id), ("granted_at", grant.at))
        if closeness == _GOOD:
            return Finding(Result.HOLDS, used)
        if closeness == _INCOMPLETE:
            lacking = tuple(
                name
                for name, alternatives in zip(self.evidence_names, self.evidence, strict=True)
                if not grant.elements & alternatives
            )
            return Finding(Result.FAILS, (*used, ("lacking", lacking)), self.incomplete_reason)
        if self.evidence_only:
            return NOT_APPLICABLE
        if closeness == _EXPIRED:
            used = (*used, ("ended_at", self._ends_at(grant)))
            return Finding(Result.FAILS, used, self.expired_reason)
        return Finding(Result.FAILS, used, self.scope_reason)


def evidence_of(entries: Iterable[str | list[str]]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Required evidence as sets of bits of which one must be there, and what each is called."""
    alternatives = [[entry] if isinstance(entry, str) else entry for entry in entries]
    return (
        tuple(bits_of(names) for names in alternatives),
        tuple("|".join(names) for names in alternatives),
    )


def compile_consent(params: Mapping[str, Any], context: RuleContext) -> ConsentCheck:
    """Check of the parameters in a rule file."""
    evidence, evidence_names = evidence_of(params.get("evidence_required", ()))
    days, evidence_only = params.get("max_age_days"), params.get("evidence_only", False)
    return ConsentCheck(
        kinds=frozenset(kind.upper() for kind in params["kinds"]),
        evidence=evidence,
        evidence_names=evidence_names,
        evidence_only=evidence_only,
        max_age_us=None if days is None else days * DAY_US,
        incomplete_reason=params.get(
            "incomplete_reason", None if evidence_only else CONSENT_REASONS["incomplete_reason"]
        ),
        scope_reason=params.get("scope_reason", CONSENT_REASONS["scope_reason"]),
        expired_reason=params.get("expired_reason", CONSENT_REASONS["expired_reason"]),
    )
