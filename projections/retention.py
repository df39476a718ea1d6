"""Takes evidence out of the store once it is past its retention, whole months, sealed ones only.

Order, for each month: the document of what is to go is kept, and the entry that names it; the log
has that entry under a signed checkpoint; what states had from the evidence is carried over; the
rows are deleted, really. Ended in the middle, it goes on where it was when it is run again:
nothing goes that is not carried, and nothing is carried twice. Facts stay, so proofs hold.

Held back: evidence of people under a legal hold, and proof of consent of people who were called in
the months that are kept. Only records keyed by number are looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow
import structlog

from consent.contracts import contracts
from consent.erasure import PLACED, RELEASED, HoldEvent, active_holds
from consent.fact_columns import NO_SUBJECT
from consent.facts import LogPartition
from consent.retention_entries import (
    ExpiredPart,
    canonical_text,
    document_of,
    entry_of,
    first_month_kept,
    month_start,
)
from consent.retention_rules import CONSENT_TOPIC
from projections.carried_states import TABLE as CARRIED
from projections.carried_states import LogRange, keep_carried, subjects_carried
from projections.clickhouse import Store
from projections.erasures import Erasures, hold_of_fact
from projections.errors import StoreUnavailable
from projections.log_store import keep_entry_once
from projections.replay import HistoryReplay
from projections.state_folding import FoldingConfig, FoldingReport, StateFolding

log = structlog.get_logger(__name__)

_RANGES_AT_ONCE: Final = 100
# A deletion looks up what was carried, which replicas have alike, and a server can't know that.
_DELETION: Final = {"mutations_sync": 0, "allow_nondeterministic_mutations": 1}
_LOOK_AGAIN_S: Final = 0.1

_RANGES: Final = """
SELECT month, hex(log_id), topic, partition, min(offset_first), max(offset_last) FROM blocks
WHERE month < {kept_from:UInt32} AND topic IN {topics:Array(String)}
GROUP BY month, log_id, topic, partition ORDER BY month, topic, partition, 2
"""
_HOLDS: Final = """
SELECT hex(subject), hex(fact), toUnixTimestamp64Micro(effective_at) FROM facts
WHERE topic = 'privacy-requests' AND unreadable = '' AND event_name IN {names:Array(String)}
"""
_WITHIN: Final = """
log_id = unhex({log_id:String}) AND partition = {partition:Int32}
    AND offset BETWEEN {first:Int64} AND {last:Int64}
"""
_HELD: Final = "subject IN (SELECT toFixedString(unhex(arrayJoin({held:Array(String)})), 16))"
_CALLED: Final = """
SELECT subject FROM facts WHERE topic = 'call-events' AND event_name = 'CallPlaced'
    AND recorded_at >= fromUnixTimestamp64Micro({since})
"""
_IN_USE: Final = (
    "{topic:String} = 'consent-events' AND subject IN ("
    + _CALLED.replace("{since}", "{since:Int64}")
    + ")"
)
_HELD_AND_CARRIED: Final = f"""
SELECT DISTINCT hex(subject) FROM {CARRIED}
WHERE log_id = unhex({{log_id:String}}) AND partition = {{partition:Int32}}
    AND offset_first = {{first:Int64}} AND offset_last = {{last:Int64}} AND {_HELD}
"""  # noqa: S608
_COUNTS: Final = f"""
SELECT countIf(NOT held AND NOT in_use), countIf(NOT held AND in_use), countIf(held) FROM (
    SELECT {_HELD} AS held, {_IN_USE} AS in_use FROM evidence
    WHERE {_WITHIN} AND subject != unhex('{NO_SUBJECT.hex()}')
)
"""  # noqa: S608
_GOING: Final = f"""
SELECT subject, any(number) FROM evidence
WHERE {_WITHIN} AND subject != unhex('{NO_SUBJECT.hex()}') AND NOT ({_HELD}) AND NOT ({_IN_USE})
GROUP BY subject
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class ExpiredMonth:
    """What is past its retention in one month, such as 201911, and what of it stays."""

    month: int
    parts: tuple[ExpiredPart, ...]

    @property
    def rows(self) -> int:
        """Rows of evidence that go."""
        return sum(one.rows for one in self.parts)

    @property
    def in_use(self) -> int:
        """Rows that stay as proof of consent of people who were called since."""
        return sum(one.in_use for one in self.parts)

    @property
    def under_hold(self) -> int:
        """Rows that stay for a legal hold."""
        return sum(one.under_hold for one in self.parts)


