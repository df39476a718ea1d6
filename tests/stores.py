"""Starting the embedded ClickHouse front for tests, in a process of its own as in real life."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

READY = re.compile(r'"port": (\d+).*"event": "embedded_clickhouse_ready"')
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.02


@dataclass(slots=True)
class RunningFront:
    """A front that answers; `port` stays the same over `restart`."""

    process: subprocess.Popen[bytes]
    port: int
    data_dir: Path
    log_path: Path
    arguments: tuple[str, ...]

    @property
    def url(self) -> str:
        """Address for clients."""
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """SIGKILL, at once."""
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT_S)

    def restart(self) -> None:
        """Start again on the same data and port, when the process has ended."""
        self.process = _spawn(self.data_dir, self.log_path, ("--port", str(self.port)), self)
        _await_ready(self.process, self.log_path)


def start_front(
    data_dir: Path, log_path: Path, arguments: Sequence[str] = (), port: int = 0
) -> RunningFront:
    """Start a front and wait until it says that it is ready."""
    front_arguments = tuple(arguments)
    process = _spawn(data_dir, log_path, ("--port", str(port), *front_arguments))
    return RunningFront(
        process, _await_ready(process, log_path), data_dir, log_path, front_arguments
    )


def run_to_its_end(data_dir: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a front that is expected to refuse to start."""
    return subprocess.run(
        _command(data_dir, arguments), capture_output=True, text=True, timeout=READY_TIMEOUT_S
    )


def _spawn(
    data_dir: Path, log_path: Path, arguments: Sequence[str], again: RunningFront | None = None
) -> subprocess.Popen[bytes]:
    extra = again.arguments if again is not None else ()
    with open(log_path, "wb") as log:
        return subprocess.Popen(
            _command(data_dir, (*arguments, *extra)), stdout=log, stderr=subprocess.STDOUT
        )


def _command(data_dir: Path, arguments: Sequence[str]) -> list[str]:
    module = "projections.embedded_clickhouse"
    return [sys.executable, "-m", module, "--data-dir", str(data_dir), *arguments]


def _await_ready(process: subprocess.Popen[bytes], log_path: Path) -> int:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        found = READY.search(log_path.read_text())
        if found:
            return int(found.group(1))
        if process.poll() is not None:
            break
        time.sleep(POLL_S)
    process.kill()
    raise AssertionError(f"the front did not start: {log_path.read_text()}")
