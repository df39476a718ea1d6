"""A whole ledger for tests, made of the product's own processes around a given broker.

The workers are started as an operator would start them; the HTTP API runs in this process, so
that tests can open it with other limits and keys, or as `serve`, where the process itself matters.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from kafka import KafkaAdminClient

from consent.contracts import contracts
from consent_ledger.adapters import topic_administration
from consent_ledger.bootstrap_brokers import admin_connection, topic_layout
from consent_ledger.keys import create_missing_keys
from consent_ledger.permit_keys import create_missing_permit_key
from consent_ledger.settings import Settings
from tests.brokers import Broker, die_with_parent, embedded_broker, free_port, wait_until

PARTITIONS = 4
START_TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class Ledger:
    """A running ledger: its settings as environment variables, and where its logs are."""

    broker: Broker
    environment: Mapping[str, str]
    folder: Path
    ports: Mapping[str, int]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def api_url(self) -> str:
        """Where `serve` answers."""
        return f"http://127.0.0.1:{self.ports['serve']}"

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run one command of the product to its end."""
        return subprocess.run(
            command(*arguments),
            env=dict(self.environment),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )

    def start(self, name: str, *arguments: str) -> None:
        """Start one process of the product and return when it is ready."""
        self.begin(name, *arguments)
        self.await_ready(name)

    def begin(self, name: str, *arguments: str) -> None:
        """Start one process of the product and return at once."""
        log = (self.folder / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(
            command(*arguments),
            env=dict(self.environment),
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,
        )
        log.close()

    def await_ready(self, name: str) -> None:
        """Return when a process that was begun is ready."""
        wait_until(lambda: self._is_ready(name), START_TIMEOUT_S, f"{name} to be ready")

    def stop(self, name: str, kill: bool = False) -> int:
        """End one process, in order or with SIGKILL; its exit code."""
        process = self.processes.pop(name)
        process.kill() if kill else process.terminate()
        try:
            return process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    def log_of(self, name: str) -> str:
        """What a process wrote so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _is_ready(self, name: str) -> bool:
        code = self.processes[name].poll()
        assert code is None, f"{name} ended with {code}:\n{self.log_of(name)[-4000:]}"
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{self.ports[name]}/readyz").status_code == 200
        return False


def command(*arguments: str) -> list[str]:
    """A command line of the product."""
    return [sys.executable, "-m", "consent_ledger.cli.main", *arguments]


@contextlib.contextmanager
def running_ledger(
    broker: Broker,
    clickhouse_url: str,
    folder: Path,
    processes: Sequence[str] = ("project", "record"),
    **settings: str,
) -> Iterator[Ledger]:
    """Topics, keys and processes around a broker and a store; everything ends with the block."""
    ports = {name: free_port() for name in ("project", "record", "seal", "serve")}
    given = {
        "DEPLOYMENT": "embedded" if broker.kind == "embedded" else "production",
        "DATA_DIR": str(folder / "data"),
        "KAFKA_BOOTSTRAP": broker.bootstrap,
        "KAFKA_REPLICATION": "1",
        "KAFKA_PARTITIONS_KEYED": str(PARTITIONS),
        "CLICKHOUSE_URL": clickhouse_url,
        "CLICKHOUSE_DATABASE": f"ledger_{ports['serve']}",
        "BLOCK_BUCKET_MS": "1000",
        "PROJECT_PORT": str(ports["project"]),
        "RECORD_PORT": str(ports["record"]),
        "SEAL_PORT": str(ports["seal"]),
        "SERVE_PORT": str(ports["serve"]),
        "API_URL": f"http://127.0.0.1:{ports['serve']}",
        "SESSION_TIMEOUT_MS": "6000",
        "REBALANCE_TIMEOUT_MS": "4000",
        **{name.upper(): value for name, value in settings.items()},
    }
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CONSENT_")},
        **{f"CONSENT_{name}": value for name, value in given.items()},
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    ledger = Ledger(broker, environment, folder, ports)
    try:
        _prepare(ledger)
        # Together: each mostly waits until its group lets it in.
        for name in processes:
            ledger.begin(name, *(("serve",) if name == "serve" else ("worker", name)))
        for name in processes:
            ledger.await_ready(name)
        yield ledger
    finally:
        for name in list(ledger.processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                ledger.stop(name)


def settings_of(ledger: Ledger) -> Settings:
    """The settings that the ledger's own processes have."""
    prefix = "CONSENT_"
    given = {
        name.removeprefix(prefix).lower(): value
        for name, value in ledger.environment.items()
        if name.startswith(prefix)
    }
    return Settings(**given)


def _prepare(ledger: Ledger) -> None:
    """What `keys init` and `topics apply` do, without a process for each."""
    settings = settings_of(ledger)
    create_missing_keys(settings)
    create_missing_permit_key(settings)
    topic_administration.apply(admin_connection(settings), topic_layout(settings))


@contextlib.contextmanager
def ledger_on(
    kind: str, request: pytest.FixtureRequest, clickhouse_url: str, folder: Path, **settings: str
) -> Iterator[Ledger]:
    """A ledger on an embedded broker of its own, or on the run's Apache Kafka with empty topics."""
    if kind == "embedded":
        with (
            embedded_broker(folder / "broker.log") as own,
            running_ledger(own, clickhouse_url, folder, **settings) as running,
        ):
            yield running
        return
    shared: Broker = request.getfixturevalue("kafka_broker")
    delete_ledger_topics(shared)
    with running_ledger(shared, clickhouse_url, folder, **settings) as running:
        yield running


def delete_ledger_topics(broker: Broker) -> None:
    """Remove what an earlier module left in the topics that every ledger has."""
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        there = sorted(set(admin.list_topics()) & set(contracts().topics))
        if there:
            admin.delete_topics(there)
        wait_until(lambda: not set(admin.list_topics()) & set(there), what="topics to be deleted")
    finally:
        admin.close()
