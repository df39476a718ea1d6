"""Says whether a worker lives and is ready, and ends one that is stuck.

Owns the judgement, the watchdog that acts on it, and `/healthz`, `/readyz` and `/metrics` on a
port of its own. Judges by what was acknowledged, fetched and run, never by what was read.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from aiokafka.structs import TopicPartition
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streams.apps import BatchApp
from streams.config import StallLimits
from streams.consumer_thread import wall_clock_ms
from streams.process import exit_without_commit

log = structlog.get_logger(__name__)

_TICK_S = 1.0
_REQUEST_BYTES_MAX = 8_192
_REQUEST_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Health:
    """`live` is false when only a restart helps; `reasons` says what speaks against either."""

    live: bool
    ready: bool
    reasons: tuple[str, ...]


@dataclass(slots=True)
class _Progress:
    """Seconds without progress, counted while the process ran, each with what it last saw."""

    seen: object = None
    stalled_s: int = 0

    def update(self, now: object, *, watched: bool) -> None:
        self.stalled_s = self.stalled_s + 1 if watched and now == self.seen else 0
        self.seen = now


class Judge:
    """Judges a worker once a second. Call `tick` from its event loop."""

    def __init__(self, app: BatchApp, limits: StallLimits) -> None:
        self._app = app
        self._limits = limits
        self._handling = _Progress()
        self._fetching = _Progress()
        self._settling = _Progress()
        self.health = Health(live=True, ready=False, reasons=("starting",))

    def tick(self) -> Health:
        """Looks once and returns the new judgement."""
        app = self._app
        positions = dict(app.positions())
        seen = {partition: app.observation(partition) for partition in positions}
        waiting = app.batches_in_work > 0 or any(
            seen_one is not None and positions[partition] < seen_one.high_watermark
            for partition, seen_one in seen.items()
        )
        self._handling.update((positions, app.batches_finished), watched=waiting)
        self._fetching.update(seen, watched=bool(positions) and not waiting)
        self._settling.update(app.assigned, watched=not app.settled)
        self._export(positions)
        self.health = self._judge()
        app.metrics.live.set(self.health.live)
        app.metrics.ready.set(self.health.ready)
        return self.health

    def _judge(self) -> Health:
        app, limits = self._app, self._limits
        dead = []
        if self._handling.stalled_s > limits.progress_s:
            dead.append(f"records wait, no batch finished for {self._handling.stalled_s} s")
        if self._fetching.stalled_s > limits.fetch_s:
            dead.append(f"no fetch answered for {self._fetching.stalled_s} s")
        if self._settling.stalled_s > (limits.prepare_s if app.assigned else limits.rebalance_s):
            dead.append(f"not reading for {self._settling.stalled_s} s")
        if app.crashed:
            dead.append("crashed")
        waiting = []
        if not app.assigned:
            waiting.append("no partitions assigned" if app.settled else "joining the group")
        elif not app.settled:
            waiting.append("preparing partitions")
        if app.should_stop:
            waiting.append("stopping")
        return Health(live=not dead, ready=not dead and not waiting, reasons=tuple(dead + waiting))

    def _export(self, positions: dict[TopicPartition, int]) -> None:
        metrics = self._app.metrics
        metrics.lag.clear()
        metrics.fetch_age.clear()
        now_ms = wall_clock_ms()
        for partition, position in positions.items():
            observation = self._app.observation(partition)
            if observation is None:
                continue
            labels = (partition.topic, str(partition.partition))
            metrics.lag.labels(*labels).set(max(observation.high_watermark - position, 0))
            metrics.fetch_age.labels(*labels).set((now_ms - observation.fetched_at) / 1_000)


class LoopWatch:
    """A thread that ends the process when the event loop has been blocked for `limit_s`.

    It counts its own ticks, so time in which the whole process was paused does not count.
    """

    def __init__(self, limit_s: int, end: Callable[..., object] = exit_without_commit) -> None:
        self._limit_s = limit_s
        self._end = end
        self._silent_s = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop-watch", daemon=True)

    def start(self) -> None:
        """Begins to watch."""
        self._thread.start()

    def beat(self) -> None:
        """Called by the event loop to show that it runs."""
        self._silent_s = 0

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(_TICK_S):
            self._silent_s += 1
            if self._silent_s > self._limit_s:
                self._end("event_loop_blocked", blocked_s=self._silent_s)


@contextlib.asynccontextmanager
async def watch(app: BatchApp, limits: StallLimits) -> AsyncIterator[Judge]:
    """Judges `app` every second while the block runs, and ends the process when it is stuck."""
    judge = Judge(app, limits)
    loop_watch = LoopWatch(limits.loop_s)

    async def run() -> None:
        while True:
            loop_watch.beat()
            health = judge.tick()
            if not health.live and not app.crashed:
                exit_without_commit("worker_stuck", reasons=health.reasons)
            await asyncio.sleep(_TICK_S)

    loop_watch.start()
    ticking = asyncio.create_task(run())
    try:
        yield judge
    finally:
        ticking.cancel()
        loop_watch.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking


@contextlib.asynccontextmanager
async def serve_health(
    app: BatchApp, judge: Judge, host: str, port: int
) -> AsyncIterator[asyncio.Server]:
    """Answers `/healthz`, `/readyz` and `/metrics` by HTTP while the block runs.

    Healthy is 200, else 503, with the reasons as text. Raises OSError if the port is taken.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except asyncio.LimitOverrunError:
                    head = b""
                writer.write(_response(app, judge, head))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host, port, limit=_REQUEST_BYTES_MAX)
    log.info("health_listening", host=host, port=server.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        server.close()


def _response(app: BatchApp, judge: Judge, head: bytes) -> bytes:
    words = head.split(b"\r\n", 1)[0].split(b" ")
    path = words[1].split(b"?", 1)[0] if len(words) == 3 and words[0] == b"GET" else b""
    health = judge.health
    content_type = "text/plain; charset=utf-8"
    body = ("\n".join(health.reasons) or "ok").encode() + b"\n"
    if path == b"/healthz":
        status = HTTPStatus.OK if health.live else HTTPStatus.SERVICE_UNAVAILABLE
    elif path == b"/readyz":
        status = HTTPStatus.OK if health.ready else HTTPStatus.SERVICE_UNAVAILABLE
    elif path == b"/metrics":
        status, content_type = HTTPStatus.OK, CONTENT_TYPE_LATEST
        body = generate_latest(app.metrics.registry)
    else:
        status, body = HTTPStatus.NOT_FOUND, b"not found\n"
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
