"""The ledger as a user runs it, with every process at hand: three brokers, a store, two of each
worker, the door that answers dialers, and a witness, all started by their commands."""

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
from consent.notes import VerifierKey
from consent.privacy import Keys
from consent_ledger.adapters.topic_administration import AdminConnection, topic_ids
from consent_ledger.bootstrap_log import log_verifier_key
from consent_ledger.keys import load_keys
from consent_ledger.settings import load_settings
from projections.clickhouse import Store, StoreParameters
from tests.brokers import die_with_parent, free_port, wait_until
from tests.fault.cluster import Cluster, kafka_cluster

PARTITIONS: Final = 6
SESSION_MS: Final = 6_000
WORKERS: Final = ("project-0", "project-1", "record-0", "record-1", "seal-0", "seal-1")
LOG_ORIGIN: Final = "ledger.example/log"
_WITNESS: Final = "witness.example/w1"
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
    serve_port: int = field(default_factory=free_port)

    @property
    def bootstrap(self) -> str:
        """Addresses of all brokers."""
        return self.cluster.bootstrap

    @property
    def keys(self) -> Keys:
        """The keys of this ledger."""
        return load_keys(load_settings(data_dir=self.folder / "shared"))

    @property
    def log_folder(self) -> Path:
        """Where the sealers keep the proof log."""
        return self.folder / "log"

    @property
    def witness_folder(self) -> Path:
        """What the witness remembers."""
        return self.folder / "witness"

    def log_key(self) -> VerifierKey:
        """The public key of the proof log."""
        settings = load_settings(data_dir=self.folder / "shared", log_origin=LOG_ORIGIN)
        return log_verifier_key(settings)

    def log_ids(self) -> dict[str, bytes]:
        """UUIDs of the source topics."""
        return topic_ids(AdminConnection(self.bootstrap), contracts().source_topics)

    def connect_store(self) -> Store:
        """A connection of our own to the store."""
        return Store.connect(StoreParameters(url=self.store_url, query_timeout_ms=120_000))

    def worker(self, kind: str, name: str) -> Child:
        """A worker, not started, with a data folder of its own; another one has another name."""
        return self._child(name, "worker", kind)

    def serve(self) -> Child:
        """The HTTP API, not started, on `serve_port`."""
        return self._child("serve", "serve")

    def witness(self) -> Child:
        """A witness of the proof log, not started; from now on the sealers ask it."""
        logs = self.folder / "logs"
        logs.write_text(f"log {self.log_key().encoded}\n")
        arguments = ["--name", _WITNESS, "--folder", str(self.witness_folder)]
        key = self.run_cli("witness", *arguments, "--show-key").strip()
        port = str(free_port())
        self._policy.write_text(f"witness w1 {key} http://127.0.0.1:{port}\n")
        return self._child("witness", "witness", *arguments, "--policy", str(logs), "--port", port)

    def _child(self, name: str, *arguments: str) -> Child:
        environment = self._environment(self.folder / name)
        return Child(name, [_cli(), *arguments], environment, self.folder / f"{name}.log")

    @property
    def _policy(self) -> Path:
        return self.folder / "policy"

    def run_cli(self, *arguments: str) -> str:
        """Run one command of the ledger to its end; what it wrote. Raises if it fails."""
        environment = self._environment(self.folder / "shared")
        done = subprocess.run(
            [_cli(), *arguments], env=environment, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.stdout}{done.stderr}")
        return done.stdout

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
            # Wide, so that on a busy machine, too, calls are decided about.
            "VIEW_MAX_AGE_MS": "60000",
            "SURROUNDINGS_MAX_AGE_MS": "60000",
            "LOG_KEY_FILE": str(keys / "log.key"),
            "PERMIT_KEYS_DIR": str(keys / "permit"),
            "LOG_DIR": str(self.log_folder),
            "LOG_ORIGIN": LOG_ORIGIN,
            "LOG_POLICY_FILE": str(self._policy),
            "LOG_CHECKPOINT_INTERVAL_MS": "2000",
            "SERVE_PORT": str(self.serve_port),
            "PROJECT_PORT": str(free_port()),
            "RECORD_PORT": str(free_port()),
            "SEAL_PORT": str(free_port()),
        }
        kept = {name: value for name, value in os.environ.items() if name[:8] != "CONSENT_"}
        return kept | {f"CONSENT_{name}": value for name, value in settings.items()}


@contextlib.contextmanager
def deployed(folder: Path) -> Iterator[Deployment]:
    """Start brokers and store, make keys and topics, start all processes of the ledger."""
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
        children = [made.witness(), made.serve()]
        children += [made.worker(name.split("-")[0], name) for name in WORKERS]
        for child in children:
            made.workers[child.name] = child
            stack.callback(child.kill)
            child.start()
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
