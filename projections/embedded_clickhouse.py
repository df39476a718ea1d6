"""ClickHouse in this process, served over ClickHouse's own HTTP protocol on one address.

For running without a ClickHouse server: the same clients, the same statements, another address.
Owns the process: its data directory and lock, start, readiness, stop. What holds:

- Statements run in parallel; inserts never block reads. Parts are fsynced before an insert is
  answered; a process that is killed leaves whole parts or none, and starts again by itself.
- One process has a data directory; a second one is refused before it touches anything.
- Clients can't read or write files, reach other hosts, run commands or stop the server by SQL.
  It is meant for one machine's own processes all the same: put no untrusted client in front of it.
- Differences from a server: no users or roles, one engine zone (UTC), no tables in the database
  `default`, no `compress=1` framing, no external data, `query_id` is echoed but `KILL QUERY` knows
  other ids, results in formats that can't be streamed are bounded, and web pages are refused.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import math
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
from projections.embedded_clickhouse_http import AdmissionLimits, Front, FrontLimits
from projections.embedded_clickhouse_request import Credentials, RequestLimits
from projections.embedded_clickhouse_run import RunLimits, Runner
from projections.embedded_clickhouse_sessions import SessionLimits, Sessions
from projections.embedded_clickhouse_wire import ClickHouseError
from projections.errors import DataDirectoryInUse, PortTaken

log = structlog.get_logger(__name__)

_LOCK_FILE = "embedded-clickhouse.lock"
_BACKLOG = 256
_EXIT_NOT_STARTED = 3


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
    given = _parser().parse_args(argv)
    _configure_logs()
    try:
        serve(_configured(given))
    except (DataDirectoryInUse, PortTaken, ClickHouseError, OSError) as refused:
        print(f"embedded ClickHouse can't start: {refused}", file=sys.stderr)
        return _EXIT_NOT_STARTED
    return 0


def _parser() -> argparse.ArgumentParser:
    request, admission, engine = RequestLimits(), AdmissionLimits(), EngineLimits()
    parser = argparse.ArgumentParser(
        prog="embedded_clickhouse",
        description="ClickHouse in one process, over HTTP.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data-dir", type=Path, required=True, help="folder of the data")
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=18_123, help="port to listen on, 0: any")
    add("--user", default="default", help="user name that clients must give")
    add("--password-file", type=Path, help="file with the password, none: empty")
    for option, default, meaning in (
        ("--body-bytes-max", request.body_bytes_max, "largest request body, in bytes"),
        ("--body-timeout-ms", request.body_timeout_ms, "longest wait for a whole body"),
        ("--query-timeout-ms", request.query_timeout_ms, "longest time of one statement"),
        ("--reads-max", admission.reads_max, "reads that run at once"),
        ("--changes-max", admission.changes_max, "inserts and other changes that run at once"),
        ("--waiting-max", admission.waiting_max, "statements of each sort that wait"),
        ("--wait-timeout-ms", admission.wait_timeout_ms, "longest wait of a statement"),
        ("--memory-bytes-max", engine.memory_bytes_max, "memory of the engine, in bytes"),
    ):
        add(option, type=_positive, default=default, help=meaning)
    return parser


def _configured(given: argparse.Namespace) -> EmbeddedClickHouse:
    password = given.password_file.read_text().strip() if given.password_file else ""
    return EmbeddedClickHouse(
        data_dir=given.data_dir,
        host=given.host,
        port=given.port,
        credentials=Credentials(given.user, password),
        engine=EngineLimits(
            memory_bytes_max=given.memory_bytes_max,
            query_memory_bytes_max=given.memory_bytes_max // 2,
        ),
        front=FrontLimits(
            admission=AdmissionLimits(
                reads_max=given.reads_max,
                changes_max=given.changes_max,
                waiting_max=given.waiting_max,
                wait_timeout_ms=given.wait_timeout_ms,
            ),
            request=RequestLimits(
                body_bytes_max=given.body_bytes_max,
                body_timeout_ms=given.body_timeout_ms,
                query_timeout_ms=given.query_timeout_ms,
            ),
        ),
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _configure_logs() -> None:
    """Lines of JSON, but for a person at a terminal."""
    if not sys.stdout.isatty():
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ]
        )


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
            timeout_graceful_shutdown=math.ceil(config.stop_timeout_ms / 2_000),
        )
    )

    async def run() -> None:
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT) if config.handle_signals else ():
            loop.add_signal_handler(number, asked.set)
        stopper = asyncio.create_task(_stop_when(asked, server, front, config.stop_timeout_ms // 4))
        await server.serve(sockets=[listener])
        stopper.cancel()

    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(run())


async def _stop_when(
    asked: asyncio.Event, server: uvicorn.Server, front: Front, grace_ms: int
) -> None:
    await asked.wait()
    server.should_exit = True
    await front.end_statements(grace_ms)


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
