"""What makes the history stop: the store and the log contradict each other.

None of these is repaired in silence: the process ends, and a person looks.
"""

from __future__ import annotations

from dataclasses import dataclass

from consent.errors import Corrupt


@dataclass(eq=False)
class HistoryCorrupt(Corrupt):
    """Where it was found: the topic partition, its log's id in hexadecimal, and the offsets."""

    topic: str
    partition: int
    log_id: str
    offset_first: int
    offset_last: int

    def where(self) -> str:
        """The place in words."""
        return (
            f"{self.topic}-{self.partition} (log {self.log_id}), "
            f"offsets {self.offset_first} to {self.offset_last}"
        )


@dataclass(eq=False)
class RowsDoubled(HistoryCorrupt):
    """A table holds an offset more than once."""

    table: str
    rows: int
    offsets: int

    def __str__(self) -> str:
        return f"{self.table} holds {self.rows} rows of {self.offsets} records: {self.where()}"


@dataclass(eq=False)
class RowsMissing(HistoryCorrupt):
    """Rows are missing although the store acknowledged them, and stay missing when repeated."""

    table: str
    rows: int

    def __str__(self) -> str:
        return f"{self.table} keeps losing {self.rows} rows that were written: {self.where()}"


@dataclass(eq=False)
class BlockContradicts(HistoryCorrupt):
    """The store has another block, or other facts, where the log gives this one."""

    detail: str

    def __str__(self) -> str:
        return f"{self.detail}: {self.where()}"


@dataclass(eq=False)
class LogContradicts(HistoryCorrupt):
    """The log does not hold what the history has recorded from it.

    Either the log lost acknowledged records, or it is another log under the same id.
    """

    detail: str

    def __str__(self) -> str:
        return f"{self.detail}: {self.where()}"


@dataclass(eq=False)
class LogReplaced(Corrupt):
    """A topic was made anew while it was read; start the worker again to read it as a new log."""

    topic: str

    def __str__(self) -> str:
        return f"the topic {self.topic} was deleted and created again"
