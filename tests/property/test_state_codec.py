"""Encoded states: they come back, equal ones are equal bytes, and merge as the states do."""

from __future__ import annotations

import io

import fastavro
from hypothesis import given, settings
from hypothesis import strategies as st

from consent.contracts import contracts
from consent.errors import Unreadable
from consent.folding import Log, lift_batch, needed_columns
from consent.intake import Origin, read_batch
from consent.state import EMPTY, SubjectState, is_empty, merge
from consent.state_bytes import apply_entries, is_erased, merge_bodies
from consent.state_codec import (
    decode_state,
    decode_state_body,
    encode_state,
    encode_state_body,
)
from tests.strategies import raw_of
from tests.subject_events import (
    BASE_US,
    LOG_IDS,
    PARTY_KEY,
    PlacedEvent,
    crowded_events,
    fold,
    placed_events,
    states,
)

MANY = settings(max_examples=150, deadline=None)


@MANY
@given(states())
def test_a_state_comes_back(state: SubjectState) -> None:
    """Decoding what was encoded gives the state."""
    assert decode_state(encode_state(state)) == state


@MANY
@given(states())
def test_what_is_written_is_avro(state: SubjectState) -> None:
    """An ordinary Avro reader reads it, and what an ordinary writer writes is read."""
    parsed = fastavro.parse_schema(contracts().record("SubjectState").schema)
    body = encode_state_body(state)
    fields = fastavro.schemaless_reader(io.BytesIO(body), parsed, None)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed, fields)
    assert decode_state_body(out.getvalue()) == state
    assert merge_bodies(body, out.getvalue()) == body
    assert merge_bodies(out.getvalue(), encode_state_body(EMPTY)) in (body, out.getvalue())


@MANY
@given(states(), states())
def test_encoded_states_merge_as_states_do(a: SubjectState, b: SubjectState) -> None:
    """Merging bytes gives the bytes of the merged state."""
    merged = merge_bodies(encode_state_body(a), encode_state_body(b))
    assert merged == encode_state_body(merge(a, b))


@MANY
@given(
    crowded_events("CallPlaced", "DialDecision", "DncAdded", "DncRemoved"),
    crowded_events("CallPlaced", "DialDecision", "DncAdded", "DncRemoved"),
)
def test_long_lists_are_cut_alike(a: list[PlacedEvent], b: list[PlacedEvent]) -> None:
    """Attempts and offsets beyond what is kept leave encoded states as they leave states."""
    merged = merge_bodies(encode_state_body(fold(a)), encode_state_body(fold(b)))
    assert merged == encode_state_body(fold([*a, *b]))


@MANY
@given(st.lists(placed_events(), max_size=20))
def test_the_encoding_is_deterministic(events: list[PlacedEvent]) -> None:
    """The same events in any order give the same bytes."""
    assert encode_state(fold(events)) == encode_state(fold(events[::-1]))


@settings(max_examples=150, deadline=None)
@given(st.lists(placed_events(), min_size=1, max_size=25), states())
def test_folding_a_batch_is_folding_its_events(
    events: list[PlacedEvent], before: SubjectState
) -> None:
    """The columnar path leads to the state of lifting and merging event by event."""
    by_topic: dict[str, list[PlacedEvent]] = {}
    for event in events:
        by_topic.setdefault(event.record.topic, []).append(event)
    body = None if is_empty(before) else encode_state_body(before)
    expected = before
    for topic, found in by_topic.items():
        log = Log(topic, LOG_IDS[5], 0)
        recorded_at = [BASE_US + 10 + offset * 1000 for offset in range(len(found))]
        records = [
            raw_of(event.record, event.fields, offset, recorded_at[offset])
            for offset, event in enumerate(found)
        ]
        recorded_at = [record.timestamp * 1000 for record in records]
        reading = read_batch(records, Origin(topic, 0, 1), b"n" * 16, needed_columns)
        refused = {unreadable.index for unreadable in reading.unreadable}
        for entries in lift_batch(reading, records, recorded_at, log, PARTY_KEY).values():
            body = apply_entries(body, entries)
        for offset, event in enumerate(found):
            if offset in refused:
                continue
            place = event.position
            moved = type(place)(topic, LOG_IDS[5], 0, offset, recorded_at[offset])
            expected = merge(
                expected, PlacedEvent(event.name, event.fields, event.effective_at, moved).lifted()
            )
    assert (EMPTY if body is None else decode_state_body(body)) == expected
    if body is not None:
        assert body == encode_state_body(expected)
        assert is_erased(body) == (expected.erased is not None)


@MANY
@given(states(), st.integers(0, 400), st.integers(0, 255))
def test_damaged_bytes_are_refused_or_read_as_a_state(
    state: SubjectState, at: int, byte: int
) -> None:
    """A damaged state never ends in an unforeseen error."""
    body = bytearray(encode_state_body(state))
    body[at % len(body)] = byte
    try:
        decoded = decode_state_body(bytes(body))
    except Unreadable:
        return
    assert isinstance(decoded, SubjectState)
