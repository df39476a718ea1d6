"""Which calls the events of a batch tell of, for the tallies of their campaigns.

In doubt the stricter count: a call is abandoned if its event says so, or if its times show that no
agent was there within two seconds of the greeting's end; it was answered live only if its event
does not deny that. What is no call (a text, a ringless voicemail) and what names no campaign is
not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import repeat, starmap
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
_ENDED: Final = "CallEnded"
_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "CallPlaced": _ALWAYS,
    _ENDED: (*_ALWAYS, *_ENDING),
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
    if name not in _COLUMNS or event["campaign_id"] is None:
        return None
    if event["contact_kind"] in _NO_CALLS:
        return None
    live = abandoned = False
    if name == _ENDED:
        live, abandoned = _answered(*(event[column] for column in _ENDING))
    campaign = _campaign(event["test"], event["seller_id"], event["campaign_id"])
    return CallSaid(offset, campaign, event["call_id"], Call(effective_at, live, abandoned))


def _calls_of_group(group: EventGroup, records: Sequence[RawRecord]) -> Iterator[CallSaid]:
    frame = group.frame
    if not frame.get_column("campaign_id").is_not_null().any():
        return
    symbols = field_symbols(group.record)

    def words(names: Sequence[str]) -> list[list[Any]]:
        return [_words(frame.get_column(name), symbols.get(name)) for name in names]

    ends: Iterable[tuple[bool, bool]] = repeat((False, False))
    if group.record.name == _ENDED:
        ends = starmap(_answered, zip(*words(_ENDING), strict=True))
    rows = zip(group.effective_at, group.indexes, ends, *words(_ALWAYS), strict=False)
    foreign = group.foreign
    for row, (at, index, end, test, seller_id, name, call_id, contact_kind) in enumerate(rows):
        if name is None or contact_kind in _NO_CALLS or row in foreign:
            continue
        campaign = _campaign(test, seller_id, name)
        yield CallSaid(records[index].offset, campaign, call_id, Call(at, *end))


def _words(column: polars.Series, symbols: Sequence[str] | None) -> list[Any]:
    values = column.to_list()
    return values if symbols is None else [symbols[value] for value in values]


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
