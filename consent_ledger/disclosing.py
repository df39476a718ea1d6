"""Everything that is held on a person, for the person: events with evidence, state, dead letters.

Reads history and the dialers' view; changes nothing. Numbers and evidence leave only through the
one who asked, and nothing of them is logged.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidTag

from consent.codec import decode, decode_body, frame
from consent.contracts import contracts, fact_schema
from consent.document_form import document_fields
from consent.erasure import mentions
from consent.errors import Unreadable
from consent.instants import instant_text
from consent.privacy import SealedLetter, open_dead_letter, position_bytes, subject_token
from consent.state import SubjectState
from consent.state_codec import encode_state
from consent_ledger.words import summary_of
from projections.clickhouse import Store

_FACTS: Final = """
SELECT hex(log_id), topic, partition, offset, toUnixTimestamp64Micro(recorded_at), hex(fact)
FROM facts WHERE subject = unhex({subject:String})
ORDER BY recorded_at, topic, partition, offset
"""
_EVIDENCE: Final = """
SELECT hex(log_id), partition, offset, number, hex(salt), evidence IS NULL,
    hex(ifNull(evidence, ''))
FROM evidence WHERE subject = unhex({subject:String})
"""
_LETTERS: Final = """
SELECT hex(log_id), topic, partition, offset, toUnixTimestamp64Micro(recorded_at), reason,
    hex(nonce), hex(original)
FROM dead_letters ORDER BY log_id, partition, offset
LIMIT {rows:UInt32} OFFSET {after:UInt64}
"""
_LETTERS_AT_ONCE: Final = 2_000
_NO_BRANCH, _SOME_BRANCH = b"\x00", b"\x02"
_HIDDEN: Final = frozenset({"salt"})

Place = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class DisclosureKeys:
    """What turns a number into its token, and what dead letters are encrypted with; empty: none."""

    history: bytes = field(repr=False)
    dead_letters: bytes = field(repr=False)


def disclosure(
    store: Store, keys: DisclosureKeys, number: str, state: SubjectState
) -> dict[str, Any]:
    """All that is held on a number, as JSON content; blocks.

    `state` is what dialers are shown of it. Events whose evidence was erased stand without it.
    """
    subject = subject_token(keys.history, number)
    parameters = {"subject": subject.hex()}
    evidence: dict[Place, tuple[Any, ...]] = {}
    for log_id, partition, offset, *rest in store.query_rows(_EVIDENCE, parameters):
        evidence[log_id, partition, offset] = tuple(rest)
    events = []
    for log_id, topic, partition, offset, recorded_at, fact in store.query_rows(_FACTS, parameters):
        place = {"topic": topic, "partition": partition, "offset": offset}
        kept = evidence.get((log_id, partition, offset))
        events.append(
            {
                **_event(bytes.fromhex(fact), kept),
                "recorded_at": instant_text(recorded_at),
                "place": {"log_id": log_id.lower(), **place},
                "evidence_kept": kept is not None,
            }
        )
    return {
        "disclosure": "access",
        "version": 1,
        "number": number,
        "subject": subject.hex(),
        "events": events,
        "state": _state(state),
        "dead_letters": list(_letters(store, keys.dead_letters, number)),
    }


def disclosure_text(content: Mapping[str, Any]) -> str:
    """The same for a person to read."""
    events, letters = content["events"], content["dead_letters"]
    lines = [
        f"EVERYTHING HELD ON {content['number']}",
        "",
        f"{len(events)} events, {len(letters)} records that could not be read.",
        f"In the ledger's history the number is written as {content['subject']}.",
    ]
    for event in events:
        lines += ["", f"{event['recorded_at']}  {event['summary']}"]
        lines += [f"    {name}: {value}" for name, value in _flat(event["fields"])]
        if not event["evidence_kept"]:
            lines.append(
                "    (number and evidence were erased, are past their retention, or never stored)"
            )
    lines += ["", "WHAT CALLERS ARE SHOWN NOW"]
    lines += [f"    {name}: {value}" for name, value in _flat(content["state"])]
    for letter in letters:
        lines += ["", f"{letter['recorded_at']}  could not be read: {letter['reason']}"]
        lines.append(f"    original, base64: {', '.join(letter['original'])}")
    return "\n".join(lines) + "\n"


def _event(fact: bytes, kept: tuple[Any, ...] | None) -> dict[str, Any]:
    envelope = decode_body(fact_schema("Fact"), fact)
    name, version = envelope["event_name"], envelope["event_version"]
    if envelope["unreadable"] is not None:
        summary = f"A record that could not be read ({envelope['unreadable']})"
        return {"type": name or "unknown", "summary": summary, "fields": {}}
    fields = decode_body(fact_schema(name, version), envelope["payload"])
    told = _whole(name, version, envelope["payload"], kept) if kept is not None else fields
    given = {
        key: value
        for key, value in told.items()
        if key not in _HIDDEN and value not in (None, [], "UNKNOWN")
    }
    return {
        "type": name,
        "summary": summary_of(name, fields, envelope["party"] is not None),
        "fields": document_fields(contracts().record(name).schema, given),
    }


def _whole(name: str, version: int, payload: bytes, kept: tuple[Any, ...]) -> dict[str, Any]:
    """The event as it was published."""
    number, salt, none, said = kept
    spelled = number.encode()
    body = b"".join(
        (
            payload,
            bytes((len(spelled) * 2,)),
            spelled,
            bytes.fromhex(salt),
            _NO_BRANCH if none else _SOME_BRANCH + bytes.fromhex(said),
        )
    )
    for record in contracts().records:
        if (record.name, record.version) == (name, version):
            return decode(frame(record.schema_id, body))[1]
    raise Unreadable("UNKNOWN_SCHEMA_ID", f"{name} version {version} is not of this release")


def _state(state: SubjectState) -> dict[str, Any]:
    record, fields = decode(encode_state(state))
    given = {name: value for name, value in fields.items() if value not in (None, [])}
    return document_fields(record.schema, given)


def _letters(store: Store, key: bytes, number: str) -> Iterator[dict[str, Any]]:
    if not key:
        return
    after = 0
    while rows := store.query_rows(_LETTERS, {"rows": _LETTERS_AT_ONCE, "after": after}):
        after += len(rows)
        for log_id, topic, partition, offset, recorded_at, reason, nonce, original in rows:
            position = position_bytes(bytes.fromhex(log_id), topic, partition, offset)
            letter = SealedLetter(bytes.fromhex(nonce), bytes.fromhex(original))
            try:
                parts = open_dead_letter(key, position, letter)
            except InvalidTag:
                # Under a key that is gone: nobody can read it.
                continue
            if mentions(parts, number):
                yield {
                    "recorded_at": instant_text(recorded_at),
                    "reason": reason,
                    "place": {"topic": topic, "partition": partition, "offset": offset},
                    "original": [base64.b64encode(part or b"").decode() for part in parts],
                }


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value, 1):
            yield from _flat(inner, f"{path} {number}")
    elif value not in (None, ""):
        yield path, str(value)
