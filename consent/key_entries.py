"""What is sealed of a key that signs permits: that it was made, and that it was taken out of use.

Each entry is a function of the key's public part and its dates, so that whoever tells the log of it
tells the same. Which permit was signed with which key stands on each decision.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any, Final

from consent.instants import instant_text

ENTRY_KIND: Final = "KEY"
_IDS: Final = uuid.UUID("0b0c5f1e-3a37-5d0c-8f3a-5b6f8c0f7d11")

Entry = dict[str, Any]


def key_made(key_id: str, public_key: bytes, created_at: int, signs_from: int) -> Entry:
    """Fields of the LogEntry of a new key; instants are µs."""
    return _entry(
        created_at,
        [
            ("what", "made"),
            ("use", "permits"),
            ("key_id", key_id),
            ("public_key", public_key.hex()),
            ("signs_from", instant_text(signs_from)),
        ],
    )


def key_retired(key_id: str, retired_at: int, listed_until: int) -> Entry:
    """Fields of the LogEntry of a key that signs no more, and until when it is published."""
    return _entry(
        retired_at,
        [
            ("what", "retired"),
            ("use", "permits"),
            ("key_id", key_id),
            ("listed_until", instant_text(listed_until)),
        ],
    )


def _entry(at: int, content: list[tuple[str, str]]) -> Entry:
    canonical = json.dumps(content, separators=(",", ":"))
    return {
        "entry_id": str(uuid.uuid5(_IDS, canonical)),
        "at": at,
        "entry_kind": ENTRY_KIND,
        "subject": None,
        "content_sha256": hashlib.sha256(canonical.encode()).digest(),
        "content": [{"name": name, "value": value} for name, value in content],
    }
