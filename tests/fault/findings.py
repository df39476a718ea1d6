"""What a campaign found wrong, counted by kind, and where it can be read about."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

KINDS: Final = (
    "lost",
    "doubled",
    "projection_differs",
    "stale_reads",
    "log_differs",
    "decisions_differ",
)
_SHOWN_MAX: Final = 20


@dataclass
class Findings:
    """Counts by kind. Every finding is a line of `path`; the first of each kind are shown as well.

    `seed`, `run` and `fault` say when; what is passed as `place` says where.
    """

    path: Path
    seed: int = 0
    run: int = 0
    fault: str = "none"
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, detail: str, count: int = 1, **place: Any) -> None:
        """Count a finding."""
        if kind not in KINDS:
            raise ValueError(f"no kind of finding: {kind}")
        shown = self.counts[kind] < _SHOWN_MAX
        self.counts[kind] += count
        when = {"seed": self.seed, "run": self.run, "fault": self.fault}
        line = json.dumps(when | {"kind": kind, "detail": detail, "count": count} | place)
        with self.path.open("a") as report:
            report.write(line + "\n")
        if shown:
            print(line, file=sys.stderr, flush=True)

    def result(self) -> dict[str, int]:
        """All counts, in order, those that are 0 too."""
        return {kind: self.counts[kind] for kind in KINDS}

    @property
    def clean(self) -> bool:
        """True if nothing was found."""
        return not self.counts.total()
