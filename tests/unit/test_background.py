"""A thing in the background: told when it fails, gone when it is stopped."""

from __future__ import annotations

import asyncio

import structlog

from consent_ledger.background import BackgroundTask


async def test_a_failure_is_told() -> None:
    """Under its name, with what was raised; nothing else hears of it."""
    failed = asyncio.Event()

    async def fail() -> None:
        asyncio.get_running_loop().call_soon(failed.set)
        raise ValueError("no")

    task = BackgroundTask(fail, "work_failed")
    with structlog.testing.capture_logs() as said:
        task.start()
        await failed.wait()
        await task.stop()
    assert [(one["event"], one["log_level"]) for one in said] == [("work_failed", "error")]
    assert isinstance(said[0]["exc_info"], ValueError)


async def test_a_stop_gives_up() -> None:
    """And says nothing; without a start, or twice, it does nothing."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = BackgroundTask(wait, "work_failed")
    await task.stop()
    with structlog.testing.capture_logs() as said:
        task.start()
        await begun.wait()
        await task.stop()
        await task.stop()
    assert ended.is_set() and said == []
