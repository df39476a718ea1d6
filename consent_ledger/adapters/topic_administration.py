"""Creates the ledger's topics and checks that existing ones are as the contracts say.

The only module that administers topics. It never changes or deletes an existing topic: partition
counts are fixed for life, and a retention that somebody changed is for a person to judge. What
differs is refused with every difference named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, RetriableError, TopicAlreadyExistsError, for_code

from consent.contracts import TopicContract, contracts
from consent.errors import ConsentError, Rejected, Retryable

T = TypeVar("T")
Deployment = Literal["production", "embedded"]

_MIN_INSYNC: Final = "min.insync.replicas"
_UNCLEAN: Final = "unclean.leader.election.enable"
_AT_LEAST: Final = frozenset({_MIN_INSYNC, "max.message.bytes"})
_EXISTENCE: Final = "topic"
_NOT_REPORTED: Final = "not reported"
_UNKNOWN_TOPIC: Final = 3
_ASK_AGAIN_S: Final = 0.1
_NOT_ENFORCED: Final[Mapping[Deployment, tuple[str, ...]]] = {
    "production": (),
    "embedded": (
        "cleanup.policy",
        "retention.ms",
        "segment.ms",
        "min.compaction.lag.ms",
        "max.compaction.lag.ms",
        "message.timestamp.type",
    ),
}


@dataclass(frozen=True, slots=True)
class AdminConnection:
    """How the brokers are reached: `bootstrap` is `host:port`, separated by commas.

    Files are PEM. `timeout_ms` bounds the first contact and each request. `settle_ms` is how long
    one broker may not yet know of a topic that another has made.
    """

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_ca_file: str | None = None
    ssl_certificate_file: str | None = None
    ssl_key_file: str | None = None
    timeout_ms: int = 30_000
    settle_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class TopicLayout:
    """What a deployment asks of its topics; `keyed_partitions` None: the contracts' count."""

    deployment: Deployment
    replication: int
    keyed_partitions: int | None = None


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """One topic as it must be."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing about a topic that is not as planned."""

    topic: str
    setting: str
    expected: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return (
            f"{self.topic}: {self.setting} is {self.found}, must be {self.expected}. {self.remedy}"
        )


@dataclass(frozen=True, slots=True)
class TopicReport:
    """What was created, what was there, and which settings could not be relied on.

    `unverified` (`topic: setting`) the broker does not report. `not_enforced` it keeps and reports
    but does not act on: the embedded broker never compacts or deletes, and lets the producer date
    records.
    """

    created: tuple[str, ...]
    existing: tuple[str, ...]
    unverified: tuple[str, ...]
    not_enforced: tuple[str, ...]


class TopicsDiffer(ConsentError):
    """Topics are missing or not as planned; nothing was changed. Holds every difference."""

    def __init__(self, differences: tuple[Difference, ...]) -> None:
        super().__init__(differences)
        self.differences = differences

    def __str__(self) -> str:
        return "\n".join(str(difference) for difference in self.differences)


class BrokersUnreachable(Retryable):
    """No broker answered in time, or the answer was a passing error."""


def planned_topics(layout: TopicLayout) -> tuple[TopicPlan, ...]:
    """Every topic of the contracts for one deployment, in the contracts' order.

    A record counts as written when all but one replica have it, so that one broker may be away
    without loss and without a stop; a replica that lags is never made leader.
    """
    durability = {_MIN_INSYNC: str(max(1, layout.replication - 1)), _UNCLEAN: "false"}
    return tuple(
        TopicPlan(
            topic.name,
            _partitions(topic, layout),
            layout.replication,
            {**topic.config, **durability},
        )
        for topic in contracts().topics.values()
    )


def apply(connection: AdminConnection, layout: TopicLayout) -> TopicReport:
    """Create the topics that are missing and verify all; safe to repeat and to run twice at once.

    TopicsDiffer, before anything is created, if an existing topic is not as planned;
    BrokersUnreachable, to be tried again, or Rejected, if the brokers refuse.
    """
    plans = planned_topics(layout)
    with _administration(connection) as admin:
        found = _described(admin, [plan.name for plan in plans])
        present = [plan for plan in plans if plan.name in found]
        _refuse(_compare(admin, present, found, layout))
        missing = [plan for plan in plans if plan.name not in found]
        _create(admin, missing)
        created = tuple(plan.name for plan in missing)
        return _settled(connection, lambda: _verified(admin, plans, layout, created))


