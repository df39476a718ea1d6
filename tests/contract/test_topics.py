"""Topics are created as the contracts say, and refused where they differ, on both brokers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from consent.contracts import contracts
from consent_ledger.adapters.topic_administration import (
    AdminConnection,
    BrokersUnreachable,
    TopicLayout,
    TopicsDiffer,
    apply,
    planned_topics,
    topic_ids,
    verify,
)
from tests import brokers
from tests.brokers import Broker, wait_until

ALL = tuple(contracts().topics)


@pytest.fixture(scope="module")
def own_embedded() -> Iterator[Broker]:
    """An embedded broker for this file alone: it makes and breaks topics of the real names."""
    with brokers.embedded_broker() as broker:
        yield broker


@pytest.fixture(scope="module")
def own_kafka(kafka_broker: Broker) -> Iterator[Broker]:
    """Apache Kafka for this file alone; left out where the shared one is."""
    del kafka_broker
    with brokers.kafka_broker() as broker:
        yield broker


@pytest.fixture(
    params=[
        pytest.param("embedded", marks=pytest.mark.embedded),
        pytest.param("kafka", marks=pytest.mark.kafka),
    ]
)
def own_broker(request: pytest.FixtureRequest) -> Broker:
    """Runs the test on both."""
    started: Broker = request.getfixturevalue(f"own_{request.param}")
    return started


def connection(broker: Broker) -> AdminConnection:
    return AdminConnection(broker.bootstrap, timeout_ms=15_000, settle_ms=1_000)


def layout(broker: Broker) -> TopicLayout:
    return TopicLayout("embedded" if broker.kind == "embedded" else "production", replication=1)


@contextlib.contextmanager
def administration(broker: Broker) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        yield admin
    finally:
        admin.close()


def delete(broker: Broker, *names: str) -> None:
    with administration(broker) as admin:
        present = [name for name in names if name in admin.list_topics()]
        if present:
            admin.delete_topics(present)
        wait_until(lambda: not set(names) & set(admin.list_topics()), what="the topics' end")


@contextlib.contextmanager
def altered(broker: Broker, topic: str, wrong: Mapping[str, str]) -> Iterator[None]:
    """A topic with other settings, put right again at the end."""
    right = next(plan.config for plan in planned_topics(layout(broker)) if plan.name == topic)
    with administration(broker) as admin:
        try:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(wrong))])
            yield
        finally:
            restored = {name: right[name] for name in wrong}
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, restored)])
            wait_until(lambda: not differences(broker, layout(broker)), what="the right settings")


def differences(broker: Broker, wanted: TopicLayout) -> list[tuple[str, str, str, str]]:
    """What verifying refuses: topic, setting, expected, found."""
    try:
        verify(connection(broker), wanted)
    except TopicsDiffer as refused:
        return [
            (found.topic, found.setting, found.expected, found.found)
            for found in refused.differences
        ]
    return []


def test_all_topics_are_created_once(own_broker: Broker) -> None:
    """The first run creates every topic, the second finds every one as planned."""
    delete(own_broker, *ALL)
    first = apply(connection(own_broker), layout(own_broker))
    assert (first.created, first.existing) == (ALL, ())
    second = apply(connection(own_broker), layout(own_broker))
    assert (second.created, second.existing) == ((), ALL)
    assert second.unverified == ()
    assert verify(connection(own_broker), layout(own_broker)) == second


def test_two_runs_at_once_both_succeed(own_broker: Broker) -> None:
    """Two `topics apply` at the same time leave one set of topics and no error."""
    delete(own_broker, *ALL)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            apply(connection(own_broker), layout(own_broker))
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    verify(connection(own_broker), layout(own_broker))


def test_missing_topics_are_named(own_broker: Broker) -> None:
    """Verifying names each topic that is missing and what to run, and creates none."""
    apply(connection(own_broker), layout(own_broker))
    delete(own_broker, "suppression", "dead-letters")
    found = differences(own_broker, layout(own_broker))
    assert [difference[0] for difference in found] == ["suppression", "dead-letters"]
    assert {difference[3] for difference in found} == {"missing"}
    assert apply(connection(own_broker), layout(own_broker)).created == (
        "suppression",
        "dead-letters",
    )


def test_another_partition_count_is_refused(own_broker: Broker) -> None:
    """A keyed topic with another count is refused by name, before anything is created."""
    apply(connection(own_broker), layout(own_broker))
    delete(own_broker, "ledger-checkpoints")
    wanted = replace(layout(own_broker), keyed_partitions=7)
    with pytest.raises(TopicsDiffer) as refused:
        apply(connection(own_broker), wanted)
    keyed = {topic.name for topic in contracts().topics.values() if topic.keyed}
    assert {found.topic for found in refused.value.differences} == keyed
    assert {found.setting for found in refused.value.differences} == {"partitions"}
    assert {found.expected for found in refused.value.differences} == {"7"}
    with administration(own_broker) as admin:
        assert "ledger-checkpoints" not in admin.list_topics()
    apply(connection(own_broker), layout(own_broker))


def test_too_few_copies_are_refused(own_broker: Broker) -> None:
    """A topic with fewer replicas than wanted is refused."""
    apply(connection(own_broker), layout(own_broker))
    found = differences(own_broker, replace(layout(own_broker), replication=3))
    assert ("suppression", "replication", "at least 3", "1") in found


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("topic", "setting", "wrong"),
    [
        ("consent-events", "retention.ms", "3600000"),
        ("program-events", "retention.ms", "604800000"),
        ("consent-events", "message.timestamp.type", "CreateTime"),
        ("suppression", "cleanup.policy", "compact,delete"),
        ("suppression", "min.compaction.lag.ms", "0"),
        ("dead-letters", "max.message.bytes", "1000000"),
        ("call-events", "unclean.leader.election.enable", "true"),
    ],
)
def test_another_setting_is_refused(
    own_kafka: Broker, topic: str, setting: str, wrong: str
) -> None:
    """A setting that differs is named with what it must be and what was found."""
    apply(connection(own_kafka), layout(own_kafka))
    expected = next(plan for plan in planned_topics(layout(own_kafka)) if plan.name == topic)
    with altered(own_kafka, topic, {setting: wrong}):
        ((where, what, wanted, found),) = wait_until(
            lambda: differences(own_kafka, layout(own_kafka)), what="the altered setting"
        )
    assert (where, what, found) == (topic, setting, wrong)
    assert wanted.endswith(expected.config[setting])


@pytest.mark.kafka
def test_more_durability_than_asked_for_is_fine(own_kafka: Broker) -> None:
    """A larger limit or a higher minimum of replicas is not refused."""
    apply(connection(own_kafka), layout(own_kafka))
    larger = {"max.message.bytes": "8388608", "min.insync.replicas": "2"}
    with altered(own_kafka, "dead-letters", larger):
        verify(connection(own_kafka), layout(own_kafka))


@pytest.mark.embedded
def test_what_the_embedded_broker_does_not_do_is_said(own_embedded: Broker) -> None:
    """The report names the settings that the embedded broker keeps without acting on them."""
    report = apply(connection(own_embedded), layout(own_embedded))
    assert {"cleanup.policy", "retention.ms", "message.timestamp.type"} <= set(report.not_enforced)


def test_production_survives_the_loss_of_one_broker() -> None:
    """With three copies two must have a record, and a lagging replica is never made leader."""
    for plan in planned_topics(TopicLayout("production", replication=3)):
        assert plan.replication == 3
        assert plan.config["min.insync.replicas"] == "2"
        assert plan.config["unclean.leader.election.enable"] == "false"


def test_keyed_topics_share_their_partition_count() -> None:
    """All number-keyed topics have the deployment's count: 12, embedded 4, or as set."""
    for wanted, count in (
        (TopicLayout("production", 3), 12),
        (TopicLayout("embedded", 1), 4),
        (TopicLayout("production", 3, keyed_partitions=24), 24),
    ):
        keyed = {topic.name for topic in contracts().topics.values() if topic.keyed}
        plans = {plan.name: plan.partitions for plan in planned_topics(wanted)}
        assert {plans[name] for name in keyed} == {count}


