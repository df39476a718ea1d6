"""Entries of a subject's state, and which of two entries for one slot is the greater.

The order of every kind begins with the entry's time; at the same instant the stricter entry is the
greater one. Orders are total: two entries that compare equal are equal, so that which one is kept
never depends on which came first. The field names are those of `SubjectState` on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

ANY: Final = "*"
"""In a seller, purpose, mode or subject matter: every one of them."""

TEST_PREFIX: Final = "test:"
"""Before the seller ids, holds and attribute names of rehearsals, so that none meets a real one."""

ATTEMPTS_MAX: Final = 16
LOG_IDS_MAX: Final = 8

INTERNAL_LIST: Final = "internal"
OBJECTION_LIST: Final = "objection"
WHOLE_PARTY_SUFFIX: Final = "/whole-party"
"""List id of the second entry of a request for every number of a person, beside the plain one."""


class Grant(NamedTuple):
    """Key: seller, purpose, mode, consent kind."""

    at: int
    event_id: str
    expires_at: int | None
    signed_at: int | None
    elements: int
    subject_matters: tuple[str, ...]
    party: str


class Withdrawal(NamedTuple):
    """Key: seller, purpose, mode, subject matter; `*` in any place is all."""

    at: int
    event_id: str
    cause: str


class DncEntry(NamedTuple):
    """Key: seller (`*` is all), list kind, list id. `listed` False is a removal."""

    at: int
    event_id: str
    listed: bool
    requested_at: int
    whole_party: bool
    listed_on: int | None = None


class Refusal(NamedTuple):
    """Key: seller, subject matter."""

    at: int
    event_id: str
    objection: bool


class Relationship(NamedTuple):
    """Key: seller, relationship kind, relationship id (empty if none was given)."""

    at: int
    event_id: str
    on: int
    status: str
    ended_on: int | None
    related_subject_matters: tuple[str, ...]
    affiliate_expected: bool
    call_from_at: int | None = None
    call_until_at: int | None = None


class Attempt(NamedTuple):
    """A call, or a permit to make one: then `permit_expires_at` is set."""

    at: int
    event_id: str
    call_id: str
    permit_id: str | None
    permit_expires_at: int | None
    purpose: str
    call_mode: str
    dial_mode: str
    contact_kind: str = "UNKNOWN"
    shipment_id: str | None = None


class LastOutcome(NamedTuple):
    """Key: seller, outcome."""

    at: int
    event_id: str


class Attribute(NamedTuple):
    """Key: name. At one instant the union of the values, which are sorted."""

    at: int
    values: tuple[str, ...]


class Reassignment(NamedTuple):
    """Key: seller."""

    at: int
    event_id: str
    answer: str
    query_date: int


class LegalHold(NamedTuple):
    """Key: hold id."""

    at: int
    held: bool


class CutOff(NamedTuple):
    """Last offset of one source partition that an erasure reached."""

    topic: str
    log_id: bytes
    partition: int
    offset_last: int


class Erasure(NamedTuple):
    """Absorbs what is dated at or before `cutoff_at`, and refuses calls until a newer grant."""

    cutoff_at: int
    event_id: str
    cutoffs: tuple[CutOff, ...]


class AppliedOffset(NamedTuple):
    """Key: topic, log id. `recorded_at` is the broker's time of what was folded last."""

    offset_last: int
    recorded_at: int


GrantKey = tuple[str, str, str, str]
WithdrawalKey = tuple[str, str, str, str]
DncKey = tuple[str, str, str]
RefusalKey = tuple[str, str]
RelationshipKey = tuple[str, str, str]
AttemptKey = tuple[str, str]
OutcomeKey = tuple[str, str]
AppliedKey = tuple[str, bytes]

_FOREVER: Final = 1 << 62


def _ranks(*laxest_first: str) -> Mapping[str, int]:
    return {word: rank for rank, word in enumerate(laxest_first)}


