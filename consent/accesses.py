"""Who looked: what is written down, and sealed, each time somebody is shown what the ledger holds.

An entry of the log can't be erased, so it names a person by their token only, and a reason that
holds a number or an address is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from consent.errors import Rejected

ENTRY_KIND: Final = "ACCESS"
NOT_GIVEN: Final = "(not given)"
REASON_CHARACTERS_MAX: Final = 200
REASON_FIELD: Final = "Access-Reason"

# Seven digits, with at most two marks between any two, are a telephone number to be on the safe
# side; in a date or a file number with a slash there are fewer in a row.
_NUMBER: Final = re.compile(r"\+?(?:\d[\s().\-]{0,2}){6,}\d")
_DATE: Final = re.compile(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)")


@dataclass(frozen=True, slots=True)
class Access:
    """One look: `who` in which `role` asked for `what`, about whom (None: nobody alone), and why.

    `parameters` are those of the question that say nothing of a person.
    """

    who: str
    role: str
    what: str
    why: str
    subject: bytes | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


def checked_reason(text: str | None, required: bool) -> str:
    """The reason of an access, trimmed; Rejected if it is missing, too long or names a person."""
    reason = (text or "").strip()
    if not reason:
        if required:
            remedy = "say why you look: a case, a request, an audit"
            raise Rejected("REASON_MISSING", REASON_FIELD, "", remedy)
        return NOT_GIVEN
    if len(reason) > REASON_CHARACTERS_MAX or not reason.isprintable():
        remedy = f"give one line of at most {REASON_CHARACTERS_MAX} characters"
        raise Rejected("REASON_TOO_LONG", REASON_FIELD, "(not shown)", remedy)
    if "@" in reason or _NUMBER.search(_DATE.sub("", reason)):
        remedy = "name the case, not the person: it is kept for ever"
        raise Rejected("REASON_NAMES_PERSON", REASON_FIELD, "(not shown)", remedy)
    return reason


def access_entry(access: Access, entry_id: str, at: int) -> dict[str, Any]:
    """Fields of the LogEntry that seals an access; `at` in µs."""
    parameters = json.dumps(dict(sorted(access.parameters.items())), separators=(",", ":"))
    content = [
        ("who", access.who),
        ("role", access.role),
        ("what", access.what),
        ("why", access.why),
        ("parameters", parameters),
    ]
    canonical = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return {
        "entry_id": entry_id,
        "at": at,
        "entry_kind": ENTRY_KIND,
        "subject": access.subject,
        "content_sha256": hashlib.sha256(canonical.encode()).digest(),
        "content": [{"name": name, "value": value} for name, value in content],
    }
