"""What history keeps of a record: the bytes of its fact, and the evidence that is kept apart.

A fact is a pure function of the record, its place in the log, its broker time and the history
key, so that any owner, at any time, makes the same bytes; they are what proofs cover. Facts hold
no personal data: the payload is the byte prefix of the published body before number, salt and
evidence, and what stands behind it is only committed to. Nothing here is ever decoded one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars

from consent.contracts import RecordContract
from consent.evidence import STATEMENT_FIELDS, element_column, has_evidence
from consent.intake import BatchReading, EventGroup, RawRecord, UnreadableRecord
from consent.party_links import party_references
from consent.privacy import (
    SALT_BYTES,
    commitment,
    party_token,
    subject_token,
    subject_tokens,
    unreadable_commitment,
)

DERIVATION_VERSION: Final = 1
"""Version of the rules below that derive states and party from evidence."""

UNREADABLE_NAME: Final = ""


@dataclass(frozen=True, slots=True)
class LogPartition:
    """One partition of one incarnation of a topic; `log_id` is the topic's UUID, 16 bytes."""

    log_id: bytes
    topic: str
    partition: int


@dataclass(slots=True)
class EvidenceColumns:
    """The readable records' persons and evidence, one element per record in every list.

    `offset` grows within one event type only. `number` is None where the event is about none,
    `evidence` where none was published.
    """

    offset: list[int] = field(default_factory=list)
    event_id: list[str] = field(default_factory=list)
    subject: list[bytes | None] = field(default_factory=list)
    number: list[str | None] = field(default_factory=list)
    salt: list[bytes] = field(default_factory=list)
    evidence: list[bytes | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """Facts in the order of the records, one for each, and the evidence of the readable ones."""

    facts: list[bytes]
    evidence: EvidenceColumns


@dataclass(frozen=True, slots=True)
class FactContext:
    """What facts are a function of beside the records themselves."""

    origin: LogPartition
    history_key: bytes = field(repr=False)


def needed_columns(record: RecordContract) -> Sequence[str]:
    """Columns of an event that its fact is made from; for `consent.intake.read_batch`."""
    wanted = ("event_id", "seller_id", "number", "states", "evidence", *STATEMENT_FIELDS)
    present = {column["name"] for column in record.schema["fields"]}
    return [name for name in wanted if name in present]


def facts_of(
    records: Sequence[RawRecord],
    recorded_at: Sequence[int],
    reading: BatchReading,
    context: FactContext,
) -> BatchFacts:
    """Facts of records that `read_batch` has read with `needed_columns`; none is left out."""
    facts: list[bytes] = [b""] * len(records)
    evidence = EvidenceColumns()
    heads = _heads(context.origin, [record.offset for record in records], recorded_at)
    for group in reading.groups:
        _add_group(group, records, heads, context, facts, evidence)
    for unreadable in reading.unreadable:
        index = unreadable.index
        facts[index] = heads[index] + _unreadable_rest(records[index], unreadable, context)
    if not all(facts):
        raise ValueError("the reading does not cover every record")
    return BatchFacts(facts, evidence)


def derived_states(frame: polars.DataFrame) -> list[tuple[str, ...]]:
    """Per row the jurisdictions (as US-TX) that an address in evidence names.

    Empty where the payload itself names states, and where the address holds no ISO codes: free
    text would bring personal data into history.
    """
    none: list[tuple[str, ...]] = [()] * frame.height
    if not has_evidence(frame):
        return none
    address = frame.get_column("evidence").struct.unnest().get_column("address")
    if address.null_count() == frame.height:
        return none
    codes = address.struct.unnest().select_seq(
        polars.col("country").str.to_uppercase(), polars.col("subdivision").str.to_uppercase()
    )
    found = codes.select_seq(
        polars.when(
            polars.col("country").str.contains(r"^[A-Z]{2}$")
            & polars.col("subdivision").str.contains(r"^[A-Z0-9]{1,3}$")
        ).then(polars.concat_str("country", "subdivision", separator="-"))
    ).to_series()
    if found.null_count() == frame.height:
        return none
    stated = [False] * frame.height
    if "states" in frame.columns:
        stated = (frame.get_column("states").list.len().fill_null(0) > 0).to_list()
    return [
        () if code is None or named else (code,)
        for code, named in zip(found.to_list(), stated, strict=True)
    ]


def _add_group(
    group: EventGroup,
    records: Sequence[RawRecord],
    heads: list[bytes],
    context: FactContext,
    facts: list[bytes],
    evidence: EvidenceColumns,
) -> None:
    frame = group.frame
    parts = _split(group)
    key = context.history_key
    numbers: list[str | None] = [None] * frame.height
    subjects: list[bytes | None] = [None] * frame.height
    if group.record.has_number:
        numbers = frame.get_column("number").to_list()
        subjects = [*subject_tokens(key, (number or "" for number in numbers))]
    subject_branches = [b"\x00" if subject is None else b"\x02" + subject for subject in subjects]
    name = _text(group.record.name) + _long(group.record.version)
    elements = _Longs(element_column(frame).to_list())
    lengths = _Longs(group.payload_ends)
    ends = _derived_ends(frame, key)
    joined = b"".join
    for row, index in enumerate(group.indexes):
        end = group.payload_ends[row]
        salt, bare = parts.salts[row], parts.evidence[row]
        facts[index] = joined(
            (
                heads[index],
                subject_branches[row],
                name,
                lengths[row],
                group.bodies[row][:end],
                b"\x40",  # the length of a commitment, 32
                commitment(salt, numbers[row] or "", bare or b""),
                elements[row],
                ends[row],
            )
        )
    evidence.offset += [records[index].offset for index in group.indexes]
    evidence.event_id += frame.get_column("event_id").to_list()
    evidence.subject += subjects
    evidence.number += numbers
    evidence.salt += parts.salts
    evidence.evidence += parts.evidence


@dataclass(frozen=True, slots=True)
class _Parts:
    salts: list[bytes]
    evidence: list[bytes | None]


def _split(group: EventGroup) -> _Parts:
    """Salt and evidence bytes of every body, by their place after the payload."""
    salts: list[bytes] = []
    evidence: list[bytes | None] = []
    has_number = group.record.has_number
    for body, end in zip(group.bodies, group.payload_ends, strict=True):
        start = end
        if has_number:
            length, start = (body[end] >> 1, end + 1) if body[end] < 0x80 else _read(body, end)
            start += length
        salts.append(body[start : start + SALT_BYTES])
        start += SALT_BYTES
        branch, start = (body[start], start + 1) if body[start] < 0x80 else _read(body, start)
        evidence.append(body[start:] if branch else None)
    return _Parts(salts, evidence)


def _read(body: bytes, start: int) -> tuple[int, int]:
    """An Avro long of 0 or more in any of its spellings, and where it ends."""
    value = shift = 0
    while body[start] & 0x80:
        value |= (body[start] & 0x7F) << shift
        shift += 7
        start += 1
    return (value | body[start] << shift) >> 1, start + 1


def _derived_ends(frame: polars.DataFrame, key: bytes) -> list[bytes]:
    """The last fields of every fact: derivation, states, zones, party, no unreadable reason."""
    states = derived_states(frame)
    parties = _parties(frame, key)
    known: dict[tuple[tuple[str, ...], bytes | None], bytes] = {}
    ends = []
    for pair in zip(states, parties, strict=True):
        end = known.get(pair)
        if end is None:
            branch = b"\x00" if pair[1] is None else b"\x02" + pair[1]
            zones = _texts(())
            end = _long(DERIVATION_VERSION) + _texts(pair[0]) + zones + branch + b"\x00"
            known[pair] = end
        ends.append(end)
    return ends


def _parties(frame: polars.DataFrame, key: bytes) -> list[bytes | None]:
    references = party_references(frame)
    if references is None:
        return [None] * frame.height
    sellers = frame.get_column("seller_id").to_list()
    return [
        None if reference is None else party_token(key, seller, reference)
        for seller, reference in zip(sellers, references, strict=True)
    ]


def _unreadable_rest(
    record: RawRecord, unreadable: UnreadableRecord, context: FactContext
) -> bytes:
    """A fact after its head, for a record of which only its place and its bytes' hash are kept."""
    subject = b"\x00"
    if unreadable.number is not None:
        subject = b"\x02" + subject_token(context.history_key, unreadable.number)
    return b"".join(
        (
            subject,
            _text(unreadable.event_name or UNREADABLE_NAME),
            _long(0),
            b"\x00",
            b"\x40",
            unreadable_commitment(context.history_key, record.key, record.value),
            _long(0),
            _long(DERIVATION_VERSION),
            _texts(()),
            _texts(()),
            b"\x00",
            b"\x02" + _text(unreadable.reason),
        )
    )


def _heads(origin: LogPartition, offsets: Sequence[int], recorded_at: Sequence[int]) -> list[bytes]:
    """The first fields of every fact: log_id, topic, partition, offset, recorded_at."""
    same = origin.log_id + _text(origin.topic) + _long(origin.partition)
    pairs = zip(longs(offsets), longs(recorded_at), strict=True)
    return [same + offset + at for offset, at in pairs]


def longs(values: Sequence[int]) -> list[bytes]:
    """Avro longs of many values of 0 or more, in order."""
    plain = np.asarray(values, dtype=np.int64)
    if len(plain) and int(plain.min()) < 0:
        return [_long(value) for value in values]
    doubled = plain.astype(np.uint64) << np.uint64(1)
    result: list[bytes] = [b""] * len(plain)
    lengths = np.ones(len(plain), dtype=np.int64)
    for length in range(1, 10):
        lengths[doubled >> np.uint64(7 * length) > 0] = length + 1
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        shifts = np.arange(length, dtype=np.uint64) * np.uint64(7)
        digits = ((doubled[rows, None] >> shifts) & np.uint64(0x7F)).astype(np.uint8)
        digits[:, :-1] |= 0x80
        data = digits.tobytes()
        for place, row in enumerate(rows.tolist()):
            result[row] = data[place * length : (place + 1) * length]
    return result


class _Longs:
    """Avro longs of a list in which values repeat."""

    def __init__(self, values: Sequence[int]) -> None:
        self._values = values
        self._known = {value: _long(value) for value in set(values)}

    def __getitem__(self, row: int) -> bytes:
        return self._known[self._values[row]]


def _long(value: int) -> bytes:
    rest = value << 1 ^ value >> 63
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _text(value: str) -> bytes:
    data = value.encode()
    return _long(len(data)) + data


def _texts(values: Iterable[str]) -> bytes:
    items = [_text(value) for value in values]
    if not items:
        return b"\x00"
    return _long(len(items)) + b"".join(items) + b"\x00"
