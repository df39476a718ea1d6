"""A slow fold of raw events that shares no code with the ledger: filter, sort, take the greatest.

It says in its own words what a state is, so that an error of the ledger's lift, merge or filter
shows as a difference. Only the events that `world` makes are known here.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

MINUTE = 60_000_000
YEAR_2000 = 946_684_800_000_000
NEVER = 1 << 62
KEPT_ATTEMPTS = 16

Slots = dict[tuple[Any, ...], tuple[Any, ...]]
"""What a state holds: section and key, and the entry's fields in the order of the wire."""


@dataclass(frozen=True)
class Raw:
    """A raw event as it was published, and its place; `fields` is None for an unreadable opt-out.

    `counts` is False for what the ledger refuses: it stands in the history and does nothing.
    """

    name: str
    fields: Mapping[str, Any] | None
    recorded_at: int
    topic: str
    partition: int
    offset: int
    log_id: bytes
    counts: bool = True

    def at(self) -> int:
        """From when it counts."""
        if self.fields is None:
            return self.recorded_at
        said = int(self.fields["occurred_at"])
        if said < YEAR_2000 or said > self.recorded_at + 5 * MINUTE:
            return self.recorded_at
        return said


def state_at(raws: Iterable[Raw], at: int, known_at: int) -> Slots:
    """What was true at one time, by what was recorded up to another."""
    counted = [
        raw
        for raw in raws
        if raw.counts and raw.recorded_at <= known_at and (raw.at() <= at or raw.recorded_at <= at)
    ]
    return folded(counted)


def _happened(raw: Raw, at: int) -> bool:
    """A decision is no reason for itself; all else happened by its date, or was recorded."""
    if raw.name == "DialDecision":
        return raw.at() < at
    return raw.at() <= at or raw.recorded_at <= at


def folded(raws: Sequence[Raw]) -> Slots:
    """What events amount to, in any order."""
    said = [entry for raw in raws for entry in _entries(raw)]
    erasures = [value for key, value in said if key == ("erased",)]
    cutoff = max((value[0] for value in erasures), default=None)
    slots: Slots = {}
    attempts: dict[tuple[Any, ...], set[tuple[Any, ...]]] = {}
    for key, value in said:
        if key[0] not in ("dnc", "erased") and cutoff is not None and value[0] <= cutoff:
            continue
        if key[0] == "attempts":
            attempts.setdefault(key, set()).add(value)
        elif key not in slots or _stricter(key[0], value, slots[key]):
            slots[key] = value
        elif key[0] == "attributes" and value[0] == slots[key][0]:
            union = tuple(sorted({*value[1], *slots[key][1]}))
            slots[key] = (value[0], union)
    for key, found in attempts.items():
        newest = sorted(found, key=lambda one: (one[0], one[1]), reverse=True)
        once: dict[tuple[Any, Any], tuple[Any, ...]] = {}
        for one in newest:
            identity = (one[0], one[1])
            if identity not in once or _greater_attempt(one, once[identity]):
                once[identity] = one
        slots[key] = tuple(list(once.values())[:KEPT_ATTEMPTS])
    return slots


