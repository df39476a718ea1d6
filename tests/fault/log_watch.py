"""Keeps every checkpoint that the ledger signed and that its witness remembers, and compares them.

The witness's memory is read as somebody who does not trust the ledger would: a checkpoint that it
cosigned and that the ledger's entries contradict is a finding, however whole the ledger itself is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from consent.checkpoints import opened_checkpoint
from consent.notes import NoteInvalid, VerifierKey
from projections.log_errors import LogDamaged
from projections.log_folder import LogFolder
from projections.verification_findings import Place
from projections.verification_log import GivenCheckpoint, LogCheck
from tests.fault.findings import Findings

_LOOK_PAUSE_S: Final = 0.5


class LogWatch:
    """Looks at one log's folder, and at the folder of its witness."""

    def __init__(
        self, folder: Path, witness: Path, keys: Sequence[VerifierKey], findings: Findings
    ) -> None:
        self._folder = LogFolder(folder)
        self._witness = witness
        self._keys = keys
        self._findings = findings
        self._kept: dict[str, Place] = {}
        self.entries = 0

    @property
    def kept(self) -> int:
        """Checkpoints that were seen, each counted once."""
        return len(self._kept)

    @property
    def given(self) -> list[GivenCheckpoint]:
        """What somebody who kept every checkpoint can hold against the ledger."""
        return [GivenCheckpoint(note, place) for note, place in self._kept.items()]

    async def look_for_ever(self) -> None:
        """Keep what is signed while this runs."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(_LOOK_PAUSE_S)

    def look(self) -> None:
        """Keep the checkpoint that is served now, and what the witness remembers."""
        for note, where in self._notes():
            self._kept.setdefault(note, Place(path=where))

    def judge(self) -> None:
        """Hash the whole log anew, and compare it with every checkpoint that was kept."""
        self.look()
        found: list[str] = []
        check = LogCheck(
            self._folder, self._keys, self.given, lambda finding: found.append(str(finding))
        )
        self.entries = check.size()
        places = check.entries(self.entries)
        found += [f"entry {place.index} can't be read" for place in places if place.entry is None]
        for one in found:
            self._findings.add("log_differs", one)

    def cosigned(self) -> int:
        """Entries under the largest checkpoint that the witness has; 0 if it has none."""
        sizes = [0]
        for path in self._remembered():
            try:
                sizes.append(opened_checkpoint(path.read_text(), self._keys).size)
            except NoteInvalid as problem:
                self._findings.add("log_differs", f"the witness has a bad note: {problem}")
        return max(sizes)

    def _notes(self) -> Iterator[tuple[str, str]]:
        try:
            note = self._folder.checkpoint()
        except LogDamaged as damaged:
            self._findings.add("log_differs", str(damaged))
        else:
            if note is not None:
                yield note, "checkpoint"
        for path in self._remembered():
            yield path.read_text(), "the witness"

    def _remembered(self) -> list[Path]:
        return sorted(self._witness.glob("*.checkpoint"))
