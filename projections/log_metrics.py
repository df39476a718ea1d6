"""The metrics of the proof log, each named once; labels never hold a key or a number."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 3_600.0)


class LogMetrics:
    """All counters, gauges and histograms of one sealer."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self.records = Counter(
            "consent_log_records",
            "Records of ledger-blocks, by what became of them",
            ["judgement"],
            registry=self.registry,
        )
        self.size = Gauge(
            "consent_log_entries", "Entries under the newest checkpoint", registry=self.registry
        )
        self.pending = Gauge(
            "consent_log_pending_entries",
            "Entries that are not yet under a checkpoint",
            registry=self.registry,
        )
        self.checkpoints = Counter(
            "consent_log_checkpoints", "Checkpoints signed", registry=self.registry
        )
        self.merge_delay = Histogram(
            "consent_log_merge_delay_seconds",
            "From the announcement of an entry to the checkpoint that covers it",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.merge_delay_now = Gauge(
            "consent_log_merge_delay_now_seconds",
            "Age of the oldest announced entry without a checkpoint, 0 if there is none",
            registry=self.registry,
        )
        self.announced_again = Counter(
            "consent_log_announced_again",
            "Headers and entries that history held and the log lacked",
            registry=self.registry,
        )
        self.cosignatures = Counter(
            "consent_log_cosignatures",
            "Requests to witnesses, by outcome",
            ["witness", "outcome"],
            registry=self.registry,
        )
        self.store_retries = Counter(
            "consent_log_store_retries",
            "Attempts that the store did not answer",
            registry=self.registry,
        )
        self.alarms = Counter(
            "consent_log_alarms",
            "What a person must look at, although sealing goes on",
            ["kind"],
            registry=self.registry,
        )
