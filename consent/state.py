"""All that is known about calling one number, as a join-semilattice.

`merge` is commutative, associative and idempotent, so any order, repetition or grouping of the
same events gives the same state, and nothing can make a state older. Windows, expiry and age are
not applied here: they depend on the instant that is asked about, and belong to the decision.

Every slot keeps its greatest entry (`consent.state_entries`). An erasure cut-off absorbs what is
dated at or before it. Lists are cut to their newest. All of it may be done in any order, because
an entry leaves a state only where a greater one, or a cut-off above it, is in that state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, TypeVar

from consent.state_entries import (
    ANY,
    ATTEMPTS_MAX,
    INTERNAL_LIST,
    LOG_IDS_MAX,
    OBJECTION_LIST,
    SLOT_ORDERS,
    TEST_PREFIX,
    WHOLE_PARTY_SUFFIX,
    AppliedKey,
    AppliedOffset,
    Attempt,
    AttemptKey,
    Attribute,
    CutOff,
    DncEntry,
    DncKey,
    Erasure,
    Grant,
    GrantKey,
    LastOutcome,
    LegalHold,
    Order,
    OutcomeKey,
    Reassignment,
    Refusal,
    RefusalKey,
    Relationship,
    RelationshipKey,
    Withdrawal,
    WithdrawalKey,
    attempt_identity,
    attempt_order,
    greater_attribute,
)

__all__ = [
    "ANY",
    "ATTEMPTS_MAX",
    "EMPTY",
    "INTERNAL_LIST",
    "LOG_IDS_MAX",
    "OBJECTION_LIST",
    "TEST_PREFIX",
    "WHOLE_PARTY_SUFFIX",
    "AppliedKey",
    "AppliedOffset",
    "Attempt",
    "AttemptKey",
    "Attribute",
    "CutOff",
    "DncEntry",
    "DncKey",
    "Erasure",
    "Grant",
    "GrantKey",
    "LastOutcome",
    "LegalHold",
    "OutcomeKey",
    "Reassignment",
    "Refusal",
    "RefusalKey",
    "Relationship",
    "RelationshipKey",
    "SubjectState",
    "Withdrawal",
    "WithdrawalKey",
    "absorb",
    "attribute_values",
    "counted_attempts",
    "is_empty",
    "merge",
    "merge_applied",
    "newest_attempts",
    "newest_logs",
]

_NONE: Final[Mapping[Any, Any]] = {}


def _nothing() -> Mapping[Any, Any]:
    return _NONE


@dataclass(frozen=True, slots=True)
class SubjectState:
    """The state of one number. Mappings are never changed once they are in a state.

    `attempts` holds the newest ATTEMPTS_MAX per key, newest first. `applied` says up to which
    offset of which incarnation of a topic the number's records are folded; per topic the
    LOG_IDS_MAX newest incarnations are kept, which presumes that `recorded_at` does not go down
    with the offsets of a log.
    """

    grants: Mapping[GrantKey, Grant] = field(default_factory=_nothing)
    withdrawals: Mapping[WithdrawalKey, Withdrawal] = field(default_factory=_nothing)
    dnc: Mapping[DncKey, DncEntry] = field(default_factory=_nothing)
    refusals: Mapping[RefusalKey, Refusal] = field(default_factory=_nothing)
    relationships: Mapping[RelationshipKey, Relationship] = field(default_factory=_nothing)
    attempts: Mapping[AttemptKey, tuple[Attempt, ...]] = field(default_factory=_nothing)
    outcomes: Mapping[OutcomeKey, LastOutcome] = field(default_factory=_nothing)
    attributes: Mapping[str, Attribute] = field(default_factory=_nothing)
    reassignments: Mapping[str, Reassignment] = field(default_factory=_nothing)
    legal_holds: Mapping[str, LegalHold] = field(default_factory=_nothing)
    erased: Erasure | None = None
    applied: Mapping[AppliedKey, AppliedOffset] = field(default_factory=_nothing)


EMPTY: Final = SubjectState()

ABSORBED: Final = (
    "grants",
    "withdrawals",
    "refusals",
    "relationships",
    "outcomes",
    "attributes",
    "reassignments",
)
"""Sections that an erasure cut-off absorbs, beside `attempts`.

