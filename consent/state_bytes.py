"""The same algebra as `consent.state`, on encoded states: the hot path of the projection.

`merge_bodies(encode(a), encode(b)) == encode(merge(a, b))`, held true by tests. Entries are moved
as bytes; only two entries that meet in one slot are looked into, and only as far as their times
unless those are equal. Where an erasure is involved, the states are decoded and merged as such.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from consent.avro_values import long_bytes, read_long, time_bytes
from consent.errors import Unreadable
from consent.lifters import Entry
from consent.state import ATTEMPTS_MAX, EMPTY, LOG_IDS_MAX, Attribute, SubjectState, merge
from consent.state_codec import (
    ERASED,
    NO_ENTRY,
    ONE_ENTRY,
    SECTIONS,
    decode_state_body,
    encode_state_body,
    section_codec,
    section_of,
)
from consent.state_entries import SLOT_ORDERS, attempt_order, greater_attribute

_STRING: Final = 0
_KEY_PARTS: Final = (
    (_STRING, 3),
    (_STRING, _STRING, _STRING, _STRING),
    (_STRING, 1, _STRING),
    (_STRING, _STRING),
    (_STRING, 1, _STRING),
    (_STRING, _STRING),
    (_STRING, 1),
    (_STRING,),
    (_STRING,),
    (_STRING,),
    (),
    (_STRING, 16),
)
"""Per section what its keys are made of: strings, and other fields by their bytes together."""

_LOG_ID_BYTES: Final = 16
_INDEX: Final = {name: index for index, name in enumerate(SECTIONS)}
_CODECS: Final = {
    name: (index, section_codec(name)) for name, index in _INDEX.items() if index != ERASED
}
_ATTEMPTS: Final = _INDEX["attempts"]
_ATTRIBUTES: Final = _INDEX["attributes"]
_APPLIED: Final = _INDEX["applied"]
_BEFORE_TIME: Final = {_INDEX["dnc"]: 1}
"""Bytes of an entry between its key and its time."""

_LENGTH_AND_SIGN: Final = 0x8080808080808081
_EIGHT_BYTES_POSITIVE: Final = 0x0080808080808080
"""Of eight bytes, little endian: which of them continue a varint, and if its value is negative."""

_NOTHING: Final = [NO_ENTRY] * len(SECTIONS)


def merge_bodies(a: bytes, b: bytes) -> bytes:
    """The least state at or above both; Unreadable if one of them is no state."""
    if a == b:
        return a
    mine, theirs = _split(a), _split(b)
    if mine is None or theirs is None:
        return encode_state_body(merge(decode_state_body(a), decode_state_body(b)))
    for index, section in enumerate(theirs):
        if section != NO_ENTRY and section != mine[index]:
            if mine[index] == NO_ENTRY:
                mine[index] = section
            else:
                mine[index] = _merged(index, mine[index], section)
    return b"".join(mine)


def apply_entries(body: bytes | None, entries: Iterable[Entry]) -> bytes:
    """A state with the entries of one or more events merged into it; None is the empty state."""
    erased = EMPTY
    added: list[tuple[int, bytes, bytes]] = []
    written: object = None
    value_bytes = b""
    for section, key, value in entries:
        if section == "erased":
            erased = merge(erased, SubjectState(erased=value))
            continue
        index, codec = _CODECS[section]
        if value is not written:
            written, value_bytes = value, codec.write_value(value)
        key_bytes = codec.write_key(key)
        added.append((index, key_bytes, key_bytes + value_bytes))
    sections = _NOTHING.copy() if body is None else _split(body)
    if sections is None or erased is not EMPTY:
        held = EMPTY if body is None else decode_state_body(body)
        said = decode_state_body(_joined(_NOTHING.copy(), added))
        return encode_state_body(merge(merge(held, erased), said))
    return _joined(sections, added)


def is_erased(body: bytes) -> bool:
    """True if an erasure cut-off is in the state."""
    return _split(body) is None


def check_body(body: bytes) -> None:
    """Unreadable if the bytes are not divided as a state is; entries are not looked into."""
    _split(body)


def attributes_with(body: bytes, mark: bytes) -> Mapping[str, Attribute]:
    """Attributes of an encoded state, at least those with `mark` in their name; the rest of the
    state is not looked into.
    """
    sections = _split(body)
    if sections is None:
        return decode_state_body(body).attributes
    read = section_codec("attributes").read
    found = (read(entry, 0) for entry in _entries(sections[_ATTRIBUTES]) if mark in entry)
    return {name: attribute for name, attribute, _end in found}


def _joined(sections: list[bytes], added: list[tuple[int, bytes, bytes]]) -> bytes:
    for index, key, entry in added:
        section = sections[index]
        if section == NO_ENTRY:
            sections[index] = ONE_ENTRY + long_bytes(len(entry)) + entry + NO_ENTRY
        elif index == _ATTEMPTS:
            sections[index] = _with_attempt(section, key, entry)
        else:
            sections[index] = _with_entry(index, section, key, entry)
    return b"".join(sections)


def _split(body: bytes) -> list[bytes] | None:
    """The sections of a state, in the layout that this release writes; None if it is erased."""
    sections = []
    at = 0
    try:
        for index in range(len(SECTIONS)):
            start = at
            while body[at] == 1:
                size = body[at + 1]
                if size < 0x80:
                    at += 2 + (size >> 1)
                else:
                    size, after = read_long(body, at + 1)
                    at = after + size
            if body[at] != 0:
                if index == ERASED:
                    return None
                return _split(encode_state_body(decode_state_body(body)))
            at += 1
            sections.append(body[start:at])
    except IndexError:
        raise Unreadable("UNDECODABLE", "the state ends too early") from None
    if at != len(body):
        raise Unreadable("UNDECODABLE", f"{len(body) - at} bytes are left after the state")
    return sections


def _blocks(section: bytes) -> Iterator[tuple[int, int, int]]:
    """Where each block begins, its entry begins and it ends."""
    at = 0
    while section[at] == 1:
        size = section[at + 1]
        if size < 0x80:
            start = at + 2
            end = start + (size >> 1)
        else:
            size, start = read_long(section, at + 1)
            end = start + size
        yield at, start, end
        at = end


def _entries(section: bytes) -> list[bytes]:
    return [section[start:end] for _at, start, end in _blocks(section)]


def _with_entry(index: int, section: bytes, key: bytes, entry: bytes) -> bytes:
    """A section of slots with one more entry, in the order of keys."""
    place = len(section) - 1
    for at, start, end in _blocks(section):
        if section.startswith(key, start):
            held = section[start:end]
            if held == entry:
                return section
            entry = _greater(index, len(key), held, entry)
            return section[:at] + ONE_ENTRY + long_bytes(len(entry)) + entry + section[end:]
        if section[start:end] > entry:
            place = at
            break
    section = section[:place] + ONE_ENTRY + long_bytes(len(entry)) + entry + section[place:]
    return _newest_logs(section, key) if index == _APPLIED else section


def _merged(index: int, section: bytes, other: bytes) -> bytes:
    """A section with the entries of another one."""
    if index in (_ATTEMPTS, _APPLIED):
        for entry in _entries(other):
            key = entry[: _key_end(index, entry)]
            if index == _ATTEMPTS:
                section = _with_attempt(section, key, entry)
            else:
                section = _with_entry(index, section, key, entry)
        return section
    held = {entry[: _key_end(index, entry)]: entry for entry in _entries(section)}
    for entry in _entries(other):
        key = entry[: _key_end(index, entry)]
        mine = held.get(key)
        if mine is None:
            held[key] = entry
        elif mine != entry:
            held[key] = _greater(index, len(key), mine, entry)
    return section_of([held[key] for key in sorted(held)])


def _key_end(index: int, entry: bytes) -> int:
    at = 0
    for part in _KEY_PARTS[index]:
        if part:
            at += part
        else:
            length, at = read_long(entry, at)
            at += length
    return at


def _greater(index: int, key_end: int, one: bytes, other: bytes) -> bytes:
    if index == _APPLIED:
        return one[:key_end] + _greater_offset(one, other, key_end)
    later = _later(one, other, key_end + _BEFORE_TIME.get(index, 0))
    if later is not None:
        return later
    section = SECTIONS[index]
    codec = section_codec(section)
    _key, first, _end = codec.read(one, 0)
    _key, second, _end = codec.read(other, 0)
    if index == _ATTRIBUTES:
        return one[:key_end] + codec.write_value(greater_attribute(first, second))
    order = SLOT_ORDERS[section]
    return one if order(first) >= order(second) else other


def _later(one: bytes, other: bytes, time_at: int) -> bytes | None:
    """The entry with the greater time, None for equal times."""
    first = int.from_bytes(one[time_at : time_at + 8], "little")
    second = int.from_bytes(other[time_at : time_at + 8], "little")
    if first & _LENGTH_AND_SIGN == second & _LENGTH_AND_SIGN == _EIGHT_BYTES_POSITIVE:
        # Varints of one length, least significant bits first: ordered as their values are.
        if first == second:
            return None
        return one if first > second else other
    first, second = read_long(one, time_at)[0], read_long(other, time_at)[0]
    if first == second:
        return None
    return one if first > second else other


def _greater_offset(one: bytes, other: bytes, key_end: int) -> bytes:
    """The value of an entry of `applied`: the greater offset, the greater broker time."""
    one_offset, one_time_at = read_long(one, key_end)
    other_offset, other_time_at = read_long(other, key_end)
    if one[one_time_at:] == other[other_time_at:]:
        return one[key_end:] if one_offset >= other_offset else other[key_end:]
    latest = max(read_long(one, one_time_at)[0], read_long(other, other_time_at)[0])
    return long_bytes(max(one_offset, other_offset)) + time_bytes(latest)


def _newest_logs(section: bytes, key: bytes) -> bytes:
    """Cut what is kept of the topic of one entry just added."""
    topic = key[:-_LOG_ID_BYTES]
    entries = _entries(section)
    of_topic = [entry for entry in entries if entry.startswith(topic)]
    if len(of_topic) <= LOG_IDS_MAX:
        return section
    log_id_at = len(topic)
    log_id_end = len(key)

    def age(entry: bytes) -> tuple[int, bytes]:
        _offset, at = read_long(entry, log_id_end)
        return read_long(entry, at)[0], entry[log_id_at:log_id_end]

    entries.remove(min(of_topic, key=age))
    return section_of(entries)


def _with_attempt(section: bytes, key: bytes, entry: bytes) -> bytes:
    """A section of attempts with one more, of its key no more than are kept."""
    identity = entry[: _identity_end(entry, len(key))]
    place = len(section) - 1
    of_key = 0
    for at, start, end in _blocks(section):
        if section.startswith(key, start):
            of_key += 1
            if section.startswith(identity, start):
                return _with_repeated_attempt(section, identity, entry)
        if section[start:end] > entry:
            place = min(place, at)
    added = section[:place] + ONE_ENTRY + long_bytes(len(entry)) + entry + section[place:]
    if of_key < ATTEMPTS_MAX:
        return added
    entries = _entries(added)
    candidates = [held for held in entries if held.startswith(key)]
    entries.remove(min(candidates, key=lambda held: _age(held, len(key))))
    return section_of(entries)


def _with_repeated_attempt(section: bytes, identity: bytes, entry: bytes) -> bytes:
    entries = _entries(section)
    held = next(held for held in entries if held.startswith(identity))
    read = section_codec("attempts").read
    if attempt_order(read(entry, 0)[1]) <= attempt_order(read(held, 0)[1]):
        return section
    entries[entries.index(held)] = entry
    return section_of(sorted(entries))


def _identity_end(entry: bytes, key_end: int) -> int:
    """Index after time and event id, which follow the key."""
    _at, after_time = read_long(entry, key_end)
    length, start = read_long(entry, after_time)
    return start + length


def _age(entry: bytes, key_end: int) -> tuple[int, bytes]:
    at, after_time = read_long(entry, key_end)
    length, start = read_long(entry, after_time)
    return at, entry[start : start + length]
