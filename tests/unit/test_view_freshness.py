"""When a look-up may be relied on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from consent.codec import frame
from consent.contracts import contracts
from consent.partitioning import partition_of
from consent.privacy import subject_token
from consent.state import EMPTY, AppliedOffset, Erasure, SubjectState, Withdrawal
from consent.state_codec import Watermark, encode_state, encode_watermark
from projections.suppression_fold import SuppressionRecordUnknown
from projections.view import Freshness, SuppressionView, ViewConfig

NOW_MS = 1_795_000_000_000
NUMBER = "+14155550123"
KEY = NUMBER.encode()
SECRET = b"s" * 32
TOKEN = b"#" + subject_token(SECRET, NUMBER).hex().encode()
WITHDRAWN = SubjectState(withdrawals={("acme", "*", "*", "*"): Withdrawal(5, "e", "WITHDRAWN")})
REFUSED = SubjectState(withdrawals={("globex", "*", "*", "*"): Withdrawal(6, "f", "WITHDRAWN")})


@dataclass
class Record:
    """A record as a consumer gives it; `timestamp` in milliseconds, by the broker's clock."""

    key: bytes | None
    value: bytes | None
    timestamp: int = NOW_MS
    timestamp_type: int = 1
    offset: int = 0


class Clock:
    """This process's clock."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def __call__(self) -> int:
        return self.ms * 1000


async def no_log_ids(_topics: Sequence[str]) -> Mapping[str, bytes]:
    """Never asked: these views do not follow a broker."""
    raise AssertionError


@pytest.fixture
def clock() -> Clock:
    """The clock that the view reads."""
    return Clock()


@pytest.fixture
async def view(clock: Clock) -> SuppressionView:
    """A view of one partition that was read to its end."""
    view = SuppressionView(ViewConfig("", 1, SECRET, no_log_ids), clock)
    view._partitions[0].loaded = True
    return view


def watermark(
    true_at_ms: int, *, broker_ms: int | None = None, written_ms: int | None = None
) -> Record:
    """A watermark that was on the way for no time, by clocks that agree unless said otherwise."""
    broker_ms = true_at_ms if broker_ms is None else broker_ms
    written_ms = broker_ms if written_ms is None else written_ms
    value = Watermark(0, true_at_ms * 1000, written_ms * 1000, {}, "test")
    return Record(b"!0", encode_watermark(value), broker_ms)


def take(view: SuppressionView, clock: Clock, *records: Record) -> None:
    """The records arrive now."""
    view._partitions[0].take(records, clock.ms)  # type: ignore[arg-type]


def freshness(view: SuppressionView) -> Freshness:
    """Of the only partition."""
    return view.look_up(NUMBER).freshness


async def test_before_its_end_is_read_a_partition_is_unloaded(clock: Clock) -> None:
    """Also where a watermark says that it is true as of now."""
    view = SuppressionView(ViewConfig("", 1, SECRET, no_log_ids), clock)
    take(view, clock, watermark(NOW_MS))
    assert freshness(view) is Freshness.UNLOADED
    assert not view.loaded


async def test_without_a_watermark_it_is_stale(view: SuppressionView) -> None:
    """Nobody has said as of when the states are true."""
    answer = view.look_up(NUMBER)
    assert (answer.freshness, answer.true_at, answer.age_ms) == (Freshness.STALE, None, None)


async def test_a_watermark_is_fresh_until_its_age_is_reached(
    view: SuppressionView, clock: Clock
) -> None:
    """5,000 ms are fresh, one more is not."""
    take(view, clock, watermark(NOW_MS))
    clock.ms += 5_000
    assert view.look_up(NUMBER).age_ms == 5_000
    assert freshness(view) is Freshness.FRESH
    clock.ms += 1
    assert freshness(view) is Freshness.STALE


async def test_watermarks_from_before_it_was_loaded_tell_nothing_about_clocks(
    clock: Clock,
) -> None:
    """They were on the way for an unknown time: stale until one arrives live."""
    view = SuppressionView(ViewConfig("", 1, SECRET, no_log_ids), clock)
    take(view, clock, watermark(NOW_MS))
    view._partitions[0].loaded = True
    assert freshness(view) is Freshness.STALE
    take(view, clock, watermark(NOW_MS))
    assert freshness(view) is Freshness.FRESH


@pytest.mark.parametrize("offset_ms", [-501, 501])
async def test_a_clock_of_our_own_that_is_off_makes_it_stale(
    view: SuppressionView, clock: Clock, offset_ms: int
) -> None:
    """Ages measured by a wrong clock mean nothing. 500 ms are still taken."""
    clock.ms = NOW_MS + offset_ms
    take(view, clock, watermark(NOW_MS))
    assert freshness(view) is Freshness.STALE
    clock.ms = NOW_MS + 500 * (1 if offset_ms > 0 else -1)
    for _ in range(8):
        take(view, clock, watermark(NOW_MS))
    assert freshness(view) is Freshness.FRESH


@pytest.mark.parametrize("offset_ms", [-501, 501])
async def test_a_writer_whose_clock_is_off_makes_it_stale(
    view: SuppressionView, clock: Clock, offset_ms: int
) -> None:
    """Its readings are what `true_at` is made of."""
    written_ms = NOW_MS + offset_ms
    take(view, clock, watermark(NOW_MS - 100, broker_ms=NOW_MS, written_ms=written_ms))
    assert freshness(view) is Freshness.STALE


async def test_one_slow_delivery_is_not_taken_for_a_wrong_clock(
    view: SuppressionView, clock: Clock
) -> None:
    """The least delay counts: what is above it is time on the way."""
    take(view, clock, watermark(NOW_MS))
    take(view, clock, watermark(NOW_MS, broker_ms=NOW_MS - 3_000))
    assert freshness(view) is Freshness.FRESH


async def test_a_true_at_in_the_future_is_stale(view: SuppressionView, clock: Clock) -> None:
    """A clock was set back, here or there."""
    take(view, clock, watermark(NOW_MS + 501, broker_ms=NOW_MS))
    assert freshness(view) is Freshness.STALE


async def test_a_former_owners_last_word_is_the_last_word(
    view: SuppressionView, clock: Clock
) -> None:
    """A watermark that is late by a minute makes it stale until the owner's next one."""
    take(view, clock, watermark(NOW_MS))
    take(view, clock, watermark(NOW_MS - 60_000, broker_ms=NOW_MS))
    assert freshness(view) is Freshness.STALE
    take(view, clock, watermark(NOW_MS))
    assert freshness(view) is Freshness.FRESH


