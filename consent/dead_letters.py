"""The dead letter of a record that can't be used: its place, the reason, and itself, encrypted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from consent.codec import encode
from consent.intake import FORWARDED_HEADER, RawRecord, UnreadableRecord
from consent.lift import Position
from consent.privacy import position_bytes, seal_dead_letter

_INT_MAX = 2**31


def dead_letter(
    record: RawRecord, problem: UnreadableRecord, position: Position, key: bytes
) -> bytes:
    """A framed DeadLetter. Deterministic, so that a replay writes the same bytes."""
    place = position_bytes(position.log_id, position.topic, position.partition, position.offset)
    headers = [part for name, value in record.headers for part in (name.encode(), value)]
    sealed = seal_dead_letter(key, place, [record.key, record.value, *headers])
    fields: Mapping[str, Any] = {
        "topic": position.topic,
        "log_id": position.log_id,
        "partition": position.partition,
        "offset": position.offset,
        "recorded_at": position.recorded_at,
        "reason": problem.reason,
        "detail": problem.detail,
        "schema_id": _schema_id(problem.schema_id),
        "event_name": problem.event_name,
        "key_id": key_id(key),
        "nonce": sealed.nonce,
        "original": sealed.original,
        "forwarded": any(name == FORWARDED_HEADER for name, _value in record.headers),
    }
    return encode("DeadLetter", fields)


def key_id(key: bytes) -> str:
    """Public name of a secret key, for records that must say which key they are under."""
    return hashlib.sha256(b"consent-ledger key id\0" + key).hexdigest()[:16]


def _schema_id(schema_id: int | None) -> int | None:
    """Four arbitrary bytes of an unreadable record need not fit a signed int."""
    return schema_id if schema_id is not None and schema_id < _INT_MAX else None
