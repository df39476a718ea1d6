"""Taking in what others appended: nothing is lost, and the topic's last word is repaired."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from consent.state import EMPTY, SubjectState, merge
from consent.state_codec import decode_state_body, encode_state, encode_state_body
from projections.suppression_fold import TopicRow, framed_state, take_in, token_key_of
from projections.suppression_log import Stretch
from projections.suppression_partition import gaps
from tests.subject_events import PlacedEvent, fold, placed_events

NUMBERS = (b"+14155550123", b"+14155550124")
TOKEN_KEY = token_key_of(b"s" * 32)
MANY = settings(max_examples=200, deadline=None)


class Memory:
    """A store in memory."""

    def __init__(self) -> None:
        self.bodies: dict[bytes, bytes] = {}

    @property
    def any_erased(self) -> bool:
        return any(key.startswith(b"#") for key in self.bodies)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.bodies.get(key) for key in keys]

    def write(self, states: dict[bytes, bytes | None]) -> None:
        for key, body in states.items():
            if body is None:
                self.bodies.pop(key, None)
            else:
                self.bodies[key] = body

    def state_of(self, number: bytes) -> SubjectState:
        found = [self.bodies.get(number), self.bodies.get(TOKEN_KEY(number))]
        state = EMPTY
        for body in found:
            state = state if body is None else merge(state, decode_state_body(body))
        return state


writes = st.lists(
    st.tuples(st.sampled_from(NUMBERS), st.lists(placed_events(), min_size=1, max_size=4)),
    min_size=1,
    max_size=12,
)


def as_rows(appended: list[tuple[bytes, list[PlacedEvent]]]) -> list[TopicRow]:
    """What owners with nothing in their caches would append: each only what it folded itself."""
    rows: list[TopicRow] = []
    for number, events in appended:
        state = fold(events)
        if state is EMPTY:
            continue
        if state.erased is not None:
            rows.append(TopicRow(len(rows), TOKEN_KEY(number), encode_state(state)))
            rows.append(TopicRow(len(rows), number, None))
        else:
            rows.append(TopicRow(len(rows), number, encode_state(state)))
    return rows


@MANY
@given(writes, st.integers(1, 5))
def test_a_reader_ends_with_all_that_was_ever_written(
    appended: list[tuple[bytes, list[PlacedEvent]]], size: int
) -> None:
    """However owners overwrote each other, and wherever the reading was cut into chunks."""
    rows = as_rows(appended)
    memory = Memory()
    behind: dict[bytes, bytes | None] = {}
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        taken = take_in(memory, 0, chunk, TOKEN_KEY)
        memory.write(taken.states)
        for row in chunk:
            behind.pop(row.key or b"", None)
        behind.update({key: body for key, (_offset, body) in taken.behind.items()})
    for number in NUMBERS:
        known = EMPTY
        for one, events in appended:
            if one == number:
                known = merge(known, fold(events))
        assert memory.state_of(number) == known
        last = {row.key: row.value for row in rows}
        for key, body in behind.items():
            last[key] = None if body is None else framed_state(body)
        if known.erased is not None:
            assert last[TOKEN_KEY(number)] == encode_state(known)
            assert last.get(number) is None
            assert number not in memory.bodies
        elif known is not EMPTY and number in last:
            assert last[number] == encode_state(known)


@MANY
@given(writes)
def test_what_was_taken_in_is_not_behind_any_more(
    appended: list[tuple[bytes, list[PlacedEvent]]],
) -> None:
    """Repairs are final: reading one's own repairs asks for none."""
    memory = Memory()
    taken = take_in(memory, 0, as_rows(appended), TOKEN_KEY)
    memory.write(taken.states)
    repairs = [
        TopicRow(offset, key, None if body is None else framed_state(body))
        for offset, (key, (_offset, body)) in enumerate(taken.behind.items())
    ]
    again = take_in(memory, 0, repairs, TOKEN_KEY)
    assert again.states == {}
    assert again.behind == {}


@MANY
@given(st.lists(placed_events(), min_size=1, max_size=6), st.lists(placed_events(), max_size=6))
def test_a_record_before_our_own_is_measured_by_our_own(
    foreign: list[PlacedEvent], ours: list[PlacedEvent]
) -> None:
    """What we appended later is the topic's last word: if it misses something, it is repaired."""
    number = NUMBERS[0]
    theirs, own = fold(foreign), fold(ours)
    if theirs is EMPTY or own is EMPTY or theirs.erased or own.erased:
        return
    memory = Memory()
    memory.bodies[number] = encode_state_body(own)
    later = {number: encode_state(own)}
    rows = [TopicRow(0, number, encode_state(theirs))]
    taken = take_in(memory, 0, rows, TOKEN_KEY, later)
    known = merge(theirs, own)
    assert (number in taken.behind) == (known != own)
    assert taken.states.get(number, memory.bodies[number]) == encode_state_body(known)


@MANY
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), max_size=8))
def test_gaps_are_exactly_what_others_wrote(written: list[tuple[int, int]]) -> None:
    """Our stretches and the gaps tile the topic from where it was known."""
    place, offset = 7, 7
    stretches, expected = [], []
    for count, foreign in written:
        if foreign:
            expected.append((offset, offset + foreign))
        stretches.append(Stretch(offset + foreign, offset + foreign + count))
        offset += foreign + count
    rows = sum(count for count, _foreign in written)
    assert gaps(stretches[::-1], place, rows) == expected
    assert gaps(stretches, place, rows + 1) == [*expected, (offset, None)]
