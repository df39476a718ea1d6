"""Evidence of erased people in the store: what must be gone, taking it out, and keeping it out.

Reads the table `erasures` and applies `consent.erasure` to it. A deletion writes the parts of the
table anew and returns once that is done; the store removes the old ones within a minute. Nothing
here is lost by repeating it. Retries nothing: a store that is away surfaces as StoreUnavailable.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import structlog
from cryptography.exceptions import InvalidTag

from consent.codec import decode_body
from consent.contracts import fact_schema
from consent.erasure import (
    PLACED,
    RELEASED,
    ErasedSubject,
    HoldEvent,
    SubjectEvent,
    hold_event,
    mentions,
)
from consent.privacy import SealedLetter, open_dead_letter, position_bytes
from projections.carried_states import TABLE as CARRIED
from projections.clickhouse import Store
from projections.errors import StoreRejected, StoreUnavailable

log = structlog.get_logger(__name__)

_SUBJECTS_AT_ONCE: Final = 500
_POSITIONS_AT_ONCE: Final = 2_000
_LETTERS_AT_ONCE: Final = 2_000
_TABLES: Final = ("evidence", "dead_letters", CARRIED)
_WAIT_FOR_MUTATION: Final = {"mutations_sync": 2}

_KNOWN: Final = """
SELECT hex(subject), toUnixTimestamp64Micro(cutoff_at), erased_topic, hex(erased_log_id),
    erased_partition, erased_offset_last
FROM erasures
"""
_EVENTS: Final = """
SELECT hex(subject), hex(log_id), topic, partition, offset, event_name,
    toUnixTimestamp64Micro(effective_at), test, unreadable != ''
FROM facts WHERE subject IN (SELECT toFixedString(unhex(arrayJoin({subjects:Array(String)})), 16))
"""
_HELD: Final = """
SELECT hex(log_id), partition, offset FROM evidence
WHERE subject IN (SELECT toFixedString(unhex(arrayJoin({subjects:Array(String)})), 16))
"""
_CARRIED: Final = """
SELECT hex(subject), hex(log_id), partition, offset_first, offset_last FROM carried_states
WHERE subject IN (SELECT toFixedString(unhex(arrayJoin({subjects:Array(String)})), 16))
"""
_STRAYS: Final = """
SELECT DISTINCT hex(subject) FROM (
    SELECT subject FROM evidence UNION ALL SELECT subject FROM carried_states
)
WHERE subject IN (SELECT subject FROM erasures)
"""
_HOLDS: Final = """
SELECT hex(fact), toUnixTimestamp64Micro(effective_at) FROM facts
WHERE subject = unhex({subject:String}) AND unreadable = ''
    AND event_name IN {names:Array(String)}
