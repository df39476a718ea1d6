"""One partition's calls and counts on local disk: a cache, rebuilt from the log where it is gone.

Owns the RocksDB database and what is written to it together: calls by campaign and call id, each
campaign's counts, and up to which offset of which incarnation of the source topic they go. Calls
are dropped some time after they were last written, once no period that is counted can hold them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
from rocksdict import AccessType, DBCompressionType, Options, Rdict, WriteBatch

from consent.tallies import KEPT_DAYS, Call, CampaignCounts, CampaignId, Counts, Period
from projections.suppression_store import ChangelogPlace, StoreUnusable

log = structlog.get_logger(__name__)

_PLACE_KEY: Final = b"\x00place"
_CAMPAIGN: Final = b"\x01"
_CALL: Final = b"\x02"
_NUMBER_BYTES: Final = 4
_LOG_ID_BYTES: Final = 16
_AT_BYTES: Final = 8
_LIVE, _ABANDONED = 1, 2
_TIME_TO_LIVE_S: Final = (KEPT_DAYS + 1) * 86_400
_LOG_FILES_MAX: Final = 2
_LOG_FILE_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class TallyStoreLimits:
    """Memory of one partition's database; a write buffer may be held twice."""

    write_buffer_bytes: int = 4 << 20
    open_files_max: int = 64


CallKey = bytes


@dataclass(slots=True, eq=False)
class StoredCampaign:
    """A campaign's counts, its number in this database, and its earliest call here."""

    number: int
    counts: CampaignCounts
    first_at: int
    _calls: bytes = field(init=False)

    def __post_init__(self) -> None:
        self._calls = _CALL + _number(self.number)

    def call_key(self, call_id: str) -> CallKey:
        """Where a call is kept."""
        return self._calls + call_id.encode()


class TallyStore:
    """Open it for a partition; for one thread at a time."""

    def __init__(self, path: Path, limits: TallyStoreLimits | None = None) -> None:
        self._path = path
        self._limits = limits or TallyStoreLimits()
        self._closed = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rows: Any = self._opened()
        self.place = self._read_place()

    def campaigns(self) -> dict[CampaignId, StoredCampaign]:
        """Every campaign with its counts."""
        return dict(_campaign_of(key, row) for key, row in self._from(_CAMPAIGN))

    def calls(self, campaign: StoredCampaign) -> Iterator[Call]:
        """Every call of a campaign."""
        return (_call_of(row) for _key, row in self._from(_CALL + _number(campaign.number)))

    def get_calls(self, keys: Sequence[CallKey]) -> list[Call | None]:
        """The calls of these keys, in order; None where none is known."""
        if not keys:
            return []
        return [None if row is None else _call_of(row) for row in self._rows[list(keys)]]

    def write(
        self,
        calls: Mapping[CallKey, Call],
        campaigns: Mapping[CampaignId, StoredCampaign],
        place: ChangelogPlace,
    ) -> None:
        """Put calls and campaigns, and note the place; all of it or nothing."""
        batch = WriteBatch(raw_mode=True)
        for key, call in calls.items():
            batch.put(key, _call_row(call))
        for campaign_id, campaign in campaigns.items():
            key = _CAMPAIGN + _number(campaign.number)
            if campaign.counts.known:
                batch.put(key, _campaign_row(campaign_id, campaign))
            else:
                batch.delete(key)
        batch.put(_PLACE_KEY, place.log_id + place.offset_next.to_bytes(8, "big"))
        self._rows.write(batch)
        self.place = place

    def clear(self) -> None:
        """Forget everything."""
        self.close()
        shutil.rmtree(self._path)
        self._rows = self._opened()
        self.place = None

    def close(self) -> None:
        """Release the folder. Closing twice is allowed."""
        if not self._closed:
            self._closed = True
            self._rows.close()

    def _opened(self) -> Rdict:
        try:
            rows = self._database()
        except Exception as problem:
            # RocksDB's own errors have no type; this one is the caller's mistake, or damage.
            if "Corruption" not in str(problem):
                raise StoreUnusable(str(self._path), str(problem)) from problem
            log.warning("local_cache_damaged", path=str(self._path))
            shutil.rmtree(self._path)
            rows = self._database()
        self._closed = False
        return rows

    def _database(self) -> Rdict:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_write_buffer_size(self._limits.write_buffer_bytes)
        options.set_max_write_buffer_number(2)
        options.set_max_open_files(self._limits.open_files_max)
        options.set_keep_log_file_num(_LOG_FILES_MAX)
        options.set_max_log_file_size(_LOG_FILE_BYTES_MAX)
        access = AccessType.read_write().with_ttl(_TIME_TO_LIVE_S)
        return Rdict(str(self._path), options, access_type=access)

    def _read_place(self) -> ChangelogPlace | None:
        stored = self._rows.get(_PLACE_KEY)
        if stored is None:
            return None
        return ChangelogPlace(stored[:_LOG_ID_BYTES], int.from_bytes(stored[_LOG_ID_BYTES:], "big"))

    def _from(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key, row in self._rows.items(from_key=prefix):
            if not key.startswith(prefix):
                return
            yield key, row


def _number(number: int) -> bytes:
    return number.to_bytes(_NUMBER_BYTES, "big")


def _call_row(call: Call) -> bytes:
    flags = _LIVE * call.live + _ABANDONED * call.abandoned
    return call.at.to_bytes(_AT_BYTES, "big", signed=True) + bytes((flags,))


def _call_of(row: bytes) -> Call:
    flags = row[_AT_BYTES]
    at = int.from_bytes(row[:_AT_BYTES], "big", signed=True)
    return Call(at, bool(flags & _LIVE), bool(flags & _ABANDONED))


def _campaign_row(campaign_id: CampaignId, campaign: StoredCampaign) -> bytes:
    counts = campaign.counts
    return json.dumps(
        [
            *campaign_id,
            campaign.first_at,
            counts.counted_from,
            [[*period, *found] for period, found in counts.counts.items()],
            [[*period, *found] for period, found in counts.unlisted.items()],
        ]
    ).encode()


def _campaign_of(key: bytes, row: bytes) -> tuple[CampaignId, StoredCampaign]:
    seller_id, campaign_id, first_at, counted_from, *found = json.loads(row)
    counts, unlisted = (
        {Period(kind, start): Counts(*numbers) for kind, start, *numbers in rows} for rows in found
    )
    number = int.from_bytes(key[len(_CAMPAIGN) :], "big")
    campaign = StoredCampaign(number, CampaignCounts(counted_from, counts, unlisted), first_at)
    return CampaignId(seller_id, campaign_id), campaign
