"""Errors of the projections, each in one of the families of `consent.errors`."""

from __future__ import annotations

from dataclasses import dataclass, field

from consent.errors import ConsentError, Corrupt, Retryable


# Not frozen: contextlib assigns `__traceback__` to errors that pass through it.
@dataclass(eq=False)
class StoreUnavailable(Retryable):
    """The store did not answer, or answered that it can't now; the outcome of a write is unknown.

    Write the same rows again with the same deduplication token. `code` and `name` are
    ClickHouse's, or 0 and empty when there was no answer.
    """

    operation: str
    detail: str
    code: int = 0
    name: str = ""

    def __str__(self) -> str:
        return f"store unavailable during {self.operation}: {_label(self)}{self.detail}"


@dataclass(eq=False)
class StoreRejected(Corrupt):
    """The store refused what it was asked; asking again can't help. Nothing was written.

    `code` and `name` are ClickHouse's, such as 60 and `UNKNOWN_TABLE`. `detail` is its text, which
    can quote the statement and its values: it is no part of the message, and belongs in no log.
    """

    operation: str
    code: int
    name: str
    detail: str = field(repr=False)

    def __str__(self) -> str:
        return f"store refused {self.operation}: {_label(self)}".rstrip(": ")


@dataclass(eq=False)
class StoreUnsafe(Corrupt):
    """The server's version or settings would lose or double rows; nothing was written to it."""

    problems: tuple[str, ...]

    def __str__(self) -> str:
        return "the store can't be trusted with the history: " + "; ".join(self.problems)


@dataclass(eq=False)
class MigrationRefused(Corrupt):
    """Migration files and database contradict each other; nothing further was applied."""

    number: int
    file: str
    reason: str

    def __str__(self) -> str:
        return f"migration {self.number:04d} ({self.file}): {self.reason}"


@dataclass(eq=False)
class DataDirectoryInUse(ConsentError):
    """Another process holds the data directory; this one must not touch it."""

    directory: str
    holder: str

    def __str__(self) -> str:
        return f"data directory {self.directory} is in use by {self.holder}"


@dataclass(eq=False)
class PortTaken(ConsentError):
    """The address can't be listened on."""

    host: str
    port: int
    detail: str

    def __str__(self) -> str:
        return f"cannot listen on {self.host}:{self.port}: {self.detail}"


def _label(error: StoreUnavailable | StoreRejected) -> str:
    return f"{error.code} {error.name}: " if error.code else ""
