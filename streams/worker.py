"""Runs one app as a process: start, signals, orderly stop, exit code.

Owns the event loop and the order in which things begin and end. Faust's own command line is not
used: it would open a web server on all interfaces and take settings from the environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError
from faust.contrib.asgi import bind_to_running_loop

from consent.errors import Corrupt, Retryable
from streams.apps import BatchApp
from streams.config import AppConfig
from streams.health import serve_health, watch
from streams.process import EXIT_FAILED, EXIT_STOPPED, EXIT_UNAVAILABLE, describe

log = structlog.get_logger(__name__)

Resources = Callable[[], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How the process presents itself. No health port means no health server."""

    health_host: str = "127.0.0.1"
    health_port: int | None = None
    uvloop: bool = True


@contextlib.asynccontextmanager
async def _no_resources() -> AsyncIterator[None]:
    yield


def run_worker(
    app: BatchApp, options: WorkerOptions | None = None, resources: Resources = _no_resources
) -> int:
    """Runs `app` until SIGTERM or SIGINT, or until it fails; returns the exit code.

    `resources` is entered on the running loop before the app starts and left after it stopped:
    the place for producers and connections of the handlers. 0 after an orderly stop, 3 if the
    broker can't be reached at the start or `resources` raised Retryable, 70 after a failure.
    Whatever the code, nothing was committed that no handler acknowledged. Call it from the main
    thread, once per process.
    """
    options = options if options is not None else WorkerOptions()
    if options.uvloop:
        import uvloop

        # The consumer's thread makes its own loop, and takes the policy's.
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    return asyncio.run(_run(app, options, resources))


async def _run(app: BatchApp, options: WorkerOptions, resources: Resources) -> int:
    stop_requested = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_requested.set)
    bind_to_running_loop(app)
    app.finalize()
    try:
        async with contextlib.AsyncExitStack() as stack:
            await _reach_broker(app.config)
            judge = await stack.enter_async_context(watch(app, app.config.stall))
            if options.health_port is not None:
                await stack.enter_async_context(
                    serve_health(app, judge, options.health_host, options.health_port)
                )
            await stack.enter_async_context(resources())
            return await _run_until_stopped(app, stop_requested)
    except (KafkaConnectionError, Retryable) as error:
        log.error("not_available_at_start", **describe(error))
        return EXIT_UNAVAILABLE
    except Corrupt as error:
        log.critical("stopped_at_start", **describe(error))
        return EXIT_FAILED


async def _reach_broker(config: AppConfig) -> None:
    """Raises KafkaConnectionError if no broker answers: within Faust it would end a thread, and
    the way it is told depends on who notices first.
    """
    client = AIOKafkaClient(
        bootstrap_servers=config.bootstrap_servers,
        client_id=config.client_id,
        request_timeout_ms=int(config.timeouts.request_s * 1_000),
        **config.security.aiokafka_options(),
    )
    try:
        await client.bootstrap()
    finally:
        await client.close()


async def _run_until_stopped(app: BatchApp, stop_requested: asyncio.Event) -> int:
    starting = asyncio.create_task(app.start())
    stopping = asyncio.create_task(stop_requested.wait())
    ended = asyncio.create_task(app.wait_until_stopped())
    try:
        await asyncio.wait({starting, stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            log.info("worker_started", group=app.config.group_id)
            await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        deadline = _end_process_after(app.config.stop_timeout_s)
        log.info("worker_stopping", crashed=app.crashed)
        await app.stop()
        for task in (starting, stopping, ended):
            task.cancel()
        await asyncio.gather(starting, stopping, ended, return_exceptions=True)
        deadline.cancel()
    if app.crashed:
        reason = app.crash_reason
        log.critical("worker_failed", **(describe(reason) if reason is not None else {}))
        return EXIT_FAILED
    return EXIT_STOPPED


def _end_process_after(seconds: float) -> threading.Timer:
    """Works also where a stop hangs in a thread or blocks the loop."""

    def end() -> None:
        log.critical("stop_timed_out", timeout_s=seconds)
        os._exit(EXIT_FAILED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer
