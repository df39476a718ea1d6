"""The metrics of the history, each named once; labels never hold a key or a number."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


class HistoryMetrics:
    """All counters and histograms of one history writer."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self.records = Counter(
            "consent_history_records",
            "Records in sealed blocks",
            ["topic"],
            registry=self.registry,
        )
        self.blocks = Counter(
            "consent_history_blocks", "Sealed blocks", ["topic"], registry=self.registry
        )
        self.seal_seconds = Histogram(
            "consent_history_seal_seconds",
            "Time from a closed block to its announcement",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.store_retries = Counter(
            "consent_history_store_retries",
            "Attempts that the store did not answer",
            registry=self.registry,
        )
        self.gaps = Counter(
            "consent_history_offset_gaps",
            "Offsets inside the log that hold no record",
            ["topic"],
            registry=self.registry,
        )
        self.lost = Counter(
            "consent_history_records_lost_to_retention",
            "Offsets that the log had removed before they were recorded",
            ["topic"],
            registry=self.registry,
        )
        self.alarms = Counter(
            "consent_history_alarms",
            "What a person must look at, although recording goes on",
            ["kind"],
            registry=self.registry,
        )
        self.open_partitions = Gauge(
            "consent_history_open_partitions",
            "Partitions that are recorded now",
            registry=self.registry,
        )

    def alarm(self, kind: str) -> None:
        """Count one alarm; the log line beside it says where."""
        self.alarms.labels(kind).inc()

    def sealed(self, topic: str, records: int, seconds: float) -> None:
        """Count one sealed block."""
        self.records.labels(topic).inc(records)
        self.blocks.labels(topic).inc()
        self.seal_seconds.observe(seconds)
