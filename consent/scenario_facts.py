"""The facts of a scenario as events, lifted and merged as the ledger does with real ones.

A scenario so tests what happens in production: which grant hides which, what a missing scope means,
what restricts at the same instant. Events get readable ids, e.g. `grants[0]`, which is what a trace
shows of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, NamedTuple

from consent.contracts import contracts
from consent.evidence import BITS, ELEMENTS, bits_of
from consent.instants import MICROSECONDS, parse_date, parse_instant
from consent.lift import Derived, Position, lift
from consent.state import ANY, EMPTY, SubjectState, merge
from consent.yaml_source import Path, SourceError, SourceFile, suggestion

_DAY_US: Final = 86_400 * MICROSECONDS
_NOON_US: Final = _DAY_US // 2

_EVIDENCE: Final[Mapping[str, tuple[str, ...]]] = {
    "authorises_auto": ("authorises_automated",),
    "disclosure.authorises_auto": ("authorises_automated",),
    "not_condition": ("not_a_condition",),
    "disclosure.not_condition": ("not_a_condition",),
    "recording": ("recording_uri", "recording_sha256"),
    "audio_recording": ("recording_uri", "recording_sha256"),
    "document": ("document_uri", "document_sha256"),
    "request_copy": ("request_copy_uri", "request_copy_sha256"),
    "consent_copy": ("consent_copy_uri", "consent_copy_sha256"),
    "notice": ("notice_sha256",),
    "certificate": ("certificate_urls",),
    "given_at": ("signed_at",),
    "oral": (),
    **{name: (name,) for name in ELEMENTS},
}
"""What a flag of a scenario stands for: the short names of people, and every element by its own."""

_STATUSES: Final = {"ONGOING": "ACTIVE", "EXPIRED": "ENDED", "TERMINATED": "ENDED"}


class Part(NamedTuple):
    """A mapping of a scenario file, and where it stands."""

    file: SourceFile
    path: Path
    data: Mapping[str, Any]

    def error(self, key: str, message: str, remedy: str) -> SourceError:
        """An error at one of its keys."""
        place = ".".join(str(part) for part in (*self.path, key))
        return self.file.error((*self.path, key), f"{place}: {message}", remedy)

    def parts(self, key: str) -> Iterator[Part]:
        """The mappings of a list; none if the key is not there."""
        for index, data in enumerate(self.data.get(key) or ()):
            yield Part(self.file, (*self.path, key, index), data)

    def part(self, key: str) -> Part:
        """A mapping inside; an empty one if the key is not there."""
        return Part(self.file, (*self.path, key), self.data.get(key) or {})

    def instant(self, key: str) -> int | None:
        """An instant in µs; None if the key is not there or null."""
        return self._read(key, parse_instant, "no instant", "Write it like 2026-11-24T01:30:00Z.")

    def day(self, key: str) -> int | None:
        """A date in days since 1970-01-01; None if the key is not there or null."""
        return self._read(key, parse_date, "no date", "Write it like 2026-11-24.")

    def _read(self, key: str, parse: Callable[[str], int], message: str, remedy: str) -> int | None:
        text = self.data.get(key)
        if text is None:
            return None
        try:
            return parse(str(text))
        except ValueError:
            raise self.error(key, f"{text!r} is {message}", remedy) from None


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a fact takes from its request where it does not say it."""

    seller: str
    purpose: str
    at: int


class Event(NamedTuple):
    """One event of a scenario, before it is lifted."""

    name: str
    at: int
    event_id: str
    seller: str
    fields: Mapping[str, Any]
    elements: int = 0


def state_of_facts(facts: Part, defaults: Defaults) -> SubjectState:
    """The state of a number about which these facts are known; SourceError for what is none."""
    state = EMPTY
    for offset, event in enumerate(_events(facts, defaults)):
        position = Position("scenario", b"", 0, offset, event.at)
        fields = {
            **_field_defaults(event.name),
            **event.fields,
            "event_id": event.event_id,
            "seller_id": event.seller,
            "test": False,
        }
        derived = Derived(event.elements, ())
        state = merge(state, lift(event.name, fields, event.at, position, derived))
    return state if state is EMPTY else replace(state, applied={})


