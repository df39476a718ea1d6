"""Reason codes: their one total order, and what each says to a person.

The codes are data of the rulebook; this module owns only what is done with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

VIEW_STALE: Final = "VIEW_STALE"
VIEW_UNLOADED: Final = "VIEW_UNLOADED"
REGISTRY_UNLOADED: Final = "REGISTRY_UNLOADED"
PARTY_TOO_LARGE: Final = "PARTY_TOO_LARGE"
DATA_MISSING: Final = "DATA_MISSING"

UNAVAILABLE_REASONS: Final = (VIEW_UNLOADED, VIEW_STALE, REGISTRY_UNLOADED, PARTY_TOO_LARGE)
"""Why there can be no answer."""

ENGINE_REASONS: Final = (DATA_MISSING, *UNAVAILABLE_REASONS)
"""Codes that the engine gives by itself, whatever the rules: every catalogue must have them."""

UNAVAILABLE_GROUP: Final = "unavailable"
NO_DENIAL_GROUPS: Final = frozenset({UNAVAILABLE_GROUP, "audit"})
"""Groups whose codes never stand on a denial."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One code. `rank` is its place in the total order, 0 first; `text` is for people."""

    code: str
    rank: int
    group: str
    text: str


@dataclass(frozen=True, slots=True)
class ReasonCatalogue:
    """Every reason and every obligation of one rulebook, by code."""

    reasons: Mapping[str, Reason] = field(default_factory=dict)
    obligations: Mapping[str, Reason] = field(default_factory=dict)

    def text(self, code: str) -> str:
        """What a code says to a person; the code itself if this rulebook does not know it."""
        known = self.reasons.get(code) or self.obligations.get(code)
        return code if known is None else known.text

    def rank(self, code: str) -> int:
        """Place of a reason in the total order; KeyError for a code that is none."""
        return self.reasons[code].rank

    def ordered(self, codes: Iterable[str]) -> tuple[str, ...]:
        """Reasons, each once, the primary one first."""
        return tuple(sorted(set(codes), key=self.rank))

    def ordered_obligations(self, codes: Iterable[str]) -> tuple[str, ...]:
        """Obligations, each once, in the catalogue's order."""
        return tuple(sorted(set(codes), key=lambda code: self.obligations[code].rank))

    def denies(self, code: str) -> bool:
        """True for a code that may stand on a denial."""
        reason = self.reasons.get(code)
        return reason is not None and reason.group not in NO_DENIAL_GROUPS
