"""The ledger as a user runs it, with every process at hand: three brokers, a store, two of each
worker, all started by their commands."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from consent.contracts import contracts
from consent.privacy import Keys
from consent_ledger.adapters.topic_administration import AdminConnection, topic_ids
from consent_ledger.keys import load_keys
from consent_ledger.settings import load_settings
from projections.clickhouse import Store, StoreParameters
from tests.brokers import die_with_parent, free_port, wait_until
from tests.fault.cluster import Cluster, kafka_cluster

PARTITIONS: Final = 6
SESSION_MS: Final = 6_000
WORKERS: Final = ("project-0", "project-1", "record-0", "record-1")
_STOP_TIMEOUT_S: Final = 60.0
_STORE_START_TIMEOUT_S: Final = 120.0

_COMPACT_NOW: Final = {
    "min.compaction.lag.ms": "0",
    "min.cleanable.dirty.ratio": "0.001",
    "segment.ms": "1000",
}


class Child:
    """A process that can be killed, paused and started again; its output is appended to a file."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log_path: Path
    ) -> None:
        self.name = name
        self.log_path = log_path
        self.wanted = False
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it. Call it from the main thread: the process ends with the thread."""
        self.wanted = True
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=dict(self._environment),
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return None if self._process is None else self._process.poll()

    def kill(self) -> None:
        """SIGKILL; it is gone on return."""
        self.wanted = False
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.wanted = False
        if self._process is None:
            return 0
        self._signal(signal.SIGTERM)
        return self._process.wait(_STOP_TIMEOUT_S)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


@dataclass
class Deployment:
    """Everything that a fault may hit, and the addresses of it."""

    cluster: Cluster
    folder: Path
    store: Child
    store_url: str
    workers: dict[str, Child] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        """Addresses of all brokers."""
        return self.cluster.bootstrap

    @property
    def keys(self) -> Keys:
        """The keys of this ledger."""
        return load_keys(load_settings(data_dir=self.folder / "shared"))

    def log_ids(self) -> dict[str, bytes]:
        """UUIDs of the source topics."""
        return topic_ids(AdminConnection(self.bootstrap), contracts().source_topics)

    def connect_store(self) -> Store:
        """A connection of our own to the store."""
        return Store.connect(StoreParameters(url=self.store_url, query_timeout_ms=120_000))

    def worker(self, kind: str, name: str) -> Child:
        """A worker, not started, with a data folder of its own; another one has another name."""
        command = [_cli(), "worker", kind]
        environment = self._environment(self.folder / name)
        return Child(name, command, environment, self.folder / f"{name}.log")

    def run_cli(self, *arguments: str) -> None:
        """Run one command of the ledger to its end; raises if it fails."""
        environment = self._environment(self.folder / "shared")
        done = subprocess.run(
            [_cli(), *arguments], env=environment, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.stdout}{done.stderr}")

    def await_store(self) -> None:
        """Return when the store answers."""
        wait_until(self._store_answers, _STORE_START_TIMEOUT_S, "the store")

    def all_in_sync(self) -> bool:
        """True if every replica of every topic is in sync: a broker may be killed."""
        try:
            admin = KafkaAdminClient(bootstrap_servers=self.bootstrap.split(","))
            try:
                topics = admin.describe_topics()
            finally:
                admin.close()
        except (KafkaError, OSError):
            return False
        return all(
            len(partition["isr_nodes"]) == len(partition["replica_nodes"])
            for topic in topics
            for partition in topic["partitions"]
        )

    @contextlib.contextmanager
    def compacting(self) -> Iterator[None]:
        """The suppression topic is compacted at once while this lasts, then as it was."""
        before = self._suppression_config(tuple(_COMPACT_NOW))
        self._configure_suppression(_COMPACT_NOW)
        try:
            yield
        finally:
            self._configure_suppression(before)

    def _suppression_config(self, names: Sequence[str]) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, "suppression")
        with self._admin() as admin:
            entries = admin.describe_configs([resource], config_filter="all")["topic"]
        return {name: str(entries["suppression"][name]["value"]) for name in names}

    def _configure_suppression(self, config: Mapping[str, str]) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, "suppression", dict(config))
        with self._admin() as admin:
            admin.alter_configs([resource])

    @contextlib.contextmanager
    def _admin(self) -> Iterator[KafkaAdminClient]:
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap.split(","))
        try:
            yield admin
        finally:
            admin.close()

    def _store_answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self.store_url}/ping", timeout=2) as answer,
        ):
            return bool(answer.status == 200)
        if self.store.exit_code is not None:
            raise RuntimeError(f"the store has ended: {last_words(self.store)}")
        return False

    def _environment(self, data_dir: Path) -> dict[str, str]:
        keys = self.folder / "shared" / "keys"
        settings = {
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "KAFKA_PARTITIONS_KEYED": str(PARTITIONS),
            "CLICKHOUSE_URL": self.store_url,
            "CLICKHOUSE_CONNECT_TIMEOUT_MS": "2000",
            # Shorter than an outage, so that inserts are given up whose outcome is unknown.
            "CLICKHOUSE_QUERY_TIMEOUT_MS": "10000",
            # Each block costs the store the same, however few records are in it: so that history
            # keeps up on a busy machine, and a campaign's end need not wait for it.
            "BLOCK_BUCKET_MS": "20000",
            "SESSION_TIMEOUT_MS": str(SESSION_MS),
            "REBALANCE_TIMEOUT_MS": "10000",
            "DATA_DIR": str(data_dir),
            "HISTORY_KEY_FILE": str(keys / "history.key"),
            "SUPPRESSION_KEY_FILE": str(keys / "suppression.key"),
            "DEAD_LETTER_KEY_FILE": str(keys / "dead-letter.key"),
            "PROJECT_PORT": str(free_port()),
            "RECORD_PORT": str(free_port()),
        }
        kept = {name: value for name, value in os.environ.items() if name[:8] != "CONSENT_"}
        return kept | {f"CONSENT_{name}": value for name, value in settings.items()}


@contextlib.contextmanager
def deployed(folder: Path) -> Iterator[Deployment]:
    """Start brokers and store, make keys and topics, start two workers of each kind."""
    with contextlib.ExitStack() as stack:
        port = free_port()
        command = [sys.executable, "-m", "projections.embedded_clickhouse"]
        command += ["--data-dir", str(folder / "store"), "--port", str(port)]
        store = Child("store", command, os.environ, folder / "store.log")
        store.start()
        stack.callback(store.kill)
        cluster = stack.enter_context(kafka_cluster())
        made = Deployment(cluster, folder, store, f"http://127.0.0.1:{port}")
        made.run_cli("keys", "init")
        made.run_cli("topics", "apply")
        made.await_store()
        for name in WORKERS:
            worker = made.workers[name] = made.worker(name.split("-")[0], name)
            stack.callback(worker.kill)
            worker.start()
        yield made


def last_words(child: Child, characters: int = 2_000) -> str:
    """The end of a process's output."""
    return child.log_path.read_text(errors="replace")[-characters:]


def keep_running(children: Sequence[Child], ended: dict[str, list[int]]) -> None:
    """Start again what has ended by itself, as a supervisor does, and note the exit code."""
    for child in children:
        code = child.exit_code
        if child.wanted and code is not None:
            ended.setdefault(child.name, []).append(code)
            line = f"{time.strftime('%H:%M:%S')} {child.name} ended by itself with {code}"
            print(line, file=sys.stderr, flush=True)
            child.start()


def _cli() -> str:
    return str(Path(sys.executable).parent / "consent-ledger")
