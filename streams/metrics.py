"""The metrics of the stream layer, each named once.

They live in a registry of their own, which a worker passes to its other parts, so that several
workers in one process don't collide. Labels never hold a key or a number.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_RECORDS = (1, 10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)
_PREFIX = "consent_stream_"


class StreamMetrics:
    """All counters, gauges and histograms of one worker's streams."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self.records = self._counter("records", "Records whose batch was finished", "topic")
        self.batch_records = self._histogram("batch_records", "Records in a batch", _RECORDS)
        self.handler_seconds = self._histogram(
            "handler_seconds", "Time from the start of a handler to its end", _SECONDS
        )
        self.late_acknowledgements = self._counter(
            "late_acknowledgements",
            "Batches finished after their partition was revoked, to be done again by its owner",
        )
        self.commits = self._counter(
            "commits", "Offset commits, done or postponed to the next interval", "outcome"
        )
        self.rebalances = self._counter("rebalances", "Assignments that this worker was given")
        self.partitions = self._gauge("partitions", "Partitions assigned now")
        self.lag = self._gauge(
            "lag_records",
            "Offsets between what is done and the end of the log as last seen",
            "topic",
            "partition",
        )
        self.fetch_age = self._gauge(
            "fetch_age_seconds",
            "Age of what is known about the end of a partition",
            "topic",
            "partition",
        )
        self.live = self._gauge("live", "1 unless the watchdog would end the worker")
        self.ready = self._gauge("ready", "1 while partitions are handled")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(_PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(_PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(_PREFIX + name, text, ["topic"], buckets=buckets, registry=self.registry)