def evidence_flags() -> tuple[str, ...]:
    """Every flag of evidence that a scenario can state."""
    return tuple(_EVIDENCE)


def noon_of(day: int, at_most: int) -> int:
    """An instant that has this date nearly everywhere, but none after `at_most`."""
    return min(day * _DAY_US + _NOON_US, at_most)


@cache
def _field_defaults(name: str) -> Mapping[str, Any]:
    return {
        field["name"]: field["default"]
        for field in contracts().record(name).schema["fields"]
        if "default" in field
    }


def _events(facts: Part, defaults: Defaults) -> Iterator[Event]:
    for key, events in _LISTS.items():
        for index, entry in enumerate(facts.parts(key)):
            event_id = f"{key}[{index}]"
            yield from events(entry, event_id, defaults)
    yield from _attributes(facts, defaults)
    erased_at = facts.instant("erased_at")
    if erased_at is not None:
        cut = {"cutoff_at": erased_at, "cutoffs": ()}
        yield Event("ErasureExecuted", erased_at, "erased", defaults.seller, cut)
    if facts.data.get("reassigned") is not None:
        yield _reassigned(facts.part("reassigned"), defaults)


def _seller(entry: Part, defaults: Defaults) -> str:
    return str(entry.data.get("seller", defaults.seller))


def _grant(entry: Part, event_id: str, defaults: Defaults) -> Iterator[Event]:
    data = entry.data
    at = _needed(entry, "granted_at")
    fields = {
        "consent_kind": data["kind"],
        "change": "GIVEN",
        "purposes": tuple(data.get("purposes", ())),
        "modes": tuple(data.get("modes", ())),
        "subject_matters": tuple(data.get("subject_matters", ())),
        "expires_at": entry.instant("expires_at"),
        "signed_at": entry.instant("signed_at"),
        "party": data.get("party", "UNKNOWN"),
    }
    yield Event("ConsentGranted", at, event_id, _seller(entry, defaults), fields, _elements(entry))


def _elements(grant: Part) -> int:
    """Bits of the flags that are set; `signed_at` always, since a grant is signed at its time."""
    present = ["signed_at"]
    present += [name for name in ("seller_named", "number_named") if grant.data.get(name)]
    evidence = grant.part("evidence")
    for flag, value in evidence.data.items():
        if flag not in _EVIDENCE:
            raise evidence.error(flag, "no such element of evidence", suggestion(flag, _EVIDENCE))
        if value:
            present += _EVIDENCE[flag]
    return bits_of(name for name in present if name in BITS)


def _withdrawal(entry: Part, event_id: str, defaults: Defaults) -> Iterator[Event]:
    scope = entry.data.get("scope", {})
    named = {**entry.data, **scope} if isinstance(scope, Mapping) else {}
    seller = _seller(entry, defaults)
    fields = {
        "purposes": _words(named.get("purposes")),
        "modes": _words(named.get("modes")),
        "subject_matters": tuple(named.get("subject_matters", ())),
        "all_sellers": seller == ANY,
    }
    yield Event("ConsentWithdrawn", _needed(entry, "occurred_at"), event_id, seller, fields)


def _words(given: Any) -> tuple[str, ...]:
    """Words of a restriction's scope; () and `*` are everything."""
    return () if given is None else tuple(given)


def _internal_dnc(entry: Part, event_id: str, defaults: Defaults) -> Iterator[Event]:
    seller, at = _seller(entry, defaults), _needed(entry, "requested_at")
    fields = {
        "list_kind": "INTERNAL",
        "list_id": "internal",
        "all_sellers": seller == ANY,
        "whole_party": entry.data.get("whole_party", False),
    }
    yield Event("DncAdded", at, event_id, seller, fields)


def _listed(entry: Part, event_id: str, defaults: Defaults) -> Iterator[Event]:
    kind, seller = entry.data["list_kind"], _seller(entry, defaults)
    fields = {
        "list_kind": kind,
        "list_id": entry.data.get("list_id", kind.lower()),
        "all_sellers": seller == ANY,
    }
    if entry.data.get("removed"):
        yield Event("DncRemoved", _needed(entry, "at"), event_id, seller, fields)
        return
    fields["listed_on"] = entry.day("listed_on")
    yield Event("DncAdded", _needed(entry, "at"), event_id, seller, fields)


