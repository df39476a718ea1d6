"""JSON event documents, as people and web systems send them, read into the fields of an event.

Owns the one meaning of a document, whichever door it came by. Pure: the clock reading and the salt
come in as arguments, so that the same document always gives the same event.

A document of a record that permits, or is neutral, is refused for anything that is not as its
schema says. One that restricts is refused only where there is nothing to apply: no number, no
time, no seller, no id. Everything else about it that can't be used is set aside into
`evidence.extra`, and the sender is told: a mistyped scope then means every scope.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

from consent.contracts import NAMESPACE, Effect, RecordContract, contracts
from consent.document_values import (
    DocumentLimits,
    Notice,
    Reading,
    RecordPlan,
    closest,
    plan_of,
    read_fields,
    shown,
)
from consent.errors import Rejected
from consent.instants import instant_text
from consent.numbers import (
    DIGITS_THAT_IDENTIFY,
    canonical_number,
    identifying_digits,
    is_canonical,
)
from consent.suspect import AHEAD_MAX_US, OCCURRED_AT_MIN_US, effect_of

Document = Mapping[str, Any]
Fields = dict[str, Any]

TEST_SELLER_PREFIX: Final = "test:"
LEDGER_TOPICS: Final = frozenset({"dial-decisions"})
_TYPE = re.compile(
    rf"(?:{re.escape(NAMESPACE)}\.)?(?P<name>\w+?)(?:\.v(?P<version>\d+))?", re.ASCII
)
_SEPARATORS = re.compile(r"[\s().\-+/]+")
_NOT_PAYLOAD = frozenset({"number", "salt", "evidence"})
_GENERAL_FIELDS = ("event_id", "occurred_at", "seller_id", "source", "number")


@dataclass(frozen=True, slots=True)
class DocumentRules:
    """What documents are read under.

    `now` is a clock reading in µs; `region_default` (ISO 3166-1 alpha-2) lets national forms of
    numbers in, None only those that begin with a plus.
    """

    now: int
    region_default: str | None = None
    limits: DocumentLimits = field(default_factory=DocumentLimits)


@dataclass(frozen=True, slots=True)
class EventDraft:
    """An event ready to be encoded, and what its sender should be told about it."""

    record: RecordContract
    fields: Fields
    key: bytes
    notices: tuple[Notice, ...]

    @property
    def event_id(self) -> str:
        """The publisher's id, lower-case."""
        return str(self.fields["event_id"])


def read_document(document: Document, rules: DocumentRules, salt: bytes) -> EventDraft:
    """Read one document, in the ledger's own form or as a structured CloudEvent.

    `salt` is 16 random bytes, used unless the document brings its own. Raises Rejected with the
    first problem found; its `value_shown` never holds a number, an e-mail address or evidence.
    """
    if not isinstance(document, Mapping):
        raise Rejected("WRONG_TYPE", "", shown(document, ""), "give a JSON object for each event")
    given = dict(_unwrapped(document) if "specversion" in document else document)
    record = _record_of(given.pop("type", None))
    effect = _effect(record, given)
    reading = Reading(rules.limits, lenient=effect == "restricts")
    given.setdefault("salt", salt.hex())
    _require_general_fields(record, given)
    if record.has_number:
        given["number"] = _number(given["number"], rules, reading)
    fields: Fields = read_fields(_plan(record.name), given, "", reading)
    _check_seller(record, fields, effect)
    _check_time(fields, rules.now, reading)
    _check_identifiers(record, fields, reading)
    _keep_aside(fields, reading)
    notices = (*reading.notices, *_grants_nothing(record, fields))
    return EventDraft(record, fields, record_key(record, fields), notices)


def record_key(record: RecordContract, fields: Mapping[str, Any]) -> bytes:
    """The Kafka key that the record's topic prescribes for an event."""
    kind = contracts().topics[record.topic].key
    return _KEYS[kind](fields).encode()


@cache
def document_types() -> tuple[str, ...]:
    """Names of the records that a document may have, in the order of the contracts."""
    topics = contracts().topics
    return tuple(
        name
        for topic in topics.values()
        if topic.source and topic.name not in LEDGER_TOPICS
        for name in topic.records
    )


def content_of(draft: EventDraft) -> Fields:
    """The fields without the salt: equal for the same document sent twice."""
    return {name: value for name, value in draft.fields.items() if name != "salt"}


