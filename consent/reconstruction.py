"""A number's state at an earlier moment, folded from the facts that history keeps of it.

Two times rule a reconstruction. `at` is the moment that is asked about: only what had happened by
then counts. `known_at` is when it is looked at from: only what the log held by then counts. With
both the same, the result is what the projection held at that moment, by the same lift and merge.

Nothing is left out of a merged state afterwards: events are left out before they are folded, since
a later one may have taken an earlier one's slot, and the newest sixteen attempts are those of then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Final, NamedTuple

from consent.codec import decode_body
from consent.contracts import fact_schema
from consent.lift import Derived, Position, lift, lift_unreadable
from consent.party_links import PARTY_REF, parties_for, parties_in
from consent.state import EMPTY, LOG_IDS_MAX, TEST_PREFIX, SubjectState, merge
from consent.state_entries import SLOT_ORDERS
from consent.suspect import AHEAD_MAX_US, OCCURRED_AT_MIN_US, OPT_OUTS

Order = tuple[int, str, int, int]

_DECISION: Final = "DialDecision"


@dataclass(frozen=True, slots=True)
class KnownFact:
    """One fact, decoded. `fields` is the event without number, salt and evidence.

    `effective_at` is when the event counts from. `fields` is None for a record that could not be
    read; then `unreadable` says why. `subject` is None if it is about no number.
    """

    position: Position
    subject: bytes | None
    name: str
    version: int
    effective_at: int
    fields: Mapping[str, Any] | None = field(repr=False)
    payload: bytes = field(repr=False)
    derived: Derived
    unreadable: str | None = None

    @property
    def order(self) -> Order:
        """The order in which the log took it in, over all partitions."""
        place = self.position
        return (place.recorded_at, place.topic, place.partition, place.offset)

    @property
    def happened_by(self) -> int:
        """When it had happened: nothing happens after it was recorded, whatever its date says."""
        return min(self.effective_at, self.position.recorded_at)

    def had_happened(self, at: int) -> bool:
        """True if it counts at a moment.

        A decision counts after its own moment only: it can't have depended on itself, nor on the
        permit that it gave.
        """
        return self.effective_at < at if self.name == _DECISION else self.happened_by <= at

    @property
    def event_id(self) -> str:
        """The publisher's id; empty where it could not be read."""
        return "" if self.fields is None else str(self.fields["event_id"])

    @property
    def seller_id(self) -> str:
        """Of whom it is; `*` for what could not be read, since that concerns everybody."""
        return "*" if self.fields is None else str(self.fields["seller_id"])

    @property
    def source_system(self) -> str:
        """Which system published it; empty where that could not be read."""
        return "" if self.fields is None else str(self.fields["source"]["system"])

    @property
    def test(self) -> bool:
        """True for a rehearsal."""
        return self.fields is not None and bool(self.fields["test"])

    def lifted(self) -> SubjectState:
        """The state that it amounts to alone; parties are named by tokens of the history key."""
        if self.fields is not None:
            return lift(self.name, self.fields, self.effective_at, self.position, self.derived)
        if self.name in OPT_OUTS and self.subject is not None:
            return lift_unreadable(self.position)
        return EMPTY


def read_known_fact(data: bytes) -> KnownFact:
    """Decode a fact's bytes; Unreadable if they are no fact of this release."""
    envelope = decode_body(fact_schema("Fact"), data)
    name, version = envelope["event_name"], envelope["event_version"]
    recorded_at, unreadable = envelope["recorded_at"], envelope["unreadable"]
    fields, effective_at = None, recorded_at
    if unreadable is None:
        fields = decode_body(fact_schema(name, version), envelope["payload"])
        effective_at = _effective_at(fields["occurred_at"], recorded_at)
    return KnownFact(
        position=Position(
            envelope["topic"],
            envelope["log_id"],
            envelope["partition"],
            envelope["offset"],
            recorded_at,
        ),
        subject=envelope["subject"],
        name=name,
        version=version,
        effective_at=effective_at,
        fields=fields,
        payload=envelope["payload"],
        derived=Derived(envelope["elements"], tuple(envelope["derived_states"]), envelope["party"]),
        unreadable=unreadable,
    )


def _effective_at(occurred_at: int, recorded_at: int) -> int:
    """As `consent.suspect` settled it: an odd date of what restricts is the broker's time."""
    odd = not OCCURRED_AT_MIN_US <= occurred_at <= recorded_at + AHEAD_MAX_US
    return recorded_at if odd else occurred_at


def fold(facts: Iterable[KnownFact]) -> SubjectState:
    """The state that facts of one number amount to, in any order, however often repeated."""
    return reduce(merge, (fact.lifted() for fact in facts), EMPTY)


def counting(facts: Iterable[KnownFact], at: int, known_at: int) -> list[KnownFact]:
    """Facts that had happened by `at` and were recorded by `known_at`, in the log's order."""
    return sorted(
        (fact for fact in facts if fact.had_happened(at) and fact.position.recorded_at <= known_at),
        key=lambda fact: fact.order,
    )


