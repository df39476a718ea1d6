"""What erasures reach: the rule against a slow reading of its words, and what must always hold."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from consent.erasure import (
    GRANT,
    ErasedSubject,
    HoldEvent,
    SubjectEvent,
    active_holds,
    hold_event,
    mentions,
)

TOPICS = ("consent-events", "call-events")
NOTHING = ErasedSubject(-(1 << 62))
times = st.integers(0, 20)
places = st.tuples(st.sampled_from((b"1" * 16, b"2" * 16)), st.integers(0, 1))
events = st.builds(
    lambda place, topic, offset, name, at, test, bad: SubjectEvent(
        place[0], topic, place[1], offset, name, at, test, bad
    ),
    places,
    st.sampled_from(TOPICS),
    st.integers(0, 9),
    st.sampled_from((GRANT, "CallPlaced")),
    times,
    st.booleans(),
    st.booleans(),
)
cutoffs = st.tuples(times, st.sampled_from((*TOPICS, "")), places, st.integers(-1, 9))


def erased(said: list[tuple[int, str, tuple[bytes, int], int]]) -> ErasedSubject:
    """All cut-offs of a subject."""
    subject = NOTHING
    for cutoff in said:
        subject = subject.with_cutoff(*cutoff)
    return subject


@given(st.lists(cutoffs, min_size=1), st.lists(events))
def test_the_rule_says_what_its_words_say(
    said: list[tuple[int, str, tuple[bytes, int], int]], known: list[SubjectEvent]
) -> None:
    """Below a cut-off, or in a named topic and not since a grant that is newer than the erasure."""
    subject = erased(said)
    newest = max(at for at, *_rest in said)
    named = {topic for _at, topic, *_rest in said if topic}
    grants = [
        event.effective_at
        for event in known
        if event.event_name == GRANT
        and event.effective_at > newest
        and not event.test
        and not event.unreadable
    ]
    opened_at = subject.opened_at(known)
    for event in known:
        below = any(
            event.offset <= last and (event.log_id, event.partition) == place
            for _at, _topic, place, last in said
        )
        since = any(event.effective_at >= grant for grant in grants)
        assert subject.reaches(event, opened_at) == (below or (event.topic in named and not since))


@given(st.lists(cutoffs), st.randoms())
def test_the_order_of_cutoffs_does_not_matter(
    said: list[tuple[int, str, tuple[bytes, int], int]], draw: random.Random
) -> None:
    """Rows of several erasures come in any order, and more than once."""
    shuffled = [*said, *said]
    draw.shuffle(shuffled)
    assert erased(said) == erased(shuffled)


@given(st.lists(cutoffs, min_size=1), st.lists(events), st.lists(events))
def test_nothing_comes_back_but_by_a_newer_grant(
    said: list[tuple[int, str, tuple[bytes, int], int]],
    known: list[SubjectEvent],
    late: list[SubjectEvent],
) -> None:
    """Whatever else becomes known, what was reached stays reached."""
    subject = erased(said)
    before = subject.opened_at(known)
    others = [event for event in late if not subject.opens(event)]
    after = subject.opened_at([*known, *others])
    for event in known:
        if subject.reaches(event, before):
            assert subject.reaches(event, after)


holds = st.builds(HoldEvent, st.sampled_from(("a", "b")), times, st.booleans(), st.none() | times)


@given(st.lists(holds), times, st.randoms())
def test_holds_depend_on_no_order(known: list[HoldEvent], at: int, draw: random.Random) -> None:
    """The newest event of each hold counts; at one instant it is in force."""
    # Two placings of one instant that end differently contradict each other.
    known = list({(one.hold_id, one.effective_at, one.placed): one for one in known}.values())
    shuffled = list(known)
    draw.shuffle(shuffled)
    found = active_holds(known, at)
    assert found == active_holds(shuffled, at)
    for hold_id in ("a", "b"):
        own = [one for one in known if one.hold_id == hold_id]
        newest = max(own, key=lambda one: (one.effective_at, one.placed), default=None)
        in_force = newest is not None and newest.placed
        in_force = in_force and (newest.until is None or newest.until > at)
        assert (hold_id in found) == in_force


def test_rehearsals_hold_nothing() -> None:
    """A test event places no hold, and other events none at all."""
    fields = {"hold_id": "H", "until": None, "test": True}
    assert hold_event("LegalHoldPlaced", fields, 1) is None
    assert hold_event("DncAdded", {**fields, "test": False}, 1) is None
    placed = hold_event("LegalHoldPlaced", {**fields, "test": False}, 1)
    assert placed == HoldEvent("H", 1, True)


def test_a_number_is_found_in_its_written_forms() -> None:
    """With and without plus and country code; another number is not."""
    number = "+14155550123"
    for text in (b"+14155550123", b"x 4155550123 y", b"0014155550123"):
        assert mentions([None, text], number)
    assert not mentions([b"+14155550124", None, b""], number)
