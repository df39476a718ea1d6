"""Compares what the store holds with the log: each offset once, in facts, evidence and blocks."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from consent.blocks import facts_digest
from consent.codec import decode
from projections.clickhouse import Store
from tests.fault.findings import Findings
from tests.fault.reference import UNREADABLE, Place, fingerprint


class HistoryCheck:
    """Reads the store. `events` has, per partition, the fingerprint of every record of the log.

    `sealed` may be called at any time and judges only what blocks cover by then; `whole` is for
    the end, when everything must be there. Dead letters of which `may_be_erased` says so need not
    be; since an erasure may be ahead of what is known of the log, missing ones are told by `whole`.
    """

    def __init__(
        self,
        store: Store,
        log_ids: Mapping[str, bytes],
        findings: Findings,
        may_be_erased: Callable[[Place, int], bool] = lambda _place, _offset: False,
    ) -> None:
        self._store = store
        self._log_ids = log_ids
        self._findings = findings
        self._may_be_erased = may_be_erased
        self._checked: dict[Place, int] = {}

    def sealed(self, events: Mapping[Place, array[int]]) -> int:
        """Check what was sealed since the last time; how many records that is."""
        covered = self.covered()
        count = 0
        for place, known in events.items():
            start = self._checked.get(place, 0)
            end = min(covered.get(place, 0), len(known))
            if end > start:
                self._rows(place, known, start, end)
                self._checked[place] = end
                count += end - start
        return count

    def covered(self) -> dict[Place, int]:
        """Up to where blocks cover each partition."""
        rows = self._store.query_rows(
            "SELECT topic, partition, max(offset_last) + 1 FROM blocks GROUP BY topic, partition"
        )
        return {(topic, int(partition)): int(end) for topic, partition, end in rows}

    def whole(self, events: Mapping[Place, array[int]]) -> None:
        """Check every row of every table."""
        places = {self._log_ids[topic] for topic, _partition in events}
        for table in ("facts", "evidence", "blocks", "dead_letters"):
            self._foreign(table, places)
        for place, known in events.items():
            self._rows(place, known, 0, None)
            self._blocks(place, len(known))

    def announced(self, values: Sequence[bytes]) -> None:
        """Check that `ledger-blocks`, all its values, has every block, and never in two ways."""
        headers: dict[tuple[bytes, int, int], set[bytes]] = {}
        for value in values:
            record, fields = decode(value)
            if record.name == "BlockSealed":
                key = (fields["log_id"], fields["partition"], fields["offset_first"])
                headers.setdefault(key, set()).add(value)
        blocks = self._store.query_rows("SELECT hex(log_id), partition, offset_first FROM blocks")
        sealed = {(bytes.fromhex(log_id), int(part), int(at)) for log_id, part, at in blocks}
        for _log, partition, at in sealed - headers.keys():
            self._add("lost", "a block was never announced", partition=partition, offset=at)
        for _log, partition, at in headers.keys() - sealed:
            self._add("doubled", "a block is announced alone", partition=partition, offset=at)
        for (_log, partition, at), said in headers.items():
            if len(said) > 1:
                self._add(
                    "doubled", "a block is announced in two ways", partition=partition, offset=at
                )

    def _rows(self, place: Place, known: array[int], start: int, end: int | None) -> None:
        """Facts, evidence and dead letters of a stretch of a partition; no `end`: all there is."""
        upper = len(known) if end is None else end
        readable = {offset for offset in range(start, upper) if known[offset] != UNREADABLE}
        unreadable = set(range(start, upper)) - readable
        facts = self._offsets("facts", place, start, end, "event_id, unreadable")
        self._once("facts", place, facts, readable | unreadable)
        for offset, event_id, reason in facts:
            if offset < upper:
                found = UNREADABLE if reason else fingerprint(event_id)
                if found != known[offset]:
                    self._at("lost", "the fact is of another event", "facts", place, offset)
        evidence = self._offsets("evidence", place, start, end, "event_id")
        self._once("evidence", place, evidence, readable)
        for offset, event_id in evidence:
            if offset in readable and fingerprint(event_id) != known[offset]:
                self._at("lost", "the row is of another event", "evidence", place, offset)
        letters = self._offsets("dead_letters", place, start, end, "reason")
        missing = unreadable - {int(row[0]) for row in letters}
        excused = {at for at in missing if end is not None or self._may_be_erased(place, at)}
        self._once("dead_letters", place, letters, unreadable - excused)

    def _once(
        self, table: str, place: Place, rows: Sequence[Sequence[Any]], expected: set[int]
    ) -> None:
        found = Counter(int(row[0]) for row in rows)
        for offset in sorted(expected - found.keys()):
            self._at("lost", "no row", table, place, offset)
        for offset in sorted(found.keys() - expected):
            self._at("doubled", "a row that nothing in the log explains", table, place, offset)
        for offset, count in found.items():
            if count > 1 and offset in expected:
                self._at("doubled", f"{count} rows", table, place, offset)

    def _blocks(self, place: Place, end: int) -> None:
        """Blocks follow each other from 0 to the end, and their digests are those of the facts."""
        rows = self._store.query_rows(
            "SELECT offset_first, offset_last, records, hex(facts_sha256) FROM blocks "
            f"WHERE {self._where(place)} ORDER BY offset_first, offset_last"
        )
        blocks = [(int(first), int(last), int(count)) for first, last, count, _digest in rows]
        edges = [(-1, -1, 0), *blocks, (end, end, 0)]
        for (_first, last, _count), (offset, _last, _records) in pairwise(edges):
            if offset > last + 1:
                self._at("lost", f"no block up to {offset}", "blocks", place, last + 1)
            elif offset < last + 1:
                self._at("doubled", f"blocks overlap up to {last}", "blocks", place, offset)
        facts = self._facts(place)
        for (first, last, count), row in zip(blocks, rows, strict=True):
            if count != last + 1 - first:
                self._at("lost", f"{count} records up to {last}", "blocks", place, first)
            covered = [fact for at in range(first, last + 1) for fact in facts.get(at, ())]
            if facts_digest(covered).hex() != str(row[3]).lower():
                self._at("lost", f"facts up to {last} differ from it", "blocks", place, first)

    def _facts(self, place: Place) -> dict[int, list[bytes]]:
        """The bytes of every fact of a partition, by offset."""
        rows = self._store.query_arrow(
            f"SELECT offset, fact FROM facts WHERE {self._where(place)} ORDER BY offset, fact",
            strings_as_bytes=True,
        )
        found: dict[int, list[bytes]] = {}
        for offset, fact in zip(*(column.to_pylist() for column in rows.columns), strict=True):
            found.setdefault(int(offset), []).append(fact)
        return found

    def _offsets(
        self, table: str, place: Place, start: int, end: int | None, columns: str
    ) -> list[tuple[Any, ...]]:
        upper = "" if end is None else f"AND offset < {end}"
        return self._store.query_rows(
            f"SELECT offset, {columns} FROM {table} "
            f"WHERE {self._where(place)} AND offset >= {start} {upper} ORDER BY offset"
        )

    def _foreign(self, table: str, log_ids: set[bytes]) -> None:
        """Rows of logs that are none of ours."""
        known = ", ".join(f"unhex('{log_id.hex()}')" for log_id in log_ids)
        rows = self._store.query_rows(f"SELECT count() FROM {table} WHERE log_id NOT IN ({known})")
        if rows[0][0]:
            self._add("doubled", "rows of no log", count=int(rows[0][0]), table=table)

    def _where(self, place: Place) -> str:
        topic, partition = place
        return f"log_id = unhex('{self._log_ids[topic].hex()}') AND partition = {partition}"

    def _at(self, kind: str, detail: str, table: str, place: Place, offset: int) -> None:
        topic, partition = place
        self._add(kind, detail, table=table, topic=topic, partition=partition, offset=offset)

    def _add(self, kind: str, detail: str, count: int = 1, **place: Any) -> None:
        self._findings.add(kind, detail, count, **place)
