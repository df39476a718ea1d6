"""Records that are not plainly in order, looked at one by one.

The fast path of `consent.intake` recognises records that are in order; everything else comes here
and is decoded in full. Whatever is decided here holds for every worker alike.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import fastavro

from consent.codec import Fields, decode_body, encode
from consent.contracts import Effect, RecordContract, fact_schema
from consent.errors import Rejected, Unreadable
from consent.numbers import canonical_number, identifying_digits, is_canonical, is_canonical_key

AHEAD_MAX_US: Final = 5 * 60 * 1_000_000
OCCURRED_AT_MIN_US: Final = 946_684_800_000_000
"""2000-01-01: an event that says it is older was never dated."""

OPT_OUTS: Final = frozenset(
    {"ConsentWithdrawn", "ConsentRefused", "ConsentInvalidated", "DncAdded"}
)
"""Kinds whose mere arrival is a reason not to call, even if nothing else of them can be read."""

_OF_ONE_SELLER: Final = frozenset({"ConsentGranted", "RelationshipRecorded", "DncRemoved"})
"""Permissions that must say to whom: one that could mean every seller would mean too much."""

_OF_WITHDRAWN: Final[Mapping[str, Effect]] = {
    "RegistrationFiled": "restricts",
    "CallerIdAuthorised": "restricts",
    "HolidayDeclared": "permits",
}
"""What an event does that takes back what its kind says."""

ALARM_DATED_AHEAD: Final = "restriction_dated_ahead"
ALARM_UNDATED: Final = "restriction_undated"


@dataclass(frozen=True, slots=True)
class Suspect:
    """A record to be looked at: its raw key, its body without frame, and its broker time in µs."""

    record: RecordContract
    key: bytes | None
    body: bytes
    recorded_at: int


@dataclass(frozen=True, slots=True)
class Settled:
    """A record that counts: from `effective_at` on, its fact payload ending at `payload_end`.

    `key` is set where it must be produced again under that key, `corrected` where with that value
    too, because what was sent names the number in another form.
    """

    effective_at: int
    payload_end: int
    key: bytes | None = None
    corrected: bytes | None = None
    alarm: str | None = None


def settle(suspect: Suspect) -> Settled:
    """Decide what becomes of a suspect; Unreadable with its reason code if it can't count."""
    record, fields = suspect.record, decode_body(suspect.record.parsed, suspect.body)
    effect = effect_of(record, fields)
    end = payload_end(record, suspect.body)
    _check_seller(record, effect, fields)
    effective_at, alarm = _effective_at(effect, fields["occurred_at"], suspect.recorded_at)
    if not record.has_number:
        return Settled(effective_at, end, alarm=alarm)
    number = _number(effect, fields["number"], suspect.key)
    if identifying_digits(number).encode() in suspect.body[:end]:
        raise Unreadable(
            "NUMBER_IN_PAYLOAD",
            "an identifier contains the person's number; use ids that do not, history keeps them",
        )
    if number != fields["number"]:
        corrected = encode(record.name, {**fields, "number": number})
        return Settled(effective_at, end, number.encode(), corrected, alarm)
    if number.encode() == suspect.key:
        return Settled(effective_at, end, alarm=alarm)
    if effect == "permits":
        raise Unreadable("KEY_MISMATCH", "the record's key is not the event's number")
    return Settled(effective_at, end, number.encode(), alarm=alarm)


def effect_of(record: RecordContract, fields: Mapping[str, Any]) -> Effect:
    """Whether an event permits or restricts, by its content where its kind can do either."""
    if record.name == "RelationshipRecorded" and fields["status"] == "ENDED":
        return "restricts"
    if record.name == "ReassignmentChecked" and fields["answer"] == "YES":
        return "restricts"
    if fields.get("withdrawn"):
        return _OF_WITHDRAWN.get(record.name, record.effect)
    return record.effect


def payload_end(record: RecordContract, body: bytes) -> int:
    """Length of the part of an event's body that history keeps: all before number and salt."""
    source = io.BytesIO(body)
    fastavro.schemaless_reader(source, fact_schema(record.name, record.version), None)
    return source.tell()


def opted_out_number(record_name: str | None, key: bytes | None) -> str | None:
    """The number of an opt-out of which only kind and key can be read, or None."""
    if record_name in OPT_OUTS and key is not None and is_canonical_key(key):
        return key.decode("ascii")
    return None


def _check_seller(record: RecordContract, effect: Effect, fields: Fields) -> None:
    of_one = record.name in _OF_ONE_SELLER
    if effect == "permits" and of_one and fields["seller_id"] in ("", "*"):
        raise Unreadable(
            "SELLER_MISSING", "an event that permits must name one seller in seller_id"
        )


def _effective_at(effect: Effect, occurred_at: int, recorded_at: int) -> tuple[int, str | None]:
    if occurred_at < OCCURRED_AT_MIN_US:
        if effect == "permits":
            raise Unreadable("OCCURRED_AT_MISSING", "occurred_at lies before the year 2000")
        return recorded_at, ALARM_UNDATED
    if occurred_at > recorded_at + AHEAD_MAX_US:
        if effect == "permits":
            ahead_s = (occurred_at - recorded_at) // 1_000_000
            raise Unreadable(
                "DATED_AHEAD", f"occurred_at is {ahead_s} s ahead of the broker's time"
            )
        return recorded_at, ALARM_DATED_AHEAD
    return occurred_at, None


def _number(effect: Effect, number: str, key: bytes | None) -> str:
    if is_canonical(number):
        return number
    if effect == "permits":
        raise Unreadable("NUMBER_INVALID", "number is not E.164, e.g. +14155550123")
    try:
        return canonical_number(number)
    except Rejected:
        if key is not None and is_canonical_key(key):
            return key.decode("ascii")
        raise Unreadable("NUMBER_INVALID", "neither number nor key is E.164") from None
