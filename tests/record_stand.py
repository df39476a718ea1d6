"""A whole history for a test: a broker with the ledger's topics, a store, and record workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import RecordMetadata, TopicPartition
from kafka import KafkaAdminClient

from consent.codec import decode
from consent.contracts import contracts
from consent.facts import LogPartition
from consent.merkle import root_of_leaves
from consent.privacy import subject_token
from consent_ledger.adapters.topic_administration import (
    AdminConnection,
    Deployment,
    TopicLayout,
    apply,
    topic_ids,
)
from projections.clickhouse import Store
from projections.history_blocks import Blocks
from projections.migration import load_migrations, migrate
from tests.brokers import Broker, committed, unique, wait_until
from tests.processes import ModuleProcess
from tests.record_process import KEYS, Plan
from tests.strategies import Fields, random_event, raw_of

PARTITIONS = 2
RECORDED_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Worker:
    """A record worker in a process of its own."""

    process: ModuleProcess
    log_path: Path

    def log(self) -> str:
        """What it has logged so far."""
        return self.log_path.read_text()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(10)


@dataclass(slots=True)
class Stand:
    """What the tests of the history work with; `log_ids` are those of the topics now."""

    broker: Broker
    store: Store
    store_url: str
    folder: Path
    group: str = field(default_factory=lambda: unique("record"))
    log_ids: dict[str, bytes] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)

    def plan(self, **changes: Any) -> Plan:
        """A worker's plan on this stand."""
        plan = Plan(
            bootstrap=self.broker.bootstrap,
            store_url=self.store_url,
            database=self.store.database,
            group=self.group,
            keyed_partitions=PARTITIONS,
        )
        if self.broker.kind == "embedded":
            # It holds every join for half of this time.
            plan = replace(plan, rebalance_s=3.0)
        return replace(plan, **changes)

    def start(self, **changes: Any) -> Worker:
        """Start a worker."""
        log_path = self.folder / f"worker-{len(self.workers)}.log"
        argument = json.dumps(asdict(self.plan(**changes)))
        process = ModuleProcess("tests.record_process", argument, log_path)
        worker = Worker(process, log_path)
        self.workers.append(worker)
        return worker

    @contextlib.contextmanager
    def worker(self, **changes: Any) -> Iterator[Worker]:
        """A worker that is stopped, or killed, at the end."""
        worker = self.start(**changes)
        try:
            yield worker
        finally:
            if worker.process.poll() is None:
                worker.kill()

    def publish(
        self,
        topic: str,
        records: Sequence[tuple[bytes | None, bytes | None]],
        transactional: bool = False,
    ) -> None:
        """Produce keys and values as they are, acknowledged, partition by key."""
        asyncio.run(_publish(self.broker, topic, records, transactional))

    def erase(self, number: str, topic: str, partition: int, offset_last: int) -> None:
        """Note an erasure in the store, as whoever deletes evidence does first."""
        subject = subject_token(KEYS.history, number).hex()
        self.store.command(
            "INSERT INTO erasures (subject, erased_log_id, erased_partition, erased_offset_last) "
            f"SELECT unhex('{subject}'), unhex('{self.log_ids[topic].hex()}'), "
            f"{partition}, {offset_last}"
        )

    def remove_records(self, topic: str, below: int) -> None:
        """Remove the beginning of partition 0, as retention does."""
        asyncio.run(_remove_records(self.broker, topic, below))

    def recreate_topics(self) -> None:
        """Delete all topics and create them again."""
        _empty_topics(self.broker)
        self.refresh_log_ids()

    def values(self, topic: str, partitions: int = 1) -> list[bytes]:
        """Every value of a topic."""
        return asyncio.run(_values(self.broker, topic, partitions))

    async def committed(self, topic: str) -> list[int]:
        """The group's committed offset of each partition, 0 where there is none."""
        partitions = contracts().topics[topic].partitions or PARTITIONS
        return [
            offset or 0 for offset in await committed(self.broker, self.group, topic, partitions)
        ]

    def publish_events(self, topic: str, count: int, seed: int) -> list[Fields]:
        """Produce random events of all types of a topic; returns them."""
        draw = random.Random(seed)
        events = []
        records = []
        for number in range(count):
            names = contracts().topics[topic].records
            record = contracts().record(names[number % len(names)])
            event = random_event(record, draw)
            raw = raw_of(record, event, 0)
            events.append(event)
            records.append((raw.key, raw.value))
        self.publish(topic, records)
        return events

    def await_recorded(self, topic: str, count: int, worker: Worker | None = None) -> None:
        """Wait until blocks hold `count` records of a topic's present log."""

        def recorded() -> bool:
            if worker is not None and worker.process.poll() is not None:
                raise AssertionError(f"the worker has ended: {worker.log()[-3000:]}")
            return self.sealed(topic) >= count

        try:
            wait_until(recorded, RECORDED_TIMEOUT_S, f"{count} records of {topic}")
        except AssertionError as late:
            logs = worker.log()[-3000:] if worker is not None else ""
            raise AssertionError(f"{late}; sealed {self.sealed(topic)}; {logs}") from None

    def sealed(self, topic: str) -> int:
        """Records in sealed blocks of a topic's present log."""
        rows = self.store.query_rows(
            f"SELECT sum(records) FROM blocks WHERE log_id = unhex('{self.log_ids[topic].hex()}')"
        )
        return int(rows[0][0] or 0)

    def refresh_log_ids(self) -> None:
        """Look the topics' ids up again."""
        topics = contracts().source_topics
        self.log_ids = topic_ids(AdminConnection(self.broker.bootstrap), topics)

    def parts(self, table: str) -> list[Path]:
        """Folders of a table's parts, for a front whose data lies under this stand's folder."""
        rows = self.store.query_rows(
            "SELECT path FROM system.parts "
            "WHERE active AND database = currentDatabase() AND table = {table:String}",
            {"table": table},
        )
        return [Path(path) for (path,) in rows]

    def announced(self, topic: str) -> dict[tuple[int, int], set[bytes]]:
        """What `ledger-blocks` says of a topic's present log: headers by partition and start."""
        found: dict[tuple[int, int], set[bytes]] = {}
        for value in self.values("ledger-blocks"):
            record, fields = decode(value)
            if record.name == "BlockSealed" and fields["log_id"] == self.log_ids[topic]:
                place = (fields["partition"], fields["offset_first"])
                found.setdefault(place, set()).add(value)
        return found

    def check_announced(self, topic: str) -> None:
        """Every block is announced, and never in two ways."""
        blocks = self.store.query_rows(
            "SELECT partition, offset_first FROM blocks "
            f"WHERE log_id = unhex('{self.log_ids[topic].hex()}')"
        )
        announced = self.announced(topic)
        assert sorted(announced) == sorted(blocks)
        assert all(len(values) == 1 for values in announced.values())

    def check_whole(self, topic: str, count: int) -> None:
        """Each offset is in facts once; blocks tile the log; digests are those of the facts."""
        log_id = f"log_id = unhex('{self.log_ids[topic].hex()}')"
        facts = self.store.query_rows(
            f"SELECT count(), uniqExact(partition, offset) FROM facts WHERE {log_id}"
        )
        assert facts == [(count, count)]
        evidence = self.store.query_rows(
            f"SELECT count() = uniqExact(partition, offset) FROM evidence WHERE {log_id}"
        )
        assert evidence == [(True,)] or evidence == [(1,)]
        blocks = self.store.query_rows(
            "SELECT partition, offset_first, offset_last, records FROM blocks "
            f"WHERE {log_id} ORDER BY partition, offset_first"
        )
        expected: dict[int, int] = {}
        for partition, offset_first, offset_last, records in blocks:
            assert offset_first == expected.get(partition, 0)
            assert records == offset_last - offset_first + 1
            expected[partition] = offset_last + 1
        assert sum(row[3] for row in blocks) == count

    def check_chain(self, topic: str) -> None:
        """Every block's root is that of its facts, and every header names the one before it."""
        blocks = Blocks(self.store)
        for partition in range(contracts().topics[topic].partitions or PARTITIONS):
            origin = LogPartition(self.log_ids[topic], topic, partition)
            previous = None
            for block in blocks.all(origin):
                assert block.root == root_of_leaves(blocks.facts(origin, block))
                assert block.previous_header_sha256 == previous
                previous = block.sha256(origin)


@contextlib.contextmanager
def stand(broker: Broker, store: Store, store_url: str, folder: Path) -> Iterator[Stand]:
    """A stand with empty topics and an empty database; its workers end with it."""
    migrate(store, load_migrations(files("projections") / "migrations"))
    _empty_topics(broker)
    made = Stand(broker, store, store_url, folder)
    made.refresh_log_ids()
    try:
        yield made
    finally:
        for worker in made.workers:
            if worker.process.poll() is None:
                worker.kill()


def _empty_topics(broker: Broker) -> None:
    names = set(contracts().topics)
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        present = names & set(admin.list_topics())
        if present:
            admin.delete_topics(sorted(present))
            wait_until(lambda: not names & set(admin.list_topics()), what="topics to be gone")
    finally:
        admin.close()
    deployment: Deployment = "embedded" if broker.kind == "embedded" else "production"
    apply(
        AdminConnection(broker.bootstrap),
        TopicLayout(deployment, replication=1, keyed_partitions=PARTITIONS),
    )


async def _publish(
    broker: Broker,
    topic: str,
    records: Sequence[tuple[bytes | None, bytes | None]],
    transactional: bool,
) -> None:
    options: dict[str, Any] = {"transactional_id": unique("tx")} if transactional else {}
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap, acks="all", linger_ms=5, **options
    )
    await producer.start()
    try:
        async with producer.transaction() if transactional else contextlib.nullcontext():
            futures = [await producer.send(topic, key=key, value=value) for key, value in records]
            sent = await asyncio.gather(*futures)
    finally:
        await producer.stop()
    if transactional:
        await _await_markers(broker, sent)


async def _await_markers(broker: Broker, sent: Sequence[RecordMetadata]) -> None:
    """The coordinator says that a transaction has ended before its markers are in the log."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        for one in sent:
            target = TopicPartition(one.topic, one.partition)
            async with asyncio.timeout(RECORDED_TIMEOUT_S):
                while (await consumer.end_offsets([target]))[target] <= one.offset + 1:
                    await asyncio.sleep(0.01)
    finally:
        await consumer.stop()


async def _remove_records(broker: Broker, topic: str, below: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        target = TopicPartition(topic, 0)
        await admin.delete_records({target: RecordsToDelete(before_offset=below)})
    finally:
        await admin.close()


async def _values(broker: Broker, topic: str, count: int) -> list[bytes]:
    """Every value of a topic, partition by partition, up to its fetches' high watermarks."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap)
    await consumer.start()
    values: list[bytes] = []
    try:
        for partition in (TopicPartition(topic, number) for number in range(count)):
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            end = None
            while end is None or await consumer.position(partition) < end:
                records = await consumer.getmany(partition, timeout_ms=500)
                values += [record.value for record in records.get(partition, [])]
                end = consumer.highwater(partition)
    finally:
        await consumer.stop()
    return values
