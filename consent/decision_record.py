"""A decision as an event, and back: what is recorded is enough to decide it again.

Beside the record, only the facts of the number up to `applied` are needed, the rulebook of the
digest, and the same engine and time-zone data. Nothing recorded holds personal data except the
number itself, which the caller puts in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from consent.call import CallRequest, Surroundings
from consent.decision import Decision, RuleOutcome
from consent.findings import UsedFacts
from consent.recorded_surroundings import (
    NamedValue,
    calendar_facts,
    calendar_of,
    campaign_facts,
    campaign_of,
    list_fields,
    program_facts,
    program_of,
    registries_of,
)
from consent.state_entries import AppliedKey, AppliedOffset
from consent.zones import tzdata_version

RECORD: Final = "DialDecision"

_AS_ASKED: Final = (
    "campaign_id",
    "subject_matter",
    "purpose",
    "call_mode",
    "dial_mode",
    "party",
    "profile",
    "request_id",
    "telemarketer_id",
    "good_or_service",
    "sector",
    "message_class",
    "emergency_purpose",
    "caller_id_number",
    "script_id",
    "script_version",
    "message_id",
    "shipment_id",
    "failed_signature_attempts",
    "seller_id",
    "test",
)
"""Fields that a request and its record share, by one name."""

_PLACES: Final = ("states", "zones", "counties")


@dataclass(frozen=True, slots=True)
class Watermark:
    """How fresh the view was: `lag_ms` is its age when it was used."""

    partition: int
    true_at: int
    lag_ms: int


@dataclass(frozen=True, slots=True)
class LinkedNumber:
    """Another number of the same person whose state counted. The token stands for the number."""

    token: bytes
    partition: int
    applied: Mapping[AppliedKey, AppliedOffset]
    watermark: Watermark | None = None


@dataclass(frozen=True, slots=True)
class Permit:
    """The permit given with an allow."""

    permit_id: str
    expires_at: int
    key_id: str


@dataclass(frozen=True, slots=True)
class RecordContext:
    """What the edge adds to a decision: ids, clocks, the number, and how fresh the state was.

    `partition` is the number's partition in every number-keyed topic, `applied` that of its state.
    `settings` are those that mattered, as text by name.
    """

    event_id: str
    occurred_at: int
    number: str
    salt: bytes
    system: str
    partition: int
    channel: str = "API"
    actor: str = "SYSTEM"
    applied: Mapping[AppliedKey, AppliedOffset] = field(default_factory=dict)
    watermark: Watermark | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    area_table_digest: bytes | None = None
    permit: Permit | None = None
    linked: tuple[LinkedNumber, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordedLink:
    """A number that counted beside the one called: `applied` as it stands in the record."""

    token: bytes
    applied: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """What a recorded decision was asked about: with the states and the rulebook, all of it.

    `surroundings` lack the states of `linked`, the tokens of the person's other numbers, each with
    the offsets, by topic, log and partition, up to which its facts are to be folded.
    """

    request: CallRequest
    surroundings: Surroundings
    linked: tuple[RecordedLink, ...]
    at: int
    rulebook_digest: bytes
    engine_version: str
    tzdata_version: str | None


def decision_record(decision: Decision, context: RecordContext) -> dict[str, Any]:
    """Fields of the DialDecision event, complete.

    ValueError if the context names other linked numbers than those whose states counted.
    """
    return {**fields_beside_outcomes(decision, context), "outcomes": _outcomes(decision)}


def fields_beside_outcomes(decision: Decision, context: RecordContext) -> dict[str, Any]:
    """The same without the outcomes of the rules, which are most of an event."""
    surroundings = decision.surroundings
    if len(context.linked) != len(surroundings.linked):
        raise ValueError("every linked number whose state counted must be named")
    request, permit = decision.request, context.permit
    return {
        "event_id": context.event_id,
        "occurred_at": context.occurred_at,
        "source": {"system": context.system, "channel": context.channel, "actor": context.actor},
        **{name: getattr(request, name) for name in _AS_ASKED},
        **_verdict(decision),
        "at": decision.at,
        "applied": _applied(context.applied, context.partition),
        "watermark": _watermark(context.watermark),
        "linked": [_linked(one) for one in context.linked],
        **{name: list(getattr(request, name)) for name in _PLACES},
        "lists": list_fields(surroundings.registries),
        "calendar": _stored(calendar_facts(surroundings.calendar)),
        "campaign": _stored(campaign_facts(surroundings.campaign)),
        "settings": [
            {"name": name, "value": text} for name, text in sorted(context.settings.items())
        ],
        "rulebook_digest": decision.rulebook_digest,
        "area_table_digest": context.area_table_digest,
        "tzdata_version": tzdata_version(),
        "engine_version": decision.engine_version,
        "permit_id": None if permit is None else permit.permit_id,
        "permit_expires_at": None if permit is None else permit.expires_at,
        "permit_key_id": None if permit is None else permit.key_id,
        "program": _stored(program_facts(surroundings.program)),
        "number": context.number,
        "salt": context.salt,
        "evidence": None,
    }


def verdict_fields(decision: Decision) -> dict[str, Any]:
    """Those fields of the event that say what was decided, and why.

    Deciding a recorded call again, by the same rulebook and engine, gives the same ones.
    """
    return {**_verdict(decision), "outcomes": _outcomes(decision)}


def _verdict(decision: Decision) -> dict[str, Any]:
    following = decision.next_allowed
    return {
        "verdict": decision.verdict,
        "reason": decision.reason,
        "reasons": list(decision.reasons),
        "rule": None if decision.rule is None else decision.rule.name,
        "next_allowed_at": None if following is None else following.at,
        "next_allowed": None if following is None or following.at is not None else following.when,
        "obligations": list(decision.obligations),
        "grant_event_ids": list(relied_on(decision)),
    }


def relied_on(decision: Decision) -> tuple[str, ...]:
    """Event ids of the grants that an allow relies on; none for any other verdict."""
    if not decision.allowed:
        return ()
    grants = {
        str(value)
        for line in decision.outcomes
        if line.outcome == "PASS"
        for name, value in line.facts
        if name in ("grant", "newer_grant")
    }
    return tuple(sorted(grants))


def request_of(record: Mapping[str, Any]) -> RecordedCall:
    """What a DialDecision event was asked about, from its fields or those of its fact."""
    asked: dict[str, Any] = {name: record[name] for name in _AS_ASKED if name in record}
    asked |= {name: tuple(record[name]) for name in _PLACES}
    return RecordedCall(
        request=CallRequest(**asked),
        surroundings=Surroundings(
            registries=registries_of(record["lists"]),
            calendar=calendar_of(_values(record["calendar"])),
            campaign=campaign_of(_values(record["campaign"])),
            program=program_of(_values(record["program"])),
        ),
        linked=tuple(RecordedLink(one["token"], tuple(one["applied"])) for one in record["linked"]),
        at=record["at"],
        rulebook_digest=record["rulebook_digest"],
        engine_version=record["engine_version"],
        tzdata_version=record["tzdata_version"],
    )


def fact_text(value: object) -> str:
    """A fact's value as it is recorded and shown: text as it is, all else as JSON."""
    return value if isinstance(value, str) else _json(value)