def arrived(facts: Iterable[KnownFact], at: int, after: int, until: int) -> list[KnownFact]:
    """Facts that had happened by `at` and were recorded after one moment, up to another."""
    return [fact for fact in counting(facts, at, until) if fact.position.recorded_at > after]


def repeated_ids(facts: Sequence[KnownFact]) -> tuple[str, ...]:
    """Ids of events that were recorded more than once with different contents.

    Both are folded, so that the stricter one wins; that they differ is a finding for an audit.
    """
    met: dict[str, tuple[str, bytes]] = {}
    found: set[str] = set()
    for fact in facts:
        said = (fact.name, fact.payload)
        if fact.event_id and met.setdefault(fact.event_id, said) != said:
            found.add(fact.event_id)
    return tuple(sorted(found))


class _AppliedTo(NamedTuple):
    topic: str
    log_id: bytes
    partition: int


def applied_facts(
    facts: Sequence[KnownFact], applied: Iterable[Mapping[str, Any]]
) -> list[KnownFact]:
    """Exactly the facts that a decision's state held, by the `applied` of its record.

    A state names the newest LOG_IDS_MAX incarnations of a topic only: where it names so many, all
    that was recorded in older ones had been folded before.
    """
    lasts = {
        _AppliedTo(one["topic"], one["log_id"], one["partition"]): one["offset_last"]
        for one in applied
    }
    begun = _older_logs_until(facts, lasts)
    kept = []
    for fact in facts:
        place = fact.position
        last = lasts.get(_AppliedTo(place.topic, place.log_id, place.partition))
        if last is not None:
            if place.offset <= last:
                kept.append(fact)
        elif place.recorded_at <= begun.get(place.topic, -1) and not any(
            (place.topic, place.log_id) == one[:2] for one in lasts
        ):
            kept.append(fact)
    return kept


def _older_logs_until(
    facts: Sequence[KnownFact], lasts: Mapping[_AppliedTo, int]
) -> Mapping[str, int]:
    """By topic, up to when facts of logs that are named no longer were folded."""
    named: dict[str, int] = {}
    for one in lasts:
        named[one.topic] = named.get(one.topic, 0) + 1
    full = {topic for topic, count in named.items() if count >= LOG_IDS_MAX}
    begun: dict[str, int] = {}
    for fact in facts:
        place = fact.position
        if place.topic not in full:
            continue
        last = lasts.get(_AppliedTo(place.topic, place.log_id, place.partition))
        if last == place.offset:
            held = begun.get(place.topic, place.recorded_at)
            begun[place.topic] = min(held, place.recorded_at)
    return begun


def party_tokens(state: SubjectState, seller_id: str, test: bool) -> frozenset[bytes]:
    """Tokens, as facts have them, of the parties that a seller knows the number to belong to."""
    return frozenset(
        bytes.fromhex(party.decode().removeprefix(TEST_PREFIX))
        for party in parties_for(state, seller_id, test)
    )


def is_linked(state: SubjectState, other: SubjectState, seller_id: str, test: bool) -> bool:
    """True if another number is of a party that the seller knows the number to belong to."""
    return not parties_in(other.attributes).isdisjoint(parties_for(state, seller_id, test))


class StateChange(NamedTuple):
    """One entry that differs between two states; None where a state has none there."""

    section: str
    key: tuple[str, ...]
    before: Any
    after: Any


_SECTIONS: Final = (*SLOT_ORDERS, "attributes")


def state_changes(before: SubjectState, after: SubjectState) -> tuple[StateChange, ...]:
    """Every entry that differs, by section and key; links to parties and `applied` left out."""
    changes: list[StateChange] = []
    for section in _SECTIONS:
        one, other = _slots(before, section), _slots(after, section)
        changes += _differing(section, one, other)
    changes += _differing("attempts", _attempts(before), _attempts(after))
    if before.erased != after.erased:
        changes.append(StateChange("erased", (), before.erased, after.erased))
    return tuple(sorted(changes, key=lambda change: change[:2]))


def _differing(
    section: str, one: Mapping[tuple[str, ...], Any], other: Mapping[tuple[str, ...], Any]
) -> list[StateChange]:
    return [
        StateChange(section, key, one.get(key), other.get(key))
        for key in {**one, **other}
        if one.get(key) != other.get(key)
    ]


def _slots(state: SubjectState, section: str) -> dict[tuple[str, ...], Any]:
    return {
        (key,) if isinstance(key, str) else tuple(key): value
        for key, value in getattr(state, section).items()
        if not (section == "attributes" and key.removeprefix(TEST_PREFIX).startswith(PARTY_REF))
    }


def _attempts(state: SubjectState) -> dict[tuple[str, ...], Any]:
    return {
        (*key, attempt.event_id, str(attempt.at)): attempt
        for key, attempts in state.attempts.items()
        for attempt in attempts
    }
