"""Starts worker processes of tests, forked off one that has imported everything.

Importing Faust, polars and the ledger takes a second of processor time, and the tests start
workers many hundred times. What is forked has done nothing yet but import: it is a process like
any other, with an id of its own, which signals stop, pause and kill.
"""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final, Protocol

from tests.brokers import die_with_parent

_MODULES: Final = [
    "tests.batching_worker",
    "tests.projection_worker",
    "tests.record_process",
    "tests.seal_process",
]
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(_MODULES)


@atexit.register
def _end_all() -> None:
    """What a test left running or paused would be waited for at the end of the run."""
    for process in multiprocessing.active_children():
        process.kill()


class ModuleProcess:
    """`main(argument)` of a module, in a process whose output goes to a file."""

    def __init__(self, module: str, argument: str, output: Path) -> None:
        output.touch()
        self._process = _forks.Process(target=_run, args=(module, argument, str(output)))
        self._process.start()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """As of `subprocess.Popen`: the signal, negative, if one has ended it; None if nothing."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self.returncode

    def wait(self, timeout_s: float | None = None) -> int:
        """The exit code, once there is one; TimeoutExpired if it takes too long."""
        self._process.join(timeout_s)
        code = self.returncode
        if code is None:
            raise subprocess.TimeoutExpired(str(self._process.name), timeout_s or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class _Main(Protocol):
    def main(self, argument: str) -> int: ...


def _run(module: str, argument: str, output: str) -> None:
    die_with_parent()
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.argv = [module, argument]
    random.seed()  # else all of them would draw the same
    found: _Main = importlib.import_module(module)  # type: ignore[assignment]
    sys.exit(found.main(argument))
