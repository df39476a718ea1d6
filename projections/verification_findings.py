"""What a verification says: each finding has a kind, a place as precise as can be, and a sentence.

A finding never quotes a number, a token or what a column holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

Kind = Literal[
    "CHECKPOINT_INVALID",
    "CHECKPOINT_ROLLED_BACK",
    "CHECKPOINT_CONTRADICTED",
    "TILE_DAMAGED",
    "ENTRY_UNREADABLE",
    "ENTRY_NOT_KEPT",
    "CHAIN_BROKEN",
    "OFFSETS_LOST",
    "BLOCK_MISSING",
    "BLOCK_CHANGED",
    "BLOCK_DOUBLED",
    "BLOCK_UNSEALED",
    "FACT_MISSING",
    "FACT_DOUBLED",
    "FACT_UNKNOWN",
    "FACT_UNREADABLE",
    "COLUMN_CHANGED",
    "ROOT_DIFFERS",
    "EVIDENCE_CHANGED",
    "EVIDENCE_DOUBLED",
    "EVIDENCE_UNKNOWN",
]


@dataclass(frozen=True, slots=True)
class Place:
    """Where: what does not apply is None. `path` lies below the log's folder."""

    table: str | None = None
    topic: str | None = None
    partition: int | None = None
    log_id: str | None = None
    offset_first: int | None = None
    offset_last: int | None = None
    column: str | None = None
    path: str | None = None
    entry_index: int | None = None
    size: int | None = None

    def __str__(self) -> str:
        parts = []
        if self.table is not None:
            parts.append(self.table)
        if self.topic is not None:
            parts.append(f"{self.topic}-{self.partition} (log {self.log_id})")
        if self.offset_first is not None:
            last = self.offset_last
            one = last is None or last == self.offset_first
            parts.append(f"offset {self.offset_first}" + ("" if one else f" to {last}"))
        for name in ("column", "path", "entry_index", "size"):
            value = getattr(self, name)
            if value is not None:
                parts.append(f"{name.replace('_', ' ')} {value}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be."""

    kind: Kind
    place: Place
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.place}: {self.detail}"

    def as_fields(self) -> dict[str, Any]:
        """For machines: kind, detail, and the place's fields that apply."""
        place = {one.name: getattr(self.place, one.name) for one in fields(self.place)}
        given = {name: value for name, value in place.items() if value is not None}
        return {"kind": self.kind, "detail": self.detail, **given}


Found = Callable[[Finding], None]
