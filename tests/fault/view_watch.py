"""Watches look-ups: none may show less than an earlier one, nor less than a fresh one must."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from consent.state import EMPTY, SubjectState, merge
from projections.view import Freshness, ViewAnswer
from tests.fault.findings import Findings


@dataclass
class _Watched:
    """One number: what must be shown, and what must be once the view is true as of a time."""

    floor: SubjectState = EMPTY
    accepted: deque[tuple[int, SubjectState]] = field(default_factory=deque)
    behind: bool = False


class ViewWatch:
    """Judges look-ups. `looked_up` counts them by freshness."""

    def __init__(self, findings: Findings) -> None:
        self.looked_up: Counter[str] = Counter()
        self.judged = 0
        self._findings = findings
        self._numbers: dict[str, _Watched] = {}

    def accepted(self, number: str, acknowledged_at: int, says: SubjectState) -> None:
        """A restriction that was acknowledged, by our clock in µs, and what it amounts to."""
        watched = self._numbers.setdefault(number, _Watched())
        watched.accepted.append((acknowledged_at, says))

    def look_up(self, number: str, ask: Callable[[str], ViewAnswer]) -> None:
        """Look a number up and judge the answer."""
        answer = ask(number)
        self.looked_up[answer.freshness.value] += 1
        watched = self._numbers.setdefault(number, _Watched())
        floor = watched.floor
        if merge(floor, answer.state) != answer.state:
            self._add("the view went back", number, answer)
            watched.floor = merge(floor, answer.state)
            return
        watched.floor = answer.state
        if answer.freshness is Freshness.FRESH and answer.true_at is not None:
            self._judge_fresh(number, watched, answer, answer.true_at)

    def _judge_fresh(
        self, number: str, watched: _Watched, answer: ViewAnswer, true_at: int
    ) -> None:
        while watched.accepted and watched.accepted[0][0] <= true_at:
            acknowledged_at, says = watched.accepted.popleft()
            self.judged += 1
            if merge(answer.state, says) != answer.state:
                late_ms = (true_at - acknowledged_at) / 1000
                self._add(f"true as of {late_ms} ms after an unseen restriction", number, answer)

    def _add(self, detail: str, number: str, answer: ViewAnswer) -> None:
        self._findings.add(
            "stale_reads",
            detail,
            subject=hashlib.sha256(number.encode()).hexdigest()[:12],
            partition=answer.partition,
            freshness=answer.freshness.value,
            true_at=answer.true_at,
        )
