"""Events of one number that collide on purpose: few sellers, scopes, instants and event ids.

For tests of the subject's state; `folded` events come with the position they are read from.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from consent.contracts import RecordContract, contracts
from consent.lift import Position, lift
from consent.state import SubjectState
from tests.strategies import random_event

NUMBER = "+14155550123"
BASE_US = 1_790_000_000_000_000
PARTY_KEY = b"p" * 32
LOG_IDS = tuple(bytes([log]) * 16 for log in range(12))


@dataclass(frozen=True)
class PlacedEvent:
    """An event, when it counts from, and where in the log it is."""

    name: str
    fields: dict[str, Any] = field(repr=False)
    effective_at: int
    position: Position

    @property
    def record(self) -> RecordContract:
        """Its type."""
        return contracts().record(self.name)

    def lifted(self) -> SubjectState:
        """The state that the event alone amounts to."""
        return lift(self.name, self.fields, self.effective_at, self.position, party_key=PARTY_KEY)


def number_keyed_records() -> tuple[RecordContract, ...]:
    """Every record that the projection reads."""
    topics = contracts().keyed_source_topics
    return tuple(record for record in contracts().records if record.topic in topics)


def placed_event(
    record: RecordContract, seed: int, number: str = NUMBER, instants: int = 6
) -> PlacedEvent:
    """One event, wholly given by its seed."""
    chance = random.Random(seed)
    fields = random_event(record, chance)
    at = BASE_US + chance.randrange(instants)
    fields |= {
        "event_id": str(uuid.UUID(int=chance.randrange(8), version=4)),
        "occurred_at": at,
        "seller_id": chance.choice(["acme", "acme", "globex", "*"]),
        "number": number,
        "test": chance.random() < 0.1,
    }
    for name, choices in _COLLIDING.items():
        if name in fields:
            fields[name] = chance.choice(choices)
    if fields["evidence"] is not None and chance.random() < 0.5:
        fields["evidence"]["address"] = dict.fromkeys(_ADDRESS) | {
            "country": "US",
            "subdivision": chance.choice(["TX", "ny", "not a code"]),
        }
    if fields["evidence"] is not None and chance.random() < 0.5:
        fields["evidence"]["party_reference"] = chance.choice(["ann", "ann", "bob", "", " "])
    if "cutoff_at" in fields:
        fields["cutoff_at"] = BASE_US + chance.randrange(instants) - 2
    offset = chance.randrange(100)
    log_id = chance.choice(LOG_IDS)
    # The broker's time never goes down with the offsets of a log.
    recorded_at = BASE_US + log_id[0] * 50 + offset
    return PlacedEvent(
        record.name, fields, at, Position(record.topic, log_id, 3, offset, recorded_at)
    )


_ADDRESS = ("lines", "city", "county", "postal_code", "subdivision", "country")

_COLLIDING: dict[str, list[Any]] = {
    "list_kind": ["INTERNAL", "INTERNAL", "NATIONAL", "UNKNOWN"],
    "consent_kind": ["PEWC", "PEWC", "EXPRESS", "UNKNOWN"],
    "purposes": [["MARKETING"], ["MARKETING", "SURVEY"], ["UNKNOWN"], []],
    "modes": [["LIVE"], ["LIVE", "AI_VOICE"], []],
    "relationship_kind": ["PURCHASE", "CONTRACT", "UNKNOWN"],
    "answer": ["YES", "NO", "NO_DATA", "UNKNOWN"],
    "outcome": ["ANSWERED_LIVE", "ABANDONED", "UNKNOWN"],
    "place_source": ["ADDRESS", "AREA_CODE", "UNKNOWN"],
    "subject_matter": [None, "loans", "cards"],
    "subject_matters": [[], [], ["loans"], ["loans", "cards"]],
    "validity": [None, None, "P1Y", "P3M", "soon"],
    "expires_at": [None, BASE_US + 1, BASE_US + 10**12],
    "list_id": ["internal", "us_national_dnc"],
    "relationship_id": [None, "contract-1"],
    "hold_id": ["hold-1", "hold-2"],
    "verdict": ["ALLOW", "ALLOW", "DENY"],
    "permit_id": [None, str(uuid.UUID(int=1, version=4)), str(uuid.UUID(int=2, version=4))],
    "permit_expires_at": [None, BASE_US + 60_000_000],
}


def placed_events(*names: str) -> st.SearchStrategy[PlacedEvent]:
    """Events of the named types, of any type if none is named."""
    known = [record.name for record in number_keyed_records()]
    return st.builds(_named_event, st.sampled_from(names or known), st.integers(0, 2**32))


def _named_event(name: str, seed: int) -> PlacedEvent:
    return placed_event(contracts().record(name), seed)


def crowded_events(*names: str) -> st.SearchStrategy[list[PlacedEvent]]:
    """Many events of one seller and no subject matter, so that lists are longer than is kept."""
    return st.lists(
        st.builds(_crowded_event, st.sampled_from(names), st.integers(0, 2**32)), max_size=40
    )


def _crowded_event(name: str, seed: int) -> PlacedEvent:
    event = placed_event(contracts().record(name), seed, instants=12)
    event.fields.update(seller_id="acme", test=False)
    if "subject_matter" in event.fields:
        event.fields["subject_matter"] = None
    if "verdict" in event.fields:
        event.fields.update(verdict="ALLOW", permit_id=str(uuid.UUID(int=3, version=4)))
    return event


def states() -> st.SearchStrategy[SubjectState]:
    """States that lists of events lead to."""
    return st.lists(placed_events(), max_size=12).map(fold)


def fold(events: list[PlacedEvent]) -> SubjectState:
    """The state after events, merged one by one."""
    from consent.state import EMPTY, merge

    state = EMPTY
    for event in events:
        state = merge(state, event.lifted())
    return state