_KEYS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "number": lambda fields: str(fields["number"]),
    "seller": lambda fields: str(fields["seller_id"]),
    "list_area": lambda fields: f"{fields['list_id']}/{fields['area']}",
    "jurisdiction": lambda fields: str(fields["jurisdiction"]),
}


@cache
def _plan(name: str) -> RecordPlan:
    return plan_of(contracts().record(name).schema)


def _record_of(given: Any) -> RecordContract:
    names = document_types()
    match = _TYPE.fullmatch(given) if isinstance(given, str) else None
    name = match["name"] if match else ""
    if match is None or name not in names:
        near = closest(given, names) if isinstance(given, str) else ""
        remedy = f"{near}give one of {', '.join(names)}"
        value = "nothing" if given is None else shown(given, "type")
        raise Rejected("UNKNOWN_TYPE", "type", value, remedy)
    record = contracts().record(name)
    if match["version"] and int(match["version"]) > record.version:
        remedy = f"this ledger knows {name} up to version {record.version}"
        raise Rejected("UNKNOWN_TYPE", "type", shown(given, "type"), remedy)
    return record


def _unwrapped(event: Document) -> Fields:
    """The document inside a structured CloudEvents 1.0 envelope.

    The envelope's id, time and source stand in where the data has none of its own. An id that is
    no UUID becomes one of version 5 over source and id, which is what makes a CloudEvent unique.
    Extension attributes are ignored, as CloudEvents asks.
    """
    if event.get("specversion") != "1.0":
        value = shown(event.get("specversion"), "specversion")
        raise Rejected("UNKNOWN_VALUE", "specversion", value, 'give "1.0"')
    data = event.get("data")
    if not isinstance(data, Mapping):
        remedy = "give the event's own fields as a JSON object in data"
        raise Rejected("WRONG_TYPE", "data", shown(data, "data"), remedy)
    source, identity = event.get("source"), event.get("id")
    given = {"type": event.get("type"), **data}
    if isinstance(source, str):
        given.setdefault("source", {"system": source.lstrip("/") or source})
    if event.get("time") is not None:
        given.setdefault("occurred_at", event["time"])
    if isinstance(identity, str) and identity:
        given.setdefault("event_id", _uuid_of(str(source), identity))
    return given


def _uuid_of(source: str, identity: str) -> str:
    try:
        if len(identity) == 36:
            return str(UUID(identity))
    except ValueError:
        pass
    return str(uuid5(NAMESPACE_URL, f"{source} {identity}"))


def _require_general_fields(record: RecordContract, given: Fields) -> None:
    for name in _GENERAL_FIELDS:
        if given.get(name) is None and (name != "number" or record.has_number):
            raise Rejected("MISSING_FIELD", name, "nothing", _GENERAL_REMEDIES[name])


_GENERAL_REMEDIES: Final[Mapping[str, str]] = {
    "event_id": "give a UUID of your own; sending it again is then harmless",
    "occurred_at": "give when it happened, e.g. 2026-11-22T10:00:00Z; it is never defaulted",
    "seller_id": "give on whose behalf; * restricts for every seller",
    "source": 'give {"system": "<name of the publishing system>"}',
    "number": "give the telephone number in E.164, e.g. +14155550123",
}


def _number(value: Any, rules: DocumentRules, reading: Reading) -> str:
    if not isinstance(value, str):
        remedy = _GENERAL_REMEDIES["number"] + ", as text"
        raise Rejected("WRONG_TYPE", "number", "(not shown)", remedy)
    if is_canonical(value):
        return value
    number = canonical_number(value, rules.region_default)
    remedy = "send E.164, as the ledger keeps it"
    reading.notices.append(Notice("NUMBER_FORMAT", "number", "(not shown)", remedy))
    return number


def _effect(record: RecordContract, given: Fields) -> Effect:
    """The effect by content, of a document that is not read yet."""
    return effect_of(record, {"status": None, "answer": None, **given})


def _check_seller(record: RecordContract, fields: Fields, effect: Effect) -> None:
    seller_id = fields["seller_id"]
    if seller_id.startswith(TEST_SELLER_PREFIX):
        remedy = f'set "test": true instead; {TEST_SELLER_PREFIX} is kept for rehearsals'
        raise Rejected("RESERVED", "seller_id", shown(seller_id, "seller_id"), remedy)
    if seller_id == "*" and record.has_number and effect == "permits":
        remedy = "an event that permits must name one seller"
        raise Rejected("SELLER_MISSING", "seller_id", "*", remedy)


