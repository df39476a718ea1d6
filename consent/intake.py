"""Reading a batch of one partition: the only place that says what a bad record is.

Both workers read with this module, so what the projection folds and what history keeps are the
same. A permitting event in the wrong form is unreadable and goes to the dead letters. A
restricting one is applied: under the right key if the key is wrong, at broker time if it is dated
ahead, and as a withdrawal of everything if only its kind and its number can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import polars

from consent.codec import FRAME_BYTES, MAGIC
from consent.columns import ColumnsUnreadable, decode_columns
from consent.contracts import RecordContract, contracts
from consent.errors import Unreadable
from consent.numbers import DIGITS_THAT_IDENTIFY, is_canonical_key
from consent.partitioning import partition_of, partitions_of
from consent.suspect import (
    AHEAD_MAX_US,
    OCCURRED_AT_MIN_US,
    Settled,
    Suspect,
    opted_out_number,
    settle,
)

FORWARDED_HEADER: Final = "ledger-forwarded"
ALARM_UNREADABLE_OPT_OUT: Final = "opt_out_unreadable"


class RawRecord(Protocol):
    """What is needed of a fetched record; `timestamp` is the broker's, in milliseconds."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a batch came from; `partitions` is the topic's partition count."""

    topic: str
    partition: int
    partitions: int


@dataclass(frozen=True, slots=True)
class EventGroup:
    """The readable events of one schema in a batch; row k is record `indexes[k]`.

    `effective_at` is when a row counts from, in µs: `occurred_at`, or the broker's time for a
    restriction dated ahead. Rows in `foreign` belong to another partition's owner: they are kept
    by history and forwarded, but not folded here.
    """

    record: RecordContract
    indexes: list[int]
    frame: polars.DataFrame
    effective_at: list[int]
    recorded_at: list[int]
    payload_ends: list[int]
    bodies: list[bytes]
    foreign: frozenset[int]


@dataclass(frozen=True, slots=True)
class UnreadableRecord:
    """A record for the dead letters. `number` is its key where that is a canonical number.

    `restricts`: by its schema id it is an opt-out of that number, to be applied as a withdrawal of
    everything at broker time.
    """

    index: int
    reason: str
    detail: str
    schema_id: int | None = None
    event_name: str | None = None
    number: str | None = None
    restricts: bool = False


@dataclass(frozen=True, slots=True)
class Forward:
    """A record to be produced once more, by the projection's owner of this partition.

    Produced with FORWARDED_HEADER. Repeating it after a crash is harmless: it is the same event.
    """

    index: int
    key: bytes
    value: bytes
    reason: str


@dataclass(slots=True)
class BatchReading:
    """What a batch holds. Every record is in exactly one group or in `unreadable`."""

    groups: list[EventGroup] = field(default_factory=list)
    unreadable: list[UnreadableRecord] = field(default_factory=list)
    forwards: list[Forward] = field(default_factory=list)
    alarms: dict[str, int] = field(default_factory=dict)

    def alarm(self, name: str) -> None:
        """Count something that a person should see."""
        self.alarms[name] = self.alarms.get(name, 0) + 1


Needed = Callable[[RecordContract], Sequence[str]]


def all_columns(record: RecordContract) -> Sequence[str]:
    """Every column of a record."""
    return [field["name"] for field in record.schema["fields"]]


def read_batch(
    records: Sequence[RawRecord],
    origin: Origin,
    nonce: bytes,
    needed: Needed = all_columns,
    recorded_at: Sequence[int] | None = None,
) -> BatchReading:
    """Read records of one partition, in offset order.

    `needed` names the columns that the caller wants in the frames, beside those that the checks
    use. `recorded_at` is the broker time in µs of every record where that is not its timestamp.
    `nonce` is 16 random bytes that publishers don't know; it does not show in the result.
    """
    if recorded_at is None:
        recorded_at = [record.timestamp * 1000 for record in records]
    reading = BatchReading()
    for schema_id, indexes in _by_schema_id(records, reading).items():
        record = contracts().by_id(schema_id)
        if record is None or record.topic != origin.topic:
            reading.unreadable += (
                _misfiled(index, records[index].key, schema_id, record, origin) for index in indexes
            )
        else:
            group = _Group(records, recorded_at, origin, record, indexes)
            _read_group(group, nonce, needed, reading)
    _send_opt_outs_home(records, origin, reading)
    reading.unreadable.sort(key=lambda unreadable: unreadable.index)
    reading.forwards.sort(key=lambda forward: forward.index)
    return reading


def _send_opt_outs_home(
    records: Sequence[RawRecord], origin: Origin, reading: BatchReading
) -> None:
    """Forward opt-outs that can't be read to their number's partition: only there they count."""
    for place, unreadable in enumerate(reading.unreadable):
        if not unreadable.restricts:
            continue
        reading.alarm(ALARM_UNREADABLE_OPT_OUT)
        raw = records[unreadable.index]
        key, value = raw.key or b"", raw.value or b""
        if _home(key, origin) != origin.partition and not _was_forwarded(raw):
            reading.unreadable[place] = replace(unreadable, restricts=False)
            reading.forwards.append(Forward(unreadable.index, key, value, "WRONG_PARTITION"))


@dataclass(frozen=True, slots=True)
class _Group:
    records: Sequence[RawRecord]
    recorded_at: Sequence[int]
    origin: Origin
    record: RecordContract
    indexes: list[int]


@dataclass(slots=True)
class _Kept:
    """Rows that count, by their position in the decoded frame."""

    positions: list[int] = field(default_factory=list)
    effective_at: list[int] = field(default_factory=list)
    payload_ends: list[int] = field(default_factory=list)
    foreign: set[int] = field(default_factory=set)


def _by_schema_id(records: Sequence[RawRecord], reading: BatchReading) -> dict[int, list[int]]:
    by_head: dict[bytes, list[int]] = {}
    for index, record in enumerate(records):
        value = record.value
        if value is None:
            detail = "the record has no value; events are never deleted by key"
            reading.unreadable.append(UnreadableRecord(index, "NULL_VALUE", detail))
        elif len(value) <= FRAME_BYTES or value[:1] != MAGIC:
            detail = "the value does not begin with 0 and a 4-byte schema id"
            reading.unreadable.append(UnreadableRecord(index, "NOT_FRAMED", detail))
        else:
            by_head.setdefault(value[:FRAME_BYTES], []).append(index)
    return {int.from_bytes(head[1:], "big"): found for head, found in by_head.items()}


def _misfiled(
    index: int,
    key: bytes | None,
    schema_id: int,
    record: RecordContract | None,
    origin: Origin,
) -> UnreadableRecord:
    if record is None:
        detail = f"schema id {schema_id} is not one of this ledger's"
        return UnreadableRecord(index, "UNKNOWN_SCHEMA_ID", detail, schema_id)
    detail = f"{record.name} belongs in {record.topic}, not in {origin.topic}"
    number = opted_out_number(record.name, key)
    return UnreadableRecord(
        index, "WRONG_TOPIC", detail, schema_id, record.name, number, number is not None
    )


def _read_group(group: _Group, nonce: bytes, needed: Needed, reading: BatchReading) -> None:
    record = group.record
    names = list(dict.fromkeys([*needed(record), *_checked_columns(record)]))
    bodies = [(group.records[index].value or b"")[FRAME_BYTES:] for index in group.indexes]
    rows, frame = _decode(record, bodies, nonce, names)
    for row in sorted(set(range(len(bodies))).difference(rows)):
        problem = Unreadable("UNDECODABLE", "the Avro body does not fit its schema")
        reading.unreadable.append(_unreadable(group, group.indexes[row], problem))
    if not rows:
        return
    indexes, bodies = [group.indexes[row] for row in rows], [bodies[row] for row in rows]
    kept = _Kept()
    occurred_at = frame.get_column("occurred_at").to_list()
    for position, end in enumerate(_clean_ends(group, indexes, bodies, frame)):
        if end is not None:
            kept.positions.append(position)
            kept.effective_at.append(occurred_at[position])
            kept.payload_ends.append(end)
        else:
            _look_closer(group, indexes[position], position, kept, reading)
    if kept.positions:
        reading.groups.append(_event_group(group, indexes, bodies, frame, kept))


def _checked_columns(record: RecordContract) -> Sequence[str]:
    columns = ["occurred_at", "seller_id", "salt"]
    return [*columns, "number"] if record.has_number else columns


def _decode(
    record: RecordContract, bodies: list[bytes], nonce: bytes, names: list[str]
) -> tuple[list[int], polars.DataFrame]:
    """Rows that could be decoded and their frame; halves the batch to find those that could not."""
    try:
        return list(range(len(bodies))), decode_columns(record, bodies, nonce, names)
    except ColumnsUnreadable:
        if len(bodies) == 1:
            return [], polars.DataFrame()
    middle = len(bodies) // 2
    first, first_frame = _decode(record, bodies[:middle], nonce, names)
    second, second_frame = _decode(record, bodies[middle:], nonce, names)
    frames = [frame for frame in (first_frame, second_frame) if frame.height]
    rows = first + [row + middle for row in second]
    return rows, polars.concat(frames) if frames else polars.DataFrame()


def _clean_ends(
    group: _Group, indexes: list[int], bodies: list[bytes], frame: polars.DataFrame
) -> list[int | None]:
    """Payload length of every row that is plainly in order, None for the others.

    In order: key and number are the same canonical number of this partition, the number stands
    nowhere else in the body, it is dated, and not ahead of the broker by more than is allowed.
    """
    if not group.record.has_number:
        return [None] * len(indexes)
    records, recorded_at = group.records, group.recorded_at
    keys = [records[index].key or b"" for index in indexes]
    homes = partitions_of(keys, group.origin.partitions)
    at_home = (homes == group.origin.partition).tolist()
    columns = (frame.get_column(name).to_list() for name in _checked_columns(group.record))
    ends: list[int | None] = []
    for index, key, home, body, occurred_at, seller, salt, number in zip(
        indexes, keys, at_home, bodies, *columns, strict=True
    ):
        end = None
        dated = OCCURRED_AT_MIN_US <= occurred_at <= recorded_at[index] + AHEAD_MAX_US
        if home and dated and len(seller) > 1 and key == number.encode() and is_canonical_key(key):
            end = _only_tail(body, key, salt)
        ends.append(end)
    return ends


def _only_tail(body: bytes, number: bytes, salt: bytes) -> int | None:
    """Where number and salt stand in a body, if the number's digits stand nowhere else in it."""
    digits = number[-DIGITS_THAT_IDENTIFY:] if len(number) > DIGITS_THAT_IDENTIFY else number[1:]
    found = body.find(digits)
    start = found - (len(number) - len(digits)) - 1
    if start < 0 or body[start] != len(number) * 2:
        return None
    if not body.startswith(number + salt, start + 1) or body.find(digits, found + 1) >= 0:
        return None
    return start