def verify(connection: AdminConnection, layout: TopicLayout) -> TopicReport:
    """Check that every topic is there and as planned; changes nothing. Errors as `apply`'s."""
    with _administration(connection) as admin:
        return _settled(connection, lambda: _verified(admin, planned_topics(layout), layout, ()))


def topic_ids(connection: AdminConnection, topics: Sequence[str]) -> dict[str, bytes]:
    """The 16 bytes that name this incarnation of each topic (its `log_id`).

    A topic that was deleted and made again has another id. TopicsDiffer if one is missing.
    """
    with _administration(connection) as admin:
        found = _settled(connection, lambda: _all_described(admin, topics))
    ids = {name: UUID(str(found[name]["topic_id"])).bytes for name in topics}
    if not all(any(identity) for identity in ids.values()):
        remedy = "Use Apache Kafka 2.8 or newer, or another broker that gives topics an id."
        raise Rejected("NO_TOPIC_ID", "topic_id", "zero", remedy)
    return ids


def _partitions(topic: TopicContract, layout: TopicLayout) -> int:
    if topic.partitions is not None:
        return topic.partitions
    return layout.keyed_partitions or contracts().keyed_partitions[layout.deployment]


@contextmanager
def _administration(connection: AdminConnection) -> Iterator[Any]:
    try:
        admin = KafkaAdminClient(**_client_arguments(connection))
        try:
            yield admin
        finally:
            admin.close()
    except (RetriableError, OSError) as away:
        refusal = "" if connection.sasl_username is None else ", or none accepts user and password"
        problem = f"no broker of {connection.bootstrap} answers{refusal} ({away})"
        raise BrokersUnreachable(problem) from away
    except KafkaError as refused:
        remedy = "Check user, password, certificates and what the user may do."
        raise Rejected(type(refused).__name__, "brokers", connection.bootstrap, remedy) from refused


def _client_arguments(connection: AdminConnection) -> dict[str, Any]:
    given = {
        "sasl_mechanism": connection.sasl_mechanism,
        "sasl_plain_username": connection.sasl_username,
        "sasl_plain_password": connection.sasl_password,
        "ssl_cafile": connection.ssl_ca_file,
        "ssl_certfile": connection.ssl_certificate_file,
        "ssl_keyfile": connection.ssl_key_file,
    }
    return {
        "bootstrap_servers": connection.bootstrap.split(","),
        "client_id": "consent-ledger-topics",
        "security_protocol": connection.security_protocol,
        "bootstrap_timeout_ms": connection.timeout_ms,
        "request_timeout_ms": connection.timeout_ms,
        **{name: value for name, value in given.items() if value is not None},
    }