@dataclass(frozen=True, slots=True)
class RetentionConfig:
    """`months` whole months before this one are kept; `now` in µs; `who` has it done."""

    months: int
    now: int
    who: str
    folding: FoldingConfig
    dead_letter_key: bytes = field(repr=False)


Sealed = Callable[[Mapping[str, Any]], None]
"""Returns once a LogEntry is under a signed checkpoint; raises if that does not come."""

Progress = Callable[[int, int], None]
"""Told how many log partitions of a month are done, and of how many."""


class Retention:
    """Plans and applies; changes nothing while planning. One at a time."""

    def __init__(self, store: Store, config: RetentionConfig) -> None:
        self._store = store
        self._config = config
        self.kept_from = first_month_kept(config.now, config.months)
        self._replay = HistoryReplay(store, config.dead_letter_key)
        self._erasures = Erasures(store)

    def plan(self) -> list[ExpiredMonth]:
        """Months of which something goes or is held back, oldest first."""
        held = self._held()
        months: dict[int, list[ExpiredPart]] = {}
        for month, over in self._ranges():
            asked = self._asked(over, held)
            going, in_use, under_hold = self._store.query_rows(_COUNTS, asked)[0]
            if going or in_use or under_hold:
                origin = over.origin
                part = ExpiredPart(
                    origin.log_id,
                    origin.topic,
                    origin.partition,
                    over.offset_first,
                    over.offset_last,
                    int(going),
                    int(in_use),
                    int(under_hold),
                )
                months.setdefault(month, []).append(part)
        return [ExpiredMonth(month, tuple(parts)) for month, parts in months.items()]

    def apply(self, month: ExpiredMonth, sealed: Sealed, progress: Progress) -> int:
        """Have one month go, as planned; returns how many rows of evidence went.

        Whoever came under a hold, or was called, after the plan was made is held back as well.
        """
        going = [one for one in month.parts if one.rows]
        if not going:
            return 0
        document = document_of(month.month, self.kept_from, month.parts)
        entry = entry_of(document, self._config.who, self._config.now)
        self._keep_document(entry, month.month, canonical_text(document))
        keep_entry_once(self._store, entry)
        sealed(entry)
        self._replay.stand_ins(self._config.folding.partitions)
        before = self._rows(going)
        for done, part in enumerate(going, 1):
            self._carry(_range(part))
            progress(done, len(going))
        for start in range(0, len(going), _RANGES_AT_ONCE):
            self._delete([_range(part) for part in going[start : start + _RANGES_AT_ONCE]])
        self._erasures.clear_old_parts()
        gone = before - self._rows(going)
        log.info("evidence_expired", month=month.month, rows=gone)
        return gone

    def _ranges(self) -> Iterable[tuple[int, LogRange]]:
        wanted = {
            "kept_from": self.kept_from,
            "topics": list(contracts().keyed_source_topics),
        }
        for month, log_id, topic, partition, first, last in self._store.query_rows(_RANGES, wanted):
            origin = LogPartition(bytes.fromhex(log_id), topic, int(partition))
            yield int(month), LogRange(origin, int(first), int(last))

    def _held(self) -> list[str]:
        """Subjects under a legal hold now."""
        events: dict[str, list[HoldEvent]] = {}
        for subject, fact, effective_at in self._store.query_rows(
            _HOLDS, {"names": [PLACED, RELEASED]}
        ):
            event = hold_of_fact(bytes.fromhex(fact), int(effective_at))
            if event is not None:
                events.setdefault(subject, []).append(event)
        return sorted(
            subject for subject, own in events.items() if active_holds(own, self._config.now)
        )

    def _asked(self, over: LogRange, held: Sequence[str]) -> dict[str, Any]:
        since = month_start(self.kept_from)
        return {**over.parameters, "held": list(held), "since": since}

    def _keep_document(self, entry: Mapping[str, Any], month: int, document: str) -> None:
        kept = self._store.query_rows(
            "SELECT count() FROM retentions WHERE entry_id = {id:UUID}", {"id": entry["entry_id"]}
        )
        if kept[0][0]:
            return
        row = {
            "entry_id": entry["entry_id"],
            "at": entry["at"],
            "month": month,
            "document": document,
        }
        table = pyarrow.Table.from_pylist([row], schema=_DOCUMENT_SCHEMA)
        self._store.insert_arrow("retentions", table, f"v1|retentions|{entry['entry_id']}")

    def _carry(self, over: LogRange) -> None:
        """Keep the states of those whose evidence of a range goes."""
        asked = self._asked(over, self._held())
        table = self._store.query_arrow(_GOING, asked, strings_as_bytes=True)
        numbers = {
            bytes(subject): bytes(number).decode()
            for subject, number in zip(
                *(column.to_pylist() for column in table.columns), strict=True
            )
        }
        for subject in subjects_carried(self._store, over):
            numbers.pop(subject, None)
        if not numbers:
            return
        wanted = set(numbers.values())
        folding = StateFolding(over.origin.partition, self._config.folding, FoldingReport())
        for facts in self._replay.batches_of(over):
            folding.take([fact for fact in facts if fact.number in wanted])
        states = {}
        for subject, number in numbers.items():
            key = number.encode()
            body = folding.states.get(key) or folding.strays.get(key) or b""
            states[subject] = (number, body)
        keep_carried(self._store, over, states)
        # Who was erased meanwhile must not come back by this.
        self._erasures.purge(self._erasures.known().keys() & numbers.keys())

    def _delete(self, ranges: Sequence[LogRange]) -> None:
        """Delete what is carried, but for people under a hold, or called since it was carried."""
        held = ", ".join(f"unhex('{subject}')" for subject in self._held_and_carried(ranges))
        kept = f"AND subject NOT IN ({held}) " if held else ""
        called = _CALLED.replace("{since}", str(month_start(self.kept_from)))
        chosen = " OR ".join(_carried_rows(over, called) for over in ranges)
        self._store.command(f"ALTER TABLE evidence DELETE WHERE ({chosen}) {kept}", _DELETION)
        # Longer than one statement may take: parts of many months are written anew.
        while waiting := self._store.query_rows(_UNDER_WAY):
            if waiting[0][0]:
                raise StoreUnavailable("expire", "the store could not delete the rows yet")
            time.sleep(_LOOK_AGAIN_S)

    def _held_and_carried(self, ranges: Sequence[LogRange]) -> list[str]:
        """Who came under a hold since it was carried: few, so that no statement gets too long."""
        held = self._held()
        if not held:
            return []
        found = {
            subject
            for over in ranges
            for (subject,) in self._store.query_rows(
                _HELD_AND_CARRIED, {**over.parameters, "held": held}
            )
        }
        return sorted(found)

    def _rows(self, parts: Sequence[ExpiredPart]) -> int:
        return sum(
            int(self._store.query_rows(_ROWS, _range(part).parameters)[0][0]) for part in parts
        )