def _look_closer(
    group: _Group, index: int, position: int, kept: _Kept, reading: BatchReading
) -> None:
    raw = group.records[index]
    value = raw.value or b""
    suspect = Suspect(group.record, raw.key, value[FRAME_BYTES:], group.recorded_at[index])
    try:
        settled = settle(suspect)
        key = settled.key or raw.key or b""
        away = group.record.has_number and _home(key, group.origin) != group.origin.partition
        if away or settled.key is not None:
            _refuse_second_forward(raw)
            reading.forwards.append(_forward(index, key, settled, value))
    except Unreadable as problem:
        reading.unreadable.append(_unreadable(group, index, problem))
        return
    if settled.alarm is not None:
        reading.alarm(settled.alarm)
    if settled.corrected is not None:
        detail = "applied under the number's E.164 form, by a corrected record"
        reading.unreadable.append(
            UnreadableRecord(
                index, "NUMBER_FORMAT", detail, group.record.schema_id, group.record.name
            )
        )
        return
    if away or settled.key is not None:
        kept.foreign.add(len(kept.positions))
    kept.positions.append(position)
    kept.effective_at.append(settled.effective_at)
    kept.payload_ends.append(settled.payload_end)


def _home(key: bytes, origin: Origin) -> int:
    return partition_of(key, origin.partitions)


