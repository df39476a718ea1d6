"""What a look-up says of a person's other numbers, and how fresh it is then."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from consent.partitioning import partition_of
from consent.privacy import party_token, subject_token
from consent.state import Attribute, DncEntry, Erasure, SubjectState
from consent.state_codec import Watermark, encode_state, encode_watermark
from projections.view import Freshness, SuppressionView, ViewConfig

NOW_MS = 1_795_000_000_000
SECRET = b"s" * 32
PARTITIONS = 4
MOBILE, LANDLINE, STRANGER = "+14155550123", "+14155550124", "+14155550125"
TOKEN = party_token(SECRET, "acme", "ann").hex()
LINKED = SubjectState(attributes={"party_ref:acme": Attribute(5, (TOKEN,))})
OPTED_OUT = SubjectState(
    attributes=LINKED.attributes,
    dnc={("acme", "INTERNAL", "internal"): DncEntry(6, "e", True, 6, True)},
)


@dataclass
class Record:
    """A record as a consumer gives it; `timestamp` in milliseconds, by the broker's clock."""

    key: bytes
    value: bytes | None
    timestamp: int = NOW_MS
    timestamp_type: int = 1
    offset: int = 0


async def no_log_ids(_topics: Sequence[str]) -> Mapping[str, bytes]:
    """Never asked: these views do not follow a broker."""
    raise AssertionError


def home(number: str) -> int:
    """Partition of a number."""
    return partition_of(number.encode(), PARTITIONS)


def take(view: SuppressionView, partition: int, *records: Record) -> None:
    """The records arrive now."""
    view._partitions[partition].take(records, NOW_MS)  # type: ignore[arg-type]


def beat(view: SuppressionView, partition: int, age_ms: int) -> None:
    """A watermark arrives that is true as of so long ago."""
    value = Watermark(partition, (NOW_MS - age_ms) * 1000, NOW_MS * 1000, {}, "test")
    take(view, partition, Record(f"!{partition}".encode(), encode_watermark(value)))


@pytest.fixture
def view() -> SuppressionView:
    """A loaded, fresh view in which the landline's owner asked for silence on every number."""
    view = SuppressionView(
        ViewConfig("", PARTITIONS, SECRET, no_log_ids), clock_us=lambda: NOW_MS * 1000
    )
    for partition in range(PARTITIONS):
        view._partitions[partition].loaded = True
        beat(view, partition, 100)
    take(view, home(MOBILE), Record(MOBILE.encode(), encode_state(LINKED)))
    take(view, home(LANDLINE), Record(LANDLINE.encode(), encode_state(OPTED_OUT)))
    stranger = SubjectState(attributes={"line_type": Attribute(5, ("MOBILE",))})
    take(view, home(STRANGER), Record(STRANGER.encode(), encode_state(stranger)))
    return view


def test_numbers_lie_in_different_partitions() -> None:
    """The tests below say nothing otherwise."""
    assert len({home(MOBILE), home(LANDLINE)}) == 2


def test_the_other_number_comes_with_a_look_up(view: SuppressionView) -> None:
    """For the seller that linked them, in both directions, and for nobody else."""
    (other,) = view.look_up(MOBILE, "acme").linked
    assert (other.key, other.state) == (LANDLINE.encode(), OPTED_OUT)
    assert (other.age.partition, other.age.true_at) == (home(LANDLINE), (NOW_MS - 100) * 1000)
    assert [one.key for one in view.look_up(LANDLINE, "acme").linked] == [MOBILE.encode()]
    assert view.look_up(MOBILE, "globex").linked == ()
    assert view.look_up(MOBILE, "acme", test=True).linked == ()
    assert view.look_up(MOBILE).linked == ()
    assert view.look_up(STRANGER, "acme").linked == ()


def test_the_oldest_partition_is_the_answers_freshness(view: SuppressionView) -> None:
    """Whether it holds a linked number or could come to hold one; the stranger's does not care."""
    empty = ({*range(PARTITIONS)} - {home(MOBILE), home(LANDLINE), home(STRANGER)}).pop()
    for partition, age_ms in ((home(LANDLINE), 700), (empty, 900)):
        beat(view, partition, age_ms)
        answer = view.look_up(MOBILE, "acme")
        assert (answer.age_ms, answer.oldest_partition) == (age_ms, partition)
        assert (answer.freshness, answer.partition) == (Freshness.FRESH, home(MOBILE))
    beat(view, empty, 5_001)
    assert view.look_up(MOBILE, "acme").freshness is Freshness.STALE
    stranger = view.look_up(STRANGER, "acme")
    assert (stranger.freshness, stranger.age_ms) == (Freshness.FRESH, 100)
    assert view.look_up(MOBILE).freshness is Freshness.FRESH


def test_all_ages_are_of_one_instant(view: SuppressionView) -> None:
    """However the clock goes on meanwhile, the answer is as old as its oldest part."""
    ticks = itertools.count(NOW_MS)
    view._clock_us = lambda: next(ticks) * 1000
    answer = view.look_up(MOBILE, "acme")
    assert answer.age_ms == 100
    assert [one.age.age_ms for one in answer.linked] == [100]


def test_a_partition_not_loaded_is_worse_than_a_stale_one(view: SuppressionView) -> None:
    """What it holds is not known at all."""
    beat(view, home(MOBILE), 60_000)
    view._partitions[home(LANDLINE)].loaded = False
    assert view.look_up(MOBILE, "acme").freshness is Freshness.UNLOADED


def test_an_erasure_takes_the_link(view: SuppressionView) -> None:
    """From the moment that the erased state arrives, before the number's own record goes."""
    erased = SubjectState(erased=Erasure(9, "x", ()), dnc=OPTED_OUT.dnc)
    token = b"#" + subject_token(SECRET, LANDLINE).hex().encode()
    take(view, home(LANDLINE), Record(token, encode_state(erased)))
    assert view.look_up(MOBILE, "acme").linked == ()
    take(view, home(LANDLINE), Record(LANDLINE.encode(), None))
    assert view.look_up(MOBILE, "acme").linked == ()
    assert [status.parties for status in view.status() if status.partition == home(LANDLINE)] == [0]


def test_an_erased_number_can_be_linked_again(view: SuppressionView) -> None:
    """Its state is found under what stands for it."""
    token = b"#" + subject_token(SECRET, LANDLINE).hex().encode()
    again = SubjectState(
        erased=Erasure(9, "x", ()), attributes={"party_ref:acme": Attribute(10, (TOKEN,))}
    )
    take(view, home(LANDLINE), Record(token, encode_state(again)))
    take(view, home(LANDLINE), Record(LANDLINE.encode(), None))
    (other,) = view.look_up(MOBILE, "acme").linked
    assert (other.key, other.state) == (token, again)
    assert [one.key for one in view.look_up(LANDLINE, "acme").linked] == [MOBILE.encode()]
