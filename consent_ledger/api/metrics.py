"""What `serve` counts and times. Label values are codes and paths, never anything personal."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LATENCY_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class ApiMetrics:
    """The metrics of one `serve` process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "consent_http_requests",
            "Answered requests.",
            ("method", "path", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "consent_http_request_seconds",
            "From the head of the request to the head of the answer.",
            ("path",),
            buckets=_LATENCY_S,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "consent_http_requests_in_flight", "Requests being answered.", registry=self.registry
        )
        self.events = Counter(
            "consent_events_received",
            "Events by what became of them.",
            ("status", "reason"),
            registry=self.registry,
        )
        self.checks = Counter(
            "consent_checks",
            "Decisions by verdict and primary reason.",
            ("verdict", "reason"),
            registry=self.registry,
        )
        self.decisions_pending = Gauge(
            "consent_decisions_pending",
            "Decisions answered whose publication is not acknowledged.",
            registry=self.registry,
        )
        self.decisions_lost = Counter(
            "consent_decisions_lost",
            "Decisions answered that could not be published before the process ended.",
            registry=self.registry,
        )

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self.registry)