_encoded: Final = json.JSONEncoder(separators=(",", ":")).encode


def _json(value: object) -> str:
    """JSON without spaces. Beginning an encoder is slow, and most facts need none."""
    kind = type(value)
    if kind is int:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    return "null" if value is None else _encoded(value)


def _applied(applied: Mapping[AppliedKey, AppliedOffset], partition: int) -> list[dict[str, Any]]:
    return [
        {
            "topic": topic,
            "log_id": log_id,
            "partition": partition,
            "offset_last": offset.offset_last,
        }
        for (topic, log_id), offset in sorted(applied.items())
    ]


def _linked(one: LinkedNumber) -> dict[str, Any]:
    return {
        "token": one.token,
        "applied": _applied(one.applied, one.partition),
        "watermark": _watermark(one.watermark),
    }


def _watermark(watermark: Watermark | None) -> dict[str, Any] | None:
    if watermark is None:
        return None
    return {
        "partition": watermark.partition,
        "true_at": watermark.true_at,
        "lag_ms": watermark.lag_ms,
    }


def _outcomes(decision: Decision) -> list[dict[str, Any]]:
    return [_outcome_fields(line) for line in decision.outcomes]


def _outcome_fields(line: RuleOutcome) -> dict[str, Any]:
    return {
        "rule": line.rule.name,
        "outcome": line.outcome,
        "reason": line.reason,
        "exemption": line.exemption,
        "facts": _facts(line.facts),
    }


def _facts(used: UsedFacts) -> list[dict[str, str]]:
    return [{"name": name, "value": fact_text(value)} for name, value in used]


def _stored(named: Iterable[NamedValue]) -> list[dict[str, str]]:
    return [{"name": name, "value": _json(value)} for name, value in named]


def _values(facts: Iterable[Mapping[str, str]]) -> list[NamedValue]:
    return [(fact["name"], json.loads(fact["value"])) for fact in facts]
