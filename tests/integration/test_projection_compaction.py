"""Recovery on Apache Kafka after its cleaner has removed all but the last records."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.projection_harness import (
    Stage,
    eventually,
    fold_of_log,
    grant,
    make_event,
    make_ledger_topics,
    publish,
    read_projected,
    withdrawal,
)

EAGER_CLEANER = {
    "segment.ms": "1000",
    "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "1000",
    "delete.retention.ms": "0",
}


@pytest.mark.kafka
async def test_what_compaction_leaves_is_the_fold_of_the_log(
    kafka_broker: Broker, tmp_path: Path
) -> None:
    """An owner that starts with nothing after compaction has every state, and appends none."""
    make_ledger_topics(kafka_broker, EAGER_CLEANER)
    stage = Stage(kafka_broker, tmp_path)
    people = [f"+1415555{line:04d}" for line in range(100, 110)]
    try:
        worker = stage.worker("one", records_max=3)
        for make in (
            lambda one: ("ConsentGranted", grant(one)),
            lambda one: ("CallPlaced", make_event("CallPlaced", one)),
            lambda one: ("ConsentWithdrawn", withdrawal(one)),
        ):
            sent = await publish(stage.broker, [make(one) for one in people])
            before = await stage.until_projected(sent, worker)
        written = before.records
        assert written >= 3 * len(people)

        async def compacted() -> bool:
            # The worker goes on writing watermarks, which rolls segments.
            return (await read_projected(stage.broker)).records == len(people)

        await eventually(compacted, 90)
        assert worker.stop() == 0
        again = stage.worker("two")
        sent = await publish(stage.broker, [("DncAdded", make_event("DncAdded", people[0]))])
        projected = await stage.until_projected(sent, again)
        assert projected.last == await fold_of_log(stage.broker)
        assert projected.records == len(people) + 1
    finally:
        stage.end()
