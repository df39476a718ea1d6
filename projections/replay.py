"""Reads the history as the records that it was made of, of every incarnation of the log.

Owns how facts, evidence and dead letters are brought together again. Changes nothing. Numbers and
evidence pass through memory here; nothing of them is logged.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import fastavro
import structlog
from cryptography.exceptions import InvalidTag

from consent.codec import frame
from consent.contracts import contracts, fact_schema
from consent.fact_columns import NO_SUBJECT
from consent.facts import LogPartition
from consent.lift import Position
from consent.numbers import is_canonical_key
from consent.privacy import SALT_BYTES, SealedLetter, open_dead_letter, position_bytes
from projections.carried_states import LogRange, carried_of, covered_in
from projections.clickhouse import Store
from projections.erased_replay import StandIns, stand_ins

log = structlog.get_logger(__name__)

_NO_BRANCH: Final = b"\x00"
_SOME_BRANCH: Final = b"\x02"

# All values in these statements are our own: log ids from the store, topics from the contracts.
_LOGS: Final = """
SELECT log_id, topic, min(offset), max(offset) FROM facts
WHERE topic IN {topics:Array(String)} AND partition = {partition:Int32}
GROUP BY log_id, topic ORDER BY min(recorded_at), topic
"""
_PARTITIONS: Final = """
SELECT DISTINCT partition FROM facts WHERE topic IN {topics:Array(String)} ORDER BY partition
"""
_RANGE: Final = """
WHERE log_id = unhex({log_id:String}) AND topic = {topic:String} AND partition = {partition:Int32}
  AND offset BETWEEN {first:Int64} AND {last:Int64}
"""
_FACTS: Final = f"SELECT offset, subject, unreadable != '', fact FROM facts {_RANGE}"  # noqa: S608
_EVIDENCE: Final = f"SELECT offset, number, salt, evidence FROM evidence {_RANGE}"  # noqa: S608
_LETTERS: Final = f"SELECT offset, nonce, original FROM dead_letters {_RANGE}"  # noqa: S608
_NUMBERS: Final = """
SELECT subject, any(number) FROM (
    SELECT subject, number FROM evidence UNION ALL SELECT subject, number FROM carried_states
)
WHERE subject IN (SELECT toFixedString(unhex(arrayJoin({subjects:Array(String)})), 16))
  AND number != ''
GROUP BY subject
"""


@dataclass(frozen=True, slots=True)
class StoredFact:
    """One record of a number-keyed topic, as far as history has it.

    `number` is None where nothing tells whose it was. Of an erased person it stands in for theirs.
    `opted_out`: it could not be read, but by its kind and key it is an opt-out of that number.
    `value` is the record as it was published, but for the spelling of Avro lengths; it is None
    where it can't be made again.
    """

    position: Position
    number: str | None = field(repr=False)
    value: bytes | None = field(repr=False)
    opted_out: bool = False
    headers: Sequence[tuple[str, bytes]] = ()

    @property
    def offset(self) -> int:
        """Offset in its log."""
        return self.position.offset

    @property
    def timestamp(self) -> int:
        """Broker time in ms."""
        return self.position.recorded_at // 1000

    @property
    def key(self) -> bytes:
        """The number as a record's key; empty if it is not known."""
        return (self.number or "").encode()


