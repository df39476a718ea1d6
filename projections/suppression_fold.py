"""What a batch, or records that somebody else appended, change in one partition's states.

Owns under which key a state is kept: a number's, or the number's token once an erasure is in the
state, with a tombstone for the number. Reads the local store and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from consent.codec import frame, unframe
from consent.contracts import contracts
from consent.errors import Corrupt, Unreadable
from consent.lifters import Entry
from consent.privacy import subject_token
from consent.state_bytes import apply_entries, is_erased, merge_bodies
from consent.state_codec import STATE, Watermark, decode_watermark
from consent.state_limits import STATE_BYTES_MAX, bounded_body
from projections.suppression_store import ERASED_PREFIX, WATERMARK_PREFIX, SuppressionStore

log = structlog.get_logger(__name__)

TokenKey = Callable[[bytes], bytes]
States = dict[bytes, bytes | None]
"""Encoded states by key; None where the key is to have none."""


NOTHING_LATER: Final[Mapping[bytes, bytes | None]] = {}


@dataclass(eq=False)
class SuppressionRecordUnknown(Corrupt):
    """A record of the suppression topic is none that this release knows; skipping it could lose
    a restriction. Carries its place, not its key.
    """

    partition: int
    offset: int
    reason: str

    def __str__(self) -> str:
        return f"suppression-{self.partition} offset {self.offset}: {self.reason}"


def token_key_of(key: bytes) -> TokenKey:
    """Function from a number to the key under which its state is kept once erased."""

    def token_key(number: bytes) -> bytes:
        return ERASED_PREFIX + subject_token(key, number.decode("ascii")).hex().encode()

    return token_key


def watermark_key(partition: int) -> bytes:
    """Key of a partition's watermark."""
    return WATERMARK_PREFIX + str(partition).encode()


def framed_state(body: bytes) -> bytes:
    """A state as it is in the topic."""
    return frame(contracts().record(STATE).schema_id, body)


def fold_batch(
    store: SuppressionStore, lifted: Mapping[bytes, Iterable[Entry]], token_key: TokenKey
) -> States:
    """New states of the numbers of a batch, tombstones included; unchanged ones are left out."""
    numbers = list(lifted)
    changed: States = {}
    homes: dict[bytes, bytes | None] = dict.fromkeys(numbers)
    held = dict(zip(numbers, store.get(numbers), strict=True))
    if store.any_erased:
        tokens = {number: token_key(number) for number in numbers}
        for number, body in zip(numbers, store.get(list(tokens.values())), strict=True):
            if body is not None:
                homes[number], held[number] = tokens[number], body
    for number, entries in lifted.items():
        body = held[number]
        after = _bounded(apply_entries(body, entries))
        home = homes[number]
        if home is None and any(section == "erased" for section, _key, _value in entries):
            home = token_key(number)
            changed[number] = None
        if after != body:
            changed[number if home is None else home] = after
    return changed


def _bounded(body: bytes) -> bytes:
    if len(body) <= STATE_BYTES_MAX:
        return body
    cut = bounded_body(body)
    # A person has to find out who floods a number; until then it is not called.
    log.error("state_too_large", bytes_before=len(body), bytes_after=len(cut))
    return cut


@dataclass(slots=True)
class TakenIn:
    """What records of the topic say beyond what the store holds.

    `states` belong into the store. `behind` must be appended, because for these keys the last
    record in the topic says less than what is known; with the offset of the first record of each.
    """

    states: States = field(default_factory=dict)
    behind: dict[bytes, tuple[int, bytes | None]] = field(default_factory=dict)
    watermarks: list[Watermark] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TopicRow:
    """One record of the suppression topic."""

    offset: int
    key: bytes | None
    value: bytes | None


class Known(Protocol):
    """States to merge with: those of a store, or those about to be written to it."""

    @property
    def any_erased(self) -> bool: ...

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]: ...


