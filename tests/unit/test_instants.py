"""RFC 3339 in and out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.instants import date_text, instant_text, parse_date, parse_instant


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1970-01-01t00:00:01.5z", 1_500_000),
        ("1970-01-01 01:00:00+01:00", 0),
        ("1969-12-31T23:00:00.9999999-01:00", 999_999),
        ("2026-11-22T10:00:00-00:00", 1_795_341_600_000_000),
    ],
)
def test_rfc_3339_times_are_read(text: str, micros: int) -> None:
    """Every form of RFC 3339 with a zone gives its microseconds, cut below them."""
    assert parse_instant(text) == micros


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T10:00:00",
        "2026-11-22",
        "2026-11-22T10:00Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T23:59:60Z",
        "2026-02-29T00:00:00Z",
        "2026-11-22T10:00:00+24:00",
        "2026-11-22T10:00:00+01:60",
        "2026-11-22T10:00:00+0100",
        " 2026-11-22T10:00:00Z",
        "٢٠٢٦-11-22T10:00:00Z",
        "0000-01-01T00:00:00Z",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """A time without a zone, an impossible one, or another format is no instant."""
    with pytest.raises(ValueError, match=r"\S"):
        parse_instant(text)


@given(st.integers(min_value=-(10**15), max_value=10**17))
def test_instants_survive_text(micros: int) -> None:
    """Writing and reading an instant gives it back to the microsecond."""
    assert parse_instant(instant_text(micros)) == micros


@given(st.integers(min_value=-100_000, max_value=1_000_000))
def test_dates_survive_text(days: int) -> None:
    """Writing and reading a date gives it back."""
    assert parse_date(date_text(days)) == days
