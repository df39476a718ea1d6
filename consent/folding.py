"""Folding a whole batch: from the columns of its events to the entries of each number's state.

Owns nothing of what an event means (`consent.lifters`) and nothing of how entries merge
(`consent.state_bytes`); it only brings the one to the other without a dict per record. Equal to
lifting and merging the events one by one, held true by tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final

import polars

from consent.columns import field_symbols
from consent.contracts import RecordContract
from consent.evidence import STATEMENT_FIELDS, element_column
from consent.facts import derived_states
from consent.intake import BatchReading, EventGroup, RawRecord
from consent.lift import Position, place_entries, unreadable_entries
from consent.lifters import LIFTERS, Entry, Lifter
from consent.party_links import link_entries, named_parties
from consent.state import TEST_PREFIX, AppliedOffset

_ALWAYS: Final = ("event_id", "seller_id", "test")
_FOR_PLACES: Final = ("states", "evidence")
# To ask whether lists are all empty takes as long as to read so many of them.
_ROWS_TO_LOOK_AHEAD: Final = 100


@dataclass(frozen=True, slots=True)
class Log:
    """One incarnation of one source partition."""

    topic: str
    log_id: bytes
    partition: int


def needed_columns(record: RecordContract) -> Sequence[str]:
    """Columns that `lift_batch` wants in the frames of a reading."""
    lifter = LIFTERS.get(record.name)
    if lifter is None:
        return ()
    present = {column["name"] for column in record.schema["fields"]}
    wanted = [*_ALWAYS, *lifter.columns, *_FOR_PLACES]
    if lifter.elements:
        wanted += STATEMENT_FIELDS
    return [name for name in dict.fromkeys(wanted) if name in present]


def lift_batch(
    reading: BatchReading,
    records: Sequence[RawRecord],
    recorded_at: Sequence[int],
    log: Log,
    party_key: bytes,
) -> dict[bytes, list[Entry]]:
    """Entries per number, in no order that matters; `applied` of each covers all its records.

    Rows that belong to another partition are left out. Numbers of which no record says anything
    are not in the result. Tokens of parties are made with `party_key`.
    """
    lifted: dict[bytes, list[Entry]] = {}
    last: dict[bytes, tuple[int, int]] = {}
    for index, key, entries in _lifted_records(reading, records, recorded_at, log, party_key):
        found = lifted.get(key)
        if found is None:
            lifted[key] = [*entries]
            last[key] = (records[index].offset, recorded_at[index])
        else:
            found += entries
            offset, at = last[key]
            last[key] = (max(offset, records[index].offset), max(at, recorded_at[index]))
    log_key = (log.topic, log.log_id)
    for key, place in last.items():
        lifted[key].append(("applied", log_key, AppliedOffset._make(place)))
    return lifted


def _lifted_records(
    reading: BatchReading,
    records: Sequence[RawRecord],
    recorded_at: Sequence[int],
    log: Log,
    party_key: bytes,
) -> Iterator[tuple[int, bytes, Sequence[Entry]]]:
    """Index, number and entries of every record that says something."""
    for group in reading.groups:
        indexes = group.indexes
        for row, entries in lift_group(group, party_key):
            index = indexes[row]
            key = records[index].key
            if key is not None:
                yield index, key, entries
    for unreadable in reading.unreadable:
        if unreadable.restricts and unreadable.number is not None:
            index = unreadable.index
            offset = records[index].offset
            place = Position(log.topic, log.log_id, log.partition, offset, recorded_at[index])
            yield index, unreadable.number.encode(), unreadable_entries(place)


def lift_group(group: EventGroup, party_key: bytes) -> Iterator[tuple[int, Sequence[Entry]]]:
    """Row number and entries of every own row that says something."""
    lifter = LIFTERS.get(group.record.name)
    if lifter is None:
        return
    frame = group.frame
    tests = frame.get_column("test").to_list()
    places = derived_states(frame)
    placed = any(places)
    parties = named_parties(group.record.name, frame, party_key)
    linked = any(parties)
    sellers = frame.get_column("seller_id").to_list() if linked else ()
    lift = lifter.lift
    foreign = group.foreign
    for row, values in enumerate(_rows(group, lifter, tests)):
        if row in foreign:
            continue
        entries = lift(values)
        if placed and places[row]:
            entries = [*entries, *place_entries(values[0], tests[row], places[row])]
        if linked and (party := parties[row]):
            entries = [*entries, *link_entries(values[0], tests[row], sellers[row], party)]
        if entries:
            yield row, entries


def _rows(group: EventGroup, lifter: Lifter, tests: list[bool]) -> Iterable[tuple[Any, ...]]:
    frame = group.frame
    sellers = frame.get_column("seller_id").to_list()
    if any(tests):
        sellers = [
            TEST_PREFIX + seller if test else seller
            for seller, test in zip(sellers, tests, strict=True)
        ]
    elements = element_column(frame).to_list() if lifter.elements else repeat(0, frame.height)
    symbols = field_symbols(group.record)
    columns = [_values(frame.get_column(name), symbols.get(name, ())) for name in lifter.columns]
    return zip(
        group.effective_at,
        frame.get_column("event_id").to_list(),
        sellers,
        elements,
        *columns,
        strict=True,
    )


def _values(column: polars.Series, symbols: tuple[str, ...]) -> Iterable[Any]:
    """Values of a column, enums as words, arrays of enums as tuples of words."""
    if column.null_count() == len(column):
        return repeat(None, len(column))
    if isinstance(column.dtype, polars.List):
        return _lists(column, symbols)
    if not symbols:
        return column.to_list()
    return [None if value is None else symbols[value] for value in column.to_list()]


def _lists(column: polars.Series, symbols: tuple[str, ...]) -> Iterable[Any]:
    many = len(column) > _ROWS_TO_LOOK_AHEAD
    if many and not column.null_count() and not column.list.len().max():
        return repeat((), len(column))
    if not symbols:
        return column.to_list()
    met: dict[tuple[int, ...], tuple[str, ...]] = {}
    words: list[Any] = []
    for value in column.to_list():
        if value is None:
            words.append(None)
            continue
        indexes = tuple(value)
        found = met.get(indexes)
        if found is None:
            found = met[indexes] = tuple(symbols[index] for index in indexes)
        words.append(found)
    return words
