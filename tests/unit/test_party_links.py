"""How events link numbers to a person, and what is kept of it."""

from __future__ import annotations

from typing import Any

import pytest

from consent.codec import encode
from consent.contracts import RecordContract, contracts
from consent.folding import Log, lift_batch, needed_columns
from consent.intake import Origin, read_batch
from consent.lift import Derived, Position, evolve, lift
from consent.lifters import LIFTERS
from consent.party_links import parties_for
from consent.privacy import party_token, subject_token
from consent.state import EMPTY, SubjectState, merge
from consent.state_bytes import apply_entries
from consent.state_codec import decode_state_body, encode_state
from tests.events import NOW_US, event
from tests.strategies import filled, raw_of
from tests.subject_events import number_keyed_records

NUMBER = "+14155550123"
KEY = b"s" * 32
HISTORY_KEY = b"h" * 32
PLACE = Position("consent-events", b"l" * 16, 0, 7, NOW_US)
EVIDENCE = {
    field["name"]: [] if field["name"] in ("certificate_urls", "extra") else None
    for field in contracts()
    .record("NumberAttributesRecorded")
    .schema["fields"][-1]["type"][1]["fields"]
}


def linking(reference: str | None, name: str = "NumberAttributesRecorded", **given: Any) -> Any:
    """Fields of an event whose evidence names a party."""
    return event(name, evidence=EVIDENCE | {"party_reference": reference}, **given)


def linked(*events: dict[str, Any], name: str = "NumberAttributesRecorded") -> SubjectState:
    """The state after events of one type, each effective when it occurred."""
    state = EMPTY
    for fields in events:
        state = evolve(state, name, fields, fields["occurred_at"], PLACE, KEY)
    return state


def party(reference: str, seller: str = "acme", prefix: str = "") -> bytes:
    """As numbers are grouped by it."""
    return f"{prefix}{party_token(KEY, seller, reference).hex()}".encode()


def test_a_reference_links_for_its_seller_only() -> None:
    """Another seller, or a rehearsal, does not know it; its clear text is nowhere."""
    state = linked(linking("ann", number=NUMBER))
    assert parties_for(state, "acme") == {party("ann")}
    assert not parties_for(state, "globex") and not parties_for(state, "acme", test=True)
    assert b"ann" not in encode_state(state) and NUMBER.encode() not in encode_state(state)


def test_a_rehearsed_link_is_known_to_rehearsals_only() -> None:
    """It lives under a name of its own."""
    state = linked(linking("ann", test=True))
    assert not parties_for(state, "acme")
    assert parties_for(state, "acme", test=True) == {party("ann", prefix="test:")}


def test_what_is_stated_for_every_seller_counts_for_each() -> None:
    """Beside what a seller states itself."""
    state = linked(linking("ann"), linking("p-1", seller_id="*"))
    assert parties_for(state, "acme") == {party("ann"), party("p-1", "*")}
    assert parties_for(state, "globex") == {party("p-1", "*")}


def test_the_newest_reference_of_a_seller_counts() -> None:
    """A number that changed hands leaves its former party; at one instant both count."""
    first, second = linking("ann", occurred_at=NOW_US), linking("bob", occurred_at=NOW_US + 1)
    assert parties_for(linked(second, first), "acme") == {party("bob")}
    same = linking("bob", occurred_at=NOW_US)
    assert parties_for(linked(first, same), "acme") == {party("ann"), party("bob")}


@pytest.mark.parametrize("reference", [None, "", "  "])
def test_no_reference_links_nothing(reference: str | None) -> None:
    """An empty one would make one person of everybody; and no key is needed."""
    fields = linking(reference, line_type="MOBILE")
    state = lift("NumberAttributesRecorded", fields, NOW_US, PLACE)
    assert set(state.attributes) == {"line_type"}


def test_any_event_about_a_number_links_it() -> None:
    """Also one that says nothing else."""
    state = linked(linking("ann", "CallEnded"), name="CallEnded")
    assert parties_for(state, "acme") == {party("ann")}


