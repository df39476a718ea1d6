"""One thing that goes on beside the rest of a process, and is given up when that ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class BackgroundTask:
    """Runs `work` once, until it is done or stopped; nothing waits for it.

    If it fails, that is logged under `failure`, and it is not run again.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], failure: str) -> None:
        self._work = work
        self._failure = failure
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._work())
        self._task.add_done_callback(self._tell_failure)

    async def stop(self) -> None:
        """Give up what is not done; safe to repeat, and before a start."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _tell_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error(self._failure, exc_info=task.exception())
