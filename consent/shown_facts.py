"""The facts of a trace as a person or a program outside reads them: times and dates as text."""

from __future__ import annotations

from typing import Any, Final

from consent.findings import UsedFacts
from consent.instants import date_text, instant_text

_INSTANTS: Final = ("_at", "_until", "_since")
_DATES: Final = ("_on", "_date", "_day")


def shown_facts(used: UsedFacts) -> dict[str, Any]:
    """Values by name; instants in RFC 3339 and dates like 2026-11-24, tuples as lists.

    A fact is an instant or a date by the end of its name.
    """
    return {name: _shown(name, value) for name, value in used}


def _shown(name: str, value: object) -> Any:
    if isinstance(value, tuple):
        return [_shown(name, one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool):
        if name.endswith(_INSTANTS):
            return instant_text(value)
        if name.endswith(_DATES):
            return date_text(value)
    return value
