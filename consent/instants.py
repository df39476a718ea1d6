"""Instants and dates as text: RFC 3339 in and out, int microseconds UTC inside.

A time without a zone is refused, never guessed: it may be hours off, and a withdrawal would then
seem older than the grant that it ends.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

MICROSECONDS = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def parse_instant(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time with its zone; ValueError for anything else.

    Digits past the microsecond are cut off. A leap second is refused: it has no place on the
    time line that the ledger keeps.
    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 time with a zone")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, zulu, sign, offset_hours, offset_minutes = match.groups()[6:]
    at = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    micros = (at - _EPOCH) // timedelta(microseconds=1)
    if fraction:
        micros += int(fraction[:6].ljust(6, "0"))
    if zulu is None:
        offset = (int(offset_hours), int(offset_minutes))
        if offset > (23, 59) or offset[1] > 59:
            raise ValueError("no such zone offset")
        shift = (offset[0] * 60 + offset[1]) * 60 * MICROSECONDS
        micros -= shift if sign == "+" else -shift
    return micros


def parse_date(text: str) -> int:
    """Days since 1970-01-01 of a date like 2026-11-22; ValueError for anything else."""
    if _DATE.fullmatch(text) is None:
        raise ValueError("not a date like 2026-11-22")
    return date.fromisoformat(text).toordinal() - _EPOCH_DAY


def instant_text(micros: int) -> str:
    """RFC 3339 in UTC, with a fraction only where there is one.

    Never fails: an instant that no calendar has is written as its number.
    """
    try:
        at = _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return str(micros)
    return at.isoformat().replace("+00:00", "Z")


def date_text(days: int) -> str:
    """A date like 2026-11-22; one that no calendar has is written as its number."""
    try:
        return date.fromordinal(days + _EPOCH_DAY).isoformat()
    except (ValueError, OverflowError):
        return str(days)
