"""Up to which instant a partition of the projection is true.

Pure bookkeeping. The rule: read the clock, then ask where a source partition ends; once everything
below that end is folded, what the broker held at the clock reading is folded. A partition of the
projection is true as of the oldest instant among the source topics that it is made of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

QUESTIONS_MAX: Final = 128
"""Unanswered questions kept of one source partition; with more, the newest are not kept."""


@dataclass(frozen=True, slots=True)
class SourceEnd:
    """Where a source partition ended when it was asked, after the clock said `asked_at` (µs)."""

    asked_at: int
    offset_end: int


@dataclass(slots=True)
class _Source:
    position: int = -1
    true_at: int = 0
    questions: deque[SourceEnd] = field(default_factory=deque)


class TrueAt:
    """Truth of one partition of the projection, over all its source topics. Never goes back."""

    def __init__(self, topics: Iterable[str]) -> None:
        self._sources = {topic: _Source() for topic in topics}
        self._true_at = 0

    @property
    def true_at(self) -> int:
        """All that the broker held at this instant (µs) is folded; 0 if that is not known yet."""
        return self._true_at

    def at_least(self, true_at: int) -> None:
        """Take over what a former owner wrote: it stays true."""
        self._true_at = max(self._true_at, true_at)

    def asked(self, topic: str, end: SourceEnd) -> None:
        """Take note of where a source partition ended."""
        source = self._sources[topic]
        last = source.questions[-1] if source.questions else None
        if last is not None and (end.asked_at <= last.asked_at or end.offset_end < last.offset_end):
            # Two ways of asking may overlap; an answer that adds nothing is dropped.
            return
        if last is not None and end.offset_end == last.offset_end:
            source.questions[-1] = end
        elif len(source.questions) < QUESTIONS_MAX:
            source.questions.append(end)

    def reached(self, positions: Mapping[str, int]) -> None:
        """Take note that everything below these offsets is folded and safe."""
        for topic, position in positions.items():
            source = self._sources[topic]
            source.position = max(source.position, position)
        for source in self._sources.values():
            while source.questions and source.questions[0].offset_end <= source.position:
                source.true_at = source.questions.popleft().asked_at
        oldest = min(source.true_at for source in self._sources.values())
        self._true_at = max(self._true_at, oldest)
