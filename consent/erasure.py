"""What an erasure reaches: which evidence of a person must be gone, and must never come back.

An erasure has two measures. Its cut-offs name places in the log: what lies at or below them is
gone for good. Its instant is for what comes later, from a replay, a publisher that was late or a
log that began anew: of the topics that it names, nothing keeps evidence until the person agrees
again. A grant that took effect after the erasure opens a new record; what took effect before that
grant stays without evidence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

GRANT: Final = "ConsentGranted"
PLACED: Final = "LegalHoldPlaced"
RELEASED: Final = "LegalHoldReleased"

LogPlace = tuple[bytes, int]
"""Log id and partition; a log id is one topic's."""


@dataclass(frozen=True, slots=True)
class ErasedSubject:
    """All that erasures say of one subject; `cutoff_at` in µs is the newest one's instant."""

    cutoff_at: int
    topics: frozenset[str] = frozenset()
    cutoffs: Mapping[LogPlace, int] = field(default_factory=dict)

    def with_cutoff(self, cutoff_at: int, topic: str, place: LogPlace, last: int) -> ErasedSubject:
        """The same with one more cut-off; the order in which they are added does not matter."""
        cutoffs = dict(self.cutoffs)
        cutoffs[place] = max(last, cutoffs.get(place, -1))
        topics = self.topics | {topic} if topic else self.topics
        return ErasedSubject(max(self.cutoff_at, cutoff_at), topics, cutoffs)

    def opens(self, event: SubjectEvent) -> bool:
        """True for a grant that opens a new record."""
        readable = not event.unreadable and not event.test
        return readable and event.event_name == GRANT and event.effective_at > self.cutoff_at

    def opened_at(self, events: Iterable[SubjectEvent]) -> int | None:
        """From when on evidence is kept again; None while nothing opened a new record."""
        return min((event.effective_at for event in events if self.opens(event)), default=None)

    def reaches(self, event: SubjectEvent, opened_at: int | None) -> bool:
        """True if the event's evidence must not be there."""
        if event.offset <= self.cutoffs.get((event.log_id, event.partition), -1):
            return True
        if event.topic not in self.topics:
            return False
        return opened_at is None or event.effective_at < opened_at


@dataclass(frozen=True, slots=True)
class SubjectEvent:
    """What the rule needs to know of one recorded event; `effective_at` in µs."""

    log_id: bytes
    topic: str
    partition: int
    offset: int
    event_name: str
    effective_at: int
    test: bool = False
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class HoldEvent:
    """A LegalHoldPlaced or LegalHoldReleased of one subject; `until` is in µs."""

    hold_id: str
    effective_at: int
    placed: bool
    until: int | None = None


def hold_event(name: str, fields: Mapping[str, Any], effective_at: int) -> HoldEvent | None:
    """The hold that an event is about; None for a rehearsal or another event."""
    if fields.get("test") or name not in (PLACED, RELEASED):
        return None
    return HoldEvent(fields["hold_id"], effective_at, name == PLACED, fields.get("until"))


def active_holds(events: Iterable[HoldEvent], at: int) -> list[str]:
    """Ids of the holds in force at an instant, in order.

    Of a hold the newest event counts; at one instant the placing does.
    """
    newest: dict[str, HoldEvent] = {}
    for event in events:
        held = newest.get(event.hold_id)
        order = (event.effective_at, event.placed)
        if held is None or order > (held.effective_at, held.placed):
            newest[event.hold_id] = event
    return sorted(
        hold.hold_id
        for hold in newest.values()
        if hold.placed and (hold.until is None or hold.until > at)
    )


def mentions(parts: Collection[bytes | None], number: str) -> bool:
    """True if one of these contains a number in any of its written forms without separators."""
    digits = number.lstrip("+").encode()
    wanted = digits[-9:] if len(digits) > 9 else digits
    return any(part is not None and wanted in part for part in parts)
