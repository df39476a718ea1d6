"""The outermost layer: how many requests at once, for how long, counted and timed.

Everything a request may use up is bounded here or by a limit named in `ApiConfig`. What is
refused here has the same shape as every other problem.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import structlog

from consent_ledger.api.metrics import ApiMetrics
from consent_ledger.api.parts import ApiConfig
from consent_ledger.api.problems import Problem, problem_message

log = structlog.get_logger(__name__)

Scope = Any
Receive = Any
Send = Any

_ALWAYS_ANSWERED: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_STREAMED: Final = frozenset({"/v1/scrub"})
_SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
)


class RequestLimits:
    """ASGI wrapper around the whole application."""

    def __init__(self, app: Any, config: ApiConfig, metrics: ApiMetrics) -> None:
        self._app = app
        self._config = config
        self._metrics = metrics
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        started = time.perf_counter()
        try:
            await self._within_limits(scope, receive, answer)
        finally:
            path = scope.get("path_template") or "(none)"
            self._metrics.requests.labels(scope["method"], path, str(answer.status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - started)

    async def _within_limits(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        if scope["path"] in _ALWAYS_ANSWERED:
            await self._app(scope, receive, answer.send)
            return
        if self._in_flight >= self._config.requests_in_flight_max:
            detail = "too many requests are being answered"
            await answer.refuse(Problem("unavailable", detail, retry_after_s=1))
            return
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        streamed = scope["path"].rstrip("/") in _STREAMED
        timeout_ms = self._config.stream_timeout_ms if streamed else self._config.request_timeout_ms
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._app(scope, receive, answer.send)
        except TimeoutError:
            log.warning("request_timed_out", path=scope.get("path_template") or "(none)")
            if not answer.status:
                detail = "it took too long; what did arrive is counted once"
                await answer.refuse(Problem("unavailable", detail, retry_after_s=1))
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.set(self._in_flight)


class _Answer:
    """The sending side of one request; knows the status once the head was sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message["headers"], *_SECURITY_HEADERS]}
        await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        status, body, headers = problem_message(problem)
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
