"""The same algebra as `consent.state`, on encoded states: the hot path of the projection.

`merge_bodies(encode(a), encode(b)) == encode(merge(a, b))`, held true by tests. Entries are moved
as bytes; only two entries that meet in one slot are looked into, and only as far as their times
unless those are equal. Where an erasure is involved, the states are decoded and merged as such.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from consent.avro_values import read_long
from consent.errors import Unreadable
from consent.lifters import Entry
from consent.state import (
    ATTEMPTS_MAX,
    EMPTY,
    LOG_IDS_MAX,
    SubjectState,
    merge,
    merge_applied,
    newest_logs,
)
from consent.state_codec import (
    ERASED,
    NO_ENTRY,
    ONE_ENTRY,
    SECTIONS,
    decode_state_body,
    encode_state_body,
    entry_bytes,
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

_INDEX: Final = {name: index for index, name in enumerate(SECTIONS)}
_ATTEMPTS: Final = _INDEX["attempts"]
_ATTRIBUTES: Final = _INDEX["attributes"]
_APPLIED: Final = _INDEX["applied"]
_BEFORE_TIME: Final = {_INDEX["dnc"]: 1}
"""Bytes of an entry between its key and its time."""

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
                mine[index] = _with_entries(index, mine[index], _entries(section))
    return b"".join(mine)


def apply_entries(body: bytes | None, entries: Iterable[Entry]) -> bytes:
    """A state with the entries of one or more events merged into it; None is the empty state."""
    by_section: dict[int, list[bytes]] = {}
    erased = EMPTY
    for section, key, value in entries:
        if section == "erased":
            erased = merge(erased, SubjectState(erased=value))
        else:
            by_section.setdefault(_INDEX[section], []).append(entry_bytes(section, key, value))
    sections = _NOTHING.copy() if body is None else _split(body)
    if erased is not EMPTY or sections is None:
        held = EMPTY if body is None else decode_state_body(body)
        said = decode_state_body(_join(_NOTHING.copy(), by_section))
        return encode_state_body(merge(merge(held, erased), said))
    return _join(sections, by_section)


def is_erased(body: bytes) -> bool:
    """True if an erasure cut-off is in the state."""
    return _split(body) is None


def _join(sections: list[bytes], by_section: dict[int, list[bytes]]) -> bytes:
    for index, added in by_section.items():
        if sections[index] == NO_ENTRY and len(added) == 1:
            sections[index] = section_of(added)
        else:
            sections[index] = _with_entries(index, sections[index], added)
    return b"".join(sections)


def _split(body: bytes) -> list[bytes] | None:
    """The sections of a state, in the layout that this release writes; None if it is erased."""
    sections = []
    at = 0
    try:
        for index in range(len(SECTIONS)):
            start = at
            if index == ERASED:
                if body[at] != 0:
                    return None
            else:
                while body[at] == 1:
                    size = body[at + 1]
                    if size < 0x80:
                        at += 2 + (size >> 1)
                    else:
                        size, after = read_long(body, at + 1)
                        at = after + size
                if body[at] != 0:
                    return _split(encode_state_body(decode_state_body(body)))
            at += 1
            sections.append(body[start:at])
    except IndexError:
        raise Unreadable("UNDECODABLE", "the state ends too early") from None
    if at != len(body):
        raise Unreadable("UNDECODABLE", f"{len(body) - at} bytes are left after the state")
    return sections


def _entries(section: bytes) -> list[bytes]:
    entries = []
    at = 0
    while section[at : at + 1] == ONE_ENTRY:
        size, start = read_long(section, at + 1)
        at = start + size
        entries.append(section[start:at])
    return entries


def _key_end(index: int, entry: bytes) -> int:
    at = 0
    for part in _KEY_PARTS[index]:
        if part:
            at += part
        else:
            length = entry[at]
            if length < 0x80:
                at += 1 + (length >> 1)
            else:
                length, at = read_long(entry, at)
                at += length
    return at


def _with_entries(index: int, section: bytes, added: list[bytes]) -> bytes:
    if index == _ATTEMPTS:
        return _with_attempts(section, added)
    held = {entry[: _key_end(index, entry)]: entry for entry in _entries(section)}
    for entry in added:
        key = entry[: _key_end(index, entry)]
        other = held.get(key)
        if other is None:
            held[key] = entry
        elif other != entry:
            held[key] = _greater(index, len(key), other, entry)
    if index == _APPLIED and len(held) > LOG_IDS_MAX:
        return _cut_to_newest(index, held.values())
    return section_of([held[key] for key in sorted(held)])


def _greater(index: int, key_end: int, one: bytes, other: bytes) -> bytes:
    if index != _APPLIED:
        time_at = key_end + _BEFORE_TIME.get(index, 0)
        one_at, other_at = read_long(one, time_at)[0], read_long(other, time_at)[0]
        if one_at != other_at:
            return one if one_at > other_at else other
    section = SECTIONS[index]
    read = section_codec(section).read
    key, first, _end = read(one, 0)
    _key, second, _end = read(other, 0)
    if index == _ATTRIBUTES:
        return entry_bytes(section, key, greater_attribute(first, second))
    if index == _APPLIED:
        return entry_bytes(section, key, merge_applied({key: first}, {key: second})[key])
    order = SLOT_ORDERS[section]
    return one if order(first) >= order(second) else other


def _cut_to_newest(index: int, entries: Iterable[bytes]) -> bytes:
    """The section of a list that may be longer than what is kept of it."""
    sections = [*_NOTHING[:index], section_of(entries), *_NOTHING[index + 1 :]]
    state = decode_state_body(b"".join(sections))
    kept = encode_state_body(replace(state, applied=newest_logs(state.applied)))
    return kept[index : len(kept) - (len(SECTIONS) - 1 - index)]


def _with_attempts(section: bytes, added: list[bytes]) -> bytes:
    held = {entry[: _identity_end(entry)]: entry for entry in _entries(section)}
    for entry in added:
        identity = entry[: _identity_end(entry)]
        other = held.get(identity)
        if other is None:
            held[identity] = entry
        elif other != entry:
            read = section_codec("attempts").read
            greater = attempt_order(read(entry, 0)[1]) > attempt_order(read(other, 0)[1])
            held[identity] = entry if greater else other
    if len(held) > ATTEMPTS_MAX:
        return _cut_to_newest(_ATTEMPTS, held.values())
    return section_of(sorted(held.values()))


def _identity_end(entry: bytes) -> int:
    """Index after seller, subject matter, time and event id."""
    _at, after_time = read_long(entry, _key_end(_ATTEMPTS, entry))
    length, start = read_long(entry, after_time)
    return start + length
