"""The index of parties says what a scan of the states says, whatever arrived in whatever order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from consent.partitioning import partition_of
from consent.party_links import parties_for, parties_in
from consent.privacy import party_token, subject_token
from consent.state import EMPTY, Attribute, Erasure, SubjectState, merge
from consent.state_codec import decode_state_body, encode_state
from projections.view import SuppressionView, ViewConfig

SECRET = b"s" * 32
PARTITIONS = 3
NUMBERS = tuple(f"+1415555{line:04d}" for line in range(100, 106))
SELLERS = ("acme", "globex", "*")
Said = tuple[str, SubjectState | None]


@dataclass
class Record:
    """A record as a consumer gives it; without a value it is a tombstone."""

    key: bytes | None
    value: bytes | None
    timestamp: int = 0
    timestamp_type: int = 1
    offset: int = 0


async def no_log_ids(_topics: Sequence[str]) -> Mapping[str, bytes]:
    """Never asked: these views do not follow a broker."""
    raise AssertionError


def token_key(number: str) -> bytes:
    """Under which the state of an erased number is."""
    return b"#" + subject_token(SECRET, number).hex().encode()


@st.composite
def linking_states(draw: st.DrawFn) -> SubjectState:
    """A state with links of a few sellers to a few parties, perhaps rehearsed."""
    links = {}
    for _ in range(draw(st.integers(0, 3))):
        seller, reference = draw(st.sampled_from(SELLERS)), draw(st.sampled_from(("ann", "bob")))
        prefix = "test:" if draw(st.booleans()) else ""
        token = party_token(SECRET, seller, reference).hex()
        links[f"{prefix}party_ref:{seller}"] = Attribute(draw(st.integers(1, 9)), (token,))
    if draw(st.booleans()):
        links["carrier"] = Attribute(3, ("party_ref: in a name",))
    return SubjectState(attributes=links)


@st.composite
def said(draw: st.DrawFn) -> Said:
    """A state of a number, or the erasure of one: then its state moves, and a tombstone follows."""
    number = draw(st.sampled_from(NUMBERS))
    if draw(st.integers(0, 5)):
        return number, draw(linking_states())
    return number, None


def records_of(number: str, state: SubjectState | None, cutoff_at: int) -> list[Record]:
    """What the owner of the partition would write."""
    if state is not None:
        return [Record(number.encode(), encode_state(state))]
    erased = SubjectState(erased=Erasure(cutoff_at, "e", ()))
    return [
        Record(token_key(number), encode_state(erased)),
        Record(number.encode(), None),
    ]


def take(view: SuppressionView, number: str, records: Sequence[Record]) -> None:
    """The records arrive."""
    view._partitions[partition_of(number.encode(), PARTITIONS)].take(records, 0)  # type: ignore[arg-type]


def known(view: SuppressionView) -> dict[bytes, SubjectState]:
    """Every state by its key, as it is held."""
    return {
        key: decode_state_body(body) for one in view._partitions for key, body in one.bodies.items()
    }


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(said(), st.integers(0, 9), st.booleans()), max_size=25),
    st.sampled_from(("acme", "globex")),
    st.booleans(),
)
def test_the_index_is_a_scan(steps: list[tuple[Said, int, bool]], seller: str, test: bool) -> None:
    """Per party the very keys, and per number the very other numbers of the person."""
    view = SuppressionView(ViewConfig("", PARTITIONS, SECRET, no_log_ids))
    for (number, state), cutoff_at, half in steps:
        records = records_of(number, state, cutoff_at)
        # An erasure may be seen between its two records.
        take(view, number, records[:1] if half else records)
    held = known(view)
    for one in view._partitions:
        scanned = {(party, key) for key in one.bodies for party in parties_in(held[key].attributes)}
        indexed = {
            (party, key) for party in one.parties._keys for key in one.parties.keys_of(party)
        }
        assert indexed == scanned
        assert len(one.parties) == len({party for party, _key in scanned})
        assert all(
            one.parties.count_of(party) == sum(party == other for other, _key in scanned)
            for party in one.parties._keys
        )
    whole = {
        number: merge(held.get(number.encode(), EMPTY), held.get(token_key(number), EMPTY))
        for number in NUMBERS
    }
    for number in NUMBERS:
        mine = parties_for(whole[number], seller, test)
        expected = {
            other
            for other in NUMBERS
            if other != number and mine & parties_for(whole[other], seller, test)
        }
        answer = view.look_up(number, seller, test)
        assert answer.state == whole[number]
        by_key = {found.key: found.state for found in answer.linked}
        homes = {
            token_key(other) if token_key(other) in held else other.encode(): other
            for other in expected
        }
        assert by_key == {home: whole[other] for home, other in homes.items()}
        assert view.look_up(number).linked == ()


def test_a_party_too_large_is_not_looked_at() -> None:
    """The bound is on the numbers of the party, this one included; one number less is answered."""
    token = party_token(SECRET, "acme", "ann").hex()
    state = SubjectState(attributes={"party_ref:acme": Attribute(1, (token,))})
    config = ViewConfig("", PARTITIONS, SECRET, no_log_ids)
    view = SuppressionView(replace(config, party_numbers_max=3))
    for number in NUMBERS[:3]:
        take(view, number, records_of(number, state, 0))
    answer = view.look_up(NUMBERS[0], "acme")
    assert len(answer.linked) == 2 and not answer.party_too_large
    take(view, NUMBERS[3], records_of(NUMBERS[3], state, 0))
    answer = view.look_up(NUMBERS[0], "acme")
    assert answer.party_too_large and answer.linked == ()
    take(view, NUMBERS[3], records_of(NUMBERS[3], None, 1))
    assert len(view.look_up(NUMBERS[0], "acme").linked) == 2
