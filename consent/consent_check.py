"""The kind `consent`: a grant of a listed kind covers the call, with its evidence.

Of several grants one that is good in every way is enough. Otherwise the one that comes closest
says why: evidence incomplete, then run out, then for something else, then none at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from consent.call_facts import CallFacts
from consent.evidence import bits_of
from consent.findings import NOT_APPLICABLE, Finding, Result
from consent.state_entries import Grant, GrantKey
from consent.zones import DAY_US

_INCOMPLETE, _EXPIRED, _ELSEWHERE = 3, 2, 1
"""How close a grant that does not do comes to one that does."""


@dataclass(frozen=True, slots=True)
class ConsentCheck:
    """Needs one of the `kinds`, in scope, live, not revoked since, with all `evidence`.

    `evidence` is a conjunction of alternatives: of each set of bits at least one must be there.
    With `evidence_only` the check judges the evidence of a consent that is otherwise good, and
    does not apply where there is none.
    """

    kinds: frozenset[str]
    evidence: tuple[int, ...]
    evidence_names: tuple[str, ...]
    evidence_only: bool
    max_age_us: int | None
    incomplete_reason: str
    scope_reason: str
    expired_reason: str

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Pass on the first good grant; else name what the closest one lacks."""
        closest: tuple[int, int, str] | None = None
        closest_grant: Grant | None = None
        for key, grant in facts.state.grants.items():
            if key[3] not in self.kinds:
                continue
            closeness = self._closeness(facts, key, grant)
            if closeness is None:
                continue
            if closeness > _INCOMPLETE:
                return self._good(grant)
            rank = (closeness, grant.at, grant.event_id)
            if closest is None or rank > closest:
                closest, closest_grant = rank, grant
        if closest is None or closest_grant is None:
            return NOT_APPLICABLE if self.evidence_only else Finding(Result.FAILS)
        return self._short(closest[0], closest_grant)

    def edges(self, facts: CallFacts, until: int) -> Iterable[int]:
        """Where grants of these kinds begin and end."""
        for key, grant in facts.state.grants.items():
            if key[3] in self.kinds:
                for at in (grant.at, self._ends_at(grant)):
                    if at is not None and facts.at < at <= until:
                        yield at

    def _ends_at(self, grant: Grant) -> int | None:
        ends = [] if grant.expires_at is None else [grant.expires_at]
        if self.max_age_us is not None:
            ends.append((grant.signed_at or grant.at) + self.max_age_us)
        return min(ends, default=None)

    def _closeness(self, facts: CallFacts, key: GrantKey, grant: Grant) -> int | None:
        if grant.at > facts.at or not facts.same_world(key[0]):
            return None
        ends_at = self._ends_at(grant)
        expired = ends_at is not None and ends_at <= facts.at
        if not facts.in_scope(key, grant):
            return None if expired or facts.is_revoked(key, grant) else _ELSEWHERE
        if grant.at <= facts.revoked_at:
            return None
        if expired:
            return _EXPIRED
        complete = all(grant.elements & alternatives for alternatives in self.evidence)
        return _INCOMPLETE + 1 if complete else _INCOMPLETE

    def _good(self, grant: Grant) -> Finding:
        return Finding(Result.HOLDS, (("grant", grant.event_id), ("granted_at", grant.at)))

    def _short(self, closeness: int, grant: Grant) -> Finding:
        used: tuple[tuple[str, object], ...] = (
            ("grant", grant.event_id),
            ("granted_at", grant.at),
        )
        if closeness == _INCOMPLETE:
            lacking = tuple(
                name
                for name, alternatives in zip(self.evidence_names, self.evidence, strict=True)
                if not grant.elements & alternatives
            )
            used = (*used, ("lacking", lacking))
            return Finding(Result.FAILS, used, self.incomplete_reason)
        if self.evidence_only:
            return NOT_APPLICABLE
        if closeness == _EXPIRED:
            used = (*used, ("ended_at", self._ends_at(grant)))
            return Finding(Result.FAILS, used, self.expired_reason)
        return Finding(Result.FAILS, used, self.scope_reason)


def compile_consent(params: Mapping[str, Any]) -> ConsentCheck:
    """Check of the parameters in a rule file."""
    alternatives = [
        [entry] if isinstance(entry, str) else entry
        for entry in params.get("evidence_required", ())
    ]
    days = params.get("max_age_days")
    return ConsentCheck(
        kinds=frozenset(kind.upper() for kind in params["kinds"]),
        evidence=tuple(bits_of(names) for names in alternatives),
        evidence_names=tuple("|".join(names) for names in alternatives),
        evidence_only=params.get("evidence_only", False),
        max_age_us=None if days is None else days * DAY_US,
        incomplete_reason=params.get("incomplete_reason", "CONSENT_EVIDENCE_INCOMPLETE"),
        scope_reason=params.get("scope_reason", "CONSENT_SCOPE"),
        expired_reason=params.get("expired_reason", "CONSENT_EXPIRED"),
    )
