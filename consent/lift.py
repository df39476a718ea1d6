"""What one event says about a number, as a small state; folding is merging those.

Nothing here reads a clock: an entry's time is the event's effective time, which the reader of the
batch settled. How each type of event is lifted is in `consent.lifters`.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from consent.evidence import element_bits
from consent.lifters import LIFTERS, Entries, Entry, prefixed
from consent.party_links import link_entries, named_party
from consent.privacy import position_bytes
from consent.state import (
    ANY,
    EMPTY,
    TEST_PREFIX,
    AppliedOffset,
    Attribute,
    SubjectState,
    Withdrawal,
    merge,
)


class Derived(NamedTuple):
    """What is known of an event's evidence where the evidence itself is not at hand.

    `party` is the token under the key of whoever derived it, for a fact the history key.
    """

    elements: int
    states: tuple[str, ...]
    party: bytes | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """A record's place in the log, and its broker time in µs."""

    topic: str
    log_id: bytes
    partition: int
    offset: int
    recorded_at: int


def lift(
    name: str,
    event: Mapping[str, Any],
    effective_at: int,
    position: Position,
    derived: Derived | None = None,
    party_key: bytes | None = None,
) -> SubjectState:
    """The state that one event of the record type `name` amounts to; EMPTY if it says nothing.

    `event` holds the decoded fields, or those of the fact that history keeps; for a fact, which
    has no evidence, `derived` is given. Tokens of parties are made with `party_key`; ValueError if
    it is needed and not given.
    """
    lifter = LIFTERS.get(name)
    if lifter is None:
        return EMPTY
    if derived is None:
        party = named_party(name, event, party_key)
        derived = Derived(element_bits(event), address_states(event), party)
    test = event["test"]
    seller_id = TEST_PREFIX + event["seller_id"] if test else event["seller_id"]
    values = (event[column] for column in lifter.columns)
    row = (effective_at, event["event_id"], seller_id, derived.elements, *values)
    entries = [*lifter.lift(row), *place_entries(effective_at, test, derived.states)]
    if derived.party is not None and lifter.links:
        entries += link_entries(effective_at, test, event["seller_id"], derived.party)
    return state_of(entries, position)


def lift_unreadable(position: Position) -> SubjectState:
    """The state of an opt-out of which only kind and number can be read: all is withdrawn."""
    return state_of(unreadable_entries(position), position)


def evolve(
    state: SubjectState,
    name: str,
    event: Mapping[str, Any],
    effective_at: int,
    position: Position,
    party_key: bytes | None = None,
) -> SubjectState:
    """The state after one more event; the same whatever was folded before or twice."""
    return merge(state, lift(name, event, effective_at, position, party_key=party_key))


def state_of(entries: Iterable[Entry], position: Position) -> SubjectState:
    """Entries of one event as a state, with the position as applied; EMPTY for no entries."""
    state = EMPTY
    for section, key, value in entries:
        state = merge(state, _one_entry(section, key, value))
    if state is EMPTY:
        return EMPTY
    _section, key, applied = applied_entry(position)
    return merge(state, SubjectState(applied={key: applied}))


def _one_entry(section: str, key: Any, value: Any) -> SubjectState:
    content: Any = {key: (value,) if section == "attempts" else value}
    return SubjectState(**{section: value if section == "erased" else content})


def applied_entry(position: Position) -> Entry:
    """That the record at a position is folded."""
    applied = AppliedOffset(position.offset, position.recorded_at)
    return "applied", (position.topic, position.log_id), applied


def unreadable_entries(position: Position) -> Entries:
    """Entries of an unreadable opt-out; its id is made from its position."""
    place = position_bytes(position.log_id, position.topic, position.partition, position.offset)
    event_id = str(uuid.UUID(bytes=hashlib.sha256(place).digest()[:16]))
    withdrawal = Withdrawal(position.recorded_at, event_id, "UNREADABLE_OPT_OUT")
    return (("withdrawals", (ANY, ANY, ANY, ANY), withdrawal),)


def place_entries(at: int, test: bool, states: tuple[str, ...]) -> Entries:
    """Entries of the jurisdictions that an address in evidence names."""
    if not states:
        return ()
    return (("attributes", prefixed(test, "states:ADDRESS"), Attribute(at, states)),)


_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_SUBDIVISION: Final = re.compile(r"[A-Z0-9]{1,3}")


def address_states(event: Mapping[str, Any]) -> tuple[str, ...]:
    """Jurisdictions of the address in one event's evidence; as `consent.facts.derived_states`."""
    address = (event.get("evidence") or {}).get("address") or {}
    if event.get("states"):
        return ()
    country = (address.get("country") or "").upper()
    subdivision = (address.get("subdivision") or "").upper()
    if _COUNTRY.fullmatch(country) and _SUBDIVISION.fullmatch(subdivision):
        return (f"{country}-{subdivision}",)
    return ()
