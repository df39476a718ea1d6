"""`consent-ledger serve`: run the HTTP API as this process."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import structlog
import typer
import uvicorn

from consent.errors import ConsentError
from consent_ledger.adapters import topic_administration
from consent_ledger.api.app import create_app
from consent_ledger.api.metrics import ApiMetrics
from consent_ledger.api.opening import doors
from consent_ledger.api.parts import ApiParts, OpenParts
from consent_ledger.bootstrap_api import api_config, doors_config
from consent_ledger.bootstrap_brokers import admin_connection, adopt_registry_ids, topic_layout
from consent_ledger.logging import configure_logging
from consent_ledger.settings import Settings, load_settings

log = structlog.get_logger(__name__)

_UNAVAILABLE = 3
_BACKLOG = 1_024
_STOP_TIMEOUT_S = 10
_COLLECT_AFTER_OBJECTS = 5_000


def command() -> None:
    """Run the HTTP API until it is stopped with SIGTERM or Ctrl-C.

    Takes events, answers checks, shows timelines; documentation is at /docs. Without a file of keys
    it answers this machine only. Exit code 3 if brokers or store are away at the start.
    """
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format, "serve")
    asyncio.run(adopt_registry_ids(settings))
    topic_administration.verify(admin_connection(settings), topic_layout(settings))
    logging.getLogger("uvicorn.error").addFilter(_no_traceback)
    server = _Server(_uvicorn_config(settings))
    try:
        server.run()
    except SystemExit:
        # How uvicorn ends when it can't listen.
        log.error("serve_not_listening", host=settings.serve_host, port=settings.serve_port)
    if not server.started:
        raise typer.Exit(_UNAVAILABLE)


def _no_traceback(record: logging.LogRecord) -> bool:
    """What went wrong at the start is told by `_told`, in its own line."""
    return "Traceback" not in str(record.msg)


def _told(open_parts: OpenParts) -> OpenParts:
    """The same parts; says why they can't be opened."""

    @asynccontextmanager
    async def opened(metrics: ApiMetrics) -> AsyncIterator[ApiParts]:
        async with AsyncExitStack() as stack:
            try:
                parts = await stack.enter_async_context(open_parts(metrics))
            except ConsentError as problem:
                log.error("serve_not_started", error=str(problem))
                raise
            except Exception:
                log.critical("serve_not_started", exc_info=True)
                raise
            _leave_to_no_collection()
            yield parts

    return opened


def _leave_to_no_collection() -> None:
    """Keep what lives as long as the process, the rulebook above all, out of collections.

    Looking through it took 90 ms, in which nothing is answered, every few seconds under load.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS)


class _Server(uvicorn.Server):
    """Ends in order on a signal, without raising the signal again."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        earlier: dict[int, Any] = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)


def _uvicorn_config(settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(api_config(settings), _told(doors(doors_config(settings)))),
        host=settings.serve_host,
        port=settings.serve_port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        # One worker process: scaling is by more processes, each with its own view.
        workers=1,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_STOP_TIMEOUT_S,
    )
