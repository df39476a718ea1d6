"""A small witness (C2SP tlog-witness): cosigns a log's checkpoint if it continues the last one.

It knows the logs of a policy file by their keys, and remembers of each only the newest checkpoint
that it cosigned. What it remembers is on disk before it answers, so that it never says yes to two
histories, whatever dies.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from consent.checkpoints import Checkpoint, Submission, parse_checkpoint, parse_submission
from consent.log_policy import LogPolicy
from consent.merkle import verify_consistency
from consent.notes import Note, NoteInvalid, SigningKey, parse_note, verified

SIZE_MEDIA_TYPE = "text/x.tlog.size"
TEXT_MEDIA_TYPE = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class WitnessAnswer:
    """Status, body and media type of an answer over HTTP."""

    status: int
    body: str
    media_type: str = TEXT_MEDIA_TYPE


class Witness:
    """Cosigns checkpoints of the logs that it knows; safe to use from several threads.

    `folder` is its memory; one witness uses it. `clock` gives seconds since the epoch.
    """

    def __init__(
        self, key: SigningKey, policy: LogPolicy, folder: Path, clock: Callable[[], float]
    ) -> None:
        self._key = key
        self._policy = policy
        self._folder = folder
        self._clock = clock
        self._turn = threading.Lock()

    def add_checkpoint(self, body: bytes) -> WitnessAnswer:
        """Answer one submission, as the protocol has it; nothing is signed before it is kept."""
        try:
            submission = parse_submission(body.decode())
            checkpoint = parse_checkpoint(submission.note.text)
        except (NoteInvalid, UnicodeDecodeError) as problem:
            return WitnessAnswer(400, f"{problem}\n")
        keys = self._policy.logs_of(checkpoint.origin)
        if not keys:
            return WitnessAnswer(404, "this log is not known here\n")
        try:
            verified(submission.note, keys)
        except NoteInvalid as problem:
            return WitnessAnswer(403, f"{problem}\n")
        if submission.old_size > checkpoint.size:
            return WitnessAnswer(400, "the old size is larger than the checkpoint's\n")
        with self._turn:
            return self._judged(submission, checkpoint)

    def newest(self, origin: str) -> Note | None:
        """The newest checkpoint of a log that was cosigned here, with the cosignature."""
        try:
            return parse_note(self._path(origin).read_text())
        except FileNotFoundError:
            return None

    def _judged(self, submission: Submission, checkpoint: Checkpoint) -> WitnessAnswer:
        known = self.newest(checkpoint.origin)
        last = None if known is None else parse_checkpoint(known.text)
        size = 0 if last is None else last.size
        if submission.old_size != size:
            return WitnessAnswer(409, f"{size}\n", SIZE_MEDIA_TYPE)
        if last is not None and size == checkpoint.size and last.root != checkpoint.root:
            return WitnessAnswer(409, f"{size}\n", SIZE_MEDIA_TYPE)
        if not self._continues(last, checkpoint, submission.proof):
            return WitnessAnswer(422, "the proof does not lead from the last checkpoint to this\n")
        signature = self._key.signature(checkpoint.text, int(self._clock()))
        self._keep(checkpoint.origin, submission.note.with_signatures([signature]))
        return WitnessAnswer(200, signature.line)

    @staticmethod
    def _continues(
        last: Checkpoint | None, checkpoint: Checkpoint, proof: tuple[bytes, ...]
    ) -> bool:
        if last is None or last.size == 0:
            # Everything begins with nothing, and there is nothing to prove.
            return not proof
        return verify_consistency(last.size, checkpoint.size, last.root, checkpoint.root, proof)

    def _keep(self, origin: str, note: Note) -> None:
        path = self._path(origin)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        with draft.open("w") as file:
            file.write(note.encoded)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _path(self, origin: str) -> Path:
        return self._folder / f"{hashlib.sha256(origin.encode()).hexdigest()}.checkpoint"