def _greater_attempt(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """A call before a permit, then the permit that lasts longer; then by the texts."""

    def rank(attempt: tuple[Any, ...]) -> tuple[Any, ...]:
        expires = NEVER if attempt[4] is None else attempt[4]
        texts = tuple(value or "" for value in attempt[5:])
        return (expires, attempt[4] is None, texts, attempt[2], attempt[3] or "")

    return rank(one) > rank(other)


def _stricter(section: str, one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    if one[0] != other[0]:
        return bool(one[0] > other[0])
    if section == "attributes":
        return False
    return bool(_RANKS[section](one) > _RANKS[section](other))


def _late(value: int | None) -> int:
    return NEVER if value is None else value


_PARTY = ("BUSINESS", "UNKNOWN", "CONSUMER")
_ANSWER = ("NO", "NO_DATA", "UNKNOWN", "YES")
_STATUS = ("ACTIVE", "UNKNOWN", "ENDED")
_RANKS: dict[str, Any] = {
    "grants": lambda g: (
        -_late(g[2]),
        -bin(g[4]).count("1"),
        bool(g[5]),
        -len(g[5]),
        _PARTY.index(g[6]),
        g[1],
        -g[4],
        -_late(g[3]),
        g[5],
    ),
    "withdrawals": lambda w: w[1:],
    "dnc": lambda d: (d[2], d[4], -d[3], -_late(d[5]), d[1]),
    "refusals": lambda r: (r[2], r[1]),
    "relationships": lambda r: (_STATUS.index(r[3]), -r[2], r[1]),
    "outcomes": lambda o: o[1:],
    "reassignments": lambda r: (_ANSWER.index(r[2]), -r[3], r[1]),
    "erased": lambda e: e[1:],
}


def _entries(raw: Raw) -> list[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    if raw.fields is None:
        place = b"".join(
            struct.pack(">I", len(part)) + part
            for part in (
                raw.log_id,
                raw.topic.encode(),
                struct.pack(">I", raw.partition),
                struct.pack(">Q", raw.offset),
            )
        )
        made = str(UUID(bytes=hashlib.sha256(place).digest()[:16]))
        value = (raw.recorded_at, made, "UNREADABLE_OPT_OUT")
        return [(("withdrawals", "*", "*", "*", "*"), value)]
    event, at = raw.fields, raw.at()
    seller = ("test:" if event["test"] else "") + event["seller_id"]
    entries = _SAID[raw.name](event, at, seller) if raw.name in _SAID else []
    party = (event.get("evidence") or {}).get("party_reference")
    if party and raw.name != "ErasureExecuted":
        prefix = "test:" if event["test"] else ""
        name = f"{prefix}party_ref:{event['seller_id']}"
        entries.append((("attributes", name), (at, ((event["seller_id"], party),))))
    return entries


def _granted(event: Any, at: int, seller: str) -> Any:
    matters = tuple(sorted(set(event["subject_matters"])))
    grant = (
        at,
        event["event_id"],
        event["expires_at"],
        event["signed_at"],
        _ELEMENTS(event),
        matters,
        event["party"],
    )
    return [
        (("grants", seller, purpose, mode, event["consent_kind"]), grant)
        for purpose in set(event["purposes"])
        for mode in set(event["modes"])
    ]


def _elements(event: Any) -> int:
    """The bit set of what came with a grant; bits are those of the published order of elements."""
    evidence = event["evidence"] or {}
    bits = 0
    for name, bit in (("wording", 7), ("signature", 14), ("party_reference", 21)):
        bits |= (evidence.get(name) is not None) << bit
    bits |= bool(event["seller_named"]) << 40
    bits |= (event["signed_at"] is not None) << 49
    return bits


_ELEMENTS = _elements


def _withdrawn(event: Any, at: int, seller: str) -> Any:
    value = (at, event["event_id"], "WITHDRAWN")
    if event["all_sellers"]:
        seller = "test:*" if event["test"] else "*"
    return [
        (("withdrawals", seller, purpose, mode, matter), value)
        for purpose in set(event["purposes"]) or {"*"}
        for mode in set(event["modes"]) or {"*"}
        for matter in set(event["subject_matters"]) or {"*"}
    ]


def _refused(event: Any, at: int, seller: str) -> Any:
    value = (at, event["event_id"], event["objection"])
    said: Any = [(("refusals", seller, event["subject_matter"] or "*"), value)]
    if event["objection"]:
        entry = (at, event["event_id"], True, at, False, None)
        said.append((("dnc", seller, "INTERNAL", "objection"), entry))
    return said


def _listed(event: Any, at: int, seller: str, listed: bool) -> Any:
    whole = listed and event["whole_party"]
    asked = event["requested_at"] if listed and event["requested_at"] is not None else at
    entry = (at, event["event_id"], listed, asked, whole, event["listed_on"] if listed else None)
    key = ("dnc", seller, event["list_kind"], event["list_id"])
    said = [(key, entry)]
    if event["list_kind"] == "INTERNAL" and (whole or not listed):
        said.append(((*key[:3], event["list_id"] + "/whole-party"), entry))
    return said


def _related(event: Any, at: int, seller: str) -> Any:
    value = (
        at,
        event["event_id"],
        event["on"],
        event["status"],
        None,
        (),
        event["affiliate_expected"],
        None,
        None,
    )
    key = ("relationships", seller, event["relationship_kind"], event["relationship_id"] or "")
    return [(key, value)]


def _attributes(event: Any, at: int, seller: str) -> Any:
    prefix = "test:" if event["test"] else ""
    source = "" if event["place_source"] == "UNKNOWN" else ":" + event["place_source"]
    said = []
    for name in ("line_type", "party", "tags"):
        value = event[name]
        if value is not None:
            values = (value,) if isinstance(value, str) else tuple(sorted(set(value)))
            said.append((("attributes", prefix + name), (at, values)))
    for name in ("states", "zones", "counties"):
        if event[name] is not None:
            values = tuple(sorted(set(event[name])))
            said.append((("attributes", prefix + name + source), (at, values)))
    return said


def _checked(event: Any, at: int, seller: str) -> Any:
    value = (at, event["event_id"], event["answer"], event["query_date"])
    return [(("reassignments", seller), value)]


def _placed(event: Any, at: int, seller: str) -> Any:
    attempt = (
        at,
        event["event_id"],
        event["call_id"],
        event["permit_id"],
        None,
        event["purpose"],
        event["call_mode"],
        event["dial_mode"],
        event["contact_kind"],
        event["shipment_id"],
    )
    return [(("attempts", seller, event["subject_matter"] or "*"), attempt)]


def _ended(event: Any, at: int, seller: str) -> Any:
    words = {event["outcome"]} - {"UNKNOWN"}
    if event["abandoned"]:
        words.add("ABANDONED")
    if event["answered_live"]:
        words.add("ANSWERED_LIVE")
    said: Any = [(("outcomes", seller, word), (at, event["event_id"])) for word in words]
    if event["refused"] or event["outcome"] == "REFUSED":
        matter = event["subject_matter"] or "*"
        said.append((("refusals", seller, matter), (at, event["event_id"], False)))
    if event["opted_out"]:
        value = (at, event["event_id"], "OPTED_OUT_IN_CALL")
        said.append((("withdrawals", seller, "*", "*", "*"), value))
        entry = (at, event["event_id"], True, at, False, None)
        said.append((("dnc", seller, "INTERNAL", "internal"), entry))
    return said


def _erased(event: Any, at: int, seller: str) -> Any:
    if event["test"]:
        # A rehearsal erases nothing: it is a request, and ends what was rehearsed.
        return [(("withdrawals", seller, "*", "*", "*"), (at, event["event_id"], "WITHDRAWN"))]
    return [(("erased",), (min(event["cutoff_at"], at), event["event_id"]))]


def _decided(event: Any, at: int, seller: str) -> Any:
    if event["verdict"] != "ALLOW" or event["permit_id"] is None:
        return []
    attempt = (
        at,
        event["event_id"],
        "",
        event["permit_id"],
        event["permit_expires_at"],
        event["purpose"],
        event["call_mode"],
        event["dial_mode"],
        "UNKNOWN",
        None,
    )
    return [(("attempts", seller, event["subject_matter"] or "*"), attempt)]


_SAID: dict[str, Any] = {
    "ConsentGranted": _granted,
    "ConsentWithdrawn": _withdrawn,
    "ConsentRefused": _refused,
    "DncAdded": lambda event, at, seller: _listed(event, at, seller, True),
    "DncRemoved": lambda event, at, seller: _listed(event, at, seller, False),
    "RelationshipRecorded": _related,
    "NumberAttributesRecorded": _attributes,
    "ReassignmentChecked": _checked,
    "CallPlaced": _placed,
    "CallEnded": _ended,
    "ErasureExecuted": _erased,
    "DialDecision": _decided,
}


def linked(slots: Mapping[str, Slots], number: str, seller: str) -> list[str]:
    """Other numbers of the person, as a seller knows them: one reference in common, any seller."""
    own = {
        party
        for name in (f"party_ref:{seller}", "party_ref:*")
        for party in slots[number].get(("attributes", name), (0, ()))[1]
    }
    return sorted(
        other
        for other, held in slots.items()
        if other != number
        and any(
            not own.isdisjoint(value[1])
            for key, value in held.items()
            if key[0] == "attributes" and key[1].startswith("party_ref:")
        )
    )
