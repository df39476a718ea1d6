"""The cutter's limits, and how they are frozen in the log."""

from __future__ import annotations

import hashlib

import pytest

from consent.blocks import (
    Columns,
    CutterLimits,
    cut,
    facts_digest,
    limits_entry,
    limits_of_entry,
    month_of,
    opened,
)
from consent.codec import decode, encode
from consent.errors import Corrupt, Rejected


@pytest.mark.parametrize(
    ("name", "value"),
    [("records_max", 0), ("bytes_max", -1), ("bucket_ms", 0), ("bucket_ms", 7_000), ("version", 2)],
)
def test_limits_that_cannot_be_kept_are_refused(name: str, value: int) -> None:
    """A bucket that reaches over midnight, a limit below 1 or another cutter is refused."""
    with pytest.raises(Rejected) as refused:
        CutterLimits(**{name: value})
    assert refused.value.field == name


def test_frozen_limits_survive_the_wire() -> None:
    """What is frozen in the log's first entry is what every owner reads from it."""
    limits = CutterLimits(records_max=17, bytes_max=18, bucket_ms=500)
    record, entry = decode(encode("LogEntry", limits_entry(limits, at=5)))
    assert record.name == "LogEntry"
    assert limits_of_entry(entry) == limits


def test_an_altered_entry_is_refused() -> None:
    """Limits that are not those of the entry's digest stop the worker."""
    entry = limits_entry(CutterLimits(), at=5)
    entry["content"] = [
        {"name": pair["name"], "value": "9" if pair["name"] == "records_max" else pair["value"]}
        for pair in entry["content"]
    ]
    with pytest.raises(Corrupt):
        limits_of_entry(entry)


def test_an_entry_without_a_limit_is_refused() -> None:
    """A missing limit is not filled by a default."""
    entry = limits_entry(CutterLimits(), at=5)
    entry["content"] = entry["content"][:-1]
    with pytest.raises(Corrupt):
        limits_of_entry(entry)


@pytest.mark.parametrize("offsets", [[3, 3], [4, 3], [1]])
def test_records_out_of_order_are_refused(offsets: list[int]) -> None:
    """Offsets that do not grow, or that were passed already, stop the worker."""
    columns = Columns(offsets, [0] * len(offsets), [1] * len(offsets))
    with pytest.raises(Corrupt):
        cut(opened(2), columns, CutterLimits())


def test_gaps_of_the_log_are_counted_and_covered() -> None:
    """Offsets that the log does not have lie inside the block that follows them."""
    cutting = cut(opened(0), Columns([2, 3, 6], [0, 0, 0], [1, 1, 1]), CutterLimits())
    assert (cutting.gaps, cutting.tail.offset_first, cutting.tail.position) == (4, 0, 7)


def test_a_full_block_need_not_wait_for_the_next_record() -> None:
    """A tail is full exactly when any next record would begin another block."""
    limits = CutterLimits(records_max=2, bytes_max=10)
    assert not cut(opened(0), Columns([0], [0], [10]), limits).tail.full(limits)
    assert cut(opened(0), Columns([0], [0], [11]), limits).tail.full(limits)
    assert cut(opened(0), Columns([0, 1], [0, 0], [1, 1]), limits).tail.full(limits)


def test_a_month_ends_at_midnight_utc() -> None:
    """The last microsecond of October is October."""
    november = 1_793_491_200_000_000
    assert (month_of(november - 1), month_of(november)) == (202610, 202611)


def test_the_digest_covers_order_and_borders() -> None:
    """Facts are length-prefixed: moving a byte between two of them changes the digest."""
    expected = hashlib.sha256(b"\0\0\0\2ab\0\0\0\1c").digest()
    assert facts_digest([b"ab", b"c"]) == expected
    assert facts_digest([b"a", b"bc"]) != expected
    assert facts_digest([b"c", b"ab"]) != expected
