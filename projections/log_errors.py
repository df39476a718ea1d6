"""What makes the proof log stop: what it is about to sign would contradict what it has signed."""

from __future__ import annotations

from dataclasses import dataclass

from consent.errors import Corrupt


@dataclass(eq=False)
class LogContradicts(Corrupt):
    """Files, store or topic hold another history of the log than the one that is to be signed.

    Nothing was signed. Where the folder is behind what was signed, it must be restored: a log that
    began anew under the same name would be a second history.
    """

    detail: str

    def __str__(self) -> str:
        return f"the log was not continued: {self.detail}"


@dataclass(eq=False)
class LogDamaged(Corrupt):
    """A file of the log is missing or is not what it must be; `path` lies below its folder."""

    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"
