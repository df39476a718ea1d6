"""Waiting for several things of which any may fail first."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable


def show_tasks() -> None:
    """What every task waits for; asked with SIGUSR1, of a campaign that seems to hang."""
    for task in asyncio.all_tasks():
        task.print_stack(limit=6, file=sys.stderr)


async def first(main: Awaitable[None], *others: asyncio.Task[None]) -> None:
    """Wait for `main`, or for the first failure of the others."""
    task = asyncio.ensure_future(main)
    waiting = {task, *others}
    try:
        while not task.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool], timeout_s: float) -> None:
    """Return when something has come true; TimeoutError if it does not."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.1)
