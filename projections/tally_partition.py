"""One partition's tallies while it is ours: counting, and what has to be written of them.

Knows the local cache and the topic's records; does nothing to the topic. Counting the same records
again changes nothing, so neither does a crash between cache and topic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from consent.errors import Unreadable
from consent.tallies import (
    DAY_US,
    KEPT_US,
    NO_CALLS,
    Call,
    CampaignCounts,
    CampaignId,
    Counts,
    Period,
    merge_calls,
    period_of,
)
from consent.tally_events import CallSaid
from consent.tally_records import MARK, Tally, decode_tally, encode_tally, newest
from projections.suppression_log import Row
from projections.suppression_store import ChangelogPlace
from projections.tally_store import CallKey, StoredCampaign, TallyStore

CountedFrom = Callable[[CampaignId, int], int]
"""From when a campaign is to be counted, given its earliest call in this partition."""

_Places = dict[bytes, tuple[CampaignId, Period]]


class PartitionTallies:
    """Counts of one partition of the log `log_id`. A cache of another log is emptied."""

    def __init__(self, number: int, store: TallyStore, log_id: bytes) -> None:
        self.number = number
        self._store = store
        self._log_id = log_id
        if store.place is not None and store.place.log_id != log_id:
            store.clear()
        self._campaigns = store.campaigns()
        self._numbers = max((one.number for one in self._campaigns.values()), default=0)
        self._unwritten: set[CampaignId] = set()
        self._unmarked: set[CampaignId] = set()
        self._written: _Places = {}
        self._left_over: dict[bytes, int] = {}
        self._tombstones: list[bytes] = []
        self._newest_at = 0

    @property
    def cold(self) -> bool:
        """True if nothing of this log was counted here before."""
        return self._store.place is None

    @property
    def offset_next(self) -> int:
        """Everything below is counted; 0 if nothing is."""
        place = self._store.place
        return 0 if place is None else place.offset_next

    def first_calls(self) -> list[tuple[CampaignId, int]]:
        """Every campaign with its earliest call here."""
        return [(name, campaign.first_at) for name, campaign in self._campaigns.items()]

    def close(self) -> None:
        """Release the cache."""
        self._store.close()

    def fold(
        self, said: Iterable[CallSaid], offset_next: int, recorded_at: int, wanted: CountedFrom
    ) -> None:
        """Count the calls of all records from where counting is, up to `offset_next`.

        `recorded_at` is the broker time of the last one: what is too old by it is not counted.
        """
        self._forget_old(recorded_at)
        start, oldest = self.offset_next, self._newest_at - KEPT_US
        touched: dict[CampaignId, StoredCampaign] = {}
        together: dict[CallKey, Call] = {}
        homes: dict[CallKey, CampaignCounts] = {}
        for offset, name, call_id, call in said:
            if offset < start or call.at < oldest:
                continue
            campaign = touched.get(name)
            if campaign is None:
                campaign = touched[name] = self._campaign(name, call.at, wanted)
            if call.at < campaign.first_at:
                campaign.first_at = call.at
            key = campaign.call_key(call_id)
            if key in together:
                together[key] = merge_calls(together[key], call)
            else:
                together[key], homes[key] = call, campaign.counts
        if not together and self._store.place is not None and start >= offset_next:
            return
        self._count(together, homes, touched, offset_next)
        self.settle(wanted, touched)

    def _count(
        self,
        together: Mapping[CallKey, Call],
        homes: Mapping[CallKey, CampaignCounts],
        touched: Mapping[CampaignId, StoredCampaign],
        offset_next: int,
    ) -> None:
        calls: dict[CallKey, Call] = {}
        known = self._store.get_calls(list(together))
        for (key, call), held in zip(together.items(), known, strict=True):
            now = homes[key].take(held, call)
            if now != held:
                calls[key] = now
        self._unwritten.update(touched)
        place = ChangelogPlace(self._log_id, max(offset_next, self.offset_next))
        self._store.write(calls, touched, place)

    def _campaign(self, name: CampaignId, at: int, wanted: CountedFrom) -> StoredCampaign:
        campaign = self._campaigns.get(name)
        if campaign is None:
            self._numbers += 1
            campaign = StoredCampaign(self._numbers, CampaignCounts(wanted(name, at)), at)
            self._campaigns[name] = campaign
            self._unmarked.add(name)
        return campaign

    def settle(
        self, wanted: CountedFrom, among: Mapping[CampaignId, StoredCampaign] | None = None
    ) -> None:
        """Count campaigns from where they are to be counted from now; all, or those given."""
        moved: dict[CampaignId, StoredCampaign] = {}
        for name, campaign in (self._campaigns if among is None else among).items():
            counted_from = wanted(name, campaign.first_at)
            if counted_from != campaign.counts.counted_from:
                oldest = self._newest_at - KEPT_US
                calls = (call for call in self._store.calls(campaign) if call.at >= oldest)
                campaign.counts.count_from(counted_from, calls)
                moved[name] = campaign
        if moved:
            self._unwritten.update(moved)
            self._unmarked.update(moved)
            place = ChangelogPlace(self._log_id, self.offset_next)
            self._store.write({}, moved, place)

    def adopt(self, best: Mapping[bytes, Tally]) -> None:
        """Count what the topic's tallies hold beyond what is counted here.

        For a cache that lost a part of its log: what nobody can read any more stays counted.
        """
        marks = _marks_in(best)
        touched: dict[CampaignId, StoredCampaign] = {}
        for tally in best.values():
            name, period = tally.campaign, tally.period
            if period.kind == MARK or not _current(period, marks.get(name)):
                continue
            campaign = self._campaigns.get(name)
            counts = {} if campaign is None else campaign.counts.counts
            more = _difference(tally.counts, counts.get(period, NO_CALLS))
            if more != NO_CALLS:
                at = marks.get(name, period.start)
                campaign = self._campaign(name, at, lambda _name, first_at: first_at)
                campaign.first_at = min(campaign.first_at, at)
                campaign.counts.add_unlisted(period, more)
                touched[name] = campaign
        if touched:
            self._unwritten.update(touched)
            place = ChangelogPlace(self._log_id, self.offset_next)
            self._store.write({}, touched, place)

    def compare(self, last: Mapping[bytes, Tally]) -> None:
        """Note what has to be written, given the last records of the topic's partition."""
        for name, campaign in self._campaigns.items():
            for period, counts in campaign.counts.counts.items():
                key = self._tally(name, period, counts).key
                self._written[key] = (name, period)
                if key not in last or last[key].counts != counts:
                    campaign.counts.changed.add(period)
                    self._unwritten.add(name)
            mark = self._mark(name, campaign)
            self._written[mark.key] = (name, mark.period)
            if mark.key not in last or last[mark.key].period != mark.period:
                self._unmarked.add(name)
        for key, tally in last.items():
            if tally.period.kind != MARK and key not in self._written:
                self._foreign(key, tally)

    def seen(self, key: bytes, value: bytes | None) -> None:
        """Take note of a record that somebody else appended; what it got wrong is written again."""
        tally = _readable(value)
        if tally is None:
            name, period = self._written.get(key, (None, None))
            if name is not None and period is not None:
                self._write_again(name, period)
            return
        campaign = self._campaigns.get(tally.campaign)
        if tally.period.kind == MARK:
            if campaign is not None and campaign.counts.counted_from != tally.period.start:
                self._unmarked.add(tally.campaign)
        elif campaign is None or tally.period not in campaign.counts.counts:
            self._foreign(key, tally)
        elif campaign.counts.counts[tally.period] != tally.counts:
            self._write_again(tally.campaign, tally.period)

    def _foreign(self, key: bytes, tally: Tally) -> None:
        """A period that no call of ours lies in: of a campaign of which we know, it has none."""
        campaign = self._campaigns.get(tally.campaign)
        if campaign is None:
            self._left_over[key] = tally.period.end
        elif tally.counts != NO_CALLS:
            campaign.counts.add_empty(tally.period)
            self._write_again(tally.campaign, tally.period)

    def _write_again(self, name: CampaignId, period: Period) -> None:
        campaign = self._campaigns.get(name)
        if campaign is None:
            return
        if period.kind == MARK:
            self._unmarked.add(name)
        elif period in campaign.counts.counts:
            campaign.counts.changed.add(period)
            self._unwritten.add(name)

    def take_rows(self) -> list[Row]:
        """Records to append now; the caller must append them, or end."""
        rows: list[Row] = []
        for name in sorted(self._unmarked):
            mark = self._mark(name, self._campaigns[name])
            self._written[mark.key] = (name, mark.period)
            rows.append((mark.key, encode_tally(mark)))
        for name in sorted(self._unwritten):
            campaign = self._campaigns[name].counts
            counts = campaign.counts
            for period in sorted(campaign.changed):
                tally = self._tally(name, period, counts[period])
                self._written[tally.key] = (name, period)
                rows.append((tally.key, encode_tally(tally)))
            campaign.changed.clear()
        rows += [(key, None) for key in self._tombstones]
        self._tombstones = []
        self._unmarked.clear()
        self._unwritten.clear()
        return rows

    def _tally(self, name: CampaignId, period: Period, counts: Counts) -> Tally:
        return Tally(name, period, self.number, self._log_id, self.offset_next - 1, counts)

    def _mark(self, name: CampaignId, campaign: StoredCampaign) -> Tally:
        return self._tally(name, Period(MARK, campaign.counts.counted_from), NO_CALLS)

    def _forget_old(self, recorded_at: int) -> None:
        """Once a day by the log's time, drop periods that have been over for long."""
        before, self._newest_at = self._newest_at, max(self._newest_at, recorded_at)
        if before // DAY_US == self._newest_at // DAY_US:
            return
        oldest = self._newest_at - KEPT_US
        changed: dict[CampaignId, StoredCampaign] = {}
        for name, campaign in list(self._campaigns.items()):
            over = campaign.counts.forget_before(oldest)
            for period in over:
                key = self._tally(name, period, NO_CALLS).key
                self._written.pop(key, None)
                self._tombstones.append(key)
            if over:
                changed[name] = campaign
            if not campaign.counts.known:
                del self._campaigns[name]
                self._unmarked.discard(name)
                self._unwritten.discard(name)
        ended = [key for key, end in self._left_over.items() if end <= oldest]
        for key in ended:
            del self._left_over[key]
        self._tombstones += ended
        if changed:
            place = ChangelogPlace(self._log_id, self.offset_next)
            self._store.write({}, changed, place)


