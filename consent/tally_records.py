"""Campaign tallies as records of their topic, and what readers make of all partitions' records.

Beside its counts, a partition says in a mark from when a campaign's periods of thirty days are
counted there: the declared start, or else the earliest call that any partition has seen. Marks are
records with the period kind UNKNOWN and that instant as the period's start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from consent.codec import decode, encode
from consent.errors import Unreadable
from consent.tallies import (
    NO_CALLS,
    PERIOD_KINDS,
    CampaignId,
    Counts,
    Period,
    period_of,
)

RECORD: Final = "CampaignTally"
MARK: Final = "UNKNOWN"
_MARK_PART: Final = f"/{MARK}/".encode()


class Tally(NamedTuple):
    """What a partition says of one period, up to `offset_last` of one incarnation of its log.

    With the kind MARK, the period's start is the instant that the campaign is counted from.
    """

    campaign: CampaignId
    period: Period
    partition: int
    log_id: bytes
    offset_last: int
    counts: Counts = NO_CALLS

    @property
    def key(self) -> bytes:
        """Key of its record; a partition has one mark of a campaign, wherever it counts from."""
        start = 0 if self.period.kind == MARK else self.period.start
        return tally_key(self.campaign, Period(self.period.kind, start), self.partition)


def tally_key(campaign: CampaignId, period: Period, partition: int) -> bytes:
    """Key of a record of the topic; slashes inside ids are %2F, percent signs %25."""
    seller, name = map(_escaped, campaign)
    return f"{seller}/{name}/{period.kind}/{period.start}/{partition}".encode()


def may_be_mark(key: bytes) -> bool:
    """False for a key that is no mark's, without looking closely."""
    return _MARK_PART in key


@lru_cache(maxsize=1 << 12)
def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("/", "%2F")


def encode_tally(tally: Tally) -> bytes:
    """A tally as it is in the topic."""
    seller_id, campaign_id = tally.campaign
    return encode(
        RECORD,
        {
            "seller_id": seller_id,
            "campaign_id": campaign_id,
            "period_start": tally.period.start,
            "partition": tally.partition,
            "log_id": tally.log_id,
            "offset_last": tally.offset_last,
            **tally.counts._asdict(),
            "period_kind": tally.period.kind,
        },
    )


def decode_tally(value: bytes) -> Tally:
    """A record's value; Unreadable for one that this release does not know."""
    record, fields = decode(value)
    if record.name != RECORD:
        raise Unreadable("WRONG_SCHEMA_ID", f"{record.name} is no {RECORD}")
    return _tally_of(fields)


def _tally_of(fields: Mapping[str, Any]) -> Tally:
    return Tally(
        CampaignId(fields["seller_id"], fields["campaign_id"]),
        Period(fields["period_kind"], fields["period_start"]),
        fields["partition"],
        fields["log_id"],
        fields["offset_last"],
        Counts(fields["live_answered"], fields["abandoned"], fields["attempts"]),
    )


def newest(held: Tally | None, said: Tally, log_id: bytes) -> Tally:
    """Which of two tallies of one key holds: counts of the log that is there now, then of more of
    it, then what was written last. So a former owner that writes late lowers nothing.
    """
    if held is None:
        return said
    return max(said, held, key=lambda tally: (tally.log_id == log_id, tally.offset_last))


@dataclass(frozen=True, slots=True)
class PeriodTally:
    """Counts of all partitions for one period of a campaign."""

    period: Period
    counts: Counts


_Slot = tuple[int, str, int]
"""Partition, period kind, and start; 0 for a mark."""


class TallyBook:
    """Everything that the topic says, merged; `log_id` is that of the source topic now.

    `version` grows whenever an instant to count from may have changed.
    """

    def __init__(self, log_id: bytes) -> None:
        self._log_id = log_id
        self._held: dict[CampaignId, dict[_Slot, Tally]] = {}
        self._slots: dict[bytes, tuple[CampaignId, _Slot]] = {}
        self.version = 0

    def take(self, key: bytes, value: bytes | None) -> None:
        """Take one record in; Unreadable for one that this release does not know.

        Tombstones are written only for periods that are long over.
        """
        if value is None:
            self._forget(key)
            return
        said = decode_tally(value)
        slot = _slot_of(said)
        held = self._held.setdefault(said.campaign, {})
        known = held.get(slot)
        kept = held[slot] = newest(known, said, self._log_id)
        self._slots[key] = (said.campaign, slot)
        if said.period.kind == MARK and (known is None or known.period != kept.period):
            self.version += 1

    def _forget(self, key: bytes) -> None:
        campaign, slot = self._slots.pop(key, (None, None))
        if campaign is None or slot is None:
            return
        held = self._held[campaign]
        held.pop(slot, None)
        if not held:
            del self._held[campaign]

    def counted_from(self, campaign: CampaignId) -> int | None:
        """From when an undeclared campaign is counted: its earliest known call, None before one."""
        marks = (tally.period.start for tally in self._marks(campaign))
        return min(marks, default=None)

    def tallies(
        self, campaign: CampaignId, at: int, declared: int | None = None
    ) -> tuple[PeriodTally, ...]:
        """Counts of the periods that an instant lies in, one of each kind.

        `declared` is the campaign's declared start. A partition that still counts from another
        instant is taken as it is, for the moment that it needs to count anew.
        """
        held = self._held.get(campaign, {})
        counted_from = self.counted_from(campaign) if declared is None else declared
        if counted_from is None:
            # Its first call would begin it.
            counted_from = at
        behind = {
            tally.partition: tally.period.start
            for tally in self._marks(campaign)
            if tally.period.start != counted_from
        }
        partitions = {partition for partition, _kind, _start in held}
        found = []
        for kind in PERIOD_KINDS:
            total = NO_CALLS
            for partition in partitions:
                start = period_of(kind, at, behind.get(partition, counted_from)).start
                tally = held.get((partition, kind, start))
                if tally is not None:
                    total = Counts(*map(sum, zip(total, tally.counts, strict=True)))
            found.append(PeriodTally(period_of(kind, at, counted_from), total))
        return tuple(found)

    def _marks(self, campaign: CampaignId) -> Iterator[Tally]:
        held = self._held.get(campaign, {})
        return (tally for slot, tally in held.items() if slot[1] == MARK)


def _slot_of(tally: Tally) -> _Slot:
    kind, start = tally.period
    return tally.partition, kind, 0 if kind == MARK else start