_UNDER_WAY: Final = """
SELECT latest_fail_reason FROM system.mutations
WHERE database = currentDatabase() AND table = 'evidence' AND NOT is_done
ORDER BY latest_fail_reason DESC
"""
_ROWS: Final = f"SELECT count() FROM evidence WHERE {_WITHIN}"  # noqa: S608
_DOCUMENT_SCHEMA: Final = pyarrow.schema(
    [
        ("entry_id", pyarrow.string()),
        ("at", pyarrow.timestamp("us", "UTC")),
        ("month", pyarrow.uint32()),
        ("document", pyarrow.string()),
    ]
)


def _range(part: ExpiredPart) -> LogRange:
    origin = LogPartition(part.log_id, part.topic, part.partition)
    return LogRange(origin, part.offset_first, part.offset_last)


def _place(over: LogRange) -> str:
    return f"log_id = unhex('{over.origin.log_id.hex()}') AND partition = {over.origin.partition}"


def _carried_rows(over: LogRange, called: str) -> str:
    """Rows of evidence of a range, of those whose states of it are carried."""
    first, last = over.offset_first, over.offset_last
    carried = f"{_place(over)} AND offset_first = {first} AND offset_last = {last}"
    subjects = f"SELECT subject FROM {CARRIED} WHERE {carried}"  # noqa: S608
    in_use = f" AND subject NOT IN ({called})" if over.origin.topic == CONSENT_TOPIC else ""
    within = f"{_place(over)} AND offset BETWEEN {first} AND {last}"
    return f"({within} AND subject IN ({subjects}){in_use})"
