"""A journal on disk of decisions that were, or are about to be, answered to a dialer.

The embedded broker forgets when it stops, and a process may be killed between answer and
publication: what stands here is published again at the next start. Owns files, order and
durability; what an entry means is its owner's business.

Entries hold telephone numbers: the folder is 0700, files 0600, and a file is deleted as soon as
every entry in it was released.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from consent.errors import Corrupt, Retryable
from consent.privacy import pack, unpack

log = structlog.get_logger(__name__)

_SUFFIX: Final = ".journal"
_HEAD_BYTES: Final = 8


class JournalUnavailable(Retryable):
    """The entry could not be made durable: the disk is full, gone, or the journal is closed."""


class JournalInUse(Retryable):
    """Another process writes to this folder."""


class JournalCorrupt(Corrupt):
    """An entry before the last one is damaged."""


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """Size at which a new file is begun, and size of all files at which appending is refused."""

    file_bytes: int = 4 * 1024 * 1024
    bytes_max: int = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One decision as it will be published. `event_id` names it when it is released."""

    event_id: str
    topic: str
    key: bytes
    value: bytes


class DecisionJournal:
    """Append-only files, one fsync for all entries that arrive while the disk is busy.

    After `append` returned, the entry survives `kill -9` and a power cut, and is given by
    `unreleased` until it was released. An entry whose append failed may survive too.
    """

    def __init__(self, folder: Path, limits: JournalLimits | None = None) -> None:
        self._folder = folder
        self._limits = limits or JournalLimits()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="decision-journal")
        self._pending: list[tuple[JournalEntry, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._files: dict[Path, set[str]] = {}
        self._home: dict[str, Path] = {}
        self._current: Path | None = None
        self._descriptor = -1
        self._lock = -1
        self._damaged = False
        self._bytes = 0
        self._left: list[JournalEntry] = []

    def open(self) -> None:
        """Take the folder for this process and read what earlier ones left.

        JournalInUse if another process has it, JournalCorrupt if an entry before the last of a
        file is damaged. A last entry that was cut off is dropped: its append never returned.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            os.close(self._lock)
            raise JournalInUse(f"{self._folder} is in use by another process") from problem
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            self._adopt(path)
        self._begin_file()

    @property
    def unreleased(self) -> list[JournalEntry]:
        """What earlier processes left, in the order in which it was appended."""
        return [entry for entry in self._left if entry.event_id in self._home]

    @property
    def entries(self) -> int:
        """Entries that are not released."""
        return len(self._home)

    async def append(self, entry: JournalEntry) -> None:
        """Return once the entry is on disk; JournalUnavailable if it can't be."""
        if self._descriptor < 0:
            raise JournalUnavailable("the journal is closed")
        if self._bytes >= self._limits.bytes_max:
            raise JournalUnavailable("the journal is full: decisions are not being recorded")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((entry, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_pending())
        await asyncio.shield(done)

    def release(self, event_id: str) -> None:
        """Forget an entry: it is safe elsewhere. Deletes its file after the last one."""
        path = self._home.pop(event_id, None)
        if path is None:
            return
        waiting = self._files[path]
        waiting.discard(event_id)
        if not waiting and path != self._current:
            self._delete(path)

    def rotate(self) -> None:
        """Begin a new file if the current one has entries, so that it can go once released."""
        if self._current is not None and self._size(self._current):
            self._begin_file()

    async def close(self) -> None:
        """Write what is pending and give the folder back."""
        if self._writing is not None:
            await self._writing
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            current, self._current = self._current, None
            if current is not None and not self._files[current]:
                self._delete(current)
            os.close(self._lock)
        self._disk.shutdown()

    async def _write_pending(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            batch, self._pending = self._pending, []
            data = b"".join(_framed(entry) for entry, _ in batch)
            try:
                if self._damaged:
                    self._begin_file()
                    self._damaged = False
                await loop.run_in_executor(self._disk, _write_durably, self._descriptor, data)
            except OSError as problem:
                log.error("decision_journal_failed", error=problem.strerror, entries=len(batch))
                self._damaged = True
                for _, done in batch:
                    done.set_exception(JournalUnavailable("the journal could not be written"))
                continue
            self._settle(batch, len(data))
        self._writing = None

    def _settle(self, batch: list[tuple[JournalEntry, asyncio.Future[None]]], size: int) -> None:
        assert self._current is not None
        self._bytes += size
        for entry, done in batch:
            self._files[self._current].add(entry.event_id)
            self._home[entry.event_id] = self._current
            done.set_result(None)
        if self._size(self._current) >= self._limits.file_bytes:
            self._begin_file()

    def _begin_file(self) -> None:
        last = self._current
        number = 1 + max((int(path.stem) for path in self._files), default=0)
        path = self._folder / f"{number:012d}{_SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._current = path
        self._files[path] = set()
        if last is not None and not self._files[last]:
            self._delete(last)

    def _adopt(self, path: Path) -> None:
        entries = list(_read(path))
        self._files[path] = {entry.event_id for entry in entries}
        self._home.update((entry.event_id, path) for entry in entries)
        self._left.extend(entries)
        self._bytes += path.stat().st_size
        if not entries:
            self._delete(path)

    def _delete(self, path: Path) -> None:
        self._bytes -= self._size(path)
        self._files.pop(path, None)
        path.unlink(missing_ok=True)

    @staticmethod
    def _size(path: Path) -> int:
        return path.stat().st_size if path.exists() else 0


def _framed(entry: JournalEntry) -> bytes:
    body = pack([entry.event_id.encode(), entry.topic.encode(), entry.key, entry.value])
    return len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body


def _write_durably(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fdatasync(descriptor)


def _read(path: Path) -> Iterator[JournalEntry]:
    data = path.read_bytes()
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        checksum = int.from_bytes(data[at + 4 : at + _HEAD_BYTES], "big")
        body = data[at + _HEAD_BYTES : at + _HEAD_BYTES + size]
        end = at + _HEAD_BYTES + size
        if size == 0 or len(body) < size or zlib.crc32(body) != checksum:
            if size and end < len(data):
                raise JournalCorrupt(f"{path.name} is damaged at byte {at}")
            log.warning("decision_journal_cut_off", file=path.name, bytes=len(data) - at)
            return
        event_id, topic, key, value = unpack(body)
        yield JournalEntry(
            (event_id or b"").decode(), (topic or b"").decode(), key or b"", value or b""
        )
        at = end
