"""Errors of the domain, in three families by what the caller must do."""

from __future__ import annotations

from dataclasses import dataclass


class ConsentError(Exception):
    """Base of every error that this package raises on purpose."""


class Retryable(ConsentError):
    """Something outside is away for now: do the same again later."""


class Corrupt(ConsentError):
    """What was stored contradicts itself or the log: stop and page a person."""


# Not frozen: an exception's traceback and context are set while it passes through the stack.
@dataclass(eq=False)
class Rejected(ConsentError):
    """The caller's input can't be used; nothing was changed.

    `value_shown` is safe to print: the edge that raises it has already cut or masked it.
    """

    reason: str
    field: str
    value_shown: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.field}: {self.value_shown}: {self.reason}. {self.remedy}"


@dataclass(eq=False)
class Unreadable(ConsentError):
    """A record of the log can't be read; it belongs in the dead letters, unchanged."""

    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"