def test_a_key_is_needed_for_a_reference() -> None:
    """Forgetting it would lose the link silently."""
    with pytest.raises(ValueError, match="key"):
        lift("NumberAttributesRecorded", linking("ann"), NOW_US, PLACE)


def test_a_fact_brings_its_own_token() -> None:
    """History holds no evidence; what it derived stands in."""
    fields = event("NumberAttributesRecorded")
    derived = Derived(0, (), b"t" * 16)
    state = lift("NumberAttributesRecorded", fields, NOW_US, PLACE, derived)
    assert parties_for(state, "acme") == {(b"t" * 16).hex().encode()}


def test_an_erasure_ends_the_link() -> None:
    """What is stated afterwards counts again; the erasure's own evidence states nothing."""
    before = linked(linking("ann", occurred_at=NOW_US))
    fields = linking("ann", "ErasureExecuted", cutoff_at=NOW_US, cutoffs=[], occurred_at=NOW_US + 5)
    erased = evolve(before, "ErasureExecuted", fields, NOW_US + 5, PLACE, KEY)
    assert not parties_for(erased, "acme")
    after = merge(erased, linked(linking("ann", occurred_at=NOW_US + 9)))
    assert parties_for(after, "acme") == {party("ann")}


def test_a_batch_links_as_single_events_do() -> None:
    """Rehearsed and real, with and without a reference, in one batch."""
    record = contracts().record("NumberAttributesRecorded")
    events = [
        linking(reference, number=NUMBER, occurred_at=NOW_US + place, test=place == 2)
        for place, reference in enumerate(("ann", None, "ann", " ", "bob"))
    ]
    raws = [raw_of(record, fields, offset, NOW_US) for offset, fields in enumerate(events)]
    recorded_at = [NOW_US] * len(raws)
    reading = read_batch(raws, Origin(record.topic, 0, 1), b"n" * 16, needed_columns)
    log = Log(record.topic, PLACE.log_id, 0)
    entries = lift_batch(reading, raws, recorded_at, log, KEY)[NUMBER.encode()]
    body = apply_entries(None, entries)
    assert b"ann" not in body and b"bob" not in body
    state = decode_state_body(body)
    assert state.attributes == linked(*events).attributes
    assert parties_for(state, "acme") == {party("bob")}
    assert parties_for(state, "acme", test=True) == {party("ann", prefix="test:")}
    assert encode(record.name, events[0]).count(b"ann") == 1


@pytest.mark.parametrize("record", number_keyed_records(), ids=lambda record: record.name)
def test_no_reference_and_no_token_of_history_reaches_a_state(record: RecordContract) -> None:
    """A state holds neither evidence nor number, and nothing that opens the history."""
    canary = "Canary Jane"

    def text(path: tuple[str, ...]) -> str:
        return f"{canary} {path[-1]}" if path[0] == "evidence" else "plain"

    fields = filled(record, text, NUMBER)
    raw = raw_of(record, fields, 0)
    recorded_at = [raw.timestamp * 1000]
    reading = read_batch([raw], Origin(record.topic, 0, 1), b"n" * 16, needed_columns)
    log = Log(record.topic, PLACE.log_id, 0)
    lifted = lift_batch(reading, [raw], recorded_at, log, KEY)
    body = apply_entries(None, lifted.get(NUMBER.encode(), []))
    reference = fields["evidence"]["party_reference"]
    mine = party_token(KEY, fields["seller_id"], reference)
    theirs = party_token(HISTORY_KEY, fields["seller_id"], reference)
    kept = {canary.encode(), NUMBER[1:].encode(), theirs, theirs.hex().encode()}
    kept |= {subject_token(HISTORY_KEY, NUMBER), subject_token(HISTORY_KEY, NUMBER).hex().encode()}
    assert [one for one in kept if one in body] == []
    linked_by = [name for name in decode_state_body(body).attributes if "party_ref:" in name]
    assert bool(linked_by) == (mine.hex().encode() in body)
    assert bool(linked_by) == (record.name in LIFTERS and LIFTERS[record.name].links)
