"""What bundles of evidence are signed with, and where their proofs come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from consent.notes import SigningKey


@dataclass(frozen=True, slots=True)
class EvidenceSigning:
    """The log's folder and its key, and the key under which history names people."""

    folder: Path
    key: SigningKey = field(repr=False)
    history_key: bytes = field(repr=False)