class HistoryReplay:
    """Gives back the records of the number-keyed topics, by partition, in the order of each log."""

    def __init__(
        self,
        store: Store,
        dead_letter_key: bytes,
        batch_records: int = 20_000,
    ) -> None:
        self._store = store
        self._of_erased: Mapping[bytes, str] = {}
        self._dead_letter_key = dead_letter_key
        self._batch_records = batch_records
        self._topics = list(contracts().keyed_source_topics)
        self._fact_schema = fact_schema("Fact")

    def stand_ins(self, partitions: int) -> StandIns:
        """Find numbers for erased people; records read from now on have them."""
        found = stand_ins(self._store, partitions)
        self._of_erased = found.numbers
        return found

    def partitions(self) -> list[int]:
        """Partitions of which history has anything."""
        found = self._rows(_PARTITIONS, {"topics": self._topics})
        return [int(partition) for (partition,) in found]

    def carried(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Number and state of what was carried over; `batches` leaves out what is in it."""
        return carried_of(self._store, partition)

    def batches(self, partition: int) -> Iterator[list[StoredFact]]:
        """Records of a partition, each batch of one log and topic, in offset order, none twice."""
        parameters = {"topics": self._topics, "partition": partition}
        for log_id, topic, first, last in self._rows(_LOGS, parameters):
            name = topic.decode() if isinstance(topic, bytes) else str(topic)
            origin = LogPartition(bytes(log_id), name, partition)
            yield from self.batches_of(LogRange(origin, first, last))

    def batches_of(self, wanted: LogRange) -> Iterator[list[StoredFact]]:
        """The same of a part of one log partition."""
        for start in range(wanted.offset_first, wanted.offset_last + 1, self._batch_records):
            end = min(wanted.offset_last, start + self._batch_records - 1)
            facts = self._read(LogRange(wanted.origin, start, end))
            if facts:
                yield facts

    def _read(self, stretch: LogRange) -> list[StoredFact]:
        rows = {row[0]: row for row in self._rows(_FACTS, stretch.parameters)}
        evidence = {row[0]: row[1:] for row in self._rows(_EVIDENCE, stretch.parameters)}
        carried = covered_in(self._store, stretch)
        facts = []
        bad: list[tuple[Position, bytes]] = []
        for offset, subject, unreadable, data in rows.values():
            if carried.has(bytes(subject), offset):
                continue
            fact: Any = fastavro.schemaless_reader(io.BytesIO(data), self._fact_schema, None)
            origin = stretch.origin
            place = (origin.topic, origin.log_id, origin.partition, offset)
            position = Position(*place, fact["recorded_at"])
            if unreadable:
                if bytes(subject) != NO_SUBJECT:
                    bad.append((position, bytes(subject)))
            else:
                number = self._of_erased.get(bytes(subject))
                facts.append(_stored(position, fact, evidence.get(offset), number))
        facts += self._opt_outs(stretch, bad, evidence)
        facts.sort(key=lambda fact: fact.offset)
        return facts

    def _opt_outs(
        self,
        stretch: LogRange,
        bad: Sequence[tuple[Position, bytes]],
        evidence: Mapping[int, Sequence[Any]],
    ) -> Iterator[StoredFact]:
        """Opt-outs that could not be read: their number is in evidence, or in the original."""
        if not bad:
            return
        subjects = sorted({subject.hex() for _, subject in bad})
        known = {
            bytes(subject): bytes(number).decode()
            for subject, number in self._rows(_NUMBERS, {"subjects": subjects})
        }
        letters = {row[0]: row[1:] for row in self._rows(_LETTERS, stretch.parameters)}
        for position, subject in bad:
            own = bytes(evidence[position.offset][0]) if position.offset in evidence else b""
            number = own.decode() or known.get(subject) or self._of_erased.get(subject)
            number = number or self._number_in_letter(position, letters)
            yield StoredFact(position, number, None, opted_out=True)

    def _number_in_letter(
        self, position: Position, letters: Mapping[int, Sequence[bytes]]
    ) -> str | None:
        if position.offset not in letters:
            return None
        nonce, original = letters[position.offset]
        place = position_bytes(position.log_id, position.topic, position.partition, position.offset)
        try:
            key = open_dead_letter(self._dead_letter_key, place, SealedLetter(nonce, original))[0]
        except InvalidTag:
            return None
        return key.decode() if key is not None and is_canonical_key(key) else None

    def _rows(self, sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        table = self._store.query_arrow(sql, parameters, strings_as_bytes=True)
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _stored(
    position: Position,
    fact: Mapping[str, Any],
    evidence: Sequence[Any] | None,
    of_erased: str | None,
) -> StoredFact:
    """The record that a readable fact was made of, as far as erasure has left it."""
    if evidence is None or not evidence[0]:
        if of_erased is None:
            return StoredFact(position, None, None)
        evidence = (of_erased.encode(), bytes(SALT_BYTES), None)
    number, salt, said = bytes(evidence[0]), bytes(evidence[1]), evidence[2]
    schema_id = _schema_ids()[fact["event_name"], fact["event_version"]]
    # A number has at most 16 characters, so its length is one byte of Avro.
    body = b"".join(
        (
            fact["payload"],
            bytes((len(number) * 2,)),
            number,
            salt,
            _NO_BRANCH if said is None else _SOME_BRANCH + bytes(said),
        )
    )
    return StoredFact(position, number.decode(), frame(schema_id, body))


@cache
def _schema_ids() -> dict[tuple[str, int], int]:
    return {(record.name, record.version): record.schema_id for record in contracts().records}
