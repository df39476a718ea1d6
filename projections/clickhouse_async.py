"""The store for code on an event loop: the same calls, each in a thread of a pool of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyarrow as pa

from projections.clickhouse import Parameters, Settings, Store

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class AsyncStore:
    """The same store for code on an event loop: each call runs in a thread of its own pool.

    A call that is cancelled goes on in its thread; its outcome is unknown, as after a time-out.
    Given a function that connects, it connects at the first call, and tries again at each call
    until it could: what does not need the store can start without it.
    """

    def __init__(self, store: Store | Callable[[], Store], threads_max: int = 4) -> None:
        self._given = store
        self._store = store if isinstance(store, Store) else None
        self._connecting = threading.Lock()
        self._threads = ThreadPoolExecutor(threads_max, thread_name_prefix="store")

    async def query_rows(
        self,
        query: str,
        parameters: Parameters | None = None,
        settings: Settings | None = None,
        formats: Mapping[str, str] | None = None,
    ) -> list[tuple[Any, ...]]:
        """As Store.query_rows."""
        return await self._run(Store.query_rows, query, parameters, settings, formats)

    async def query_arrow(
        self,
        query: str,
        parameters: Parameters | None = None,
        settings: Settings | None = None,
        strings_as_bytes: bool = False,
    ) -> pa.Table:
        """As Store.query_arrow."""
        return await self._run(Store.query_arrow, query, parameters, settings, strings_as_bytes)

    async def insert_arrow(
        self, table: str, rows: pa.Table, token: str, settings: Settings | None = None
    ) -> None:
        """As Store.insert_arrow."""
        await self._run(Store.insert_arrow, table, rows, token, settings)

    async def command(
        self, statement: str, settings: Settings | None = None, use_database: bool = True
    ) -> str | int | list[str]:
        """As Store.command."""
        return await self._run(Store.command, statement, settings, use_database)

    async def run(
        self,
        work: Callable[Concatenate[Store, _Arguments], _Result],
        *arguments: _Arguments.args,
        **named: _Arguments.kwargs,
    ) -> _Result:
        """Run a function that takes the connected store, and what else it is given, in a thread."""
        return await self._run(work, *arguments, **named)

    async def ping(self) -> bool:
        """As Store.ping."""
        return await self._run(Store.ping)

    async def close(self) -> None:
        """Wait for calls that run, then close the store."""
        await asyncio.to_thread(self._threads.shutdown)
        if self._store is not None:
            self._store.close()

    def _connected(self) -> Store:
        with self._connecting:
            if self._store is None:
                assert callable(self._given)
                self._store = self._given()
            return self._store

    async def _run(
        self,
        call: Callable[Concatenate[Store, _Arguments], _Result],
        *arguments: _Arguments.args,
        **named: _Arguments.kwargs,
    ) -> _Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, lambda: call(self._connected(), *arguments, **named)
        )
