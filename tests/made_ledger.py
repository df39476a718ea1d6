"""A sealed ledger without brokers or workers: records go through the product's own steps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consent.blocks import Block, Columns, CutterLimits, closed, cut, limits_entry, opened
from consent.codec import encode
from consent.facts import LogPartition
from consent.log_entries import BLOCK
from consent.notes import SigningKey
from consent.privacy import Keys
from projections.clickhouse import Store
from projections.history_blocks import Blocks, SealedBlock, sealed_block
from projections.history_rows import BlockWork, rows_of
from projections.history_store import HistoryStore
from projections.ledger_log import Judgement, LedgerLog
from projections.log_folder import LogFolder
from projections.log_store import LogStore

LOG_KEY = SigningKey("ledger.example/log", b"k" * 32)
KEYS = Keys(history=b"h" * 32, suppression=b"s" * 32, dead_letters=b"d" * 32)


@dataclass(frozen=True, slots=True)
class MadeRecord:
    """A record as the consumer gives it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    timestamp_type: int = 1
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class MadeLedger:
    """History in a store, and its log in a folder; `notes` are all checkpoints that were signed."""

    store: Store
    folder: Path
    limits: CutterLimits = field(default_factory=lambda: CutterLimits(records_max=2_000))
    partitions: int = 2
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = LedgerLog(LogFolder(self.folder), LOG_KEY)
        self.log.open()
        self._history = HistoryStore(self.store)
        self._heads: dict[tuple[bytes, int], bytes] = {}
        self._nonce = os.urandom(16)
        entry = limits_entry(self.limits, 1_790_000_000_000_000)
        if not self.log.size:
            self._history.keep_entry(entry)
            assert self.log.take(encode("LogEntry", entry)) is Judgement.APPENDED

    def record(self, origin: LogPartition, records: Sequence[MadeRecord]) -> list[SealedBlock]:
        """Record a partition's next records; all of them are in closed blocks afterwards."""
        sealed = []
        for block, part in self._cut(records):
            sealed.append(self._seal(origin, block, part))
        return sealed

    def checkpoint(self, at: int = 1_790_000_000_000_000, cosign: SigningKey | None = None) -> None:
        """Sign what was recorded since the last time; `cosign` is a witness's key."""
        publication = self.log.publish()
        note = publication.note
        if cosign is not None:
            note = self.log.cosigned([cosign.signature(note.text, at // 1_000_000)])
        kept = LogStore(self.store)
        kept.keep_positions(publication)
        kept.keep(publication.checkpoint, note, at)
        self.notes.append(note.encoded)

    def _cut(self, records: Sequence[MadeRecord]) -> Iterable[tuple[Block, Sequence[MadeRecord]]]:
        columns = Columns(
            [one.offset for one in records],
            [one.timestamp * 1000 for one in records],
            [len(one.key or b"") + len(one.value or b"") for one in records],
        )
        cutting = cut(opened(records[0].offset), columns, self.limits)
        start = 0
        for block, end in zip(cutting.blocks, cutting.ends, strict=True):
            yield block, records[start:end]
            start = end
        yield closed(cutting.tail), records[start:]

    def _seal(
        self, origin: LogPartition, block: Block, records: Sequence[MadeRecord]
    ) -> SealedBlock:
        times = [one.timestamp * 1000 for one in records]
        work = BlockWork(block, origin, self.partitions, records, times)
        rows = rows_of(work, KEYS, self._nonce)
        for table in (rows.evidence, *rows.side, rows.facts):
            self._history.insert(origin, block, table)
        key = (origin.log_id, origin.partition)
        sealed = sealed_block(block, rows.sum, self._heads.get(key), 1)
        Blocks(self.store).seal(origin, sealed)
        self._heads[key] = sealed.sha256(origin)
        header: dict[str, Any] = sealed.header(origin)
        assert self.log.take(encode(BLOCK, header)) is Judgement.APPENDED
        return sealed