def _refusal(entry: Part, event_id: str, defaults: Defaults) -> Iterator[Event]:
    fields = {
        "subject_matter": entry.data.get("subject_matter"),
        "objection": entry.data.get("objection", False),
    }
    yield Event("ConsentRefused", _needed(entry, "at"), event_id, _seller(entry, defaults), fields)


def _relationship(entry: Part, event_id: str, defaults: Defaults) -> Iterator[Event]:
    data, on = entry.data, entry.day("on")
    status = str(data.get("status", "UNKNOWN"))
    status = _STATUSES.get(status, status)
    if on is None and data["kind"] != "CONTRACT":
        raise entry.error("kind", f"a {data['kind']} without its date", "Add 'on'.")
    begun_on = defaults.at // _DAY_US - 1 if on is None else on
    fields = {
        "relationship_kind": data["kind"],
        "relationship_id": event_id,
        "on": begun_on,
        "status": status,
        "ended_on": entry.day("ended_on"),
        "related_subject_matters": tuple(data.get("related_subject_matters", ())),
        "call_from_at": entry.instant("call_from"),
        "call_until_at": entry.instant("call_until"),
    }
    # Recorded on the day itself, wherever the person is: none of it is known only later.
    at = min(begun_on * _DAY_US - _NOON_US, defaults.at)
    yield Event("RelationshipRecorded", at, event_id, _seller(entry, defaults), fields)


def _attempt(entry: Part, event_id: str, defaults: Defaults) -> Iterator[Event]:
    data = entry.data
    fields = {
        "call_id": event_id,
        "subject_matter": data.get("subject_matter"),
        "purpose": data.get("purpose", defaults.purpose),
        "call_mode": data.get("mode", "UNKNOWN"),
        "dial_mode": data.get("dial", "UNKNOWN"),
        "contact_kind": data.get("contact_kind", "CALL"),
        "shipment_id": data.get("shipment_id"),
    }
    yield Event("CallPlaced", _needed(entry, "at"), event_id, _seller(entry, defaults), fields)


def _outcome(entry: Part, event_id: str, defaults: Defaults) -> Iterator[Event]:
    outcome = entry.data["outcome"]
    fields = {
        "call_id": event_id,
        "subject_matter": entry.data.get("subject_matter"),
        "outcome": outcome,
        "abandoned": outcome == "ABANDONED",
    }
    yield Event("CallEnded", _needed(entry, "at"), event_id, _seller(entry, defaults), fields)


_LISTS: Final[Mapping[str, Callable[[Part, str, Defaults], Iterable[Event]]]] = {
    "grants": _grant,
    "withdrawals": _withdrawal,
    "internal_dnc": _internal_dnc,
    "listed": _listed,
    "refusals": _refusal,
    "relationships": _relationship,
    "attempts": _attempt,
    "outcomes": _outcome,
}
"""Lists of facts, and how each entry becomes an event."""


def _attributes(facts: Part, defaults: Defaults) -> Iterator[Event]:
    data = facts.data
    fields = {
        "line_type": data.get("line_type"),
        "ported_at": facts.instant("ported_at"),
        "tags": data.get("tags"),
        "preference": data.get("preference"),
        "party": data.get("party"),
    }
    if fields["ported_at"] is not None:
        fields["port"] = "WIRELINE_TO_WIRELESS"
    stated = {name: value for name, value in fields.items() if value not in (None, "UNKNOWN")}
    if stated:
        seller = defaults.seller
        yield Event("NumberAttributesRecorded", defaults.at, "attributes", seller, stated)


def _reassigned(entry: Part, defaults: Defaults) -> Event:
    queried_on = entry.day("queried_on")
    assert queried_on is not None
    fields = {"answer": entry.data["answer"], "query_date": queried_on}
    at = noon_of(queried_on, defaults.at)
    return Event("ReassignmentChecked", at, "reassigned", defaults.seller, fields)


def _needed(entry: Part, key: str) -> int:
    at = entry.instant(key)
    assert at is not None
    return at
