"""Telephone numbers in their one canonical form, E.164 with a leading plus."""

from __future__ import annotations

import re
from typing import Final

import phonenumbers

from consent.errors import Rejected

_CANONICAL: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_CANONICAL_BYTES: Final = re.compile(rb"\+[1-9][0-9]{6,14}")
DIGITS_THAT_IDENTIFY: Final = 9
"""Trailing digits searched for where a number must not be; its national forms share them."""


def is_canonical(number: str) -> bool:
    """True for plus, 7 to 15 ASCII digits, the first not 0."""
    return _CANONICAL.fullmatch(number) is not None


def is_canonical_key(key: bytes) -> bool:
    """The same of a record's key."""
    return _CANONICAL_BYTES.fullmatch(key) is not None


def canonical_number(text: str, region: str | None = None) -> str:
    """E.164 form of a number as a person or a system wrote it.

    `region` (ISO 3166-1 alpha-2) is needed for national forms; without it only forms that begin
    with a plus are unambiguous. Rejected otherwise; the text itself is never repeated.
    """
    stripped = text.strip()
    if is_canonical(stripped):
        return stripped
    try:
        parsed = phonenumbers.parse(stripped, region)
    except phonenumbers.NumberParseException:
        parsed = None
    if parsed is None or parsed.extension or not _whole(parsed):
        remedy = "Send E.164: a plus, the country code and the number, e.g. +14155550123"
        if region is None:
            remedy += "; national forms need a default region"
        raise Rejected("NUMBER_INVALID", "number", f"{len(text)} characters", remedy)
    formatted = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    return str(formatted)


def _whole(parsed: phonenumbers.PhoneNumber) -> bool:
    """False also for a local number without its area code, which many numbers share."""
    reason = phonenumbers.is_possible_number_with_reason(parsed)
    return bool(reason == phonenumbers.ValidationResult.IS_POSSIBLE)


def region_of(number: str) -> str | None:
    """ISO 3166-1 alpha-2 region of a canonical number, None where no one country has it."""
    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        return None
    region = phonenumbers.region_code_for_number(parsed)
    if region is None and parsed.country_code is not None:
        region = phonenumbers.region_code_for_country_code(parsed.country_code)
    return None if region in (None, "ZZ", "001") else str(region)


def identifying_digits(number: str) -> str:
    """Trailing digits by which a number is recognised in any of its written forms."""
    return number.lstrip("+")[-DIGITS_THAT_IDENTIFY:]
