"""Blocks are a function of the log, whoever cuts and however fetches were split."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from consent.blocks import Block, Columns, CutterLimits, Tail, closed, cut, month_of, opened

LIMITS = CutterLimits(records_max=7, bytes_max=100, bucket_ms=1_000)
MONTH_END_US = 1_793_491_200_000_000
"""2026-11-01."""


@dataclass(frozen=True)
class Row:
    offset: int
    recorded_at: int
    size: int


@st.composite
def logs(draw: st.DrawFn) -> list[Row]:
    """A log with gaps, around the end of a month, with a clock that may step back."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from([1, 1, 1, 2, 5]),
                st.sampled_from([0, 1_000, 200_000, 1_500_000, -300_000]),
                st.sampled_from([0, 1, 20, 50, 99, 100, 101]),
            ),
            min_size=1,
            max_size=60,
        )
    )
    rows = []
    offset, at = draw(st.integers(0, 50)) - 1, MONTH_END_US - 3_000_000
    for ahead, later, size in steps:
        offset, at = offset + ahead, at + later
        rows.append(Row(offset, at, size))
    return rows


def cut_all(tail: Tail, log: list[Row], splits: list[int]) -> tuple[list[Block], Tail]:
    """Blocks of a log that arrives in batches which begin at `splits`."""
    blocks: list[Block] = []
    bounds = [0, *sorted({split % len(log) for split in splits}), len(log)] if log else []
    for start, end in itertools.pairwise(bounds):
        if start == end:
            continue
        rows = log[start:end]
        cutting = cut(
            tail,
            Columns(
                [row.offset for row in rows],
                [row.recorded_at for row in rows],
                [row.size for row in rows],
            ),
            LIMITS,
        )
        assert len(cutting.blocks) == len(cutting.ends)
        blocks += cutting.blocks
        tail = cutting.tail
    return blocks, tail


def cut_naively(log: list[Row], position: int) -> list[tuple[int, int, int]]:
    """First and last offset and count of each closed block, one record at a time."""
    blocks = []
    first, last, count, size, bucket = position, position - 1, 0, 0, 0
    for row in log:
        at = row.recorded_at // (LIMITS.bucket_ms * 1000)
        full = count >= LIMITS.records_max or size + row.size > LIMITS.bytes_max or at != bucket
        if count and full:
            blocks.append((first, last, count))
            first, count, size = last + 1, 0, 0
        last, count, size, bucket = row.offset, count + 1, size + row.size, at
    return blocks


SPLITS = st.lists(st.integers(0, 1_000), max_size=20)


@given(logs(), SPLITS)
def test_cuts_are_those_of_a_reader_that_looks_at_one_record_at_a_time(
    log: list[Row], splits: list[int]
) -> None:
    """Any split of the fetches gives the blocks that the rule gives record by record."""
    blocks, _ = cut_all(opened(0), log, splits)
    found = [(block.offset_first, block.offset_last, block.records) for block in blocks]
    assert found == cut_naively(log, 0)


@given(logs(), SPLITS, SPLITS)
def test_splits_do_not_matter(log: list[Row], one: list[int], other: list[int]) -> None:
    """Two owners whose fetches were split differently cut the same blocks and tail."""
    assert cut_all(opened(0), log, one) == cut_all(opened(0), log, other)


@given(logs(), SPLITS, SPLITS)
def test_a_restart_at_any_block_end_rebuilds_the_same(
    log: list[Row], one: list[int], other: list[int]
) -> None:
    """Beginning again after any block gives the blocks that follow it, unchanged."""
    blocks, tail = cut_all(opened(0), log, one)
    for index, block in enumerate(blocks):
        rest = [row for row in log if row.offset > block.offset_last]
        again = cut_all(opened(block.offset_last + 1), rest, other)
        assert again == (blocks[index + 1 :], tail)


@given(logs(), SPLITS)
def test_blocks_tile_the_log_within_their_limits(log: list[Row], splits: list[int]) -> None:
    """Every record is in one block, ranges leave no hole, no block is over a limit or a month."""
    blocks, tail = cut_all(opened(0), log, splits)
    position = 0
    for block in [*blocks, closed(tail)]:
        rows = [row for row in log if block.offset_first <= row.offset <= block.offset_last]
        assert block.offset_first == position
        assert block.records == len(rows) <= LIMITS.records_max
        assert block.bytes == sum(row.size for row in rows)
        assert block.bytes <= LIMITS.bytes_max or block.records == 1
        assert {month_of(row.recorded_at) for row in rows} == {block.month}
        assert block.recorded_at_min == min(row.recorded_at for row in rows)
        assert block.recorded_at_max == max(row.recorded_at for row in rows)
        position = block.offset_last + 1
    assert position == log[-1].offset + 1
