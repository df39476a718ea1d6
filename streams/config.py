"""What a worker needs to know before it starts; every limit has a name and a unit.

Plain values only: reading them from files, options or the environment is the shell's work.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any, Literal

from consent.errors import Rejected
from streams.batching import BatchLimits

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True)
class BrokerSecurity:
    """How to reach a broker that asks who calls. The files are PEM."""

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism = "SCRAM-SHA-512"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None

    def __post_init__(self) -> None:
        if self.protocol.startswith("SASL") and not (self.username and self.password):
            raise Rejected(
                reason="this protocol needs a user name and a password",
                field="protocol",
                value_shown=self.protocol,
                remedy="Set both, or use PLAINTEXT or SSL.",
            )

    def aiokafka_options(self) -> dict[str, Any]:
        """Keyword arguments for any aiokafka client; reads the certificate files."""
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if self.protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.mechanism
            options["sasl_plain_username"] = self.username
            options["sasl_plain_password"] = self.password
        if self.protocol.endswith("SSL"):
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.certificate_file is not None:
                context.load_cert_chain(self.certificate_file, self.key_file)
            options["ssl_context"] = context
        return options


@dataclass(frozen=True, slots=True)
class GroupTimeouts:
    """How soon the group gives up on a worker, and a worker on the broker.

    `request_s` also bounds one commit and one look-up of positions.
    """

    session_s: float = 10.0
    heartbeat_s: float = 2.0
    rebalance_s: float = 30.0
    request_s: float = 40.0


# The embedded broker holds every join for half a session time-out, and the one after a member
# left for two, even with a single member.
EMBEDDED_TIMEOUTS = GroupTimeouts(session_s=2.0, heartbeat_s=0.5, rebalance_s=4.0, request_s=20.0)


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Bounds of what is asked from the broker and held ahead of the handlers.

    Memory ahead of a handler is at most `buffer_batches` batches and, per assigned partition,
    `partition_bytes_max` as compressed on the wire. `wait_ms` is how long the broker may hold an
    empty answer, so it also bounds the age of what is known about an idle partition.

    After a read of fewer than `rest_below_records` the next waits for `rest_ms` and brings what has
    come meanwhile: a busy log would be read record by record otherwise, each at the cost of a round
    trip, of handling and of writing. A first record after a pause is not held.
    """

    partition_bytes_max: int = 1_048_576
    total_bytes_max: int = 52_428_800
    wait_ms: int = 500
    buffer_batches: int = 4
    rest_ms: int = 40
    rest_below_records: int = 100


# The embedded broker does not wake a waiting fetch when a record arrives, it looks again several
# times within the wait: records take about a third of it to come through.
EMBEDDED_FETCH = FetchLimits(wait_ms=50)


@dataclass(frozen=True, slots=True)
class StallLimits:
    """How long a worker may show no progress before it is ended, to be started afresh.

    `progress_s` counts while records wait and no handler finishes a batch: set it above the
    longest outage of a dependency that a handler is meant to sit out. `fetch_s` counts while
    nothing waits and the broker answers no fetch, `rebalance_s` while the group gives this worker
    no assignment, `prepare_s` while handlers prepare for theirs, `loop_s` while the event loop is
    blocked. All count seconds in which the process could run, so that a paused process is not
    ended when it goes on.
    """

    progress_s: int = 300
    fetch_s: int = 300
    rebalance_s: int = 300
    prepare_s: int = 3_600
    loop_s: int = 30


@dataclass(frozen=True, slots=True)
class AppConfig:
    """One Faust app: a consumer group and how it reads.

    `bootstrap_servers` is `host:port`, several with commas. `copartitioned_topics` must be
    assigned alike: partition p of all of them to the same worker. `drain_timeout_s` bounds how
    long a rebalance waits for the batch in work, so that it need not be repeated, and then for the
    commit.
    """

    group_id: str
    bootstrap_servers: str
    client_id: str = "consent-ledger"
    group_instance_id: str | None = None
    copartitioned_topics: frozenset[str] = frozenset()
    batch: BatchLimits = field(default_factory=BatchLimits)
    fetch: FetchLimits = FetchLimits()
    timeouts: GroupTimeouts = GroupTimeouts()
    stall: StallLimits = StallLimits()
    security: BrokerSecurity = BrokerSecurity()
    commit_interval_s: float = 1.0
    drain_timeout_s: float = 1.0
    stop_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if 2 * self.drain_timeout_s >= self.timeouts.rebalance_s:
            raise Rejected(
                reason="the group would give up on this worker while it waits, then commits",
                field="drain_timeout_s",
                value_shown=f"{self.drain_timeout_s:g}",
                remedy="Keep it below half of the rebalance time-out.",
            )