def _was_forwarded(raw: RawRecord) -> bool:
    return any(name == FORWARDED_HEADER for name, _ in raw.headers or ())


def _refuse_second_forward(raw: RawRecord) -> None:
    if _was_forwarded(raw):
        detail = "it was forwarded once and still is in the wrong place"
        raise Unreadable("FORWARDED_TWICE", detail)


def _forward(index: int, key: bytes, settled: Settled, value: bytes) -> Forward:
    if settled.corrected is not None:
        return Forward(index, key, settled.corrected, "NUMBER_FORMAT")
    reason = "WRONG_PARTITION" if settled.key is None else "KEY_MISMATCH"
    return Forward(index, key, value, reason)


def _unreadable(group: _Group, index: int, problem: Unreadable) -> UnreadableRecord:
    number = opted_out_number(group.record.name, group.records[index].key)
    return UnreadableRecord(
        index=index,
        reason=problem.reason,
        detail=problem.detail,
        schema_id=group.record.schema_id,
        event_name=group.record.name,
        number=number,
        restricts=number is not None,
    )


def _event_group(
    group: _Group, indexes: list[int], bodies: list[bytes], frame: polars.DataFrame, kept: _Kept
) -> EventGroup:
    if len(kept.positions) < len(indexes):
        frame = frame[kept.positions]
        indexes = [indexes[position] for position in kept.positions]
        bodies = [bodies[position] for position in kept.positions]
    return EventGroup(
        record=group.record,
        indexes=indexes,
        frame=frame,
        effective_at=kept.effective_at,
        recorded_at=[group.recorded_at[index] for index in indexes],
        payload_ends=kept.payload_ends,
        bodies=bodies,
        foreign=frozenset(kept.foreign),
    )
