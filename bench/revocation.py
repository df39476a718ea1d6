"""How long after a withdrawal is accepted a look-up answers with it, under load.

A publisher in another process sends a steady stream; this process sends a withdrawal now and then,
takes the time when the broker acknowledges it, and asks its own view until that holds it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from bench.stand import PARTITIONS, TOPIC, Stand, load
from bench.workload import records, withdrawal
from consent.partitioning import partition_of
from consent_ledger.adapters.topic_administration import AdminConnection, topic_ids
from projections.view import SuppressionView, ViewConfig
from tests.brokers import die_with_parent

RATE_PER_S = 2_000
WITHDRAWALS = 400
# The broker compiles itself for about as long, on the cores that everything else needs, too.
WARM_UP_S = 60
_PAUSE_S = 0.05
_LOOK_S = 0.0005
_GIVE_UP_S = 30.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the acknowledgement of a withdrawal to the look-up that shows it."""

    p50: float
    p99: float
    samples: int


def measure(stand: Stand, seed: int) -> Latency:
    """Run the project worker, the load and the view, and sample withdrawals."""
    with stand.cli("worker", "project"):
        command = [sys.executable, "-m", "bench.revocation", stand.bootstrap, str(seed)]
        publisher = subprocess.Popen(command, preexec_fn=die_with_parent)
        try:
            waits = sorted(asyncio.run(_sample(stand, seed)))
        finally:
            publisher.kill()
            publisher.wait()
    return Latency(_quantile(waits, 0.50), _quantile(waits, 0.99), len(waits))


async def _sample(stand: Stand, seed: int) -> Sequence[float]:
    admin = AdminConnection(stand.bootstrap)
    view = SuppressionView(
        ViewConfig(
            bootstrap=stand.bootstrap,
            partitions=PARTITIONS,
            suppression_key=stand.suppression_key.read_bytes(),
            log_ids=lambda topics: asyncio.to_thread(topic_ids, admin, topics),
        )
    )
    await view.start()
    producer = AIOKafkaProducer(bootstrap_servers=stand.bootstrap, acks="all", linger_ms=0)
    await producer.start()
    try:
        await asyncio.wait_for(view.wait_until_loaded(), _GIVE_UP_S)
        await _withdraw(producer, view, b"+14155550100", seed)
        await asyncio.sleep(WARM_UP_S)
        waits = []
        for number in range(WITHDRAWALS):
            key = b"+1415666%04d" % number
            waits.append(await _withdraw(producer, view, key, seed + number))
            await asyncio.sleep(_PAUSE_S)
        return waits
    finally:
        await producer.stop()
        await view.stop()


async def _withdraw(
    producer: AIOKafkaProducer, view: SuppressionView, key: bytes, seed: int
) -> float:
    partition = partition_of(key, PARTITIONS)
    value = withdrawal(key, seed)
    await producer.send_and_wait(TOPIC, value=value, key=key, partition=partition)
    accepted = time.monotonic()
    while not view.look_up(key.decode()).state.withdrawals:
        if time.monotonic() > accepted + _GIVE_UP_S:
            raise RuntimeError("a withdrawal did not reach the view")
        await asyncio.sleep(_LOOK_S)
    return (time.monotonic() - accepted) * 1000


async def _publish(bootstrap: str, seed: int) -> None:
    """Send RATE_PER_S records each second, twenty times a second, until killed."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=2)
    await producer.start()
    due = time.monotonic()
    while True:
        for key, value in records(RATE_PER_S // 20, "uniform", seed):
            await producer.send(TOPIC, value=value, key=key)
        seed += 1
        due += 0.05
        await asyncio.sleep(max(0.0, due - time.monotonic()))


def _quantile(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)


__all__ = ["Latency", "load", "measure"]

if __name__ == "__main__":
    asyncio.run(_publish(sys.argv[1], int(sys.argv[2])))
