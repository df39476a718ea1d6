"""What a measurement runs on: Apache Kafka in a container, the store, topics and settings."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaProducer

from consent.partitioning import partition_of
from tests.brokers import die_with_parent, free_port, kafka_broker, wait_until

PARTITIONS = 4
TOPIC = "consent-events"
_IN_FLIGHT_MAX = 16


@dataclass(frozen=True, slots=True)
class Stand:
    """One broker, one folder and, for the history, one store. `environment` is for our CLI."""

    bootstrap: str
    folder: Path
    clickhouse_url: str
    project_port: int
    record_port: int
    serve_port: int

    @property
    def environment(self) -> Mapping[str, str]:
        """Settings of the ledger's own processes."""
        return {
            **os.environ,
            "CONSENT_KAFKA_BOOTSTRAP": self.bootstrap,
            "CONSENT_KAFKA_REPLICATION": "1",
            "CONSENT_KAFKA_PARTITIONS_KEYED": str(PARTITIONS),
            "CONSENT_DATA_DIR": str(self.folder / "data"),
            "CONSENT_CLICKHOUSE_URL": self.clickhouse_url,
            "CONSENT_PROJECT_PORT": str(self.project_port),
            "CONSENT_RECORD_PORT": str(self.record_port),
            "CONSENT_SERVE_PORT": str(self.serve_port),
            "CONSENT_LOG_LEVEL": "warning",
        }

    @property
    def suppression_key(self) -> Path:
        """The key file that a view needs."""
        return self.folder / "data" / "keys" / "suppression.key"

    def run_cli(self, *arguments: str) -> None:
        """Run one command of the ledger to its end; raises if it fails."""
        subprocess.run(_cli(arguments), env=dict(self.environment), check=True, timeout=120)

    @contextlib.contextmanager
    def cli(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A running command of the ledger, ended with SIGTERM."""
        with (self.folder / f"{'-'.join(arguments)}.log").open("ab") as log:
            process = subprocess.Popen(
                _cli(arguments),
                env=dict(self.environment),
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextlib.contextmanager
def stand(folder: Path, store: bool = False) -> Iterator[Stand]:
    """A fresh broker with the ledger's topics, and a fresh store if asked for."""
    folder.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(kafka_broker())
        url = stack.enter_context(store_front(folder)) if store else "http://127.0.0.1:1"
        made = Stand(broker.bootstrap, folder, url, free_port(), free_port(), free_port())
        made.run_cli("keys", "init")
        made.run_cli("topics", "apply")
        yield made


async def load(bootstrap: str, topic: str, records: Iterable[tuple[bytes, bytes]]) -> int:
    """Produce records as whole batches; returns how many, once all are acknowledged."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", max_batch_size=262_144, linger_ms=20
    )
    await producer.start()
    try:
        builders = {number: producer.create_batch() for number in range(PARTITIONS)}
        sent: set[asyncio.Future[object]] = set()
        count = 0
        for key, value in records:
            number = partition_of(key, PARTITIONS)
            if builders[number].append(key=key, value=value, timestamp=None) is None:
                sent.add(await producer.send_batch(builders[number], topic, partition=number))
                builders[number] = producer.create_batch()
                builders[number].append(key=key, value=value, timestamp=None)
            count += 1
            if len(sent) >= _IN_FLIGHT_MAX:
                _done, sent = await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
        for number, builder in builders.items():
            if builder.record_count():
                sent.add(await producer.send_batch(builder, topic, partition=number))
        await asyncio.gather(*sent)
        return count
    finally:
        await producer.stop()


@contextlib.contextmanager
def store_front(folder: Path) -> Iterator[str]:
    """The embedded ClickHouse front in a process of its own; its address."""
    port = free_port()
    command = [sys.executable, "-m", "projections.embedded_clickhouse"]
    command += ["--data-dir", str(folder / "store"), "--port", str(port)]
    with (folder / "store.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with_parent)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: _answers(url), what="the store")
            yield url
        finally:
            process.terminate()
            process.wait(30)


def _answers(url: str) -> bool:
    import urllib.request

    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _cli(arguments: Iterable[str]) -> list[str]:
    return [str(Path(sys.executable).parent / "consent-ledger"), *arguments]
