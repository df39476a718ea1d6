"""Which months are kept, and what an entry says of those that go."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.codec import encode
from consent.log_entries import entry_of_value
from consent.retention_entries import (
    MONTHS_MIN,
    ExpiredPart,
    canonical_text,
    document_of,
    entry_of,
    first_month_kept,
    month_start,
    month_text,
)

instants = st.integers(1_500_000_000_000_000, 4_000_000_000_000_000)


def later(month: int, count: int) -> int:
    """The month so many months after another, counted one by one."""
    for _ in range(count):
        month = month + 1 if month % 100 < 12 else (month // 100 + 1) * 100 + 1
    return month


@given(instants, st.integers(MONTHS_MIN, 200))
def test_as_many_whole_months_are_kept(now: int, months: int) -> None:
    """The running month is the one so many months after the oldest that is kept whole."""
    kept = first_month_kept(now, months)
    running = later(kept, months)
    assert month_start(running) <= now < month_start(later(running, 1))


def test_too_few_months_are_refused() -> None:
    """Counts of campaigns' calls rest on the evidence of the last weeks."""
    with pytest.raises(ValueError, match="at least 2"):
        first_month_kept(1_790_000_000_000_000, MONTHS_MIN - 1)


def test_a_month_begins_at_midnight_utc() -> None:
    """Months are those of the store's partitions."""
    assert month_start(202611) == int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert month_text(202611) == "2026-11"


parts = st.builds(
    ExpiredPart,
    st.binary(min_size=16, max_size=16),
    st.sampled_from(["consent-events", "call-events"]),
    st.integers(0, 11),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    *(st.integers(0, 10**9) for _ in range(3)),
)


@given(
    st.lists(parts, min_size=1, unique_by=lambda one: (one.log_id, one.topic, one.partition)),
    st.randoms(),
)
def test_equal_plans_have_one_entry(some: list[ExpiredPart], draw: object) -> None:
    """Whatever the order of the partitions; the entry is one that the log takes."""
    document = document_of(202009, 202012, some)
    draw.shuffle(some)  # type: ignore[attr-defined]
    assert document_of(202009, 202012, some) == document
    entry = entry_of(document, "cli:root", 1)
    assert entry["content_sha256"] == hashlib.sha256(canonical_text(document).encode()).digest()
    assert entry["entry_id"] == entry_of(document, "cli:other", 2)["entry_id"]
    _, name, fields = entry_of_value(encode("LogEntry", entry))
    assert (name, fields["entry_kind"]) == ("LogEntry", "RETENTION")
    sums = {pair["name"]: pair["value"] for pair in fields["content"]}
    assert sums["rows"] == str(sum(one.rows for one in some))
