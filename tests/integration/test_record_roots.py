"""Roots and chains of blocks on real brokers and a real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.codec import decode
from consent.facts import LogPartition
from projections.clickhouse import Store
from projections.history_blocks import Blocks, SealedBlock
from projections.history_errors import BlockContradicts
from tests.brokers import Broker, unique
from tests.record_stand import PARTITIONS, Stand, stand
from tests.stores import RunningFront

TOPIC = "consent-events"
SMALL_BLOCKS = {"records_max": 40}
SYNC = {"mutations_sync": 2}


@pytest.fixture
def history(
    broker: Broker, store: Store, clickhouse_front: RunningFront, tmp_path: Path
) -> Iterator[Stand]:
    """An empty ledger, on both brokers."""
    with stand(broker, store, clickhouse_front.url, tmp_path) as made:
        yield made


def chains(history: Stand) -> dict[int, list[SealedBlock]]:
    """Every block of the topic, by partition."""
    blocks = Blocks(history.store)
    return {
        partition: blocks.all(LogPartition(history.log_ids[TOPIC], TOPIC, partition))
        for partition in range(PARTITIONS)
    }


def recorded(history: Stand, count: int, seed: int, total: int) -> None:
    """Publish events and record them with a worker of a new group."""
    history.publish_events(TOPIC, count, seed=seed)
    with history.worker(cutter=SMALL_BLOCKS, group=unique("r")) as worker:
        history.await_recorded(TOPIC, total, worker)
        assert worker.stop() == 0


def test_headers_chain_over_restarts(history: Stand) -> None:
    """Every block has the root of its facts and names the header before it, whoever wrote it."""
    recorded(history, 300, seed=1, total=300)
    recorded(history, 200, seed=2, total=500)
    history.check_whole(TOPIC, 500)
    history.check_chain(TOPIC)
    history.check_announced(TOPIC)
    assert all(len(blocks) > 1 for blocks in chains(history).values())


def test_older_blocks_get_roots_afterwards(history: Stand) -> None:
    """Blocks sealed without a root get the one that they would have had, are announced, and what
    follows chains to them. Doing it again changes nothing.
    """
    recorded(history, 300, seed=3, total=300)
    before = chains(history)
    without_roots(history.store)
    assert all(block.root is None for blocks in chains(history).values() for block in blocks)
    recorded(history, 100, seed=4, total=400)
    after = chains(history)
    for partition, blocks in before.items():
        assert after[partition][: len(blocks)] == blocks
    history.check_chain(TOPIC)
    recorded(history, 50, seed=5, total=450)
    history.check_chain(TOPIC)
    rows = history.store.query_rows(
        "SELECT count(), uniqExact(partition, offset_first) FROM block_roots"
    )
    assert rows == [(sum(map(len, before.values())),) * 2]
    announced = {
        value for value in history.values("ledger-blocks") if decode(value)[0].name == "BlockSealed"
    }
    assert len(announced) == sum(map(len, chains(history).values()))


def test_changed_facts_get_no_root(history: Stand) -> None:
    """A block whose facts are not those that it was sealed with is never given a root."""
    recorded(history, 200, seed=6, total=200)
    without_roots(history.store)
    origin = LogPartition(history.log_ids[TOPIC], TOPIC, 0)
    first = Blocks(history.store).all(origin)[0]
    history.store.command(
        "ALTER TABLE facts UPDATE fact = concat(fact, 'x') WHERE partition = 0 AND offset = "
        f"{first.offset_first + 1}",
        SYNC,
    )
    with pytest.raises(BlockContradicts):
        list(Blocks(history.store).complete(origin))
    assert Blocks(history.store).all(origin)[0].root is None


def without_roots(store: Store) -> None:
    """Make the store what a release without roots has left."""
    store.command(
        "ALTER TABLE blocks UPDATE root = NULL, previous_header_sha256 = NULL WHERE 1", SYNC
    )
