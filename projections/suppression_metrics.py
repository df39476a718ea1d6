"""The metrics of the suppression projection, each named once. No label holds a key or a number."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class SuppressionMetrics:
    """All counters, gauges and histograms of one worker's projection."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry if registry is not None else CollectorRegistry()
        counter = partial(Counter, registry=registry)
        seconds = partial(Histogram, buckets=_SECONDS, registry=registry)
        self.states_written = counter(
            "consent_projection_states_written", "States appended to the suppression topic"
        )
        self.states_repaired = counter(
            "consent_projection_states_repaired",
            "States appended again because the topic's last record was behind",
        )
        self.tallies_written = counter(
            "consent_projection_tallies_written",
            "Counts of campaigns appended to the topic of tallies",
        )
        self.records_recovered = counter(
            "consent_projection_records_recovered",
            "Records of the suppression topic read at assignments",
        )
        self.dead_letters = counter(
            "consent_projection_dead_letters",
            "Records that could not be used",
            ["topic", "reason"],
        )
        self.forwards = counter(
            "consent_projection_forwards",
            "Records sent once more to where they belong",
            ["topic", "reason"],
        )
        self.alarms = counter(
            "consent_projection_alarms",
            "Records that were applied but that a person should look at",
            ["topic", "alarm"],
        )
        self.fold_seconds = seconds(
            "consent_projection_fold_seconds",
            "Time to read and fold one batch, without waiting for the broker",
        )
        self.append_seconds = seconds(
            "consent_projection_append_seconds",
            "Time until all in-sync replicas have a batch's states",
        )
        self.true_at = Gauge(
            "consent_projection_true_at_seconds",
            "As of when a partition is true, in seconds since the epoch",
            ["partition"],
            registry=registry,
        )
