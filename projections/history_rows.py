"""The rows of one block: what its records become in every table of the history.

A pure function of the records, their broker times and the keys (the nonce does not show), so that
whoever writes a block writes the same rows. Does no I/O and reads no clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars
import pyarrow

from consent.blocks import Block
from consent.certificates import ExecutedPlace, certificate_of, entry_of
from consent.codec import encode
from consent.contracts import RecordContract
from consent.fact_columns import NO_SUBJECT, columns_of_facts
from consent.facts import FactContext, LogPartition, facts_of, needed_columns
from consent.intake import (
    BatchReading,
    EventGroup,
    Origin,
    RawRecord,
    UnreadableRecord,
    all_columns,
    read_batch,
)
from consent.privacy import Keys, position_bytes, seal_dead_letter, subject_tokens
from projections.history_blocks import Sum

_WHOLE: Final = frozenset({"RegistryVersionPublished", "RulebookActivated", "ErasureExecuted"})
"""Events that also have a table of their own, and so are decoded in full."""

_TIME: Final = polars.Datetime("us", "UTC")
_POSITION: Final = {
    "log_id": polars.Binary(),
    "topic": polars.String(),
    "partition": polars.Int32(),
    "offset": polars.Int64(),
}
_EVENT: Final = {
    **_POSITION,
    "recorded_at": _TIME,
    "event_id": polars.String(),
}
_EVIDENCE: Final = {
    **_POSITION,
    "event_id": polars.String(),
    "subject": polars.Binary(),
    "number": polars.String(),
    "salt": polars.Binary(),
    "evidence": polars.Binary(),
}
_DEAD_LETTERS: Final = {
    **_POSITION,
    "recorded_at": _TIME,
    "reason": polars.String(),
    "detail": polars.String(),
    "schema_id": polars.Int32(),
    "event_name": polars.String(),
    "key_id": polars.String(),
    "nonce": polars.Binary(),
    "original": polars.Binary(),
}
_REGISTRY_VERSIONS: Final = {
    **_EVENT,
    "seller_id": polars.String(),
    "test": polars.Boolean(),
    "list_id": polars.String(),
    "area": polars.String(),
    "version": polars.String(),
    "version_date": polars.Date(),
    "obtained_at": _TIME,
    "uri": polars.String(),
    "sha256": polars.Binary(),
    "numbers": polars.Int64(),
    "format": polars.String(),
    "change": polars.String(),
    "base_version": polars.String(),
    "valid_until": polars.Date(),
}
_RULEBOOK_ACTIVATIONS: Final = {
    **_EVENT,
    "seller_id": polars.String(),
    "test": polars.Boolean(),
    "rulebook_digest": polars.Binary(),
    "rulebook_version": polars.String(),
    "profile": polars.String(),
    "previous_digest": polars.Binary(),
}
_ERASURES: Final = {
    **_EVENT,
    "subject": polars.Binary(),
    "suppression_token": polars.Binary(),
    "request_id": polars.String(),
    "cutoff_at": _TIME,
    "erased_log_id": polars.Binary(),
    "erased_topic": polars.String(),
    "erased_partition": polars.Int32(),
    "erased_offset_last": polars.Int64(),
}


@dataclass(frozen=True, slots=True)
class BlockWork:
    """A closed block and its records; `partitions` is the topic's partition count.

    `recorded_at` has the broker time in µs of every record.
    """

    block: Block
    origin: LogPartition
    partitions: int
    records: Sequence[RawRecord] = field(repr=False)
    recorded_at: Sequence[int] = field(repr=False)


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows of one table in the order of their records.

    `offsets` has the record's offset of each row; several rows may come from one record.
    """

    table: str
    offsets: Sequence[int]
    rows: pyarrow.Table

    def without(self, offsets: frozenset[int] | set[int]) -> TableRows:
        """The rows of all other records."""
        if offsets.isdisjoint(self.offsets):
            return self
        kept = [row for row, offset in enumerate(self.offsets) if offset not in offsets]
        return TableRows(
            self.table,
            [self.offsets[row] for row in kept],
            self.rows.take(pyarrow.array(kept, pyarrow.int64())),
        )


