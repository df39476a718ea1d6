"""What a contestant is told, and how it reports progress."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass

from consent.lift import Position

REPORT_EVERY = 500
LOG_ID = bytes(16)


@dataclass(frozen=True, slots=True)
class Task:
    """Read `records` records of `topic` with an own group and an own folder."""

    bootstrap: str
    topic: str
    partitions: int
    records: int
    group: str
    folder: str
    clickhouse_url: str = ""

    def to_json(self) -> str:
        """As a command-line argument."""
        return json.dumps(asdict(self))


def given_task() -> Task:
    """The task of this process."""
    return Task(**json.loads(sys.argv[1]))


class Progress:
    """Counts records and reports now and then."""

    def __init__(self) -> None:
        self.done = 0
        self._reported = 0

    def add(self, records: int = 1) -> None:
        """Records are done; a report costs nothing between reports."""
        self.done += records
        if self.done - self._reported >= REPORT_EVERY:
            self._reported = self.done
            self.report()

    def report(self) -> None:
        """Write one line, to the process's own output: Faust's workers log what is printed."""
        line = {"at": time.monotonic(), "done": self.done}
        print(json.dumps(line), file=sys.__stdout__, flush=True)


def position(topic: str, partition: int, offset: int, timestamp_ms: int) -> Position:
    """Where a record stands; the log id does not matter to a contestant."""
    return Position(topic, LOG_ID, partition, offset, timestamp_ms * 1000)
