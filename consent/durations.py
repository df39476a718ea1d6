"""ISO 8601 durations, as a validity is stated to a person."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta
from typing import Final

_DURATION: Final = re.compile(
    r"P(?=[0-9T])(?:([0-9]{1,4})Y)?(?:([0-9]{1,5})M)?(?:([0-9]{1,5})W)?(?:([0-9]{1,6})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,6})H)?(?:([0-9]{1,8})M)?(?:([0-9]{1,9})S)?)?"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def after(at: int, duration: str) -> int | None:
    """The instant, in µs, a duration after another one; None if it is no ISO 8601 duration.

    Years and months are calendar ones in UTC: a month after 31 January is the last of February.
    """
    found = _DURATION.fullmatch(duration)
    if found is None:
        return None
    years, months, weeks, days, hours, minutes, seconds = (
        int(part or 0) for part in found.groups()
    )
    try:
        start = _EPOCH + timedelta(microseconds=at)
        month_index = start.year * 12 + start.month - 1 + years * 12 + months
        year, month = divmod(month_index, 12)
        last_day = calendar.monthrange(year, month + 1)[1]
        moved = start.replace(year=year, month=month + 1, day=min(start.day, last_day))
        moved += timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    except (OverflowError, ValueError):
        return None
    return (moved - _EPOCH) // _MICROSECOND
