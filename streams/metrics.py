"""The metrics of the stream layer, each named once.

They live in a registry of their own, which a worker passes to its other parts, so that several
workers in one process don't collide. Labels never hold a key or a number.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
_RECORDS = (1, 10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)


class StreamMetrics:
    """All counters, gauges and histograms of one worker's streams."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self.records = Counter(
            "consent_stream_records",
            "Records of batches that their handler finished",
            ["topic"],
            registry=self.registry,
        )
        self.batch_records = Histogram(
            "consent_stream_batch_records",
            "Records in a batch",
            ["topic"],
            buckets=_RECORDS,
            registry=self.registry,
        )
        self.handler_seconds = Histogram(
            "consent_stream_handler_seconds",
            "Time from the start of a handler to its acknowledgement",
            ["topic"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.late_acknowledgements = Counter(
            "consent_stream_late_acknowledgements",
            "Batches finished after their partition was revoked, to be done again by its owner",
            registry=self.registry,
        )
        self.commits = Counter(
            "consent_stream_commits",
            "Offset commits, done or postponed to the next interval",
            ["outcome"],
            registry=self.registry,
        )
        self.rebalances = Counter(
            "consent_stream_rebalances",
            "Assignments that this worker was given",
            registry=self.registry,
        )
        self.partitions = Gauge(
            "consent_stream_partitions", "Partitions assigned now", registry=self.registry
        )
        self.lag = Gauge(
            "consent_stream_lag_records",
            "Offsets between what is done and the end of the log as last seen",
            ["topic", "partition"],
            registry=self.registry,
        )
        self.fetch_age = Gauge(
            "consent_stream_fetch_age_seconds",
            "Age of what is known about the end of a partition",
            ["topic", "partition"],
            registry=self.registry,
        )
        self.live = Gauge(
            "consent_stream_live", "1 unless the watchdog would end it", registry=self.registry
        )
        self.ready = Gauge(
            "consent_stream_ready", "1 while partitions are handled", registry=self.registry
        )