def _check_time(fields: Fields, now: int, reading: Reading) -> None:
    at = fields["occurred_at"]
    if at < OCCURRED_AT_MIN_US:
        reason, remedy = "DATED_BEFORE_2000", "an event older than the year 2000 was never dated"
    elif at > now + AHEAD_MAX_US:
        reason = "DATED_AHEAD"
        remedy = "an event can't lie more than 5 minutes ahead; check the clock and the zone"
    else:
        return
    if not reading.lenient:
        raise Rejected(reason, "occurred_at", instant_text(at), remedy)
    remedy += "; it is applied from the broker's time on"
    reading.notices.append(Notice(reason, "occurred_at", instant_text(at), remedy))


def _check_identifiers(record: RecordContract, fields: Fields, reading: Reading) -> None:
    """Refuse or set aside what would carry the person into the part that can't be erased."""
    needles = _personal_needles(record, fields)
    if not needles:
        return
    plan = _plan(record.name)
    shortest = min(map(len, needles))
    for name in plan.fields:
        value = fields[name]
        if name in _NOT_PAYLOAD or value is plan.defaults.get(name):
            continue
        texts = [value] if isinstance(value, str) else _texts(value)
        if not any(len(text) >= shortest and holds_person(text, needles) for text in texts):
            continue
        problem = Rejected(
            "PERSON_IN_PAYLOAD",
            name,
            "(not shown)",
            "what is not evidence is kept for ever: use an identifier that does not contain the "
            "person's number or e-mail address",
        )
        if not reading.lenient or name in _GENERAL_FIELDS:
            raise problem
        reading.put_aside(problem, fields[name])
        fields[name] = plan.defaults.get(name, fields["event_id"])


def number_needles(number: str) -> tuple[str, ...]:
    """What `holds_person` looks for to find a canonical number in any of its written forms."""
    return (identifying_digits(number),)


def holds_person(text: str, needles: tuple[str, ...]) -> bool:
    """True if a text holds one of the needles, also where separators stand inside it."""
    lowered = text.lower()
    if all(len(lowered) < len(needle) for needle in needles):
        return False
    closed_up = _SEPARATORS.sub("", lowered)
    return any(needle in lowered or needle in closed_up for needle in needles)


def _personal_needles(record: RecordContract, fields: Fields) -> tuple[str, ...]:
    evidence = fields.get("evidence") or {}
    needles = list(number_needles(fields["number"])) if record.has_number else []
    other = _SEPARATORS.sub("", evidence.get("other_number") or "")
    if len(other) >= DIGITS_THAT_IDENTIFY and other.isdigit():
        needles.append(identifying_digits(other))
    email = (evidence.get("email") or "").strip().lower()
    if "@" in email:
        needles.append(email)
    return tuple(needles)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def _keep_aside(fields: Fields, reading: Reading) -> None:
    """Put what was set aside into the evidence, cut to the limit of a piece of evidence."""
    if not reading.set_aside:
        return
    limits = reading.limits
    evidence = dict(fields.get("evidence") or _plan_defaults_of_evidence())
    extra = list(evidence["extra"])
    for path, value in reading.set_aside[: limits.list_items_max]:
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        kept = text.encode(errors="replace").decode()[: limits.evidence_chars_max]
        name = path.encode(errors="replace").decode()[: limits.identifier_chars_max]
        extra.append({"name": name, "value": kept})
    evidence["extra"] = extra
    fields["evidence"] = evidence


@cache
def _evidence_plan() -> RecordPlan:
    schema = contracts().record("ConsentGranted").schema
    entry = next(entry for entry in schema["fields"] if entry["name"] == "evidence")
    return plan_of(entry["type"][1])


def _plan_defaults_of_evidence() -> Fields:
    return dict(_evidence_plan().defaults)


def _grants_nothing(record: RecordContract, fields: Fields) -> Iterator[Notice]:
    if record.name != "ConsentGranted":
        return
    for name in ("consent_kind", "purposes", "modes"):
        value = fields[name]
        if value == "UNKNOWN" or not [part for part in value if part != "UNKNOWN"]:
            remedy = f"it grants nothing without {name}"
            yield Notice("GRANTS_NOTHING", name, "nothing", remedy)
