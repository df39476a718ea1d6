"""The record worker on real brokers and a real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.contracts import contracts
from projections.clickhouse import Store
from tests.brokers import Broker
from tests.record_stand import Stand, stand
from tests.stores import RunningFront


@pytest.fixture
def history(
    broker: Broker, store: Store, clickhouse_front: RunningFront, tmp_path: Path
) -> Iterator[Stand]:
    """An empty ledger on both brokers."""
    with stand(broker, store, clickhouse_front.url, tmp_path) as made:
        yield made


def test_every_event_type_is_recorded_once(history: Stand) -> None:
    """Events of every source topic are in facts once, in blocks without a hole."""
    topics = contracts().source_topics
    for number, topic in enumerate(topics):
        history.publish_events(topic, 120, seed=number)
    with history.worker() as worker:
        for topic in topics:
            history.await_recorded(topic, 120, worker)
        assert worker.stop() == 0
    for topic in topics:
        history.check_whole(topic, 120)
