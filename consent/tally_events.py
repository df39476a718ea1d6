"""Which calls the events of a batch tell of, for the tallies of their campaigns.

In doubt the stricter count: a call is abandoned if its event says so, or if its times show that no
agent was there within two seconds of the greeting's end; it was answered live only if its event
does not deny that. What is no call (a text, a ringless voicemail) and what names no campaign is
not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import polars

from consent.columns import field_symbols
from consent.contracts import RecordContract
from consent.intake import BatchReading, EventGroup, RawRecord
from consent.state import TEST_PREFIX
from consent.tallies import Call, CampaignId

SOURCE_TOPIC: Final = "call-events"
CONNECTED_WITHIN_US: Final = 2_000_000
"""47 CFR 64.1200(a)(7), 16 CFR 310.4(b)(4)(iii)."""

_ALWAYS: Final = ("test", "seller_id", "campaign_id", "call_id", "contact_kind")
_ENDING: Final = (
    "outcome",
    "answered_live",
    "abandoned",
    "greeting_ended_at",
    "agent_connected_at",
)
_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "CallPlaced": _ALWAYS,
    "CallEnded": (*_ALWAYS, *_ENDING),
}
_NO_CALLS: Final = frozenset({"TEXT", "RINGLESS_VOICEMAIL"})
_LIVE: Final = frozenset({"ANSWERED_LIVE", "ABANDONED", "TRANSFERRED", "REFUSED"})


class CallSaid(NamedTuple):
    """What the record at an offset says of one call."""

    offset: int
    campaign: CampaignId
    call_id: str
    call: Call


def tally_columns(record: RecordContract) -> Sequence[str]:
    """Columns that `calls_of` wants in the frames of a reading."""
    return _COLUMNS.get(record.name, ())


def calls_of(reading: BatchReading, records: Sequence[RawRecord]) -> Iterator[CallSaid]:
    """What a batch says of calls of campaigns, in no order that matters.

    Rows that belong to another partition are left out: they are counted there.
    """
    for group in reading.groups:
        if group.record.name in _COLUMNS:
            yield from _calls_of_group(group, records)


def call_of(name: str, event: Mapping[str, Any], effective_at: int, offset: int) -> CallSaid | None:
    """What one event says, from its fields or those of its fact; None if that is not counted."""
    columns = _COLUMNS.get(name)
    if columns is None:
        return None
    return _call(effective_at, offset, tuple(event[column] for column in columns))


def _calls_of_group(group: EventGroup, records: Sequence[RawRecord]) -> Iterator[CallSaid]:
    frame = group.frame
    named = frame.get_column("campaign_id").is_not_null()
    if not named.any():
        return
    symbols = field_symbols(group.record)
    columns = [
        _words(frame.get_column(name), symbols.get(name)) for name in _COLUMNS[group.record.name]
    ]
    rows = zip(*columns, strict=True)
    for row, (values, counts) in enumerate(zip(rows, named.to_list(), strict=True)):
        if counts and row not in group.foreign:
            offset = records[group.indexes[row]].offset
            said = _call(group.effective_at[row], offset, values)
            if said is not None:
                yield said


def _words(column: polars.Series, symbols: Sequence[str] | None) -> list[Any]:
    values = column.to_list()
    return values if symbols is None else [symbols[value] for value in values]


def _call(at: int, offset: int, values: tuple[Any, ...]) -> CallSaid | None:
    test, seller_id, campaign_id, call_id, contact_kind, *ending = values
    if campaign_id is None or contact_kind in _NO_CALLS:
        return None
    live = abandoned = False
    if ending:
        live, abandoned = _answered(*ending)
    campaign = _campaign(test, seller_id, campaign_id)
    return CallSaid(offset, campaign, call_id, Call(at, live, abandoned))


@lru_cache(maxsize=1 << 12)
def _campaign(test: bool, seller_id: str, campaign_id: str) -> CampaignId:
    return CampaignId(TEST_PREFIX + seller_id if test else seller_id, campaign_id)


def _answered(
    outcome: str,
    answered_live: bool | None,
    abandoned: bool | None,
    greeting_ended_at: int | None,
    agent_connected_at: int | None,
) -> tuple[bool, bool]:
    live = outcome in _LIVE if answered_live is None else answered_live
    left = bool(abandoned) or outcome == "ABANDONED"
    if live and greeting_ended_at is not None and agent_connected_at is not None:
        left = left or agent_connected_at - greeting_ended_at > CONNECTED_WITHIN_US
    return live or left, left
