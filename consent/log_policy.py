"""Which logs and witnesses are trusted: lines of a file, in the form of C2SP tlog-policy.

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]

Empty lines and those that begin with `#` mean nothing. Groups and quorums are not read.
"""

from __future__ import annotations

from dataclasses import dataclass

from consent.errors import Rejected
from consent.notes import COSIGNATURE, ED25519, NoteInvalid, VerifierKey


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key, what it is called here, and where its holder answers, if that is known."""

    name: str
    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """The logs and the witnesses of a file, in its order."""

    logs: tuple[TrustedKey, ...] = ()
    witnesses: tuple[TrustedKey, ...] = ()

    def logs_of(self, origin: str) -> tuple[VerifierKey, ...]:
        """Keys of the log of this name."""
        return tuple(one.key for one in self.logs if one.key.name == origin)


def parse_policy(text: str) -> LogPolicy:
    """What a file says; Rejected names the line that can't be read."""
    logs, witnesses = [], []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        kind, *rest = words
        if kind == "log" and 1 <= len(rest) <= 2:
            key = _key(rest[0], ED25519, number)
            logs.append(TrustedKey(key.name, key, _url(rest[1:])))
        elif kind == "witness" and 2 <= len(rest) <= 3:
            key = _key(rest[1], COSIGNATURE, number)
            witnesses.append(TrustedKey(rest[0], key, _url(rest[2:])))
        else:
            remedy = "Write `log KEY [URL]` or `witness NAME KEY [URL]`."
            raise Rejected("UNKNOWN_LINE", f"line {number}", kind[:20], remedy)
    return LogPolicy(tuple(logs), tuple(witnesses))


def _key(text: str, kind: int, number: int) -> VerifierKey:
    try:
        key = VerifierKey.parse(text)
    except NoteInvalid as problem:
        raise Rejected("INVALID_KEY", f"line {number}", str(problem), "Copy the key.") from None
    if key.kind != kind:
        remedy = "A log signs with a key of type 1, a witness with one of type 4."
        raise Rejected("WRONG_KIND_OF_KEY", f"line {number}", f"type {key.kind}", remedy)
    return key


def _url(words: list[str]) -> str | None:
    return words[0].rstrip("/") if words else None
