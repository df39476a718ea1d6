"""True as of when: never later than what is folded allows."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from projections.watermark import QUESTIONS_MAX, SourceEnd, TrueAt

TOPICS = ("a", "b")

steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from(TOPICS), st.integers(1, 5)),
        st.tuples(st.just("ask"), st.sampled_from(TOPICS), st.just(0)),
        st.tuples(st.just("fold"), st.sampled_from(TOPICS), st.integers(1, 5)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(steps)
def test_all_that_the_broker_held_at_true_at_is_folded(steps: list[tuple[str, str, int]]) -> None:
    """Whatever the order of appends, questions and folds; and it never goes back."""
    truth = TrueAt(TOPICS)
    held: dict[str, list[int]] = {topic: [] for topic in TOPICS}
    folded = dict.fromkeys(TOPICS, 0)
    before = 0
    for clock, (what, topic, count) in enumerate(steps, start=1):
        if what == "append":
            held[topic] += [clock] * count
        elif what == "ask":
            truth.asked(topic, SourceEnd(clock, len(held[topic])))
            truth.reached(folded)
        else:
            folded[topic] = min(folded[topic] + count, len(held[topic]))
            truth.reached(folded)
        assert truth.true_at >= before
        before = truth.true_at
        for name in TOPICS:
            at_that_time = sum(1 for appended in held[name] if appended <= truth.true_at)
            assert at_that_time <= folded[name] or truth.true_at == 0


def test_an_idle_partition_is_true_as_of_the_last_question() -> None:
    """Nothing to fold: every answer counts at once."""
    truth = TrueAt(TOPICS)
    for clock in range(1, 500):
        for topic in TOPICS:
            truth.asked(topic, SourceEnd(clock, 10))
        truth.reached(dict.fromkeys(TOPICS, 10))
        assert truth.true_at == clock


def test_truth_waits_for_the_slowest_topic() -> None:
    """One topic that is behind holds the partition back."""
    truth = TrueAt(TOPICS)
    truth.asked("a", SourceEnd(5, 0))
    truth.asked("b", SourceEnd(5, 3))
    truth.reached({"a": 0, "b": 2})
    assert truth.true_at == 0
    truth.reached({"a": 0, "b": 3})
    assert truth.true_at == 5


def test_questions_are_bounded_and_truth_still_moves() -> None:
    """A worker far behind keeps its oldest questions, and answers them as it catches up."""
    truth = TrueAt(("a",))
    for clock in range(1, 10 * QUESTIONS_MAX):
        truth.asked("a", SourceEnd(clock, clock))
    truth.reached({"a": 5})
    assert truth.true_at == 5
    truth.reached({"a": 10 * QUESTIONS_MAX})
    assert truth.true_at == QUESTIONS_MAX
