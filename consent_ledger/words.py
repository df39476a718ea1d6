"""Events and decisions in plain words, for a person who has not read the schemas.

Pure text from fields; holds nothing of law and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from consent.instants import date_text, instant_text

Fields = Mapping[str, Any]

_PURPOSES: Final = {
    "MARKETING": "marketing",
    "INFORMATIONAL": "informational",
    "TRANSACTIONAL": "transactional",
    "SURVEY": "survey",
    "DEBT": "debt collection",
}
_MODES: Final = {
    "LIVE": "by a live caller",
    "PRERECORDED": "with a prerecorded message",
    "ARTIFICIAL": "with an artificial voice",
    "AI_VOICE": "with an AI voice",
}
_KINDS: Final = {
    "IMPLIED": "implied consent",
    "EXPRESS": "express consent",
    "OPT_IN": "opt-in consent",
    "WRITTEN_DNC": "written permission despite a do-not-call list",
    "PEWC": "prior express written consent",
}
_OUTCOMES: Final = {
    "ANSWERED_LIVE": "answered by a person",
    "ABANDONED": "abandoned",
    "NO_ANSWER": "not answered",
    "BUSY": "busy",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "MACHINE": "answered by a machine",
    "VOICEMAIL_LEFT": "a voicemail was left",
    "FAX": "answered by a fax",
    "INVALID_NUMBER": "the number is not valid",
    "BLOCKED": "blocked",
    "TRANSFERRED": "transferred",
    "REFUSED": "refused",
}


def summary_of(name: str, fields: Fields, names_party: bool = False) -> str:
    """One sentence about an event; the event's name if there are no words for it.

    `names_party`: its evidence said whose number it is among a person's several ones.
    """
    write = _SENTENCES.get(name)
    told = name if write is None else write(fields)
    return f"{told}; it is one of a person's numbers" if names_party else told


def _calls(fields: Fields, purposes: Sequence[str], modes: Sequence[str], whole: str) -> str:
    kinds = [_PURPOSES[purpose] for purpose in purposes if purpose in _PURPOSES]
    ways = [_MODES[mode] for mode in modes if mode in _MODES]
    if len(kinds) < len(purposes) or len(ways) < len(modes):
        kinds, ways = [], []
    text = f"{_listed(kinds)} calls" if kinds else f"{whole} calls"
    text += f" {_listed(ways)}" if ways else ""
    matters = fields.get("subject_matters") or []
    return text + (f" about {_listed(matters)}" if matters else "")


def _listed(parts: Sequence[str]) -> str:
    return " or ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)


def _scope(fields: Fields) -> str:
    return _calls(fields, fields.get("purposes") or [], fields.get("modes") or [], "all")


def _granted(fields: Fields) -> str:
    if fields["change"] == "REQUESTED":
        return f"Was asked to confirm consent to {_scope(fields)}; no answer yet"
    kind = _KINDS.get(fields["consent_kind"])
    known = [part for part in fields["purposes"] if part in _PURPOSES]
    ways = [part for part in fields["modes"] if part in _MODES]
    if kind is None or not known or not ways:
        return "A grant that grants nothing: kind, purposes or modes are missing"
    text = f"Gave {kind} to {_calls(fields, known, ways, 'no')}"
    until = fields.get("expires_at")
    return text + (f", until {instant_text(until)}" if until is not None else "")


def _withdrawn(fields: Fields) -> str:
    whose = "every seller" if fields["all_sellers"] else "this seller"
    return f"Took back consent to {_scope(fields)} from {whose}"


def _refused(fields: Fields) -> str:
    matter = fields.get("subject_matter")
    about = f" about {matter}" if matter else ""
    if fields["objection"]:
        return f"Objected to {_scope(fields)}{about}"
    return f"Said no to {_scope(fields)}{about}"


def _invalidated(fields: Fields) -> str:
    return f"Consent to {_scope(fields)} was found invalid ({_plain(fields['reason'])})"


def _related(fields: Fields) -> str:
    kind = _plain(fields["relationship_kind"])
    if fields["status"] == "ENDED":
        ended = fields.get("ended_on")
        return f"Business relationship ended: {kind}" + (
            f" on {date_text(ended)}" if ended is not None else ""
        )
    return f"Business relationship: {kind} on {date_text(fields['on'])}"


def _attributes(fields: Fields) -> str:
    known = []
    for name in ("line_type", "party", "states", "zones", "counties", "tags", "carrier"):
        value = fields.get(name)
        if value:
            shown = _listed(value) if isinstance(value, list) else _plain(str(value))
            known.append(f"{name.replace('_', ' ')} {shown}")
    return "Learned about the number: " + ("; ".join(known) or "nothing but what its evidence says")


def _reassigned(fields: Fields) -> str:
    answers = {
        "YES": "the number was reassigned",
        "NO": "the number was not reassigned",
        "NO_DATA": "no data",
    }
    since = date_text(fields["query_date"])
    answer = answers.get(fields["answer"], "unknown")
    return f"Reassigned-numbers database asked about {since}: {answer}"


def _listed_dnc(fields: Fields) -> str:
    kind = fields["list_kind"]
    if kind in ("INTERNAL", "UNKNOWN"):
        whose = "every seller" if fields["all_sellers"] else "this seller"
        return f"Asked {whose} not to call"
    return f"Entered on the do-not-call list {fields['list_id']}"


def _unlisted_dnc(fields: Fields) -> str:
    return f"Taken off the do-not-call list {fields['list_id']} ({_plain(fields['reason'])})"


def _placed(fields: Fields) -> str:
    text = f"Call {fields['call_id']} placed"
    purpose = _PURPOSES.get(fields["purpose"])
    text += f" for {purpose}" if purpose else ""
    permit = fields.get("permit_id")
    return text + (f", permit {permit}" if permit else ", no permit cited")


def _ended(fields: Fields) -> str:
    outcome = _OUTCOMES.get(fields["outcome"], "outcome not known")
    text = f"Call {fields['call_id']} ended: {outcome}"
    seconds = fields.get("duration_seconds")
    text += f", {seconds} s" if seconds is not None else ""
    if fields["opted_out"]:
        text += "; the person asked not to be called again"
    elif fields["refused"]:
        text += "; the person declined"
    return text


def _decided(fields: Fields) -> str:
    purpose = _PURPOSES.get(fields["purpose"], "unknown-purpose")
    mode = _MODES.get(fields["call_mode"], "in an unknown way")
    answers = {"ALLOW": "allowed", "DENY": "denied", "UNAVAILABLE": "not decidable"}
    answer = answers.get(fields["verdict"], "undecided")
    article = "an" if purpose[0] in "aeiou" else "a"
    text = f"Asked whether {article} {purpose} call {mode} may be placed: {answer}"
    return text + (f" ({fields['reason']})" if fields.get("reason") else "")


def _of_request(sentence: str) -> Callable[[Fields], str]:
    return lambda fields: f"{sentence} (request {fields['request_id']})"


def _plain(symbol: str) -> str:
    return symbol.lower().replace("_", " ")


_SENTENCES: Final[Mapping[str, Callable[[Fields], str]]] = {
    "ConsentGranted": _granted,
    "ConsentWithdrawn": _withdrawn,
    "ConsentRefused": _refused,
    "ConsentInvalidated": _invalidated,
    "RelationshipRecorded": _related,
    "NumberAttributesRecorded": _attributes,
    "ReassignmentChecked": _reassigned,
    "DncAdded": _listed_dnc,
    "DncRemoved": _unlisted_dnc,
    "CallPlaced": _placed,
    "CallEnded": _ended,
    "DialDecision": _decided,
    "ErasureRequested": _of_request("Asked for erasure"),
    "AccessRequested": _of_request("Asked what is held"),
    "RectificationRequested": _of_request("Asked for a correction"),
    "ErasureExecuted": _of_request("Evidence was erased"),
    "ErasureRefused": lambda fields: f"Erasure was refused: {fields['ground']}",
    "LegalHoldPlaced": lambda fields: f"Legal hold {fields['hold_id']}: evidence must be kept",
    "LegalHoldReleased": lambda fields: f"Legal hold {fields['hold_id']} ended",
}
