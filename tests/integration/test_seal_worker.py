"""The seal worker on real brokers, with real blocks of a record worker."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from consent.checkpoints import Checkpoint, opened_checkpoint
from consent.codec import decode, encode
from consent.facts import LogPartition
from consent.log_entries import BLOCK, decode_entry, encode_entry
from consent.merkle import root_of_leaves
from projections.clickhouse import Store
from projections.history_blocks import Blocks
from projections.log_folder import LogFolder
from tests.brokers import Broker, unique, wait_until
from tests.processes import ModuleProcess
from tests.record_stand import Stand, Worker, stand
from tests.seal_process import LOG_KEY, SealPlan
from tests.stores import RunningFront

TOPIC = "consent-events"
SMALL_BLOCKS = {"records_max": 40}
STEPS = ("taken", "checkpoint", "cosigned", "positions", "stored", "published")


@dataclass
class Sealing:
    """A ledger with a log."""

    history: Stand
    folder: Path
    workers: list[Worker] = field(default_factory=list)

    def start(self, **changes: Any) -> Worker:
        """Start a seal worker."""
        history = self.history
        plan = SealPlan(
            bootstrap=history.broker.bootstrap,
            store_url=history.store_url,
            database=history.store.database,
            group=f"seal-{history.group}",
            folder=str(self.folder),
            rebalance_s=3.0 if history.broker.kind == "embedded" else 6.0,
        )
        plan = replace(plan, **changes)
        log_path = history.folder / f"sealer-{len(self.workers)}.log"
        argument = json.dumps(asdict(plan))
        process = ModuleProcess("tests.seal_process", argument, log_path)
        worker = Worker(process, log_path)
        self.workers.append(worker)
        return worker

    def record(self, count: int, seed: int, total: int) -> None:
        """Publish events and record them."""
        self.history.publish_events(TOPIC, count, seed=seed)
        with self.history.worker(cutter=SMALL_BLOCKS, group=unique("r")) as worker:
            self.history.await_recorded(TOPIC, total, worker)
            assert worker.stop() == 0

    def await_sealed(self, worker: Worker) -> None:
        """Wait until every block of the store is under a kept checkpoint."""

        def sealed() -> bool:
            assert worker.process.poll() is None, worker.log()[-3000:]
            return self.kept() is not None and self.blocks() == self.positions()

        try:
            wait_until(sealed, 60, "all blocks to be sealed")
        except AssertionError as late:
            raise AssertionError(f"{late}: {worker.log()[-3000:]}") from None

    def blocks(self) -> int:
        """Blocks in the store."""
        return int(self.history.store.query_rows("SELECT count() FROM blocks")[0][0])

    def positions(self) -> int:
        """Blocks under checkpoints that the store knows."""
        return int(
            self.history.store.query_rows(
                "SELECT uniqExact(log_id, partition, offset_first) FROM log_positions "
                f"WHERE entry_name = '{BLOCK}' "
                "AND entry_index < (SELECT max(size) FROM checkpoints)"
            )[0][0]
        )

    def kept(self) -> Checkpoint | None:
        """The checkpoint in the folder."""
        note = LogFolder(self.folder).checkpoint()
        return None if note is None else opened_checkpoint(note, [LOG_KEY.verifier])

    def check_whole(self) -> None:
        """The log has every block once, in chain order; all that was signed is one history."""
        kept = self.kept()
        assert kept is not None
        entries = list(LogFolder(self.folder).entries(0, kept.size))
        assert kept.root == root_of_leaves(entries)
        stored = self.history.store
        logs = Blocks(stored)
        origins = set()
        for entry in entries:
            name, fields = decode_entry(entry)
            if name == BLOCK:
                origins.add((fields["log_id"], fields["topic"], fields["partition"]))
        assert len(entries) == len(set(entries))
        for log_id, topic, partition in origins:
            origin = LogPartition(log_id, topic, partition)
            expected = [encode_entry(BLOCK, one.header(origin)) for one in logs.all(origin)]
            mine = [
                entry
                for entry in entries
                if (decoded := decode_entry(entry))[0] == BLOCK
                and decoded[1]["log_id"] == log_id
                and decoded[1]["partition"] == partition
            ]
            assert mine == expected
        signed = {
            (int(size), bytes.fromhex(root))
            for size, root in stored.query_rows("SELECT size, hex(root) FROM checkpoints")
        }
        for value in self.history.values("ledger-checkpoints"):
            fields = decode(value)[1]
            assert opened_checkpoint(fields["note"], [LOG_KEY.verifier]).size == fields["size"]
            signed.add((fields["size"], fields["root"]))
        assert (kept.size, kept.root) in signed
        for size, root in signed:
            assert root == root_of_leaves(entries[:size])
        rows = stored.query_rows(
            "SELECT count(), uniqExact(entry_index), max(entry_index) FROM log_positions"
        )
        assert rows == [(len(entries), len(entries), len(entries) - 1)]


@pytest.fixture
def sealing(
    broker: Broker, store: Store, clickhouse_front: RunningFront, tmp_path: Path
) -> Iterator[Sealing]:
    """An empty ledger with a log, on both brokers."""
    with stand(broker, store, clickhouse_front.url, tmp_path) as made:
        yield from _sealing(made, tmp_path)


@pytest.fixture
def embedded_sealing(
    embedded_broker: Broker, store: Store, clickhouse_front: RunningFront, tmp_path: Path
) -> Iterator[Sealing]:
    """An empty ledger with a log, on the embedded broker."""
    with stand(embedded_broker, store, clickhouse_front.url, tmp_path) as made:
        yield from _sealing(made, tmp_path)


def _sealing(made: Stand, folder: Path) -> Iterator[Sealing]:
    sealing = Sealing(made, folder / "log")
    yield sealing
    for worker in sealing.workers:
        if worker.process.poll() is None:
            worker.process.send_signal(signal.SIGCONT)
            worker.kill()


def test_blocks_come_into_the_log(sealing: Sealing) -> None:
    """Every block is an entry, under a checkpoint that folder, store and topic have."""
    worker = sealing.start()
    sealing.record(200, seed=1, total=200)
    sealing.await_sealed(worker)
    sealing.record(200, seed=2, total=400)
    sealing.await_sealed(worker)
    assert worker.stop() == 0, worker.log()
    sealing.check_whole()
    entries = sealing.history.store.query_rows("SELECT count(), any(entry_kind) FROM log_entries")
    assert entries == [(1, "CUTTER")]
    kept = sealing.kept()
    assert kept is not None
    assert kept.size == sealing.blocks() + 1


@pytest.mark.fault
@pytest.mark.slow
def test_killed_after_every_step(sealing: Sealing) -> None:
    """Whichever step was the last, the next start completes it, and all that was signed agrees."""
    history = sealing.history
    with history.worker(cutter=SMALL_BLOCKS) as recorder:
        for number, step in enumerate(STEPS):
            worker = sealing.start(kill_after=step, group=unique("s"))
            history.publish_events(TOPIC, 80, seed=number)
            history.await_recorded(TOPIC, 80 * (number + 1), recorder)
            assert worker.process.wait(60) == -signal.SIGKILL, worker.log()
        assert recorder.stop() == 0
    worker = sealing.start(group=unique("s"))
    sealing.await_sealed(worker)
    assert worker.stop() == 0, worker.log()
    sealing.check_whole()


@pytest.mark.fault
def test_a_topic_that_forgot(embedded_sealing: Sealing) -> None:
    """What was recorded and never announced, or announced to a log that is gone, is sealed later;
    partitions of the new log begin chains of their own, the proof log goes on.
    """
    sealing = embedded_sealing
    worker = sealing.start()
    sealing.record(100, seed=1, total=100)
    sealing.await_sealed(worker)
    assert worker.stop() == 0
    first = sealing.kept()
    assert first is not None
    sealing.record(100, seed=2, total=200)
    sealing.history.recreate_topics()
    sealing.record(100, seed=3, total=100)
    worker = sealing.start(group=unique("s"))
    sealing.await_sealed(worker)
    assert worker.stop() == 0, worker.log()
    kept = sealing.kept()
    assert kept is not None
    entries = list(LogFolder(sealing.folder).entries(0, kept.size))
    assert root_of_leaves(entries[: first.size]) == first.root
    assert len({decode_entry(one)[1]["log_id"] for one in entries[1:]}) == 2
    sealing.check_whole()


@pytest.mark.fault
def test_a_former_owner_signs_nothing_else(embedded_sealing: Sealing) -> None:
    """A sealer that is stopped past its session and wakes up leaves the log to its successor."""
    sealing = embedded_sealing
    former = sealing.start()
    sealing.record(100, seed=1, total=100)
    sealing.await_sealed(former)
    former.process.send_signal(signal.SIGSTOP)
    sealing.record(100, seed=2, total=200)
    successor = sealing.start()
    former.process.send_signal(signal.SIGCONT)
    sealing.await_sealed(successor)
    sealing.record(100, seed=3, total=300)
    sealing.await_sealed(successor)
    for worker in (former, successor):
        assert worker.stop() == 0, worker.log()
    sealing.check_whole()


@pytest.mark.fault
def test_a_folder_that_was_lost_is_not_begun_anew(embedded_sealing: Sealing) -> None:
    """A second history under the same name is never signed; the worker ends and says why."""
    sealing = embedded_sealing
    worker = sealing.start()
    sealing.record(100, seed=1, total=100)
    sealing.await_sealed(worker)
    assert worker.stop() == 0
    sealing.folder.rename(sealing.folder.with_name("lost"))
    again = sealing.start(group=unique("s"))
    assert again.process.wait(60) == 70
    assert "restore it" in again.log()
    assert LogFolder(sealing.folder).checkpoint() is None


@pytest.mark.fault
def test_a_header_that_does_not_continue_its_chain(embedded_sealing: Sealing) -> None:
    """It raises an alarm and is no entry; what is right goes on."""
    sealing = embedded_sealing
    worker = sealing.start()
    sealing.record(100, seed=1, total=100)
    sealing.await_sealed(worker)
    value = next(
        value for value in sealing.history.values("ledger-blocks") if decode(value)[0].name == BLOCK
    )
    fields = decode(value)[1]
    forged = [
        encode(BLOCK, {**fields, "records": 1}),
        encode(BLOCK, {**fields, "offset_first": 9_000, "offset_last": 9_001}),
        b"nothing",
    ]
    sealing.history.publish("ledger-blocks", [(b"x", one) for one in forged])
    sealing.record(100, seed=2, total=200)
    sealing.await_sealed(worker)
    assert worker.stop() == 0
    log = worker.log()
    for kind in ("contradicts", "does_not_continue", "unreadable"):
        assert kind in log
    sealing.check_whole()
