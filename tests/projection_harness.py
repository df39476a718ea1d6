"""Topics, events, workers and cold readers for the tests of the projection and its view."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from kafka import KafkaAdminClient
from kafka.errors import KafkaError, UnknownTopicOrPartitionError

from consent.codec import decode, encode
from consent.contracts import contracts
from consent.lift import Position, lift
from consent.partitioning import partition_of
from consent.state import EMPTY, SubjectState, merge
from consent.state_codec import Watermark, decode_state, decode_watermark
from consent_ledger.adapters.topic_administration import AdminConnection, topic_ids
from projections.view import SuppressionView, ViewConfig
from tests.brokers import Broker, create_topics, unique, wait_until
from tests.events import event
from tests.processes import ModuleProcess
from tests.projection_worker import KEYS, Plan, log_ids_from

PARTITIONS = 4
SUPPRESSION = "suppression"
TALLIES = "campaign-tallies"
UNKEYED = ("program-events", "calendar-events")
TOPICS = (*contracts().keyed_source_topics, SUPPRESSION, TALLIES, "dead-letters", *UNKEYED)


def make_ledger_topics(broker: Broker, suppression_config: Mapping[str, str] | None = None) -> None:
    """The topics of the projection, empty, whatever was there before."""
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        there = set(admin.list_topics()) & set(TOPICS)
        if there:
            with contextlib.suppress(UnknownTopicOrPartitionError):
                admin.delete_topics(sorted(there))
            wait_until(lambda: not set(admin.list_topics()) & there, what="deleted topics")
    finally:
        admin.close()
    append_time = {"message.timestamp.type": "LogAppendTime"}
    sources = [topic for topic in TOPICS if topic not in (SUPPRESSION, *UNKEYED)]
    wait_until(lambda: _create(broker, sources, append_time), what="topics")
    wait_until(lambda: _create(broker, UNKEYED, append_time, 1), what="topics without numbers")
    compacted = {"cleanup.policy": "compact", **append_time, **(suppression_config or {})}
    wait_until(lambda: _create(broker, [SUPPRESSION], compacted), what="suppression topic")


def _create(
    broker: Broker, names: Sequence[str], config: Mapping[str, str], partitions: int = PARTITIONS
) -> bool:
    try:
        create_topics(broker, names, partitions, config)
    except KafkaError:
        return False
    return True


def now_us() -> int:
    """This process's clock."""
    return time.time_ns() // 1000


def make_event(name: str, number: str, **given: Any) -> dict[str, Any]:
    """A valid event dated now."""
    given.setdefault("occurred_at", now_us())
    return event(name, number=number, **given)


def grant(number: str, **given: Any) -> dict[str, Any]:
    """A grant of a live marketing call."""
    wanted: dict[str, Any] = {
        "consent_kind": "EXPRESS",
        "change": "GIVEN",
        "purposes": ["MARKETING"],
        "modes": ["LIVE"],
    }
    return make_event("ConsentGranted", number, **(wanted | given))


def withdrawal(number: str, **given: Any) -> dict[str, Any]:
    """A withdrawal of everything from one seller."""
    return make_event("ConsentWithdrawn", number, **given)


@dataclass(frozen=True)
class Sent:
    """Where a published event is."""

    topic: str
    partition: int
    offset: int


async def publish(
    broker: Broker, events: Iterable[tuple[str, dict[str, Any]]], partition: int | None = None
) -> list[Sent]:
    """Publishes events, each to the partition of its number; returns when they are acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all", linger_ms=5)
    await producer.start()
    try:
        futures = []
        for name, fields in events:
            key = fields["number"].encode()
            where = partition_of(key, PARTITIONS) if partition is None else partition
            topic = contracts().record(name).topic
            value = encode(name, fields)
            futures.append(await producer.send(topic, value=value, key=key, partition=where))
        done = [await future for future in futures]
        return [Sent(one.topic, one.partition, one.offset) for one in done]
    finally:
        await producer.stop()


async def append(
    broker: Broker, topic: str, rows: Sequence[tuple[bytes | None, bytes | None]], partition: int
) -> None:
    """Appends raw records."""
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")
    await producer.start()
    try:
        for key, value in rows:
            await producer.send_and_wait(topic, value=value, key=key, partition=partition)
    finally:
        await producer.stop()


async def read_topic(broker: Broker, topic: str) -> list[Any]:
    """Every record of a topic, by partition in the order of the log."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        targets = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(targets)
        records: list[Any] = []
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for found in (await consumer.getmany(*targets, timeout_ms=100)).values():
                records += found
            ends = [consumer.highwater(target) for target in targets]
            places = [await consumer.position(target) for target in targets]
            if all(
                end is not None and place >= end for place, end in zip(places, ends, strict=True)
            ):
                return sorted(records, key=lambda record: (record.partition, record.offset))
        raise AssertionError(f"{topic} could not be read to its end")
    finally:
        await consumer.stop()


@dataclass
class Projected:
    """What a cold reader of the suppression topic sees: everything merged, and the last records."""

    states: dict[bytes, SubjectState] = field(default_factory=dict)
    last: dict[bytes, SubjectState | None] = field(default_factory=dict)
    watermarks: dict[int, Watermark] = field(default_factory=dict)
    records: int = 0


