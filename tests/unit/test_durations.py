"""ISO 8601 durations."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from consent.durations import after


def _us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("start", "duration", "end"),
    [
        ("2026-01-31T00:00:00", "P1M", "2026-02-28T00:00:00"),
        ("2024-02-29T12:00:00", "P1Y", "2025-02-28T12:00:00"),
        ("2026-11-22T10:00:00", "P1Y2M3DT4H5M6S", "2028-01-25T14:05:06"),
        ("2026-11-22T10:00:00", "P2W", "2026-12-06T10:00:00"),
        ("2026-12-15T00:00:00", "P1M", "2027-01-15T00:00:00"),
    ],
)
def test_calendar_durations_end_on_calendar_days(start: str, duration: str, end: str) -> None:
    """Months end with the month at the latest."""
    assert after(_us(start), duration) == _us(end)


@pytest.mark.parametrize("text", ["", "P", "PT", "2 years", "P1", "-P1Y", "P1Y2", "P9999Y"])
def test_what_is_no_duration_is_none(text: str) -> None:
    """Nothing is guessed."""
    assert after(_us("2026-11-22T10:00:00"), text) is None
