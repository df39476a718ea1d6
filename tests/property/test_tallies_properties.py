"""Counting calls: once each, whatever arrives in which order, twice, or counted from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from consent.tallies import (
    CALENDAR_MONTH,
    DAY_US,
    KEPT_US,
    NO_CALLS,
    PERIOD_KINDS,
    THIRTY_DAYS,
    Call,
    CampaignCounts,
    CampaignId,
    Counts,
    Period,
    merge_calls,
    period_of,
    periods_of,
)
from consent.tally_records import (
    MARK,
    Tally,
    TallyBook,
    decode_tally,
    encode_tally,
    may_be_mark,
)

START = int(datetime(2026, 9, 14, 15, tzinfo=UTC).timestamp()) * 1_000_000
CAMPAIGN = CampaignId("acme-solar", "autumn-26")
LOG, FORMER_LOG = b"l" * 16, b"f" * 16

instants = st.integers(START - 70 * DAY_US, START + 70 * DAY_US)
calls = st.builds(Call, instants, st.booleans(), st.booleans())
said = st.lists(st.tuples(st.sampled_from("abcdefgh"), calls), max_size=30)
MANY = settings(max_examples=300, deadline=None)


def merged(events: Iterable[tuple[str, Call]]) -> dict[str, Call]:
    """Each call as all of its events together tell of it."""
    known: dict[str, Call] = {}
    for call_id, call in events:
        known[call_id] = merge_calls(known.get(call_id), call)
    return known


def counted(known: Iterable[Call], counted_from: int) -> dict[Period, Counts]:
    """Counts by their definition, periods without a call left out."""
    found: dict[Period, list[Call]] = {}
    for call in known:
        for period in periods_of(call.at, counted_from):
            found.setdefault(period, []).append(call)
    return {
        period: Counts(
            sum(call.live or call.abandoned for call in there),
            sum(call.abandoned for call in there),
            len(there),
        )
        for period, there in found.items()
    }


def shown(counts: CampaignCounts) -> dict[Period, Counts]:
    return {period: found for period, found in counts.counts.items() if found != NO_CALLS}


@MANY
@given(instants, instants, st.sampled_from(PERIOD_KINDS))
def test_an_instant_lies_in_one_period(at: int, counted_from: int, kind: str) -> None:
    """Periods of a kind cover all time and don't overlap."""
    period = period_of(kind, at, counted_from)
    assert period.start <= at < period.end
    assert period_of(kind, period.start, counted_from) == period
    assert period_of(kind, period.end - 1, counted_from) == period
    assert period_of(kind, period.end, counted_from).start == period.end
    assert period.end - period.start <= 31 * DAY_US < KEPT_US
    if kind == THIRTY_DAYS:
        assert (period.start - counted_from) % (30 * DAY_US) == 0
    if kind == CALENDAR_MONTH:
        begins = datetime.fromtimestamp(period.start / 1e6, UTC)
        assert (begins.day, begins.hour, begins.minute) == (1, 0, 0)


@MANY
@given(calls, calls, calls)
def test_what_events_say_of_a_call_merges_in_any_order(one: Call, two: Call, three: Call) -> None:
    """Commutative, associative, idempotent."""
    assert merge_calls(one, two) == merge_calls(two, one)
    left = merge_calls(merge_calls(one, two), three)
    assert left == merge_calls(one, merge_calls(two, three))
    assert merge_calls(left, two) == left


@MANY
@given(calls, calls)
def test_a_call_is_what_any_of_its_events_says(one: Call, two: Call) -> None:
    """As early as the earliest, answered or abandoned if one says so; from nothing, as it is."""
    merged_call = merge_calls(one, two)
    assert merged_call.at in (one.at, two.at)
    assert merged_call.at <= one.at and merged_call.at <= two.at
    assert (merged_call.live, merged_call.abandoned) == (
        any((one.live, two.live)),
        any((one.abandoned, two.abandoned)),
    )
    assert merge_calls(None, one) == one


