"""Nothing of an erased person is in a topic of Apache Kafka once its retention is over."""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from consent.contracts import contracts
from tests.brokers import Broker, wait_until
from tests.brokers import kafka_broker as start_kafka_broker
from tests.projection_harness import (
    Stage,
    grant,
    make_event,
    make_ledger_topics,
    now_us,
    publish,
    read_projected,
)

NUMBER, OTHER = "+14155550177", "+14155550178"
CANARY = "canary-7f3a91"
FILES = "/tmp/ledger-logs"
EAGER_BROKER = {
    "KAFKA_LOG_DIRS": FILES,
    "KAFKA_LOG_RETENTION_CHECK_INTERVAL_MS": "500",
    "KAFKA_LOG_SEGMENT_DELETE_DELAY_MS": "500",
}
EAGER_CLEANER = {
    "segment.ms": "1000",
    "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "1000",
    "delete.retention.ms": "0",
    "file.delete.delay.ms": "0",
}
GONE_S = 120.0


def files_with(broker: Broker, text: str) -> list[str]:
    """Files of the broker that hold a text; what the tests produce is not compressed."""
    assert broker.run is not None
    _code, output = broker.run(f"grep -rlaF -e '{text}' {FILES} || true")
    return output.decode().split()


def end_retention(broker: Broker) -> None:
    """Let everything in the topics of events be past its retention."""
    config = {
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": "1000",
        "segment.ms": "1000",
        "file.delete.delay.ms": "0",
    }
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        admin.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, topic, configs=config)
                for topic in contracts().keyed_source_topics
            ]
        )
    finally:
        admin.close()


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(420)
async def test_topics_forget_an_erased_person(kafka_broker: Broker, tmp_path: Path) -> None:
    """Events by retention, the record under the number by compaction; the token's record stays."""
    assert kafka_broker.kind == "kafka", "an engine is there; this test's broker forgets sooner"
    with start_kafka_broker(EAGER_BROKER) as broker:
        make_ledger_topics(broker, EAGER_CLEANER)
        stage = Stage(broker, tmp_path)
        try:
            worker = stage.worker("one")
            events = []
            for number in (NUMBER, OTHER):
                agreed = grant(number)
                agreed["source"]["system"] = CANARY
                events += [("ConsentGranted", agreed)]
            await stage.until_projected(await publish(broker, events), worker)
            assert files_with(broker, NUMBER) and files_with(broker, CANARY)
            erased = make_event("ErasureExecuted", NUMBER, cutoff_at=now_us(), request_id="R")
            sent = await publish(broker, [("ErasureExecuted", erased)])
            await stage.until_projected(sent, worker)
            end_retention(broker)
            wait_until(lambda: not files_with(broker, CANARY), GONE_S, "events to be removed")
            # The worker goes on writing watermarks, which rolls segments.
            wait_until(lambda: not files_with(broker, NUMBER), GONE_S, "the record to be removed")
            assert files_with(broker, OTHER), "other people's records stay"
            last = (await read_projected(broker)).last
            assert [key for key in last if key.startswith(b"#")]
            assert worker.stop() == 0
        finally:
            stage.end()