class Pending:
    """States of a store, overlaid with those that are about to be written to it."""

    def __init__(self, store: SuppressionStore, states: States) -> None:
        self._store = store
        self._states = states

    @property
    def any_erased(self) -> bool:
        """True if some state is kept under a token."""
        return self._store.any_erased or any(key.startswith(ERASED_PREFIX) for key in self._states)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Encoded state of every key, in order."""
        return [
            self._states.get(key, stored)
            for key, stored in zip(keys, self._store.get(keys), strict=True)
        ]


def take_in(
    known: Known,
    partition: int,
    rows: Sequence[TopicRow],
    token_key: TokenKey,
    later: Mapping[bytes, bytes | None] = NOTHING_LATER,
) -> TakenIn:
    """Merge records of the topic, in their order, with what is known.

    `later` holds values of records that follow these in the topic and are included in `known`.
    """
    by_key: dict[bytes, list[TopicRow]] = {}
    for row in rows:
        if row.key is None:
            raise SuppressionRecordUnknown(partition, row.offset, "it has no key")
        by_key.setdefault(row.key, []).append(row)
    intake = _TakingIn(known, partition, token_key, later)
    numbers = []
    for key in by_key:
        if key.startswith(WATERMARK_PREFIX):
            intake.watermarks_of(by_key[key])
        elif key.startswith(ERASED_PREFIX):
            intake.token(key, by_key[key])
        else:
            numbers.append(key)
    for key, body in zip(numbers, known.get(numbers), strict=True):
        intake.number(key, body, by_key[key])
    return intake.taken


class _TakingIn:
    def __init__(
        self,
        known: Known,
        partition: int,
        token_key: TokenKey,
        later: Mapping[bytes, bytes | None],
    ) -> None:
        self._known = known
        self._partition = partition
        self._token_key = token_key
        self._later = later
        self._tokens: dict[bytes, bytes | None] = {}
        self.taken = TakenIn()

    def watermarks_of(self, rows: Sequence[TopicRow]) -> None:
        for row in rows:
            if row.value is not None:
                try:
                    self.taken.watermarks.append(decode_watermark(row.value))
                except Unreadable as problem:
                    raise self._unknown(row, problem) from problem

    def token(self, key: bytes, rows: Sequence[TopicRow]) -> None:
        """States of an erased subject."""
        held = self._known.get([key])[0]
        merged = self._merged(held, rows)
        self._tokens[key] = merged
        if merged is not None:
            self._keep(key, held, merged)
            if self._last(key, rows) != framed_state(merged):
                self.taken.behind[key] = (rows[0].offset, merged)

    def number(self, key: bytes, held: bytes | None, rows: Sequence[TopicRow]) -> None:
        """States of a number, which may have been erased meanwhile."""
        merged = self._merged(held, rows)
        token, erased = self._erased_state(key)
        if erased is not None:
            merged = erased if merged is None else _bounded(merge_bodies(erased, merged))
        elif merged is None:
            return
        elif is_erased(merged):
            token = self._token_key(key)
        offset = rows[0].offset
        if token is None:
            self._keep(key, held, merged)
            if self._last(key, rows) != framed_state(merged):
                self.taken.behind[key] = (offset, merged)
            return
        if merged != erased:
            self._tokens[token] = self.taken.states[token] = merged
            self.taken.behind[token] = (offset, merged)
        if held is not None:
            self.taken.states[key] = None
        if self._last(key, rows) is not None:
            self.taken.behind[key] = (offset, None)

    def _last(self, key: bytes, rows: Sequence[TopicRow]) -> bytes | None:
        return self._later[key] if key in self._later else rows[-1].value

    def _keep(self, key: bytes, held: bytes | None, merged: bytes) -> None:
        if merged != held:
            self.taken.states[key] = merged

    def _erased_state(self, key: bytes) -> tuple[bytes | None, bytes | None]:
        if not self._tokens and not self._known.any_erased:
            return None, None
        token = self._token_key(key)
        erased = self._tokens.get(token)
        if erased is None:
            erased = self._known.get([token])[0]
        return (None if erased is None else token), erased

    def _merged(self, body: bytes | None, rows: Sequence[TopicRow]) -> bytes | None:
        for row in rows:
            if row.value is None:
                continue
            try:
                schema_id, said = unframe(row.value)
                if schema_id != contracts().record(STATE).schema_id:
                    raise Unreadable("WRONG_SCHEMA_ID", f"schema id {schema_id}")
                body = said if body is None else merge_bodies(body, said)
            except Unreadable as problem:
                raise self._unknown(row, problem) from problem
        return None if body is None else _bounded(body)

    def _unknown(self, row: TopicRow, problem: Unreadable) -> SuppressionRecordUnknown:
        return SuppressionRecordUnknown(self._partition, row.offset, str(problem))