@dataclass(frozen=True, slots=True)
class ExecutedErasure:
    """An ErasureExecuted of a block: whom it is about, and the entry that seals its certificate."""

    offset: int
    recorded_at: int
    subject: bytes
    number: str = field(repr=False)
    entry: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class BlockRows:
    """Everything that a block writes.

    `evidence_subjects` has the subject of each evidence row; `side` holds tables that few blocks
    have; `letters` are the framed DeadLetter records with their keys; `sum` is what the block's
    header says of the facts; `erasures` are the executed ones, rehearsals left out.
    """

    evidence: TableRows
    evidence_subjects: Sequence[bytes] = field(repr=False)
    facts: TableRows
    side: tuple[TableRows, ...]
    letters: tuple[tuple[bytes | None, bytes], ...] = field(repr=False)
    sum: Sum
    erasures: tuple[ExecutedErasure, ...] = ()

    @property
    def entries(self) -> list[Mapping[str, Any]]:
        """Entries of the proof log beside the block's own."""
        return [one.entry for one in self.erasures]


def rows_of(work: BlockWork, keys: Keys, nonce: bytes) -> BlockRows:
    """Rows of a block. `nonce` as for `consent.intake.read_batch`."""
    origin = work.origin
    reading = read_batch(
        work.records,
        Origin(origin.topic, origin.partition, work.partitions),
        nonce,
        _needed,
        work.recorded_at,
    )
    made = facts_of(work.records, work.recorded_at, reading, FactContext(origin, keys.history))
    offsets = [record.offset for record in work.records]
    columns = columns_of_facts(made.facts, nonce)
    evidence = made.evidence
    subjects = [NO_SUBJECT if subject is None else subject for subject in evidence.subject]
    values = {
        **_position_values(origin, evidence.offset),
        "event_id": evidence.event_id,
        "subject": subjects,
        "number": [number or "" for number in evidence.number],
        "salt": evidence.salt,
        "evidence": evidence.evidence,
    }
    letters = _letters(work, reading.unreadable, keys.dead_letters)
    return BlockRows(
        evidence=_table("evidence", evidence.offset, values, _EVIDENCE),
        evidence_subjects=subjects,
        facts=TableRows("facts", offsets, columns.to_arrow()),
        side=(*_letter_rows(letters), *_side_tables(work, reading, keys)),
        letters=tuple((letter.key, encode("DeadLetter", letter.fields)) for letter in letters),
        sum=Sum.of(made.facts),
        erasures=tuple(_executed(work, reading, keys.history)),
    )


def key_id(key: bytes) -> str:
    """Public name of a secret key, for rows that must say which key they are under."""
    return hashlib.sha256(b"consent-ledger key id\0" + key).hexdigest()[:16]


def _needed(record: RecordContract) -> Sequence[str]:
    return all_columns(record) if record.name in _WHOLE else needed_columns(record)


def _position_values(origin: LogPartition, offsets: Sequence[int]) -> dict[str, Sequence[Any]]:
    count = len(offsets)
    return {
        "log_id": [origin.log_id] * count,
        "topic": [origin.topic] * count,
        "partition": [origin.partition] * count,
        "offset": offsets,
    }


def _table(
    name: str,
    offsets: Sequence[int],
    values: Mapping[str, Sequence[Any]],
    types: Mapping[str, Any],
) -> TableRows:
    frame = polars.DataFrame(
        {column: _series(values[column], dtype) for column, dtype in types.items()}
    )
    return TableRows(name, offsets, frame.to_arrow())


def _series(values: Sequence[Any], dtype: Any) -> polars.Series:
    if dtype in (_TIME, polars.Date()):
        physical = polars.Int64() if dtype == _TIME else polars.Int32()
        return polars.Series(values, dtype=physical).cast(dtype)
    return polars.Series(values, dtype=dtype)


@dataclass(frozen=True, slots=True)
class _Letter:
    key: bytes | None
    fields: dict[str, Any]


def _letters(work: BlockWork, unreadable: Iterable[UnreadableRecord], key: bytes) -> list[_Letter]:
    origin = work.origin
    letters = []
    for problem in unreadable:
        record = work.records[problem.index]
        position = position_bytes(origin.log_id, origin.topic, origin.partition, record.offset)
        headers = [part for name, value in record.headers for part in (name.encode(), value)]
        sealed = seal_dead_letter(key, position, [record.key, record.value, *headers])
        fields = {
            "topic": origin.topic,
            "log_id": origin.log_id,
            "partition": origin.partition,
            "offset": record.offset,
            "recorded_at": work.recorded_at[problem.index],
            "reason": problem.reason,
            "detail": problem.detail,
            "schema_id": _schema_id(problem.schema_id),
            "event_name": problem.event_name,
            "key_id": key_id(key),
            "nonce": sealed.nonce,
            "original": sealed.original,
            "forwarded": False,
        }
        letters.append(_Letter(record.key, fields))
    return letters


