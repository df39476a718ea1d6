"""How each type of event is lifted to entries of a number's state.

What is in doubt restricts: an unknown or missing scope of a withdrawal is everything, an unknown
word in a grant grants nothing, a do-not-call request without a list is internal. Events of
rehearsals live under names with TEST_PREFIX and never meet real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from consent.durations import after
from consent.state import (
    ANY,
    INTERNAL_LIST,
    OBJECTION_LIST,
    TEST_PREFIX,
    WHOLE_PARTY_SUFFIX,
    Attempt,
    Attribute,
    CutOff,
    DncEntry,
    Erasure,
    Grant,
    LastOutcome,
    LegalHold,
    Reassignment,
    Refusal,
    Relationship,
    Withdrawal,
)

PERMIT_LIFETIME_MAX_US: Final = 60_000_000
SUBJECT_MATTERS_MAX: Final = 64
"""A grant or a relationship covers at most so many, in alphabetical order; the rest it does not."""
WITHDRAWN_MATTERS_MAX: Final = 16
"""A withdrawal that names more is one of all."""

Entry = tuple[str, Any, Any]
"""Section of the state, key, value. The key of the section `erased` is None."""

Entries = Sequence[Entry]
Row = tuple[Any, ...]

_NOTHING: Final[Entries] = ()
_UNKNOWN: Final = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Lifter:
    """How records of one type are lifted.

    `lift` takes a row: effective time, event id, seller (with TEST_PREFIX), element bits, then
    the values of `columns`. Enums are words, arrays are tuples or lists of them. `elements` says
    if it uses the element bits; they may be 0 otherwise. `links` says if a party that the event
    names links the number to it: a request to erase must not link again what it erases.
    """

    columns: tuple[str, ...]
    lift: Callable[[Row], Entries]
    elements: bool = False
    links: bool = True


def prefixed(test: bool, name: str) -> str:
    """The name of something real, or of something in a rehearsal."""
    return TEST_PREFIX + name if test else name


def _is_test(seller_id: str) -> bool:
    return seller_id.startswith(TEST_PREFIX)


def _any_seller(seller_id: str) -> str:
    return TEST_PREFIX + ANY if _is_test(seller_id) else ANY


def _names_seller(seller_id: str) -> bool:
    return seller_id not in (ANY, TEST_PREFIX + ANY)


@lru_cache(maxsize=1024)
def _scope(words: tuple[str, ...]) -> tuple[str, ...]:
    """Scope of a restriction: all, unless only known words are named."""
    return (ANY,) if not words or _UNKNOWN in words else tuple(sorted(set(words)))


@lru_cache(maxsize=1 << 14)
def _grant_keys(
    seller_id: str, purposes: tuple[str, ...], modes: tuple[str, ...], kind: str
) -> tuple[tuple[str, str, str, str], ...]:
    """Slots of a grant; none for what is unknown."""
    if kind == _UNKNOWN or not _names_seller(seller_id):
        return ()
    return tuple(
        (seller_id, purpose, mode, kind)
        for purpose in sorted(set(purposes) - {_UNKNOWN})
        for mode in sorted(set(modes) - {_UNKNOWN})
    )


def _matters(matters: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(set(matters))[:SUBJECT_MATTERS_MAX]) if matters else ()


def _consent_granted(row: Row) -> Entries:
    at, event_id, seller_id, elements, kind, change, purposes, modes, *terms = row
    matters, expires_at, validity, signed_at, party = terms
    keys = _grant_keys(seller_id, tuple(purposes), tuple(modes), kind)
    if not keys or change == "REQUESTED":
        return _NOTHING
    if validity is not None:
        stated = after(at, validity)
        # A stated validity that can't be read has run out: the grant shows, and grants nothing.
        stated = at if stated is None else stated
        expires_at = stated if expires_at is None else min(stated, expires_at)
    grant = Grant(at, event_id, expires_at, signed_at, elements, _matters(matters), party)
    return [("grants", key, grant) for key in keys]


def _withdrawals(
    keys: tuple[str, Sequence[str], Sequence[str], Sequence[str]], withdrawal: Withdrawal
) -> list[Entry]:
    seller_id, purposes, modes, matters = keys
    named = tuple(sorted(set(matters)))
    if not named or len(named) > WITHDRAWN_MATTERS_MAX:
        named = (ANY,)
    return [
        ("withdrawals", (seller_id, purpose, mode, matter), withdrawal)
        for purpose in _scope(tuple(purposes))
        for mode in _scope(tuple(modes))
        for matter in named
    ]


def _consent_withdrawn(row: Row) -> Entries:
    at, event_id, seller_id, _elements, purposes, modes, matters, all_sellers = row
    seller_id = _any_seller(seller_id) if all_sellers else seller_id
    withdrawal = Withdrawal(at, event_id, "WITHDRAWN")
    return _withdrawals((seller_id, purposes, modes, matters), withdrawal)


def _consent_invalidated(row: Row) -> Entries:
    at, event_id, seller_id, _elements, purposes, modes = row
    return _withdrawals((seller_id, purposes, modes, ()), Withdrawal(at, event_id, "INVALIDATED"))


def _consent_refused(row: Row) -> Entries:
    at, event_id, seller_id, _elements, matter, objection = row
    refusal = ("refusals", (seller_id, matter or ANY), Refusal(at, event_id, objection))
    if not objection:
        return (refusal,)
    # A later refusal takes the slot above; an objection must not be lost to it.
    entry = DncEntry(at, event_id, True, at, False)
    return (refusal, ("dnc", (seller_id, "INTERNAL", OBJECTION_LIST), entry))


def _relationship_recorded(row: Row) -> Entries:
    at, event_id, seller_id, _elements, kind, relationship_id, on, status, *terms = row
    ended_on, matters, affiliate_expected, call_from_at, call_until_at = terms
    if kind == _UNKNOWN or not _names_seller(seller_id):
        return _NOTHING
    relationship = Relationship(
        at,
        event_id,
        on,
        status,
        ended_on,
        _matters(matters),
        affiliate_expected,
        call_from_at,
        call_until_at,
    )
    return (("relationships", (seller_id, kind, relationship_id or ""), relationship),)


_PLAIN_ATTRIBUTES: Final = (
    "line_type",
    "line_type_as_of",
    "ported_at",
    "port",
    "party",
    "tags",
    "carrier",
    "preference",
    "preference_hours",
    "sale_opt_out",
)
_PLACE_ATTRIBUTES: Final = ("states", "zones", "counties")


def _number_attributes_recorded(row: Row) -> Entries:
    at, _event_id, seller_id, _elements, place_source, *values = row
    test = _is_test(seller_id)
    source = "" if place_source == _UNKNOWN else f":{place_source}"
    names = [*_PLAIN_ATTRIBUTES, *(name + source for name in _PLACE_ATTRIBUTES)]
    return [
        ("attributes", prefixed(test, name), Attribute(at, _attribute_values(value)))
        for name, value in zip(names, values, strict=True)
        if value is not None
    ]


def _attribute_values(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, bool | int):
        return (str(value).lower(),)
    return tuple(sorted(set(value)))


def _reassignment_checked(row: Row) -> Entries:
    at, event_id, seller_id, _elements, answer, query_date = row
    if answer == _UNKNOWN:
        return _NOTHING
    return (("reassignments", seller_id, Reassignment(at, event_id, answer, query_date)),)


def _dnc_added(row: Row) -> Entries:
    at, event_id, seller_id, _elements, kind, list_id, *terms = row
    all_sellers, whole_party, requested_at, listed_on = terms
    kind = "INTERNAL" if kind == _UNKNOWN else kind
    seller_id = _any_seller(seller_id) if all_sellers else seller_id
    requested_at = at if requested_at is None else requested_at
    entry = DncEntry(at, event_id, True, requested_at, whole_party, listed_on)
    return _dnc_entries((seller_id, kind, list_id), entry)


def _dnc_removed(row: Row) -> Entries:
    at, event_id, seller_id, _elements, kind, list_id, all_sellers = row
    if kind == _UNKNOWN:
        return _NOTHING
    seller_id = _any_seller(seller_id) if all_sellers else seller_id
    entry = DncEntry(at, event_id, False, at, False)
    return _dnc_entries((seller_id, kind, list_id), entry)


def _dnc_entries(key: tuple[str, str, str], entry: DncEntry) -> Entries:
    """An internal request for a whole party has a slot of its own beside the plain one.

    A later plain request therefore does not narrow it; a removal ends both.
    """
    plain = ("dnc", key, entry)
    if key[1] != "INTERNAL" or (entry.listed and not entry.whole_party):
        return (plain,)
    seller_id, kind, list_id = key
    return (plain, ("dnc", (seller_id, kind, list_id + WHOLE_PARTY_SUFFIX), entry))


def _call_placed(row: Row) -> Entries:
    at, event_id, seller_id, _elements, call_id, permit_id, matter, *terms = row
    purpose, call_mode, dial_mode, contact_kind, shipment_id = terms
    attempt = Attempt(
        at,
        event_id,
        call_id,
        permit_id,
        None,
        purpose,
        call_mode,
        dial_mode,
        contact_kind,
        shipment_id,
    )
    return (("attempts", (seller_id, matter or ANY), attempt),)


def _call_ended(row: Row) -> Entries:
    at, event_id, seller_id, _elements, matter, outcome, abandoned, answered_live, *terms = row
    refused, opted_out, opted_out_at, purposes, modes, all_sellers, whole_party = terms
    outcomes = {outcome} - {_UNKNOWN}
    if abandoned:
        outcomes.add("ABANDONED")
    if answered_live:
        outcomes.add("ANSWERED_LIVE")
    ended = LastOutcome(at, event_id)
    entries: list[Entry] = [("outcomes", (seller_id, word), ended) for word in sorted(outcomes)]
    if refused or outcome == "REFUSED":
        entries.append(("refusals", (seller_id, matter or ANY), Refusal(at, event_id, False)))
    if opted_out:
        seller_id = _any_seller(seller_id) if all_sellers else seller_id
        withdrawal = Withdrawal(at, event_id, "OPTED_OUT_IN_CALL")
        entries += _withdrawals((seller_id, purposes, modes, ()), withdrawal)
        requested_at = at if opted_out_at is None else opted_out_at
        entry = DncEntry(at, event_id, True, requested_at, whole_party)
        entries += _dnc_entries((seller_id, "INTERNAL", INTERNAL_LIST), entry)
    return entries


def _erasure_requested(row: Row) -> Entries:
    at, event_id, seller_id, _elements = row
    return _withdrawals((seller_id, (), (), ()), Withdrawal(at, event_id, "WITHDRAWN"))


def _erasure_executed(row: Row) -> Entries:
    at, event_id, seller_id, _elements, cutoff_at, cutoffs = row
    if _is_test(seller_id):
        return _erasure_requested((at, event_id, seller_id, 0))
    reached = {
        CutOff(cutoff["topic"], cutoff["log_id"], cutoff["partition"], cutoff["offset_last"])
        for cutoff in cutoffs
    }
    # Nothing after its own execution can have been erased.
    return (("erased", None, Erasure(min(cutoff_at, at), event_id, tuple(sorted(reached)))),)


def _legal_hold_placed(row: Row) -> Entries:
    at, _event_id, seller_id, _elements, hold_id = row
    return (("legal_holds", prefixed(_is_test(seller_id), hold_id), LegalHold(at, True)),)


def _legal_hold_released(row: Row) -> Entries:
    at, _event_id, seller_id, _elements, hold_id = row
    return (("legal_holds", prefixed(_is_test(seller_id), hold_id), LegalHold(at, False)),)


def _dial_decision(row: Row) -> Entries:
    at, event_id, seller_id, _elements, verdict, permit_id, expires_at, matter, *modes = row
    if verdict != "ALLOW" or permit_id is None:
        return _NOTHING
    expires_at = at + PERMIT_LIFETIME_MAX_US if expires_at is None else expires_at
    attempt = Attempt(at, event_id, "", permit_id, expires_at, *modes)
    return (("attempts", (seller_id, matter or ANY), attempt),)


def _columns(names: str) -> tuple[str, ...]:
    return tuple(names.split())


LIFTERS: Final[Mapping[str, Lifter]] = {
    "ConsentGranted": Lifter(
        _columns(
            "consent_kind change purposes modes subject_matters expires_at validity signed_at party"
        ),
        _consent_granted,
        elements=True,
    ),
    "ConsentWithdrawn": Lifter(
        _columns("purposes modes subject_matters all_sellers"), _consent_withdrawn
    ),
    "ConsentInvalidated": Lifter(_columns("purposes modes"), _consent_invalidated),
    "ConsentRefused": Lifter(_columns("subject_matter objection"), _consent_refused),
    "RelationshipRecorded": Lifter(
        _columns(
            "relationship_kind relationship_id on status ended_on related_subject_matters "
            "affiliate_expected call_from_at call_until_at"
        ),
        _relationship_recorded,
    ),
    "NumberAttributesRecorded": Lifter(
        ("place_source", *_PLAIN_ATTRIBUTES, *_PLACE_ATTRIBUTES), _number_attributes_recorded
    ),
    "ReassignmentChecked": Lifter(_columns("answer query_date"), _reassignment_checked),
    "DncAdded": Lifter(
        _columns("list_kind list_id all_sellers whole_party requested_at listed_on"),
        _dnc_added,
    ),
    "DncRemoved": Lifter(_columns("list_kind list_id all_sellers"), _dnc_removed),
    "CallPlaced": Lifter(
        _columns(
            "call_id permit_id subject_matter purpose call_mode dial_mode contact_kind shipment_id"
        ),
        _call_placed,
    ),
    "CallEnded": Lifter(
        _columns(
            "subject_matter outcome abandoned answered_live refused opted_out opted_out_at "
            "purposes modes opt_out_all_sellers opt_out_whole_party"
        ),
        _call_ended,
    ),
    "ErasureRequested": Lifter((), _erasure_requested, links=False),
    "ErasureExecuted": Lifter(_columns("cutoff_at cutoffs"), _erasure_executed, links=False),
    "LegalHoldPlaced": Lifter(_columns("hold_id"), _legal_hold_placed, links=False),
    "LegalHoldReleased": Lifter(_columns("hold_id"), _legal_hold_released, links=False),
    "DialDecision": Lifter(
        _columns("verdict permit_id permit_expires_at subject_matter purpose call_mode dial_mode"),
        _dial_decision,
    ),
}
"""Record types that change a state. AccessRequested, RectificationRequested and ErasureRefused
are recorded in history only."""
