"""Three Apache Kafka brokers in containers, that a fault can kill and boot one by one."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.brokers import (
    KAFKA_IMAGE,
    Broker,
    free_port,
    use_container_engine,
    wait_until_answering,
)

BROKERS = 3
_CLUSTER_ID = "5L6g3nShT-eMCtK--X86sw"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The running cluster; `kill` is `kill -9`, what a broker stored survives it."""

    bootstrap: str
    ports: tuple[int, ...]
    _containers: tuple[Any, ...] = field(repr=False)

    @property
    def broker(self) -> Broker:
        """The cluster as the broker of a test."""
        return Broker("kafka", self.bootstrap, log_append_time=True)

    def kill(self, number: int) -> None:
        """End broker 0, 1 or 2 at once."""
        self._containers[number].get_wrapped_container().kill("SIGKILL")

    def boot(self, number: int) -> None:
        """Start a killed broker again and return when it answers."""
        self._containers[number].get_wrapped_container().start()
        wait_until_answering(f"127.0.0.1:{self.ports[number]}")


@contextlib.contextmanager
def kafka_cluster() -> Iterator[Cluster]:
    """Start three brokers, each also a controller; replication 3, at least 2 in sync."""
    use_container_engine()
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.network import Network

    run = uuid.uuid4().hex[:8]
    names = tuple(f"ledger-{run}-kafka{number}" for number in range(BROKERS))
    ports = tuple(free_port() for _ in names)
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network())
        containers = []
        for number, name in enumerate(names):
            container = (
                DockerContainer(KAFKA_IMAGE)
                .with_name(name)
                .with_network(network)
                .with_bind_ports(9092, ports[number])
            )
            for variable, value in _environment(number, names, ports[number]).items():
                container = container.with_env(variable, value)
            containers.append(stack.enter_context(container))
        for port in ports:
            wait_until_answering(f"127.0.0.1:{port}")
        bootstrap = ",".join(f"127.0.0.1:{port}" for port in ports)
        yield Cluster(bootstrap, ports, tuple(containers))


def _environment(number: int, names: tuple[str, ...], port: int) -> Mapping[str, str]:
    voters = ",".join(f"{index + 1}@{name}:9093" for index, name in enumerate(names))
    return {
        "CLUSTER_ID": _CLUSTER_ID,
        "KAFKA_NODE_ID": str(number + 1),
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "OUTSIDE://:9092,INSIDE://:9094,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"OUTSIDE://127.0.0.1:{port},INSIDE://{names[number]}:9094",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": (
            "CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT"
        ),
        "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": voters,
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "3",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "4",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "3",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "2",
        "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "4",
        "KAFKA_MIN_INSYNC_REPLICAS": "2",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        # Compaction within seconds, so that a run can read the topic after it.
        "KAFKA_LOG_CLEANER_BACKOFF_MS": "500",
        "KAFKA_LOG_CLEANER_DEDUPE_BUFFER_SIZE": "16777216",
        "KAFKA_HEAP_OPTS": "-Xmx384m -Xms192m",
    }