@MANY
@given(said, st.lists(instants, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_counts_are_those_of_the_calls(
    events: list[tuple[str, Call]], starts: list[int], chooser: object
) -> None:
    """Events come repeated and in any order, and a declaration may move the periods in between."""
    counts = CampaignCounts(starts[0])
    known: dict[str, Call] = {}
    moves = set(range(1, len(starts)))
    shuffled = [*events, *events]
    chooser.shuffle(shuffled)  # type: ignore[attr-defined]
    for place, (call_id, call) in enumerate(shuffled):
        known[call_id] = counts.take(known.get(call_id), call)
        if place in moves:
            counts.count_from(starts[place], known.values())
    counts.count_from(starts[-1], known.values())
    assert known == merged(events)
    assert shown(counts) == counted(known.values(), starts[-1])


@MANY
@given(said, said, instants, instants)
def test_changed_periods_are_named(
    before: list[tuple[str, Call]], after: list[tuple[str, Call]], start: int, later: int
) -> None:
    """What is written when only changed periods are is what is counted."""
    counts, known, written = CampaignCounts(start), {}, {}
    for events in (before, after):
        for call_id, call in events:
            known[call_id] = counts.take(known.get(call_id), call)
        written |= {period: counts.counts[period] for period in counts.changed}
        counts.changed.clear()
    counts.count_from(later, known.values())
    written |= {period: counts.counts[period] for period in counts.changed}
    assert {period: found for period, found in written.items() if found != NO_CALLS} == shown(
        counts
    )


@MANY
@given(said, instants, instants)
def test_calls_that_nobody_knows_any_more_stay_counted(
    events: list[tuple[str, Call]], start: int, later: int
) -> None:
    """Moving the periods keeps every one of them, in periods near its day."""
    known = list(merged(events).values())
    counts = CampaignCounts(start)
    for period, there in counted(known, start).items():
        counts.add_unlisted(period, there)
    assert shown(counts) == counted(known, start)
    counts.count_from(later, ())
    totals = dict.fromkeys(PERIOD_KINDS, 0)
    for period, there in counts.counts.items():
        totals[period.kind] += there.attempts
    assert set(totals.values()) == {len(known)}


@MANY
@given(said, instants, instants)
def test_only_what_is_over_is_forgotten(
    events: list[tuple[str, Call]], start: int, now: int
) -> None:
    """Periods that last until an instant or longer keep their counts."""
    counts = CampaignCounts(start)
    for call in merged(events).values():
        counts.take(None, call)
    before = dict(counts.counts)
    over = counts.forget_before(now)
    assert all(period.end <= now for period in over)
    assert counts.counts == {p: c for p, c in before.items() if p not in over}
    assert all(period.end > now for period in counts.counts)


def test_a_call_of_a_forgotten_period_counts_there_anew() -> None:
    """Nothing of the period before it was forgotten is left."""
    counts = CampaignCounts(START)
    counts.take(None, Call(START, True, False))
    assert len(counts.forget_before(START + 40 * DAY_US)) == 3
    counts.take(None, Call(START + 1, True, True))
    assert counts.counts == dict.fromkeys(periods_of(START + 1, START), Counts(1, 1, 1))


tallies = st.builds(
    Tally,
    st.just(CAMPAIGN),
    st.builds(Period, st.just(THIRTY_DAYS), st.just(START)),
    st.integers(0, 2),
    st.sampled_from((LOG, FORMER_LOG)),
    st.integers(-1, 50),
    st.builds(Counts, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
)


def pure(tally: Tally) -> Tally:
    """A tally as partitions write them: its counts are a function of how far it goes."""
    count = (tally.offset_last + 2) * (7 if tally.log_id == LOG else 1)
    return tally._replace(counts=Counts(count, tally.partition, count))


@MANY
@given(st.lists(tallies, max_size=12), st.randoms(use_true_random=False))
def test_late_writers_lower_nothing(written: list[Tally], chooser: object) -> None:
    """Whatever the order, what counts is of the log that is there, and of the most of it."""
    expected: dict[int, Tally] = {}
    for tally in map(pure, written):
        held = expected.get(tally.partition)
        if held is None or (tally.log_id == LOG, tally.offset_last) > (
            held.log_id == LOG,
            held.offset_last,
        ):
            expected[tally.partition] = tally
    shuffled = [*written, *written]
    chooser.shuffle(shuffled)  # type: ignore[attr-defined]
    book = TallyBook(LOG)
    for tally in map(pure, shuffled):
        book.take(tally.key, encode_tally(tally))
    found = {one.period.kind: one.counts for one in book.tallies(CAMPAIGN, START, START)}
    assert found[THIRTY_DAYS].live_answered == sum(
        tally.counts.live_answered for tally in expected.values()
    )


@given(tallies, st.text(max_size=5), st.text(max_size=5))
def test_records_give_back_what_was_written(tally: Tally, seller: str, name: str) -> None:
    """Also with slashes in ids, which never make two campaigns one."""
    tally = tally._replace(campaign=CampaignId(seller, name))
    assert decode_tally(encode_tally(tally)) == tally
    other = tally._replace(campaign=CampaignId(seller + "/", name))
    assert other.key != tally.key and tally.key.count(b"/") == 4
    mark = tally._replace(period=Period(MARK, START))
    assert may_be_mark(mark.key)
    assert not may_be_mark(tally._replace(campaign=CAMPAIGN).key)


def test_an_undeclared_campaign_is_counted_from_its_first_call_anywhere() -> None:
    """A partition that has not heard of an earlier call elsewhere is taken as it is meanwhile."""
    first, second = START, START + 3 * DAY_US
    book = TallyBook(LOG)
    for partition, start, count in ((0, first, 5), (1, second, 7)):
        for period, counts in (
            (Period(MARK, start), NO_CALLS),
            (Period(THIRTY_DAYS, start), Counts(count, 1, count)),
        ):
            tally = Tally(CAMPAIGN, period, partition, LOG, 9, counts)
            book.take(tally.key, encode_tally(tally))
    thirty_days, *_ = book.tallies(CAMPAIGN, second)
    assert thirty_days.period.start == first
    assert thirty_days.counts == Counts(12, 2, 12)
    moved = [
        Tally(CAMPAIGN, Period(MARK, first), 1, LOG, 9),
        Tally(CAMPAIGN, Period(THIRTY_DAYS, second), 1, LOG, 9),
        Tally(CAMPAIGN, Period(THIRTY_DAYS, first), 1, LOG, 9, Counts(7, 1, 7)),
    ]
    for tally in moved:
        book.take(tally.key, encode_tally(tally))
    assert book.tallies(CAMPAIGN, second)[0].counts == Counts(12, 2, 12)
    assert book.tallies(CAMPAIGN, second, second)[0].counts == Counts(12, 2, 12)
    book.take(moved[2].key, None)
    assert book.tallies(CAMPAIGN, second)[0].counts == Counts(5, 1, 5)
