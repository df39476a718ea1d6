"""The metrics of the proof log, each named once; labels never hold a key or a number."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 3_600.0)
_PREFIX = "consent_log_"


class LogMetrics:
    """All counters, gauges and histograms of one sealer."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self.records = self._counter(
            "records", "Records of ledger-blocks, by what became of them", "judgement"
        )
        self.size = self._gauge("entries", "Entries under the newest checkpoint")
        self.pending = self._gauge("pending_entries", "Entries that are not yet under a checkpoint")
        self.checkpoints = self._counter("checkpoints", "Checkpoints signed")
        self.merge_delay = Histogram(
            f"{_PREFIX}merge_delay_seconds",
            "From the announcement of an entry to the checkpoint that covers it",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.merge_delay_now = self._gauge(
            "merge_delay_now_seconds",
            "Age of the oldest announced entry without a checkpoint, 0 if there is none",
        )
        self.announced_again = self._counter(
            "announced_again", "Headers and entries that history held and the log lacked"
        )
        self.cosignatures = self._counter(
            "cosignatures", "Requests to witnesses, by outcome", "witness", "outcome"
        )
        self.store_retries = self._counter(
            "store_retries", "Attempts that the store did not answer"
        )
        self.alarms = self._counter(
            "alarms", "What a person must look at, although sealing goes on", "kind"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(_PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(_PREFIX + name, text, registry=self.registry)