async def test_states_are_merged_and_never_replaced(view: SuppressionView, clock: Clock) -> None:
    """An older record that comes late takes nothing away."""
    take(view, clock, Record(KEY, encode_state(WITHDRAWN)), Record(KEY, encode_state(REFUSED)))
    state = view.look_up(NUMBER).state
    assert state.withdrawals == {**WITHDRAWN.withdrawals, **REFUSED.withdrawals}
    take(view, clock, Record(KEY, encode_state(WITHDRAWN)))
    assert view.look_up(NUMBER).state == state
    assert view.look_up("+14155550199").state == EMPTY


async def test_an_erased_subject_is_found_by_its_number(
    view: SuppressionView, clock: Clock
) -> None:
    """The state moves under the token, and a late record of the number changes nothing."""
    erased = SubjectState(erased=Erasure(9, "x", ()))
    take(view, clock, Record(KEY, encode_state(WITHDRAWN)))
    take(view, clock, Record(TOKEN, encode_state(erased)), Record(KEY, None))
    assert view.look_up(NUMBER).state == erased
    assert KEY not in view._partitions[0].bodies
    take(view, clock, Record(KEY, encode_state(WITHDRAWN)))
    assert view.look_up(NUMBER).state == erased


async def test_a_tombstone_without_a_state_elsewhere_takes_nothing_away(
    view: SuppressionView, clock: Clock
) -> None:
    """Nobody can make a number callable by deleting its record."""
    take(view, clock, Record(KEY, encode_state(WITHDRAWN)), Record(KEY, None))
    assert view.look_up(NUMBER).state == WITHDRAWN


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"not framed",
        frame(9_999, b"\x00"),
        frame(contracts().record("SubjectState").schema_id, b"\x00\x00"),
    ],
)
async def test_a_record_that_is_no_state_is_refused(
    view: SuppressionView, clock: Clock, value: bytes
) -> None:
    """Skipping it could lose a restriction. The error names the place and not the number."""
    with pytest.raises(SuppressionRecordUnknown) as refusal:
        take(view, clock, Record(KEY, value, offset=77))
    assert "offset 77" in str(refusal.value)
    assert NUMBER not in str(refusal.value)


async def test_waiters_are_told_only_of_their_own_incarnation(
    view: SuppressionView, clock: Clock
) -> None:
    """Offsets of a topic's former life say nothing about the present one."""
    topic = "consent-events"
    applied = {(topic, b"o" * 16): AppliedOffset(90, 1), (topic, b"n" * 16): AppliedOffset(3, 2)}
    value = encode_watermark(Watermark(0, NOW_MS * 1000, NOW_MS * 1000, applied, "test"))
    take(view, clock, Record(b"!0", value))
    assert not view._includes(topic, 0, 0)
    view._log_ids = {topic: b"n" * 16}
    assert view._includes(topic, 0, 3)
    assert not view._includes(topic, 0, 4)


def test_numbers_are_looked_up_where_they_are_written() -> None:
    """Reader and writer agree about the partition of a number."""
    view = SuppressionView(ViewConfig("", 12, SECRET, no_log_ids))
    for line in range(100):
        number = f"+1415555{line:04d}"
        assert view.look_up(number).partition == partition_of(number.encode(), 12)
