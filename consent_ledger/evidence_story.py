"""The story of a bundle: every fact, its evidence and its rules, told as data and in plain words.

What `verify_bundle.py` can compare is made here by the same functions from the same bytes: `fact`,
`fields`, `evidence` and `rules` of an event are functions of its fact, the evidence that it
committed to and the rulebook. Summaries, wording and the rest are the ledger's words about them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from consent.contracts import contracts, data_path, named_types
from consent.instants import date_text, instant_text
from consent.reconstruction import KnownFact, repeated_ids
from consent_ledger.evidence_scope import EvidenceScope
from consent_ledger.receipt_events import happened_at
from consent_ledger.verify_bundle import decoded, rules_of
from consent_ledger.words import summary_of
from projections.evidence_rows import ExpiredEvidence, HeldEvidence, Place, StoredFact

Event = dict[str, Any]

_WORDINGS: Final = (
    # What it is, and the fields that name, version, digest and locate it.
    ("disclosure", "disclosure_id", "disclosure_version", "disclosure_sha256", ""),
    ("privacy notice", "notice_id", "notice_version", "notice_sha256", "notice_uri"),
    ("copy of the request as shown", "", "", "request_copy_sha256", ""),
    ("copy of the consent given", "", "", "consent_copy_sha256", ""),
)
_COPIES: Final = {
    "copy of the request as shown": "request_copy_uri",
    "copy of the consent given": "consent_copy_uri",
}


@dataclass(frozen=True, slots=True)
class ToldFact:
    """A fact with what is held beside it; `own`: it is about the number, not about the program.

    `gone` says why nothing is held, where that is known.
    """

    stored: StoredFact
    own: bool
    evidence: HeldEvidence | None = None
    gone: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class GoneEvidence:
    """Why evidence of a person is not there any more."""

    expired: Sequence[ExpiredEvidence]
    erased: bool

    def why(self, place: Place) -> dict[str, Any] | None:
        """Of the fact at a place; None if nothing says so."""
        for one in self.expired:
            if one.has(place):
                return {"by": "RETENTION", "month": one.month, "entry_ids": [*one.entry_ids]}
        return {"by": "ERASURE"} if self.erased else None


def told_events(
    facts: Sequence[ToldFact], scope: EvidenceScope, files: Mapping[str, bytes]
) -> list[Event]:
    """One event for each fact, in the same order; `files` hold the rulebooks of the bundle."""
    reused = repeated_ids([one.stored.known for one in facts])
    met = {""}
    events = []
    for one in facts:
        known = one.stored.known
        event = _facts_part(one, dict(files))
        event["about"] = "number" if one.own else "program"
        event["summary"] = summary(known)
        event["happened_at"] = instant_text(happened_at(known))
        event["in_period"] = scope.in_period(known)
        event["repeated"] = known.event_id in met and known.fields is not None
        event["id_reused"] = known.event_id in reused
        met.add(known.event_id)
        events.append(event)
    return events


def summary(known: KnownFact) -> str:
    """One sentence about a fact."""
    fields = known.fields
    if fields is None:
        return (
            f"A record that could not be read ({known.unreadable}); "
            "an opt-out among such records is applied as one from every seller"
        )
    match known.name:
        case "ScriptPublished":
            return f"Script {fields['script_id']}, version {fields['version']}, was published"
        case "CampaignDeclared":
            return f"Campaign {fields['campaign_id']} was declared"
        case "CallerIdAuthorised":
            withdrawn = "no longer" if fields["withdrawn"] else "from then on"
            return f"Caller id {fields['caller_id_number']} may be shown: {withdrawn}"
        case "RegistryVersionPublished":
            dated = date_text(fields["version_date"])
            return (
                f"List {fields['list_id']}, version {fields['version']} of {dated}, was loaded: "
                f"{fields['numbers']:,} numbers"
            )
        case "RulebookActivated":
            return f"Rulebook {fields['rulebook_version']} was put into use"
    return summary_of(known.name, fields, known.derived.party is not None)


def wordings(events: Sequence[Event], copies: Mapping[str, str]) -> list[dict[str, Any]]:
    """What was shown or said, and by which digests and addresses it is kept.

    `copies` are names of attached files by digest.
    """
    return [
        {**one, "copy": copies.get(one["sha256"] or "")}
        for number, event in enumerate(events)
        if event["fields"] is not None
        for one in _wordings_of(number, event)
    ]


def schemas_of(facts: Sequence[StoredFact]) -> dict[str, Any]:
    """The schemas of these facts with every type spelled out, as `verify_bundle.py` reads them."""
    found = {"Fact.v1": _envelope(), "BlockSealed.v1": _header()}
    for one in facts:
        if one.known.fields is not None:
            found[f"{one.known.name}.v{one.known.version}"] = event_schemas(
                one.known.name, one.known.version
            )
    return found


@cache
def event_schemas(name: str, version: int) -> dict[str, Any]:
    """Schemas of what a fact holds of an event, and of its evidence."""
    path = data_path("schemas") / "facts" / f"{name}.v{version}.avsc"
    event = next(
        record.schema
        for record in contracts().records
        if (record.name, record.version) == (name, version)
    )
    named = named_types(event)
    branches = next(field["type"] for field in event["fields"] if field["name"] == "evidence")
    payload = json.loads(path.read_text())
    return {
        "payload": _spelled_out(payload, named_types(payload)),
        "evidence": _spelled_out(branches[1], named),
    }


def _facts_part(one: ToldFact, files: dict[str, bytes]) -> Event:
    """What follows from the fact's bytes, its evidence and its rulebook alone."""
    known = one.stored.known
    envelope = decoded(_envelope(), one.stored.data)
    payload = bytes.fromhex(envelope.pop("payload"))
    fields, evidence, rules = None, None, []
    if known.fields is not None:
        schemas = event_schemas(known.name, known.version)
        fields = decoded(schemas["payload"], payload)
        if one.evidence is not None and one.evidence.evidence is not None:
            evidence = decoded(schemas["evidence"], one.evidence.evidence)
        if known.name == "DialDecision":
            rules = rules_of(files, fields)
    return {"fact": envelope, "fields": fields, "evidence": evidence, "rules": rules}


