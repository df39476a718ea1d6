"""What is sealed before evidence past its retention goes: which month, how much, what stays.

The document says it per log partition; an entry of the proof log holds its digest and its sums.
Neither says anything of a person.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

VERSION: Final = 1
ENTRY_KIND: Final = "RETENTION"
MONTHS_MIN: Final = 2
"""Fewer would take away what the counts of campaigns' calls, of the last 36 days, rest on."""

_MONTHS_OF_YEAR: Final = 12


@dataclass(frozen=True, slots=True)
class ExpiredPart:
    """One log partition's share of a month: its offsets, the rows that go, and those that stay.

    `in_use`: proof of consent of people who were called since. `under_hold`: a legal hold.
    """

    log_id: bytes
    topic: str
    partition: int
    offset_first: int
    offset_last: int
    rows: int
    in_use: int
    under_hold: int


def month_text(month: int) -> str:
    """The month 202611 as 2026-11."""
    return f"{month // 100:04d}-{month % 100:02d}"


def month_start(month: int) -> int:
    """First instant of a month such as 202611, in µs."""
    start = datetime(month // 100, month % 100, 1, tzinfo=UTC)
    return int(start.timestamp()) * 1_000_000


def first_month_kept(now: int, months: int) -> int:
    """The oldest month of which everything is kept: the one now and `months` whole ones before it.

    `now` in µs. ValueError for fewer months than MONTHS_MIN.
    """
    if months < MONTHS_MIN:
        raise ValueError(f"{months} months: at least {MONTHS_MIN} are kept")
    today = datetime.fromtimestamp(now // 1_000_000, UTC)
    index = today.year * _MONTHS_OF_YEAR + today.month - 1 - months
    return index // _MONTHS_OF_YEAR * 100 + index % _MONTHS_OF_YEAR + 1


def document_of(month: int, kept_from: int, parts: Sequence[ExpiredPart]) -> dict[str, Any]:
    """What is to go of a month, as JSON content; `kept_from` is the oldest month kept whole."""
    ordered = sorted(parts, key=lambda one: (one.log_id, one.topic, one.partition))
    return {
        "retention": "evidence",
        "version": VERSION,
        "month": month_text(month),
        "kept_from": month_text(kept_from),
        "rows": sum(one.rows for one in ordered),
        "in_use": sum(one.in_use for one in ordered),
        "under_hold": sum(one.under_hold for one in ordered),
        "parts": [
            {
                "log_id": one.log_id.hex(),
                "topic": one.topic,
                "partition": one.partition,
                "offset_first": one.offset_first,
                "offset_last": one.offset_last,
                "rows": one.rows,
                "in_use": one.in_use,
                "under_hold": one.under_hold,
            }
            for one in ordered
        ],
    }


def canonical_text(document: Mapping[str, Any]) -> str:
    """The text whose SHA-256 is sealed: JSON with sorted names, without spaces."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def entry_of(document: Mapping[str, Any], who: str, at: int) -> dict[str, Any]:
    """Fields of the LogEntry that seals a document; its id is that of the document.

    `who` had it done, `at` in µs.
    """
    digest = hashlib.sha256(canonical_text(document).encode()).digest()
    names = ("retention", "month", "kept_from", "rows", "in_use", "under_hold")
    content = {"who": who} | {name: str(document[name]) for name in names}
    return {
        "entry_id": str(uuid5(NAMESPACE_URL, f"retention:{digest.hex()}")),
        "at": at,
        "entry_kind": ENTRY_KIND,
        "subject": None,
        "content_sha256": digest,
        "content": [{"name": name, "value": value} for name, value in content.items()],
    }
