"""The state is a join-semilattice: order, repetition and grouping of events don't matter."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from consent.state import ATTEMPTS_MAX, EMPTY, LOG_IDS_MAX, SubjectState, absorb, merge
from tests.subject_events import PlacedEvent, crowded_events, fold, placed_events, states

MANY = settings(max_examples=150, deadline=None)


@MANY
@given(states(), states())
def test_merge_is_commutative(a: SubjectState, b: SubjectState) -> None:
    """Which of two states is merged into the other makes no difference."""
    assert merge(a, b) == merge(b, a)


@MANY
@given(states(), states(), states())
def test_merge_is_associative(a: SubjectState, b: SubjectState, c: SubjectState) -> None:
    """How three states are grouped makes no difference."""
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@MANY
@given(states(), states())
def test_merge_is_idempotent(a: SubjectState, b: SubjectState) -> None:
    """Merging again what is known already changes nothing, and nothing is the neutral element."""
    merged = merge(a, b)
    assert merge(merged, a) == merged == merge(b, merged)
    assert merge(a, EMPTY) == a == merge(EMPTY, a) == merge(a, a)


@MANY
@given(st.lists(placed_events(), max_size=30), st.randoms(use_true_random=False))
def test_any_order_and_repetition_gives_one_state(
    events: list[PlacedEvent], chance: random.Random
) -> None:
    """Late, repeated and reordered events lead to the state that the plain order leads to."""
    shuffled = [*events, *chance.choices(events, k=5)] if events else []
    chance.shuffle(shuffled)
    assert fold(shuffled) == fold(events)


@MANY
@given(st.lists(placed_events(), max_size=30), st.integers(1, 5))
def test_any_partition_into_batches_gives_one_state(events: list[PlacedEvent], size: int) -> None:
    """Folding batch states is folding their events."""
    batches = [fold(events[start : start + size]) for start in range(0, len(events), size)]
    state = EMPTY
    for batch in reversed(batches):
        state = merge(batch, state)
    assert state == fold(events)


@MANY
@given(states(), states())
def test_merge_never_loses_a_restriction(a: SubjectState, b: SubjectState) -> None:
    """Every restriction of either state stands in the merged one, or a later cut-off covers it."""
    merged = merge(a, b)
    cutoff_at = merged.erased.cutoff_at if merged.erased else 0
    for state in (a, b):
        for key, withdrawal in state.withdrawals.items():
            held = merged.withdrawals.get(key)
            assert cutoff_at >= withdrawal.at or (held is not None and held.at >= withdrawal.at)
        for key, entry in state.dnc.items():
            if entry.listed:
                held_entry = merged.dnc[key]
                assert held_entry.listed or held_entry.at > entry.at
        for refusal_key, refusal in state.refusals.items():
            held_refusal = merged.refusals.get(refusal_key)
            assert cutoff_at >= refusal.at or (
                held_refusal is not None and held_refusal.at >= refusal.at
            )
        if state.erased is not None:
            assert cutoff_at >= state.erased.cutoff_at


@MANY
@given(states(), states())
def test_an_erasure_absorbs_all_that_is_older(a: SubjectState, b: SubjectState) -> None:
    """Nothing dated at or before a cut-off is in a state that holds the cut-off."""
    merged = merge(a, b)
    assert merged == absorb(merged)


@MANY
@given(crowded_events("CallPlaced", "DialDecision"), st.randoms(use_true_random=False))
def test_attempts_are_the_newest_whatever_the_order(
    events: list[PlacedEvent], chance: random.Random
) -> None:
    """A key keeps its newest attempts, newest first, and no more than the limit."""
    shuffled = chance.sample(events, len(events))
    state = fold(events)
    assert fold(shuffled) == state
    identities = {
        (attempt.at, attempt.event_id)
        for event in events
        for attempt in event.lifted().attempts.get(("acme", "*"), ())
    }
    newest = sorted(identities, reverse=True)[:ATTEMPTS_MAX]
    kept = state.attempts.get(("acme", "*"), ())
    assert [(attempt.at, attempt.event_id) for attempt in kept] == newest


@MANY
@given(crowded_events("DncAdded", "DncRemoved"), st.randoms(use_true_random=False))
def test_applied_keeps_the_newest_incarnations(
    events: list[PlacedEvent], chance: random.Random
) -> None:
    """Of a topic made anew many times, the offsets of the newest incarnations are kept."""
    state = fold(events)
    assert fold(chance.sample(events, len(events))) == state
    logs: dict[bytes, tuple[int, int]] = {}
    for event in events:
        if event.lifted() is EMPTY:
            continue
        place = event.position
        held = logs.get(place.log_id, (-1, 0))
        logs[place.log_id] = max(held, (place.offset, place.recorded_at))
    newest = sorted(logs, key=lambda log_id: (logs[log_id][1], log_id))[-LOG_IDS_MAX:]
    assert {key[1] for key in state.applied} == set(newest)
    for (_topic, log_id), applied in state.applied.items():
        assert applied == logs[log_id]