def _marks_in(best: Mapping[bytes, Tally]) -> dict[CampaignId, int]:
    return {
        tally.campaign: tally.period.start for tally in best.values() if tally.period.kind == MARK
    }


def _current(period: Period, mark: int | None) -> bool:
    """False for a period of thirty days of a time when the campaign was counted from elsewhere."""
    return mark is None or period_of(period.kind, period.start, mark) == period


def _difference(there: Counts, here: Counts) -> Counts:
    return Counts(*(max(0, one - other) for one, other in zip(there, here, strict=True)))


def counted_as_marked(best: Mapping[bytes, Tally], wanted: CountedFrom) -> CountedFrom:
    """As `wanted`, but where the topic's partition has a mark of a campaign, as that says."""
    marks = _marks_in(best)
    return lambda name, first_at: marks[name] if name in marks else wanted(name, first_at)


def merged_rows(
    rows: Iterable[tuple[bytes, bytes | None]], log_id: bytes
) -> tuple[dict[bytes, Tally], dict[bytes, Tally]]:
    """Records of a partition as its readers hold them, and the last record of each key.

    What can't be read is left out: it is written again, or nobody's.
    """
    best: dict[bytes, Tally] = {}
    last: dict[bytes, Tally] = {}
    for key, value in rows:
        said = _readable(value)
        if value is None:
            best.pop(key, None)
        if said is None:
            last.pop(key, None)
            continue
        last[key] = said
        best[key] = newest(best.get(key), said, log_id)
    return best, last


def _readable(value: bytes | None) -> Tally | None:
    try:
        return None if value is None else decode_tally(value)
    except Unreadable:
        return None