async def read_projected(broker: Broker) -> Projected:
    """Reads the suppression topic from its beginning."""
    projected = Projected()
    for record in await read_topic(broker, SUPPRESSION):
        if record.key.startswith(b"!"):
            projected.watermarks[record.partition] = decode_watermark(record.value)
            continue
        projected.records += 1
        if record.value is None:
            projected.last[record.key] = None
            continue
        state = decode_state(record.value)
        projected.last[record.key] = state
        projected.states[record.key] = merge(projected.states.get(record.key, EMPTY), state)
    return projected


async def fold_of_log(broker: Broker) -> dict[bytes, SubjectState]:
    """States by number, folded one by one from the source topics; readable records only."""
    ids = await asyncio.to_thread(topic_ids, AdminConnection(broker.bootstrap), list(TOPICS))
    states: dict[bytes, SubjectState] = {}
    for topic in contracts().keyed_source_topics:
        for record in await read_topic(broker, topic):
            contract, fields = decode(record.value)
            place = Position(
                topic, ids[topic], record.partition, record.offset, record.timestamp * 1000
            )
            at = fields["occurred_at"]
            state = lift(contract.name, fields, at, place, party_key=KEYS.suppression)
            if state is not EMPTY:
                states[record.key] = merge(states.get(record.key, EMPTY), state)
    return states


class ProjectWorker:
    """One worker process."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        Path(plan.data_dir).mkdir(parents=True, exist_ok=True)
        self.output = Path(plan.data_dir) / f"{unique('output')}.log"
        argument = json.dumps(asdict(plan))
        self.process = ModuleProcess("tests.projection_worker", argument, self.output)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to this process only."""
        os.kill(self.process.pid, number)

    def exit_code(self, timeout_s: float = 40.0) -> int:
        """Waits for the end of the process."""
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.exit_code()

    def assert_running(self) -> None:
        """Fails with the process's output if it has ended."""
        assert self.process.poll() is None, self.output.read_text()[-6000:]


class Stage:
    """A broker with empty topics, and the workers of a test, which end with it."""

    def __init__(self, broker: Broker, directory: Path) -> None:
        self.broker = broker
        self.directory = directory
        self.group = unique("project")
        self.workers: list[ProjectWorker] = []

    def worker(self, folder: str = "a", **given: Any) -> ProjectWorker:
        """Starts a worker with a local cache in `folder`."""
        plan = Plan(
            **{
                "bootstrap": self.broker.bootstrap,
                "group": self.group,
                "data_dir": str(self.directory / folder),
                "partitions": PARTITIONS,
                "embedded": self.broker.kind == "embedded",
                "client_id": f"project-{folder}",
            }
            | given
        )
        worker = ProjectWorker(plan)
        self.workers.append(worker)
        return worker

    async def until_projected(
        self, sent: Iterable[Sent], worker: ProjectWorker | None = None, timeout_s: float = 60.0
    ) -> Projected:
        """Reads the topic until its watermarks cover what was sent."""
        newest: dict[tuple[int, str], int] = {}
        for one in sent:
            place = (one.partition, one.topic)
            newest[place] = max(newest.get(place, -1), one.offset)
        deadline = time.monotonic() + timeout_s
        while True:
            projected = await read_projected(self.broker)
            if all(
                applied_to(projected.watermarks.get(partition), topic) >= offset
                for (partition, topic), offset in newest.items()
            ):
                return projected
            if worker is not None:
                worker.assert_running()
            if time.monotonic() > deadline:
                logs = "\n".join(one.output.read_text()[-3000:] for one in self.workers)
                raise AssertionError(f"not projected within {timeout_s} s\n{logs}")
            await asyncio.sleep(0.1)

    def end(self) -> None:
        """Kills what still runs."""
        for worker in self.workers:
            worker.kill()


def applied_to(watermark: Watermark | None, topic: str) -> int:
    """Last offset of a topic that a watermark covers, -1 for none."""
    if watermark is None:
        return -1
    offsets = [
        applied.offset_last for (name, _log), applied in watermark.applied.items() if name == topic
    ]
    return max(offsets, default=-1)


@contextlib.asynccontextmanager
async def following(broker: Broker, **given: Any) -> AsyncIterator[SuppressionView]:
    """A view that follows the topic, for as long as the test needs it."""
    config = ViewConfig(
        **{
            "bootstrap": broker.bootstrap,
            "partitions": PARTITIONS,
            "suppression_key": KEYS.suppression,
            "log_ids": log_ids_from(broker.bootstrap),
        }
        | given
    )
    view = SuppressionView(config)
    await view.start()
    try:
        yield view
    finally:
        await view.stop()


async def until(condition: Callable[[], Any], timeout_s: float = 120.0) -> Any:
    """Polls on the running loop until the condition holds; returns its value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s"
        await asyncio.sleep(0.02)
    return value


async def eventually(condition: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> None:
    """Polls an asynchronous condition until it holds."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s"
        await asyncio.sleep(0.1)


def is_stopped(worker: ProjectWorker) -> bool:
    """True if the process is paused."""
    status = Path(f"/proc/{worker.process.pid}/stat").read_text()
    return status.rsplit(")", 1)[1].split()[0] == "T"
