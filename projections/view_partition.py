"""One partition of the suppression topic in memory: what was received of it, merged."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiokafka.structs import ConsumerRecord

from consent.codec import unframe
from consent.contracts import contracts
from consent.errors import Unreadable
from consent.state import EMPTY, AppliedOffset, SubjectState, merge, merge_applied
from consent.state_bytes import check_body, merge_bodies
from consent.state_codec import STATE, decode_state_body, decode_watermark
from projections.party_index import PartyIndex
from projections.suppression_fold import SuppressionRecordUnknown, TokenKey
from projections.suppression_store import ERASED_PREFIX, WATERMARK_PREFIX

_LOG_APPEND_TIME: Final = 1
_DELAYS_MAX: Final = 8
"""Watermarks that a clock is judged by. The least delay among them is taken for its offset:
what is above it is time on the way."""


@dataclass(slots=True, eq=False)
class PartitionView:
    """Encoded states by key, which of them are linked to a party, and what the watermarks said.

    `true_at` (µs) is that of the last watermark, None before the first. `loaded`: it was read to
    its end once. `offset_next` is where to go on reading.
    """

    number: int
    token_key: TokenKey
    bodies: dict[bytes, bytes] = field(default_factory=dict)
    any_erased: bool = False
    offset_next: int = 0
    loaded: bool = False
    true_at: int | None = None
    applied: Mapping[tuple[str, bytes], AppliedOffset] = field(default_factory=dict)
    parties: PartyIndex = field(default_factory=PartyIndex)
    _own_delays_ms: deque[int] = field(default_factory=lambda: deque(maxlen=_DELAYS_MAX))
    _writer_delays_ms: deque[int] = field(default_factory=lambda: deque(maxlen=_DELAYS_MAX))

    def take(self, records: Sequence[ConsumerRecord], now_ms: int) -> None:
        """Merge records, in their order; SuppressionRecordUnknown for one that can't be read."""
        state_id = contracts().record(STATE).schema_id
        bodies = self.bodies
        for record in records:
            key, value = record.key, record.value
            try:
                if key is None:
                    raise Unreadable("NO_KEY", "it has no key")
                if key.startswith(WATERMARK_PREFIX):
                    self._watermark(record, now_ms)
                elif value is None:
                    self._tombstone(key)
                else:
                    schema_id, body = unframe(value)
                    if schema_id != state_id:
                        raise Unreadable("WRONG_SCHEMA_ID", f"schema id {schema_id}")
                    held = bodies.get(key)
                    if held is None:
                        check_body(body)
                    merged = body if held is None else merge_bodies(held, body)
                    bodies[key] = merged
                    self.parties.changed(key, held, merged)
                    if key.startswith(ERASED_PREFIX):
                        self.any_erased = True
            except Unreadable as problem:
                raise SuppressionRecordUnknown(
                    self.number, record.offset, str(problem)
                ) from problem

    def clocks_agree(self, offset_max_ms: int) -> bool:
        """True if this process's clock, and the writer's, are near the broker's.

        False as well until a watermark arrived after the partition was loaded: those before were
        on the way for an unknown time.
        """
        if not self._own_delays_ms or abs(min(self._own_delays_ms)) > offset_max_ms:
            return False
        return not self._writer_delays_ms or abs(min(self._writer_delays_ms)) <= offset_max_ms

    def home_of(self, key: bytes) -> bytes:
        """Where the state of a key is: the token of a number that was erased, else the key."""
        if self.any_erased and not key.startswith(ERASED_PREFIX):
            token = self.token_key(key)
            if token in self.bodies:
                return token
        return key

    def state_of(self, key: bytes) -> SubjectState:
        """What is known of a key, a number's or an erased number's; EMPTY if nothing is."""
        body = self.bodies.get(key)
        state = EMPTY if body is None else decode_state_body(body)
        home = self.home_of(key)
        return state if home == key else merge(state, decode_state_body(self.bodies[home]))

    def _watermark(self, record: ConsumerRecord, now_ms: int) -> None:
        if record.value is None:
            return
        watermark = decode_watermark(record.value)
        self.applied = merge_applied(self.applied, watermark.applied)
        self.true_at = watermark.true_at or None
        if self.loaded:
            self._own_delays_ms.append(now_ms - record.timestamp)
            if record.timestamp_type == _LOG_APPEND_TIME:
                self._writer_delays_ms.append(record.timestamp - watermark.written_at // 1000)

    def _tombstone(self, key: bytes) -> None:
        """The state has moved under the number's token, whose record came before."""
        if self.token_key(key) in self.bodies:
            self.parties.changed(key, self.bodies.pop(key, None), None)