"""
_LETTERS: Final = """
SELECT hex(log_id), topic, partition, offset, nonce, original FROM dead_letters
ORDER BY log_id, partition, offset LIMIT {rows:UInt32} OFFSET {after:UInt64}
"""

_OLD_PARTS: Final = """
SELECT DISTINCT table FROM system.parts
WHERE database = currentDatabase() AND table IN {tables:Array(String)} AND NOT active
"""

Place = tuple[bytes, int, int]
"""Log id, partition and offset."""


class Erasures:
    """What of the store erasures reach; safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._rows = 0
        self._known: Mapping[bytes, ErasedSubject] = {}
        self._may_ask_for_cleanup = True

    def known(self) -> Mapping[bytes, ErasedSubject]:
        """Every erased subject, as the store knows it at this moment."""
        rows = int(self._store.query_rows("SELECT count() FROM erasures")[0][0])
        with self._lock:
            if rows == self._rows:
                return self._known
        found = _subjects(self._store.query_rows(_KNOWN))
        with self._lock:
            # Rows that came after the count are asked for again next time.
            self._rows, self._known = rows, found
        return found

    def events(self, subjects: Collection[bytes]) -> dict[bytes, list[SubjectEvent]]:
        """Recorded events of these subjects."""
        found: dict[bytes, list[SubjectEvent]] = {subject: [] for subject in subjects}
        for some in _chunks(sorted(subjects), _SUBJECTS_AT_ONCE):
            for subject, log_id, *rest in self._store.query_rows(_EVENTS, _hexed(some)):
                event = SubjectEvent(bytes.fromhex(log_id), *rest)
                found[bytes.fromhex(subject)].append(event)
        return found

    def purge(self, subjects: Collection[bytes]) -> int:
        """Delete the evidence of these subjects that erasures reach, and what was carried of it.

        Returns how many rows there were, once they are out of every part that a query reads. Raises
        StoreUnavailable if some are still there.
        """
        known = self.known()
        erased = {subject: known[subject] for subject in subjects if subject in known}
        by_subject = self._reached(erased)
        reached = {place for places in by_subject.values() for place in places}
        held = self._held(erased) & reached
        self._delete("evidence", held)
        if held and self._held(erased) & reached:
            raise StoreUnavailable("erase", "evidence is still there after its deletion")
        return len(held) + self._purge_carried(by_subject)

    def strays(self) -> set[bytes]:
        """Erased subjects of whom the store has evidence, whether or not an erasure reaches it."""
        return {bytes.fromhex(subject) for (subject,) in self._store.query_rows(_STRAYS)}

    def holds(self, subject: bytes) -> list[HoldEvent]:
        """Every placing and releasing of a legal hold that was recorded of a subject."""
        parameters = {"subject": subject.hex(), "names": [PLACED, RELEASED]}
        found = []
        for fact, effective_at in self._store.query_rows(_HOLDS, parameters):
            event = hold_of_fact(bytes.fromhex(fact), int(effective_at))
            if event is not None:
                found.append(event)
        return found

    def purge_letters(self, numbers: Collection[str], key: bytes) -> int:
        """Delete dead letters that mention these numbers; how many there were.

        Reads and decrypts every letter, of which there are those of a month.
        """
        if not numbers:
            return 0
        places: set[Place] = set()
        after = 0
        while rows := self._store.query_rows(
            _LETTERS, {"rows": _LETTERS_AT_ONCE, "after": after}, formats={"String": "bytes"}
        ):
            after += len(rows)
            for log_id, topic, partition, offset, nonce, original in rows:
                place = (bytes.fromhex(log_id.decode()), partition, offset)
                letter = SealedLetter(nonce, original)
                position = position_bytes(place[0], _text(topic), partition, offset)
                if _mentioned(letter, position, numbers, key):
                    places.add(place)
        self._delete("dead_letters", places)
        return len(places)

    def clear_old_parts(self) -> None:
        """Have the store remove parts that were written anew.

        Idle, it looks for them every few minutes only. Where this user may not ask, it stays so.
        """
        if not self._may_ask_for_cleanup:
            return
        for (table,) in self._store.query_rows(_OLD_PARTS, {"tables": list(_TABLES)}):
            try:
                self._store.command(f"SYSTEM START CLEANUP {self._store.database}.{table}")
            except StoreRejected as refused:
                self._may_ask_for_cleanup = False
                log.warning("cleanup_not_allowed", table=table, error=str(refused))

    def _reached(self, erased: Mapping[bytes, ErasedSubject]) -> dict[bytes, set[Place]]:
        reached: dict[bytes, set[Place]] = {}
        for subject, events in self.events(erased).items():
            said = erased[subject]
            opened_at = said.opened_at(events)
            reached[subject] = {
                (event.log_id, event.partition, event.offset)
                for event in events
                if said.reaches(event, opened_at)
            }
        return reached

    def _purge_carried(self, reached: Mapping[bytes, Collection[Place]]) -> int:
        """Delete carried states that rest on a record which an erasure reaches."""
        gone = []
        for some in _chunks(sorted(reached), _SUBJECTS_AT_ONCE):
            for subject, log_id, partition, first, last in self._store.query_rows(
                _CARRIED, _hexed(some)
            ):
                log_partition = (bytes.fromhex(log_id), int(partition))
                if any(
                    place[:2] == log_partition and first <= place[2] <= last
                    for place in reached[bytes.fromhex(subject)]
                ):
                    gone.append(f"(unhex('{subject}'), unhex('{log_id}'), {partition}, {first})")
        for rows in _chunks(gone, _POSITIONS_AT_ONCE):
            self._store.command(
                f"ALTER TABLE {CARRIED} DELETE "
                f"WHERE (subject, log_id, partition, offset_first) IN ({', '.join(rows)})",
                _WAIT_FOR_MUTATION,
            )
            log.info("rows_erased", table=CARRIED, rows=len(rows))
        return len(gone)

    def _held(self, subjects: Iterable[bytes]) -> set[Place]:
        held: set[Place] = set()
        for some in _chunks(sorted(subjects), _SUBJECTS_AT_ONCE):
            for log_id, partition, offset in self._store.query_rows(_HELD, _hexed(some)):
                held.add((bytes.fromhex(log_id), int(partition), int(offset)))
        return held

    def _delete(self, table: str, places: Collection[Place]) -> None:
        """Delete rows by their place: parts are written anew, nothing is only masked."""
        for some in _chunks(sorted(places), _POSITIONS_AT_ONCE):
            listed = ", ".join(
                f"(unhex('{log_id.hex()}'), {partition}, {offset})"
                for log_id, partition, offset in some
            )
            self._store.command(
                f"ALTER TABLE {table} DELETE WHERE (log_id, partition, offset) IN ({listed})",
                _WAIT_FOR_MUTATION,
            )
            log.info("rows_erased", table=table, rows=len(some))


def hold_of_fact(fact: bytes, effective_at: int) -> HoldEvent | None:
    """The legal hold that a readable fact of one places or releases."""
    envelope = decode_body(fact_schema("Fact"), fact)
    name, version = envelope["event_name"], envelope["event_version"]
    fields = decode_body(fact_schema(name, version), envelope["payload"])
    return hold_event(name, fields, effective_at)


def _subjects(rows: Iterable[Sequence[Any]]) -> dict[bytes, ErasedSubject]:
    found: dict[bytes, ErasedSubject] = {}
    nothing = ErasedSubject(-(1 << 62))
    for subject, cutoff_at, topic, log_id, partition, offset_last in rows:
        token = bytes.fromhex(subject)
        place = (bytes.fromhex(log_id), int(partition))
        said = found.get(token, nothing)
        found[token] = said.with_cutoff(int(cutoff_at), topic, place, int(offset_last))
    return found


def _mentioned(letter: SealedLetter, position: bytes, numbers: Collection[str], key: bytes) -> bool:
    try:
        parts = open_dead_letter(key, position, letter)
    except InvalidTag:
        # It is under an older key, which is not there any more: nobody can read it.
        return False
    return any(mentions(parts, number) for number in numbers)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _hexed(subjects: Iterable[bytes]) -> dict[str, Any]:
    return {"subjects": [subject.hex() for subject in subjects]}


def _chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