def _schema_id(schema_id: int | None) -> int | None:
    """Four arbitrary bytes of an unreadable record need not fit a signed int."""
    return schema_id if schema_id is not None and schema_id < 2**31 else None


def _letter_rows(letters: Sequence[_Letter]) -> Iterable[TableRows]:
    if not letters:
        return
    values = {column: [letter.fields[column] for letter in letters] for column in _DEAD_LETTERS}
    values["event_name"] = [name or "" for name in values["event_name"]]
    yield _table("dead_letters", values["offset"], values, _DEAD_LETTERS)


def _side_tables(work: BlockWork, reading: BatchReading, keys: Keys) -> Iterable[TableRows]:
    for group in reading.groups:
        if group.record.name == "RegistryVersionPublished":
            yield _event_rows("registry_versions", work, group, _REGISTRY_VERSIONS)
        elif group.record.name == "RulebookActivated":
            yield _event_rows("rulebook_activations", work, group, _RULEBOOK_ACTIVATIONS)
        elif group.record.name == "ErasureExecuted":
            yield _erasures(work, group, keys)


def _event_rows(
    table: str, work: BlockWork, group: EventGroup, types: Mapping[str, Any]
) -> TableRows:
    """Rows that repeat an event's fields under the same names."""
    offsets = [work.records[index].offset for index in group.indexes]
    values: dict[str, Sequence[Any]] = {
        **_position_values(work.origin, offsets),
        "recorded_at": group.recorded_at,
    }
    for column in types:
        if column not in values:
            values[column] = group.frame.get_column(column).to_list()
    if "change" in values:
        symbols = _symbols(group.record, "change")
        values["change"] = [symbols[index] for index in values["change"]]
    return _table(table, offsets, values, types)


def _symbols(record: RecordContract, name: str) -> Sequence[str]:
    field_type = next(field["type"] for field in record.schema["fields"] if field["name"] == name)
    return list(field_type["symbols"])


def _erasures(work: BlockWork, group: EventGroup, keys: Keys) -> TableRows:
    """A row per cut-off of every event that is no rehearsal."""
    names = ("event_id", "number", "request_id", "cutoff_at", "cutoffs", "test")
    frame = group.frame.select(*names)
    numbers = frame.get_column("number").to_list()
    subjects = subject_tokens(keys.history, numbers)
    suppressed = subject_tokens(keys.suppression, numbers)
    values: dict[str, list[Any]] = {column: [] for column in _ERASURES}
    for row, index in enumerate(group.indexes):
        event = frame.row(row, named=True)
        if event["test"]:
            continue
        for cutoff in event["cutoffs"]:
            entry = {
                "log_id": work.origin.log_id,
                "topic": work.origin.topic,
                "partition": work.origin.partition,
                "offset": work.records[index].offset,
                "recorded_at": group.recorded_at[row],
                "event_id": event["event_id"],
                "subject": subjects[row],
                "suppression_token": suppressed[row],
                "request_id": event["request_id"],
                "cutoff_at": event["cutoff_at"],
                "erased_log_id": cutoff["log_id"],
                "erased_topic": cutoff["topic"],
                "erased_partition": cutoff["partition"],
                "erased_offset_last": cutoff["offset_last"],
            }
            for column, value in entry.items():
                values[column].append(value)
    return _table("erasures", values["offset"], values, _ERASURES)


def _executed(
    work: BlockWork, reading: BatchReading, history_key: bytes
) -> Iterable[ExecutedErasure]:
    for group in reading.groups:
        if group.record.name != "ErasureExecuted":
            continue
        subjects = subject_tokens(history_key, group.frame.get_column("number").to_list())
        for row, index in enumerate(group.indexes):
            event = group.frame.row(row, named=True)
            if event["test"]:
                continue
            offset, recorded_at = work.records[index].offset, group.recorded_at[row]
            origin = work.origin
            place = ExecutedPlace(
                origin.log_id, origin.topic, origin.partition, offset, recorded_at
            )
            certificate = certificate_of(event, place, subjects[row])
            entry = entry_of(certificate, recorded_at)
            yield ExecutedErasure(offset, recorded_at, subjects[row], event["number"], entry)