def test_a_topic_made_again_has_another_id(own_broker: Broker) -> None:
    """The id of a topic names its incarnation: stable while it lives, new when it is made again."""
    apply(connection(own_broker), layout(own_broker))
    names = ["suppression", "consent-events"]
    first = topic_ids(connection(own_broker), names)
    assert set(first) == set(names)
    assert {len(identity) for identity in first.values()} == {16}
    assert topic_ids(connection(own_broker), names) == first
    delete(own_broker, "suppression")
    with pytest.raises(TopicsDiffer, match="suppression: topic is missing"):
        topic_ids(connection(own_broker), names)
    apply(connection(own_broker), layout(own_broker))
    second = topic_ids(connection(own_broker), names)
    assert second["consent-events"] == first["consent-events"]
    assert second["suppression"] != first["suppression"]


def test_brokers_that_are_away_are_retryable() -> None:
    """Without a broker the error says where nobody answered, and that trying again may help."""
    with pytest.raises(BrokersUnreachable, match=r"127\.0\.0\.1:1"):
        verify(AdminConnection("127.0.0.1:1", timeout_ms=500), TopicLayout("production", 3))


def test_the_password_is_not_shown() -> None:
    """Printing the connection does not print its password."""
    assert "s3cret" not in repr(AdminConnection("kafka:9092", sasl_password="s3cret"))