Do-not-call entries outlive it: they hold nothing about the person, and the block of a cut-off,
which a newer grant lifts, would be weaker. So do legal holds, and `applied`.
"""

_K = TypeVar("_K")
_V = TypeVar("_V")


def merge(a: SubjectState, b: SubjectState) -> SubjectState:
    """The least state that is at or above both: what was known to either is known to it."""
    if a is b or b is EMPTY:
        return a
    if a is EMPTY:
        return b
    sections: dict[str, Any] = {}
    for name, order in SLOT_ORDERS.items():
        sections[name] = _merge_slots(getattr(a, name), getattr(b, name), order)
    merged = SubjectState(
        attempts=_merge_attempts(a.attempts, b.attempts),
        attributes=_merge_attributes(a.attributes, b.attributes),
        erased=_merge_erasures(a.erased, b.erased),
        applied=merge_applied(a.applied, b.applied),
        **sections,
    )
    return merged if merged.erased is None else absorb(merged)


def merge_applied(
    a: Mapping[AppliedKey, AppliedOffset], b: Mapping[AppliedKey, AppliedOffset]
) -> Mapping[AppliedKey, AppliedOffset]:
    """The greatest offset of every log, of the newest LOG_IDS_MAX logs of each topic."""
    if not b or a is b:
        return a
    if not a:
        return b
    merged = dict(a)
    for key, offset in b.items():
        held = merged.get(key)
        if held is None:
            merged[key] = offset
        elif held != offset:
            merged[key] = AppliedOffset(
                max(held.offset_last, offset.offset_last),
                max(held.recorded_at, offset.recorded_at),
            )
    return newest_logs(merged)


def newest_logs(applied: Mapping[AppliedKey, AppliedOffset]) -> Mapping[AppliedKey, AppliedOffset]:
    """Those of the newest LOG_IDS_MAX logs of each topic."""
    if len(applied) <= LOG_IDS_MAX:
        return applied
    by_topic: dict[str, list[tuple[int, bytes]]] = {}
    for (topic, log_id), offset in applied.items():
        by_topic.setdefault(topic, []).append((offset.recorded_at, log_id))
    kept: dict[AppliedKey, AppliedOffset] = {}
    for topic, logs in by_topic.items():
        for _recorded_at, log_id in sorted(logs, reverse=True)[:LOG_IDS_MAX]:
            kept[topic, log_id] = applied[topic, log_id]
    return kept


def absorb(state: SubjectState) -> SubjectState:
    """Drop what the state's erasure cut-off covers."""
    if state.erased is None:
        return state
    cutoff_at = state.erased.cutoff_at
    kept: dict[str, Any] = {
        name: {key: value for key, value in getattr(state, name).items() if value.at > cutoff_at}
        for name in ABSORBED
    }
    kept["attempts"] = {
        key: newer
        for key, attempts in state.attempts.items()
        if (newer := tuple(attempt for attempt in attempts if attempt.at > cutoff_at))
    }
    return replace(state, **kept)


def newest_attempts(attempts: list[Attempt]) -> tuple[Attempt, ...]:
    """The newest ATTEMPTS_MAX, newest first, each identity once."""
    attempts.sort(key=attempt_order, reverse=True)
    kept: list[Attempt] = []
    for attempt in attempts:
        if not kept or attempt_identity(kept[-1]) != attempt_identity(attempt):
            kept.append(attempt)
    return tuple(kept[:ATTEMPTS_MAX])


def counted_attempts(attempts: tuple[Attempt, ...], at: int) -> tuple[Attempt, ...]:
    """Those that count at an instant: calls, and permits not yet expired that no call cites."""
    cited = {attempt.permit_id for attempt in attempts if attempt.permit_expires_at is None}
    return tuple(
        attempt
        for attempt in attempts
        if attempt.permit_expires_at is None
        or (attempt.permit_expires_at > at and attempt.permit_id not in cited)
    )


def attribute_values(state: SubjectState, name: str) -> tuple[str, ...]:
    """Union of an attribute over everything that stated it.

    Places are kept apart by their source (`states:ADDRESS`, `states:BILLING_ADDRESS`), so that
    one source never hides a candidate that another one named.
    """
    prefix = name + ":"
    return tuple(
        sorted(
            {
                value
                for key, attribute in state.attributes.items()
                if key == name or key.startswith(prefix)
                for value in attribute.values
            }
        )
    )


def is_empty(state: SubjectState) -> bool:
    """True if the state says nothing."""
    return not any(getattr(state, section.name) for section in fields(state))


def _merge_slots(a: Mapping[_K, _V], b: Mapping[_K, _V], order: Order) -> Mapping[_K, _V]:
    if not b or a is b:
        return a
    if not a:
        return b
    merged = dict(a)
    for key, value in b.items():
        held = merged.get(key)
        if held is None or (held != value and order(value) > order(held)):
            merged[key] = value
    return merged


def _merge_attempts(
    a: Mapping[AttemptKey, tuple[Attempt, ...]], b: Mapping[AttemptKey, tuple[Attempt, ...]]
) -> Mapping[AttemptKey, tuple[Attempt, ...]]:
    if not b or a is b:
        return a
    if not a:
        return b
    merged = dict(a)
    for key, attempts in b.items():
        held = merged.get(key)
        merged[key] = attempts if held is None else newest_attempts([*held, *attempts])
    return merged


def _merge_attributes(
    a: Mapping[str, Attribute], b: Mapping[str, Attribute]
) -> Mapping[str, Attribute]:
    if not b or a is b:
        return a
    if not a:
        return b
    merged = dict(a)
    for name, attribute in b.items():
        held = merged.get(name)
        merged[name] = attribute if held is None else greater_attribute(held, attribute)
    return merged


def _merge_erasures(a: Erasure | None, b: Erasure | None) -> Erasure | None:
    if a is None or b is None:
        return a or b
    return max(a, b)
