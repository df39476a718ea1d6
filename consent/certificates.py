"""The certificate of an erasure: what is gone, what the law orders kept, how long copies last.

A function of the ErasureExecuted event and its place in the log alone, so that it can be made
again at any time, and so that the digest that was sealed in the proof log can be checked. It names
the person by token only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from consent.instants import instant_text

VERSION: Final = 1
ENTRY_KIND: Final = "ERASURE"

_ERASED: Final = (
    "the number, and all evidence (names, addresses, recordings' references, wording shown), of "
    "every event up to the cut-offs, from the history's store",
    "the number as key of the current record, which stands under a token now",
    "dead letters that mention the number",
    "copies of the record in the workers' local caches, within two minutes",
)


@dataclass(frozen=True, slots=True)
class ExecutedPlace:
    """Where the ErasureExecuted event is; `recorded_at` in µs."""

    log_id: bytes
    topic: str
    partition: int
    offset: int
    recorded_at: int


def certificate_id(fields: Mapping[str, Any]) -> str:
    """Id of the certificate of an ErasureExecuted: its own, or the event's."""
    return str(fields["certificate_id"] or fields["event_id"])


def certificate_of(
    fields: Mapping[str, Any], place: ExecutedPlace, subject: bytes
) -> dict[str, Any]:
    """The certificate as JSON content; `fields` are those of the event, `subject` its token."""
    return {
        "certificate": "erasure",
        "version": VERSION,
        "certificate_id": certificate_id(fields),
        "request_id": fields["request_id"],
        "subject": subject.hex(),
        "executed_at": instant_text(fields["occurred_at"]),
        "recorded_at": instant_text(place.recorded_at),
        "cutoff_at": instant_text(fields["cutoff_at"]),
        "event": {
            "event_id": str(fields["event_id"]),
            "log_id": place.log_id.hex(),
            "topic": place.topic,
            "partition": place.partition,
            "offset": place.offset,
        },
        "cutoffs": [
            {
                "topic": cutoff["topic"],
                "log_id": cutoff["log_id"].hex(),
                "partition": cutoff["partition"],
                "offset_last": cutoff["offset_last"],
            }
            for cutoff in fields["cutoffs"]
        ],
        "erased": list(_ERASED),
        "kept": list(fields["retained"]),
        "topics_until": _until(fields["topics_until"]),
        "backups_until": _until(fields["backups_until"]),
    }


def canonical_bytes(certificate: Mapping[str, Any]) -> bytes:
    """The bytes whose SHA-256 is sealed: JSON with sorted names, without spaces, UTF-8."""
    text = json.dumps(certificate, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def entry_of(certificate: Mapping[str, Any], recorded_at: int) -> dict[str, Any]:
    """Fields of the LogEntry that seals a certificate.

    Its id is that of all the certificate says: whoever published the event may have used the
    certificate's own id before, or have published the event twice.
    """
    digest = hashlib.sha256(canonical_bytes(certificate)).digest()
    content = {
        "certificate_id": str(certificate["certificate_id"]),
        "topics_until": certificate["topics_until"] or "",
        "backups_until": certificate["backups_until"] or "",
    }
    return {
        "entry_id": str(uuid5(NAMESPACE_URL, f"erasure:{digest.hex()}")),
        "at": recorded_at,
        "entry_kind": ENTRY_KIND,
        "subject": bytes.fromhex(certificate["subject"]),
        "content_sha256": digest,
        "content": [{"name": name, "value": value} for name, value in content.items()],
    }


def certificate_text(certificate: Mapping[str, Any]) -> str:
    """The certificate for a person to read."""
    lines = [
        "CERTIFICATE OF ERASURE",
        "",
        f"Certificate   {certificate['certificate_id']}",
        f"Request       {certificate['request_id']}",
        f"Person        {certificate['subject']} (a keyed token; the number stands nowhere)",
        f"Executed      {certificate['executed_at']}",
        f"Reaches       everything up to {certificate['cutoff_at']}",
        "",
        "Erased:",
        *(f"- {item}" for item in certificate["erased"]),
        "",
        "Kept, and why:",
        *(f"- {item}" for item in certificate["kept"] or ("nothing",)),
        "",
        "Copies that go by themselves:",
        f"- in the topics of the log, until {certificate['topics_until'] or 'not stated'}",
        f"- in backups, until {certificate['backups_until'] or 'not stated'}",
        "",
        f"SHA-256       {hashlib.sha256(canonical_bytes(certificate)).hexdigest()}",
        "(of the certificate as canonical JSON; an entry of the proof log holds this digest)",
    ]
    return "\n".join(lines) + "\n"


def _until(at: int | None) -> str | None:
    return None if at is None else instant_text(at)
