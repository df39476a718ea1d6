"""One supervised process: its command, its log, its end. Decides nothing about restarting.

Output of the process goes to a log file of bounded size; its last lines are kept for the message
that is shown when it dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

LAUNCHER = Path(__file__).with_name("child_launcher.py")
_READ_BYTES = 64 * 1024
_DRAIN_MS = 500


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to run one process.

    `needs` names processes that must be ready before this one starts; `restarts_with` names those
    whose restart makes what this one knows worthless, so that it is stopped and started anew.
    A `task` is ready when it has ended with 0; anything else is ready when `probe` says so.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    probe: Callable[[], Awaitable[bool]] | None = None
    task: bool = False
    needs: tuple[str, ...] = ()
    restarts_with: tuple[str, ...] = ()
    stops_before: tuple[str, ...] = ()
    ready_timeout_ms: int = 60_000
    stop_timeout_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class LogLimits:
    """Bounds of one process's log: bytes of a file, files kept, lines kept in memory."""

    bytes_max: int = 10 * 1024 * 1024
    files_max: int = 3
    tail_lines: int = 8
    line_chars_max: int = 1_000


@dataclass(slots=True)
class RotatedLog:
    """Appends to a file; at its limit the file becomes `.1`, that becomes `.2`, and so on."""

    path: Path
    limits: LogLimits
    _file: BinaryIO | None = None

    def append(self, data: bytes) -> None:
        """Write at once, so that the last words before a crash are in the file."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)
        self._file.write(data)
        if self._file.tell() >= self.limits.bytes_max:
            self.close()
            self._rotate()

    def close(self) -> None:
        """Close the file; a later append opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rotate(self) -> None:
        kept = [self.path, *(self.path.with_name(f"{self.path.name}.{n}") for n in range(1, 99))]
        kept = kept[: self.limits.files_max]
        if len(kept) == 1:
            self.path.unlink()
        for older, newer in zip(reversed(kept), reversed(kept[:-1]), strict=False):
            if newer.exists():
                newer.replace(older)


@dataclass(slots=True)
class Child:
    """A process started from its spec, at most one at a time."""

    spec: ChildSpec
    log_path: Path
    limits: LogLimits
    on_exit: Callable[[str, int], None]
    _process: asyncio.subprocess.Process | None = None
    _output: asyncio.Task[None] | None = None
    _watch: asyncio.Task[None] | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _tail: deque[str] = field(default_factory=deque)
    _stopping: bool = False
    code: int | None = None

    @property
    def running(self) -> bool:
        """True from start until the process has ended."""
        return self._process is not None and self.code is None

    @property
    def pid(self) -> int | None:
        """Process id while running."""
        return self._process.pid if self._process is not None and self.code is None else None

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The end of the process's output."""
        return tuple(self._tail)

    async def start(self) -> None:
        """Start the process in a session of its own, tied to the life of this one.

        Its own session keeps a terminal's Ctrl-C away from it: the supervisor stops it in order.
        """
        self._process, self.code, self._stopping = None, None, False
        self._ended.clear()
        self._tail = deque(maxlen=self.limits.tail_lines)
        argv = (sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *self.spec.argv)
        self._process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(self.spec.environment),
            start_new_session=True,
        )
        self._output = asyncio.create_task(self._keep_output(self._process))
        self._watch = asyncio.create_task(self._await_end(self._process))

    async def stop(self, timeout_ms: int | None = None) -> None:
        """Ask it to end, wait, then kill its whole process group. Returns when it has ended."""
        if self._process is None or self.code is not None:
            return
        self._stopping = True
        limit_ms = self.spec.stop_timeout_ms if timeout_ms is None else timeout_ms
        if limit_ms > 0:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), limit_ms / 1000)
        self._signal(signal.SIGKILL)
        await self._ended.wait()

    async def wait(self) -> int:
        """Exit code, negative for a signal, once the process has ended."""
        await self._ended.wait()
        assert self.code is not None
        return self.code

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    async def _await_end(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if self._output is not None:
            # A grandchild may hold the pipe open; don't wait for it.
            await asyncio.wait({self._output}, timeout=_DRAIN_MS / 1000)
            self._output.cancel()
        self.code = code
        self._ended.set()
        if not self._stopping:
            self.on_exit(self.spec.name, code)

    async def _keep_output(self, process: asyncio.subprocess.Process) -> None:
        log, rest = RotatedLog(self.log_path, self.limits), b""
        assert process.stdout is not None
        try:
            while data := await process.stdout.read(_READ_BYTES):
                # A full disk must not stop the reading: the process would block on its output.
                with contextlib.suppress(OSError):
                    log.append(data)
                *lines, rest = (rest + data).split(b"\n")
                rest = rest[-self.limits.line_chars_max :]
                self._tail.extend(self._line(line) for line in lines if line.strip())
        finally:
            if rest.strip():
                self._tail.append(self._line(rest))
            log.close()

    def _line(self, line: bytes) -> str:
        return line.decode("utf-8", "replace").rstrip()[: self.limits.line_chars_max]