_PARTY: Final = _ranks("BUSINESS", "UNKNOWN", "CONSUMER")
_STATUS: Final = _ranks("ACTIVE", "UNKNOWN", "ENDED")
_ANSWER: Final = _ranks("NO", "NO_DATA", "UNKNOWN", "YES")


def _never_is_late(instant: int | None) -> int:
    return _FOREVER if instant is None else instant


def grant_order(grant: Grant) -> tuple[Any, ...]:
    """Later; then earlier expiry, fewer elements, limited subject matters, a consumer."""
    matters = grant.subject_matters
    return (
        grant.at,
        -_never_is_late(grant.expires_at),
        -grant.elements.bit_count(),
        bool(matters),
        -len(matters),
        _PARTY[grant.party],
        grant.event_id,
        -grant.elements,
        -_never_is_late(grant.signed_at),
        matters,
    )


def withdrawal_order(withdrawal: Withdrawal) -> tuple[Any, ...]:
    """Later; all causes are equally strict."""
    return withdrawal


def dnc_order(entry: DncEntry) -> tuple[Any, ...]:
    """Later; then listed, for the whole party, asked for and listed earlier."""
    return (
        entry.at,
        entry.listed,
        entry.whole_party,
        -entry.requested_at,
        -_never_is_late(entry.listed_on),
        entry.event_id,
    )


def refusal_order(refusal: Refusal) -> tuple[Any, ...]:
    """Later; then an objection."""
    return (refusal.at, refusal.objection, refusal.event_id)


def relationship_order(relationship: Relationship) -> tuple[Any, ...]:
    """Later; then ended, begun and ended earlier, for less, callable for a shorter time."""
    matters = relationship.related_subject_matters
    return (
        relationship.at,
        _STATUS[relationship.status],
        -relationship.on,
        -_never_is_late(relationship.ended_on),
        -len(matters),
        not relationship.affiliate_expected,
        -_never_is_late(relationship.call_until_at),
        _never_is_late(relationship.call_from_at),
        relationship.event_id,
        matters,
    )


def outcome_order(outcome: LastOutcome) -> tuple[Any, ...]:
    """Later."""
    return outcome


def reassignment_order(answer: Reassignment) -> tuple[Any, ...]:
    """Later; then reassigned, unknown, no data, not reassigned; then about an earlier date."""
    return (answer.at, _ANSWER[answer.answer], -answer.query_date, answer.event_id)


def hold_order(hold: LegalHold) -> tuple[Any, ...]:
    """Later; then held."""
    return hold


def attempt_identity(attempt: Attempt) -> tuple[int, str]:
    """Attempts are ordered, and told apart, by time and event id."""
    return (attempt.at, attempt.event_id)


def attempt_order(attempt: Attempt) -> tuple[Any, ...]:
    """Newer; of one identity a call before a permit, then the permit that counts longer."""
    return (
        attempt.at,
        attempt.event_id,
        _never_is_late(attempt.permit_expires_at),
        attempt.permit_expires_at is None,
        *(value or "" for value in attempt[5:]),
        attempt.call_id,
        attempt.permit_id or "",
        attempt.permit_id is None,
        attempt.shipment_id is None,
    )


def greater_attribute(one: Attribute, other: Attribute) -> Attribute:
    """The later attribute; of one instant, the union of both."""
    if one.at != other.at:
        return one if one.at > other.at else other
    if one.values == other.values:
        return one
    return Attribute(one.at, tuple(sorted({*one.values, *other.values})))


Order = Callable[[Any], tuple[Any, ...]]

SLOT_ORDERS: Final[Mapping[str, Order]] = {
    "grants": grant_order,
    "withdrawals": withdrawal_order,
    "dnc": dnc_order,
    "refusals": refusal_order,
    "relationships": relationship_order,
    "outcomes": outcome_order,
    "reassignments": reassignment_order,
    "legal_holds": hold_order,
}
"""Sections that keep one entry per key: which of two entries is the greater."""
