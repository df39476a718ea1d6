"""Keeps evidence of erased people out of blocks, and takes out what an erasure in a block reaches.

Asked for every block, before and after its rows are written, so that neither a worker that lags
nor one that was paused leaves anything behind: what it wrote in ignorance is deleted before the
block counts as written. An erasure that was executed although a legal hold was in force reaches
nothing, with an alarm.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from consent.erasure import PLACED, RELEASED, ErasedSubject, SubjectEvent, active_holds
from consent.fact_columns import NO_SUBJECT
from consent.facts import LogPartition
from consent.numbers import is_canonical_key
from consent.privacy import Keys, subject_token
from projections.erasures import Erasures, hold_of_fact
from projections.history_rows import BlockRows, ExecutedErasure, TableRows

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EvidenceGate:
    """What of a block's rows may be stored. `alarm` is told of erasures under a legal hold."""

    erasures: Erasures
    keys: Keys = field(repr=False)
    alarm: Callable[[str], None]

    def effective(self, rows: BlockRows) -> BlockRows:
        """The same rows without erasures that take no effect."""
        void = [one for one in rows.erasures if self._under_hold(one, rows)]
        if not void:
            return rows
        offsets = {one.offset for one in void}
        side = tuple(
            table.without(offsets) if table.table == "erasures" else table for table in rows.side
        )
        kept = tuple(one for one in rows.erasures if one not in void)
        return replace(rows, side=side, erasures=kept)

    def evidence(self, origin: LogPartition, rows: BlockRows) -> TableRows:
        """The evidence rows that may be there, as the store knows erasures at this moment."""
        known = self.erasures.known()
        erased = {
            subject: known[subject]
            for subject in set(rows.evidence_subjects) - {NO_SUBJECT}
            if subject in known
        }
        if not erased:
            return rows.evidence
        reached = self._reached(origin, rows, erased)
        return rows.evidence.without(reached)

    def side(self, origin: LogPartition, rows: BlockRows) -> tuple[TableRows, ...]:
        """The other tables' rows that may be there: no letters of erased people."""
        return tuple(
            table.without(self._letters(origin, rows, table))
            if table.table == "dead_letters"
            else table
            for table in rows.side
        )

    def clean(self, rows: BlockRows, stored: Collection[int], allowed: TableRows) -> None:
        """Delete what a block's erasures reach, and evidence of its own that is not `allowed`.

        `stored` are the offsets of the block whose evidence was written, now or earlier.
        """
        gone = set(stored) - set(allowed.offsets)
        subjects = {one.subject for one in rows.erasures}
        if gone:
            pairs = zip(rows.evidence.offsets, rows.evidence_subjects, strict=True)
            subjects |= {subject for offset, subject in pairs if offset in gone}
        self.erasures.purge(subjects)
        self.erasures.purge_letters([one.number for one in rows.erasures], self.keys.dead_letters)

    def _under_hold(self, one: ExecutedErasure, rows: BlockRows) -> bool:
        events = self.erasures.holds(one.subject)
        facts = rows.facts
        for offset, subject, name, unreadable, fact, effective_at in zip(
            facts.offsets,
            *(
                facts.rows.column(column).to_pylist()
                for column in ("subject", "event_name", "unreadable", "fact")
            ),
            _micros(facts, "effective_at"),
            strict=True,
        ):
            earlier = offset < one.offset and subject == one.subject
            if earlier and name in (PLACED, RELEASED) and not unreadable:
                event = hold_of_fact(fact, effective_at)
                events += [] if event is None else [event]
        known_then = [event for event in events if event.effective_at <= one.recorded_at]
        holds = active_holds(known_then, one.recorded_at)
        if holds:
            self.alarm("erasure_under_hold")
            log.error("erasure_under_hold", hold_ids=holds, offset=one.offset)
        return bool(holds)

    def _reached(
        self, origin: LogPartition, rows: BlockRows, erased: Mapping[bytes, ErasedSubject]
    ) -> set[int]:
        own = _events(origin, rows, erased)
        stored = self.erasures.events(erased)
        reached: set[int] = set()
        for subject, said in erased.items():
            events = own.get(subject, [])
            opened_at = said.opened_at([*stored[subject], *events])
            reached.update(event.offset for event in events if said.reaches(event, opened_at))
        return reached

    def _letters(self, origin: LogPartition, rows: BlockRows, table: TableRows) -> set[int]:
        """Offsets of letters whose key is an erased person's number."""
        known = self.erasures.known()
        if not known:
            return set()
        recorded_at = dict(zip(table.offsets, _micros(table, "recorded_at"), strict=True))
        found: dict[bytes, list[SubjectEvent]] = {}
        for offset, (key, _value) in zip(table.offsets, rows.letters, strict=True):
            if key is not None and is_canonical_key(key):
                subject = subject_token(self.keys.history, key.decode())
                if subject in known:
                    place = (origin.log_id, origin.topic, origin.partition, offset)
                    event = SubjectEvent(*place, "", recorded_at[offset], unreadable=True)
                    found.setdefault(subject, []).append(event)
        stored = self.erasures.events(found)
        return {
            event.offset
            for subject, events in found.items()
            for event in events
            if known[subject].reaches(event, known[subject].opened_at(stored[subject]))
        }


def _events(
    origin: LogPartition, rows: BlockRows, subjects: Collection[bytes]
) -> dict[bytes, list[SubjectEvent]]:
    """Events of a block that are about these subjects."""
    facts = rows.facts
    found: dict[bytes, list[SubjectEvent]] = {}
    for offset, subject, name, test, unreadable, effective_at in zip(
        facts.offsets,
        *(
            facts.rows.column(column).to_pylist()
            for column in ("subject", "event_name", "test", "unreadable")
        ),
        _micros(facts, "effective_at"),
        strict=True,
    ):
        if subject in subjects:
            place = (origin.log_id, origin.topic, origin.partition, offset)
            event = SubjectEvent(*place, name, effective_at, bool(test), bool(unreadable))
            found.setdefault(subject, []).append(event)
    return found


def _micros(table: TableRows, column: str) -> Iterable[int]:
    values: list[int] = table.rows.column(column).cast("int64").to_pylist()
    return values