def _wordings_of(number: int, event: Event) -> Iterator[dict[str, Any]]:
    fields, evidence = event["fields"], event["evidence"] or {}
    if evidence.get("wording"):
        language = evidence["wording_language"] or fields.get("language")
        yield _wording(number, "words shown or said", text=evidence["wording"], language=language)
    for what, name, version, digest, uri in _WORDINGS:
        values = {
            "id": fields.get(name),
            "version": fields.get(version),
            "sha256": fields.get(digest),
            "uri": fields.get(uri) or evidence.get(_COPIES.get(what, "")),
        }
        if any(values.values()):
            yield _wording(number, what, **values, language=fields.get("language"))
    if evidence.get("page_copy_uri"):
        yield _wording(number, "copy of the page as shown", uri=evidence["page_copy_uri"])
    if evidence.get("recording_uri") or evidence.get("recording_sha256"):
        yield _wording(
            number,
            "recording",
            uri=evidence["recording_uri"],
            sha256=evidence["recording_sha256"],
        )
    if event["fact"]["event_name"] == "ScriptPublished":
        yield _wording(
            number,
            "script",
            id=fields["script_id"],
            version=fields["version"],
            sha256=fields["content_sha256"],
            uri=fields["uri"],
            language=fields["language"],
        )


def _wording(number: int, what: str, **values: Any) -> dict[str, Any]:
    known = dict.fromkeys(("id", "version", "language", "text", "sha256", "uri"))
    return {"event": number, "what": what, **known, **values}


@cache
def _envelope() -> dict[str, Any]:
    return _packaged("facts/Fact.v1.avsc")


@cache
def _header() -> dict[str, Any]:
    return _packaged("ledger-blocks/BlockSealed.v1.avsc")


def _packaged(path: str) -> dict[str, Any]:
    schema = json.loads((data_path("schemas") / path).read_text())
    spelled: dict[str, Any] = _spelled_out(schema, named_types(schema))
    return spelled


def _spelled_out(schema: Any, named: Mapping[str, Any]) -> Any:
    """A schema without references: a type is where it is used."""
    if isinstance(schema, list):
        return [_spelled_out(part, named) for part in schema]
    if isinstance(schema, str):
        return _spelled_out(named[schema], named) if schema in named else schema
    kept = {key: value for key, value in schema.items() if key not in ("doc", "default")}
    for key in ("type", "items", "fields"):
        if key in kept:
            kept[key] = _spelled_out(kept[key], named)
    return kept
