"""What is left of a record worker, a store or a broker that dies at the wrong moment."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from projections.clickhouse import Store, StoreParameters
from tests.brokers import Broker, unique, wait_until
from tests.record_stand import Stand, stand
from tests.stores import RunningFront, start_front

TOPIC = "consent-events"
STEPS = ("rows", "side", "evidence", "facts", "verified", "erased", "block", "announced")
SMALL_BLOCKS = {"records_max": 40}


@pytest.fixture
def history(
    broker: Broker, store: Store, clickhouse_front: RunningFront, tmp_path: Path
) -> Iterator[Stand]:
    """An empty ledger, on both brokers."""
    with stand(broker, store, clickhouse_front.url, tmp_path) as made:
        yield made


@pytest.fixture
def own_front(tmp_path: Path) -> Iterator[RunningFront]:
    """A front that a test may kill."""
    front = start_front(tmp_path / "data", tmp_path / "front.log")
    yield front
    front.kill()


@pytest.fixture
def mortal(embedded_broker: Broker, own_front: RunningFront, tmp_path: Path) -> Iterator[Stand]:
    """An empty ledger on a front that may be killed."""
    parameters = StoreParameters(url=own_front.url, database="ledger", connect_timeout_ms=2_000)
    connected = Store.connect(parameters)
    connected.command("CREATE DATABASE ledger", use_database=False)
    with stand(embedded_broker, connected, own_front.url, tmp_path) as made:
        yield made
    connected.close()


@pytest.mark.fault
@pytest.mark.slow
def test_killed_after_every_step(history: Stand) -> None:
    """Whichever step of a block was the last, the next start completes it: each offset once.

    Every start is another group's first, so that only the store says where to go on.
    """
    history.publish_events(TOPIC, 1_000, seed=1)
    for step in STEPS:
        worker = history.start(
            cutter=SMALL_BLOCKS, kill_after=step, kill_count=2, group=unique("r")
        )
        assert worker.process.wait(60) == -signal.SIGKILL, worker.log()
    with history.worker(group=unique("r")) as worker:
        history.await_recorded(TOPIC, 1_000, worker)
        assert worker.stop() == 0
    history.check_whole(TOPIC, 1_000)
    history.check_chain(TOPIC)
    history.check_announced(TOPIC)


@pytest.mark.fault
def test_a_former_owner_writes_late(history: Stand) -> None:
    """A worker that is stopped past its session and wakes up in the middle of a block does no harm.

    Its successor has written the same block meanwhile.
    """
    history.publish_events(TOPIC, 300, seed=2)
    hold = history.folder / "hold"
    hold.touch()
    former = history.start(hold_after="rows", hold_file=str(hold), cutter=SMALL_BLOCKS)
    wait_until(lambda: "holding" in former.log(), what="the former owner to be inside a block")
    former.process.send_signal(signal.SIGSTOP)
    with history.worker() as successor:
        history.await_recorded(TOPIC, 300, successor)
        hold.unlink()
        former.process.send_signal(signal.SIGCONT)
        history.publish_events(TOPIC, 100, seed=3)
        history.await_recorded(TOPIC, 400, successor)
        former.stop()
        successor.stop()
    history.check_whole(TOPIC, 400)


@pytest.mark.fault
def test_the_store_is_away_for_a_while(mortal: Stand, own_front: RunningFront) -> None:
    """Nothing is lost or doubled, and the worker goes on by itself."""
    with mortal.worker(cutter=SMALL_BLOCKS, insert_timeout_ms=5_000) as worker:
        mortal.publish_events(TOPIC, 200, seed=4)
        mortal.await_recorded(TOPIC, 200, worker)
        own_front.kill()
        mortal.publish_events(TOPIC, 400, seed=5)
        wait_until(lambda: "store_unavailable" in worker.log(), what="the worker to notice")
        own_front.restart()
        mortal.await_recorded(TOPIC, 600, worker)
        assert worker.stop() == 0
    mortal.check_whole(TOPIC, 600)


@pytest.mark.fault
def test_a_start_waits_for_the_store(mortal: Stand, own_front: RunningFront) -> None:
    """A worker that starts before its store waits for it."""
    mortal.publish_events(TOPIC, 20, seed=6)
    own_front.kill()
    with mortal.worker() as worker:
        wait_until(lambda: "store_unavailable" in worker.log(), what="the worker to notice")
        own_front.restart()
        mortal.await_recorded(TOPIC, 20, worker)


@pytest.mark.fault
def test_a_replay_without_the_deduplication_log(mortal: Stand, own_front: RunningFront) -> None:
    """Rows of an unfinished block are not doubled although the store forgot their tokens."""
    mortal.publish_events(TOPIC, 200, seed=7)
    worker = mortal.start(cutter=SMALL_BLOCKS, kill_after="facts", kill_count=2)
    assert worker.process.wait(60) == -signal.SIGKILL
    own_front.kill()
    forgotten = list(mortal.folder.glob("data/**/deduplication_logs"))
    assert forgotten
    for folder in forgotten:
        shutil.rmtree(folder)
    own_front.restart()
    with mortal.worker(group=unique("r")) as again:
        mortal.await_recorded(TOPIC, 200, again)
        again.stop()
    mortal.check_whole(TOPIC, 200)


@pytest.mark.fault
@pytest.mark.parametrize("tables", [("facts",), ("facts", "evidence")])
def test_a_part_is_lost_and_its_token_kept(
    mortal: Stand, own_front: RunningFront, tables: tuple[str, ...]
) -> None:
    """Rows of the last blocks that the store lost, while it calls a repeat done, are healed."""
    mortal.publish_events(TOPIC, 200, seed=8)
    with mortal.worker(cutter={"records_max": 1_000, "bucket_ms": 10_000}) as worker:
        mortal.await_recorded(TOPIC, 200, worker)
        worker.stop()
    lost = [part for table in tables for part in mortal.parts(table)]
    own_front.kill()
    for part in lost:
        shutil.rmtree(part)
    own_front.restart()
    with mortal.worker() as again:
        wait_until(
            lambda: mortal.store.query_rows("SELECT count() FROM facts") == [(200,)],
            what="the facts to be back",
        )
        wait_until(lambda: "history_block_short" in again.log(), what="the alarm")
        mortal.publish_events(TOPIC, 10, seed=9)
        mortal.await_recorded(TOPIC, 210, again)
        again.stop()
    mortal.check_whole(TOPIC, 210)


@pytest.mark.fault
def test_a_doubled_record_stops_the_worker(mortal: Stand) -> None:
    """An offset that is in facts twice is an alarm and an end, never repaired in silence."""
    mortal.publish_events(TOPIC, 50, seed=10)
    worker = mortal.start(kill_after="facts")
    assert worker.process.wait(60) == -signal.SIGKILL
    mortal.store.command("INSERT INTO facts SELECT * FROM facts LIMIT 1")
    again = mortal.start(group=unique("r"))
    assert again.process.wait(60) == 70
    assert "RowsDoubled" in again.log()


@pytest.mark.fault
def test_another_log_under_the_same_id_stops_the_worker(mortal: Stand) -> None:
    """If the last stored record is not what the log holds there, nothing further is read."""
    mortal.publish_events(TOPIC, 50, seed=11)
    with mortal.worker() as worker:
        mortal.await_recorded(TOPIC, 50, worker)
        worker.stop()
    mortal.store.command(
        "ALTER TABLE facts UPDATE fact = concat(fact, 'x') WHERE 1 SETTINGS mutations_sync = 2"
    )
    again = mortal.start()
    assert again.process.wait(60) == 70
    assert "LogContradicts" in again.log()


@pytest.mark.fault
def test_a_worker_that_waits_for_its_store_can_be_stopped(
    mortal: Stand, own_front: RunningFront
) -> None:
    """SIGTERM ends it in order, at the start and in the middle of a block."""
    mortal.publish_events(TOPIC, 20, seed=12)
    with mortal.worker() as worker:
        mortal.await_recorded(TOPIC, 20, worker)
        own_front.kill()
        mortal.publish_events(TOPIC, 20, seed=13)
        wait_until(lambda: "store_unavailable" in worker.log(), what="the worker to notice")
        assert worker.stop() == 0
    with mortal.worker() as worker:
        wait_until(lambda: "store_unavailable" in worker.log(), what="the worker to notice")
        assert worker.stop() == 0
    own_front.restart()
    with mortal.worker() as worker:
        mortal.await_recorded(TOPIC, 40, worker)
    mortal.check_whole(TOPIC, 40)


@pytest.mark.fault
def test_a_topic_made_anew_under_a_running_worker_ends_it(mortal: Stand) -> None:
    """It does not go on as if the new log were the old one."""
    mortal.publish_events(TOPIC, 20, seed=14)
    with mortal.worker(log_id_check_ms=200) as worker:
        mortal.await_recorded(TOPIC, 20, worker)
        mortal.recreate_topics()
        assert worker.process.wait(60) == 70
    mortal.publish_events(TOPIC, 10, seed=15)
    with mortal.worker() as again:
        mortal.await_recorded(TOPIC, 10, again)
    mortal.check_whole(TOPIC, 10)
