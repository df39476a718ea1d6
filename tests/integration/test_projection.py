"""The project worker on real brokers: what is in the suppression topic, and when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.projection_harness import (
    Stage,
    fold_of_log,
    grant,
    make_event,
    make_ledger_topics,
    publish,
    withdrawal,
)


@pytest.fixture
def stage(broker: Broker, tmp_path: Path) -> Iterator[Stage]:
    """Empty topics on each broker."""
    make_ledger_topics(broker)
    stage = Stage(broker, tmp_path)
    yield stage
    stage.end()


def numbers(count: int) -> list[str]:
    """Fictional numbers, spread over the partitions."""
    return [f"+1415555{line:04d}" for line in range(100, 100 + count)]


async def test_the_topic_holds_the_fold_of_the_log(stage: Stage) -> None:
    """Every event published before and while the worker runs is in the state of its number."""
    people = numbers(50)
    before = await publish(stage.broker, [("ConsentGranted", grant(one)) for one in people])
    worker = stage.worker()
    events = [("CallPlaced", make_event("CallPlaced", one)) for one in people[:20]]
    events += [("DncAdded", make_event("DncAdded", one)) for one in people[10:30]]
    events += [("ConsentWithdrawn", withdrawal(one)) for one in people[20:40]]
    while_running = await publish(stage.broker, events)
    projected = await stage.until_projected([*before, *while_running], worker)
    assert projected.last == projected.states == await fold_of_log(stage.broker)
    assert worker.stop() == 0
