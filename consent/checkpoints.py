"""Checkpoints of a log (C2SP tlog-checkpoint): its name, how many entries, and the root over them.

A checkpoint is a signed note. Signing is the business of whoever holds the key and knows what it
has signed before; here is only what the text says.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from consent.merkle import HASH_BYTES, PROOF_HASHES_MAX
from consent.notes import Note, NoteInvalid, VerifierKey, parse_note, verified

SIZE_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of the log `origin` at `size` entries."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text that is signed."""
        root = base64.b64encode(self.root).decode()
        return "".join(
            f"{line}\n" for line in (self.origin, str(self.size), root, *self.extensions)
        )


@dataclass(frozen=True, slots=True)
class Submission:
    """What a log tells a witness (C2SP tlog-witness): a checkpoint, and that it continues the
    tree of `old_size` entries.
    """

    old_size: int
    proof: tuple[bytes, ...]
    note: Note

    @property
    def encoded(self) -> str:
        """The body of the request."""
        lines = [f"old {self.old_size}\n"]
        lines += [base64.b64encode(one).decode() + "\n" for one in self.proof]
        return "".join((*lines, "\n", self.note.encoded))


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint that a note's text is; NoteInvalid if it is none."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise NoteInvalid("a checkpoint has three lines or more, none of them empty")
    origin, size, root, *extensions = lines
    return Checkpoint(origin, decimal(size), _hash(root), tuple(extensions))


def opened_checkpoint(encoded: str, keys: Sequence[VerifierKey]) -> Checkpoint:
    """The checkpoint of a note that one of the keys has signed, which is named as its log.

    NoteInvalid if it is no checkpoint, or not signed, or by a key of another log.
    """
    note = parse_note(encoded)
    checkpoint = parse_checkpoint(note.text)
    own = [key for key in keys if key.name == checkpoint.origin]
    if not own:
        raise NoteInvalid("the checkpoint is of another log")
    verified(note, own)
    return checkpoint


def parse_submission(body: str) -> Submission:
    """The submission that a request's body is; NoteInvalid if it is none. Verifies nothing."""
    head, separator, encoded = body.partition("\n\n")
    old, *hashes = head.split("\n")
    if not separator or not old.startswith("old "):
        raise NoteInvalid("a submission is an old size, a proof, an empty line and a checkpoint")
    if len(hashes) > PROOF_HASHES_MAX:
        raise NoteInvalid("the proof has too many hashes")
    note = parse_note(encoded)
    return Submission(decimal(old[4:]), tuple(_hash(one) for one in hashes), note)


def decimal(text: str) -> int:
    """A size as it is written in checkpoints; NoteInvalid for any other spelling."""
    plain = text.isascii() and text.isdigit() and len(text) <= len(str(SIZE_MAX))
    if not plain or text != str(int(text)) or int(text) > SIZE_MAX:
        raise NoteInvalid("a size is a decimal number without leading zeros")
    return int(text)


def _hash(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != HASH_BYTES or base64.b64encode(data).decode() != text:
        raise NoteInvalid("a hash is 32 bytes in base64")
    return data
