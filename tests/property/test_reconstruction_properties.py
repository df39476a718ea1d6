"""States of past moments against a slow oracle, on small logs of any kind."""

from __future__ import annotations

import random
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from consent.reconstruction import (
    KnownFact,
    applied_facts,
    arrived,
    counting,
    fold,
    read_known_fact,
    state_changes,
)
from consent.state import EMPTY
from tests.reconstruction.deciding import projected
from tests.reconstruction.oracle import state_at
from tests.reconstruction.run import moment_near, slots_of, with_tokens
from tests.reconstruction.world import World, facts_by_number, number_of

_NUMBERS = 6


@cache
def made(seed: int) -> tuple[World, dict[int, list[KnownFact]]]:
    """A log of many events of few numbers, with much that is late, and the facts of it."""
    world = World(
        facts=240,
        numbers=_NUMBERS,
        studied=_NUMBERS,
        seed=seed,
        late_share=0.2,
        odd_share=0.1,
    )
    facts = {
        index: [read_known_fact(data) for data in found]
        for index, found in facts_by_number(world).items()
    }
    return world, facts


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 40), st.integers(0, 2**32))
def test_any_moment_is_what_the_oracle_says(seed: int, chance: int) -> None:
    """Whatever is late, repeated, dated ahead, unreadable or erased."""
    world, facts = made(seed)
    draw = random.Random(chance)
    index = draw.randrange(_NUMBERS)
    moment = moment_near(draw, world, index)
    found = fold(counting(facts[index], moment.at, moment.known_at))
    expected = state_at(world.raws[index], moment.at, moment.known_at)
    assert slots_of(found) == with_tokens(expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(0, 2**32))
def test_as_known_then_is_what_the_projection_held(seed: int, chance: int) -> None:
    """With both times the same nothing differs from the state that served the dialer."""
    world, facts = made(seed)
    draw = random.Random(chance)
    index = draw.randrange(_NUMBERS)
    at = draw.choice(world.raws[index]).recorded_at
    held = [one for one in world.records[index] if one[1].timestamp * 1_000 <= at]
    expected = projected(held, number_of(index))
    found = fold(counting(facts[index], at, at))
    assert state_changes(found, expected) == ()
    assert found.applied == expected.applied


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(0, 2**32))
def test_a_decision_is_repeated_from_what_it_names(seed: int, chance: int) -> None:
    """`applied` names exactly the facts that the projection had folded."""
    world, facts = made(seed)
    draw = random.Random(chance)
    index = draw.randrange(_NUMBERS)
    held = world.records[index][: draw.randrange(len(world.records[index]) + 1)]
    state = projected(held, number_of(index))
    partition = facts[index][0].position.partition
    applied = [
        {
            "topic": topic,
            "log_id": log_id,
            "partition": partition,
            "offset_last": offset.offset_last,
        }
        for (topic, log_id), offset in state.applied.items()
    ]
    again = fold(applied_facts(facts[index], applied))
    assert state_changes(again, state) == ()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(0, 2**32))
def test_what_arrived_explains_every_difference(seed: int, chance: int) -> None:
    """The same moment from two times differs only by facts recorded between them."""
    world, facts = made(seed)
    draw = random.Random(chance)
    index = draw.randrange(_NUMBERS)
    moment = moment_near(draw, world, index)
    later = moment.known_at + draw.randrange(10**12)
    before = counting(facts[index], moment.at, moment.known_at)
    after = counting(facts[index], moment.at, later)
    new = arrived(facts[index], moment.at, moment.known_at, later)
    assert sorted(after, key=lambda fact: fact.order) == sorted(
        [*before, *new], key=lambda fact: fact.order
    )
    if not new:
        assert state_changes(fold(before), fold(after)) == ()
    assert state_changes(EMPTY, EMPTY) == ()