def _described(admin: Any, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Those of the named topics that exist; KafkaError if the brokers won't say."""
    entries = admin.describe_topics(list(names))
    found = {entry["name"]: entry for entry in entries if entry["error_code"] != _UNKNOWN_TOPIC}
    for name, entry in found.items():
        if entry["error_code"]:
            raise for_code(entry["error_code"])(name)
    return found


def _all_described(admin: Any, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    found = _described(admin, names)
    _refuse([_missing(name) for name in names if name not in found])
    return found


def _settled(connection: AdminConnection, ask: Callable[[], T]) -> T:
    """What `ask` answers, asked again for a while as long as all that differs is not there yet."""
    deadline = time.monotonic() + connection.settle_ms / 1000
    while True:
        try:
            return ask()
        except TopicsDiffer as differ:
            if not all(map(_not_there_yet, differ.differences)) or time.monotonic() > deadline:
                raise
        time.sleep(_ASK_AGAIN_S)


def _not_there_yet(difference: Difference) -> bool:
    return difference.setting == _EXISTENCE or difference.found == _NOT_REPORTED


def _create(admin: Any, missing: Sequence[TopicPlan]) -> None:
    for plan in missing:
        wanted = {
            "num_partitions": plan.partitions,
            "replication_factor": plan.replication,
            "configs": dict(plan.config),
        }
        try:
            admin.create_topics({plan.name: wanted})
        except TopicAlreadyExistsError:
            continue  # made by another `topics apply` meanwhile; verified like any other
    admin.wait_for_topics([plan.name for plan in missing])


def _verified(
    admin: Any, plans: Sequence[TopicPlan], layout: TopicLayout, created: tuple[str, ...]
) -> TopicReport:
    found = _described(admin, [plan.name for plan in plans])
    absent = [_missing(plan.name) for plan in plans if plan.name not in found]
    present = [plan for plan in plans if plan.name in found]
    unverified: list[str] = []
    _refuse([*absent, *_compare(admin, present, found, layout, unverified.append)])
    existing = tuple(plan.name for plan in plans if plan.name not in created)
    return TopicReport(created, existing, tuple(unverified), _NOT_ENFORCED[layout.deployment])


def _refuse(differences: Iterable[Difference]) -> None:
    found = tuple(differences)
    if found:
        raise TopicsDiffer(found)


def _missing(name: str) -> Difference:
    return Difference(name, _EXISTENCE, "there", "missing", "Run `consent-ledger topics apply`.")


def _compare(
    admin: Any,
    plans: Sequence[TopicPlan],
    found: Mapping[str, Mapping[str, Any]],
    layout: TopicLayout,
    unverified: Callable[[str], None] = lambda _: None,
) -> list[Difference]:
    differences: list[Difference] = []
    configs = _reported_configs(admin, plans)
    for plan in plans:
        differences += _compare_partitions(plan, found[plan.name]["partitions"])
        reported = configs.get(plan.name, {})
        for setting, expected in plan.config.items():
            value = reported.get(setting)
            if value is None and layout.deployment == "embedded":
                unverified(f"{plan.name}: {setting}")
            elif value is None or not _fits(setting, expected, value):
                differences.append(_config_difference(plan.name, setting, expected, value))
    return differences


def _reported_configs(admin: Any, plans: Sequence[TopicPlan]) -> dict[str, dict[str, str]]:
    if not plans:
        return {}
    resource = partial(ConfigResource, ConfigResourceType.TOPIC)
    # Unfiltered: the embedded broker calls every value, also one that we set, a default.
    answer = admin.describe_configs([resource(plan.name) for plan in plans], config_filter="all")
    return {
        name: {setting: str(entry["value"]) for setting, entry in entries.items()}
        for name, entries in answer.get("topic", {}).items()
    }


def _compare_partitions(
    plan: TopicPlan, partitions: list[Mapping[str, Any]]
) -> Iterator[Difference]:
    if len(partitions) != plan.partitions:
        yield Difference(
            plan.name,
            "partitions",
            str(plan.partitions),
            str(len(partitions)),
            "The count is fixed for life: start with the same setting as when it was made, or "
            "move to a new cluster.",
        )
    copies = min((len(partition["replica_nodes"]) for partition in partitions), default=0)
    if copies < plan.replication:
        yield Difference(
            plan.name,
            "replication",
            f"at least {plan.replication}",
            str(copies),
            "Add replicas with kafka-reassign-partitions.",
        )


def _fits(setting: str, expected: str, value: str) -> bool:
    if setting in _AT_LEAST:
        return int(value) >= int(expected)
    return sorted(value.split(",")) == sorted(expected.split(","))


def _config_difference(topic: str, setting: str, expected: str, value: str | None) -> Difference:
    if value is None:
        remedy = "Let this user describe topic configurations."
        return Difference(topic, setting, expected, _NOT_REPORTED, remedy)
    at_least = f"at least {expected}" if setting in _AT_LEAST else expected
    remedy = f"Set it with kafka-configs --alter --add-config {setting}={expected}."
    return Difference(topic, setting, at_least, value, remedy)
