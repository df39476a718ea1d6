"""ClickHouse in this process, served over ClickHouse's own HTTP protocol on one address.

For running without a ClickHouse server: the same clients, the same statements, another address.
Owns the process: its data directory and lock, start, readiness, stop. What holds:

- Statements run in parallel; inserts never block reads. Parts are fsynced before an insert is
  answered; a process that is killed leaves whole parts or none, and starts again by itself.
- One process has a data directory; a second one is refused before it touches anything.
- Clients can't read or write files, reach other hosts, run commands or stop the server by SQL.
  It is meant for one machine's own processes all the same: put no untrusted client in front of it.
- Differences from a server: no users or roles, one engine zone (UTC), no `compress=1` framing, no
  external data, `query_id` is echoed but `KILL QUERY` knows other ids, statements of more than one
  part are refused, and results in formats that can't be streamed are bounded.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import uvicorn

from projections.embedded_clickhouse_engine import Engine, EngineLimits
from projections.embedded_clickhouse_http import Front, FrontLimits
from projections.embedded_clickhouse_request import Credentials
from projections.embedded_clickhouse_run import RunLimits, Runner
from projections.embedded_clickhouse_sessions import SessionLimits, Sessions
from projections.embedded_clickhouse_wire import ClickHouseError
from projections.errors import DataDirectoryInUse, PortTaken

log = structlog.get_logger(__name__)

_LOCK_FILE = "embedded-clickhouse.lock"
_BACKLOG = 256
_EXIT_STARTED_NOT = 3


@dataclass(frozen=True, slots=True)
class EmbeddedClickHouse:
    """How to run it. Port 0 takes a free one, which the log names."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 18_123
    credentials: Credentials = field(default_factory=Credentials)
    engine: EngineLimits = field(default_factory=EngineLimits)
    front: FrontLimits = field(default_factory=FrontLimits)
    results: RunLimits = field(default_factory=RunLimits)
    sessions: SessionLimits = field(default_factory=SessionLimits)
    keep_alive_s: int = 30
    stop_timeout_ms: int = 8_000
    handle_signals: bool = field(default=True, kw_only=True)


def serve(config: EmbeddedClickHouse) -> None:
    """Serve until SIGTERM or SIGINT, then stop in order; returns when the engine is closed.

    `/ping` answers once statements can run. Raises DataDirectoryInUse, PortTaken, or
    ClickHouseError when the engine can't open its data, each before anything is served.
    """
    with _locked(config.data_dir), _listening(config.host, config.port) as listener:
        engine = Engine(config.data_dir, config.engine)
        engine.open()
        sessions = Sessions(config.sessions)
        front = Front(
            engine,
            Runner(engine, sessions, config.results),
            config.credentials,
            config.front,
            _fresh_spool(config.data_dir),
        )
        host, port = listener.getsockname()[:2]
        log.info("embedded_clickhouse_ready", host=host, port=port, version=engine.version)
        _run_server(front, listener, config)
        log.info("embedded_clickhouse_stopping")
        _close(front, sessions, engine, config.stop_timeout_ms)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line; returns the exit code: 0 stopped in order, 3 could not start."""
    parser = argparse.ArgumentParser(
        prog="embedded_clickhouse", description="ClickHouse in one process, over HTTP."
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the data")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=18_123, help="port to listen on, 0: any")
    parser.add_argument("--user", default="default", help="user name that clients must give")
    parser.add_argument("--password-file", type=Path, help="file with the password, none: empty")
    given = parser.parse_args(argv)
    try:
        password = given.password_file.read_text().strip() if given.password_file else ""
        serve(
            EmbeddedClickHouse(
                data_dir=given.data_dir,
                host=given.host,
                port=given.port,
                credentials=Credentials(given.user, password),
            )
        )
    except (DataDirectoryInUse, PortTaken, ClickHouseError, OSError) as refused:
        print(f"embedded ClickHouse can't start: {refused}", file=sys.stderr)
        return _EXIT_STARTED_NOT
    return 0


class _Server(uvicorn.Server):
    """Uvicorn without its signal handling, which would end the process by the signal again."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _run_server(front: Front, listener: socket.socket, config: EmbeddedClickHouse) -> None:
    server = _Server(
        uvicorn.Config(
            front,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=config.keep_alive_s,
            timeout_graceful_shutdown=max(1, config.stop_timeout_ms // 2000),
        )
    )

    async def run() -> None:
        loop = asyncio.get_running_loop()
        if config.handle_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, _ask_to_stop, server)
        await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(run())


def _ask_to_stop(server: uvicorn.Server) -> None:
    server.should_exit = True


def _close(front: Front, sessions: Sessions, engine: Engine, timeout_ms: int) -> None:
    """Close everything; a statement that can't be stopped in time ends with the process."""
    closer = threading.Thread(target=front.close, daemon=True)
    closer.start()
    closer.join(timeout_ms / 1000)
    if closer.is_alive():
        log.warning("embedded_clickhouse_stopped_hard", timeout_ms=timeout_ms)
        os._exit(0)
    sessions.close()
    engine.close()


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the data directory for this process; the lock ends with the process, however it ends."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / _LOCK_FILE, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise DataDirectoryInUse(str(directory), holder) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        lock.flush()
        yield


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket, bound before the engine starts: a taken port is known at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError as taken:
            raise PortTaken(host, port, taken.strerror or str(taken)) from None
        yield listener
    finally:
        listener.close()


def _fresh_spool(directory: Path) -> Path:
    """Folder of results too large for memory; what a killed process left there is removed."""
    spool = directory / "spool"
    shutil.rmtree(spool, ignore_errors=True)
    spool.mkdir()
    return spool


if __name__ == "__main__":
    raise SystemExit(main())
