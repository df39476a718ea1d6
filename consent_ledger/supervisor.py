"""Keeps a set of processes running: starts them in order, restarts what dies, stops them in order.

Knows nothing of brokers and stores; `consent_ledger.embedded` says which processes there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from consent.errors import Retryable
from consent_ledger.child import Child, ChildSpec, LogLimits

_POLL_MS = 50
_PROBE_TIMEOUT_MS = 2_000


@dataclass(frozen=True, slots=True)
class SupervisorLimits:
    """When to wait and when to give up. A crash is an end that nobody asked for.

    `dependents_stop_ms` bounds the stop of what depended on the dead: it has little left to save.
    """

    backoff_first_ms: int = 200
    backoff_max_ms: int = 5_000
    crashes_max: int = 5
    crash_window_ms: int = 60_000
    codes_final: frozenset[int] = frozenset({2})
    dependents_stop_ms: int = 3_000
    log: LogLimits = field(default_factory=LogLimits)


@dataclass(eq=False)
class CrashLoop(Retryable):
    """A process keeps dying, or said that starting it again is useless. Everything is stopped."""

    name: str
    what_happened: str
    crashes: int
    log_path: Path
    last_lines: tuple[str, ...]

    def __str__(self) -> str:
        shown = "\n".join(f"    {readable(line)}" for line in self.last_lines)
        lines = shown or "    (it wrote nothing)"
        times = "once" if self.crashes == 1 else f"{self.crashes} times"
        return (
            f"{self.name} {self.what_happened} ({times}); giving up. Its last lines:\n{lines}\n"
            f"  The whole log: {self.log_path}"
        )


@dataclass(frozen=True, slots=True)
class _Ended:
    """That a process ended, or had to be ended, although nobody asked for it."""

    name: str
    what_happened: str
    code: int | None
    last_lines: tuple[str, ...]


def readable(line: str) -> str:
    """A log line for a person: of a JSON line its time, its event, and what else it says."""
    try:
        said = json.loads(line)
        at, event = str(said.pop("timestamp"))[11:19], str(said.pop("event"))
    except (ValueError, TypeError, AttributeError, KeyError):
        return line
    for name in ("level", "logger", "process", "color_message"):
        said.pop(name, None)
    return " ".join([at, event, *(f"{name}={value}" for name, value in said.items())])


class Observer(Protocol):
    """Is told what happens, to show it to a person. Must not block."""

    def starting(self, name: str) -> None: ...
    def ready(self, name: str, took_ms: int) -> None: ...
    def all_ready(self) -> None: ...
    def died(self, name: str, what_happened: str, retry_in_ms: int) -> None: ...
    def stopping(self, names: Sequence[str]) -> None: ...


@dataclass(slots=True)
class Supervisor:
    """Runs processes given in an order in which each comes after those that it needs.

    One coroutine, `run`, makes every decision; nothing else starts or stops a process.
    """

    specs: Sequence[ChildSpec]
    log_dir: Path
    limits: SupervisorLimits
    observer: Observer
    _children: dict[str, Child] = field(default_factory=dict)
    _up: dict[str, asyncio.Event] = field(default_factory=dict)
    _exits: asyncio.Queue[_Ended] = field(default_factory=asyncio.Queue)
    _crashes: dict[str, deque[float]] = field(default_factory=dict)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _at_once: bool = False
    _ready: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        for spec in self.specs:
            named = {*spec.needs, *spec.restarts_with, *spec.stops_before}
            if not named <= self._children.keys():
                raise ValueError(f"{spec.name} must come after what it needs")
            self._children[spec.name] = Child(
                spec, self.log_dir / f"{spec.name}.log", self.limits.log, self._on_exit
            )
            self._up[spec.name] = asyncio.Event()
            self._crashes[spec.name] = deque()

    def request_stop(self) -> None:
        """Begin an orderly stop; asked a second time, kill what still runs. From any callback."""
        self._at_once = self._stop.is_set()
        self._stop.set()

    async def wait_ready(self) -> None:
        """Return once everything is ready for the first time."""
        await self._ready.wait()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of what runs now, by name."""
        return {name: child.pid for name, child in self._children.items() if child.pid is not None}

    async def run(self) -> None:
        """Start everything and keep it running until a stop is asked for.

        CrashLoop if a process can't be kept running. However it ends, nothing is left running.
        """
        try:
            while not self._stop.is_set():
                await self._until_something_happens()
        finally:
            await self._stop_all()

    async def _until_something_happens(self) -> None:
        """Bring up what is down; come back when all is up and something died, or on a stop."""
        waits: set[asyncio.Task[object]] = {
            asyncio.create_task(self._stop.wait()),
            asyncio.create_task(self._exits.get()),
        }
        bring_up = asyncio.create_task(self._bring_up())
        try:
            await asyncio.wait({*waits, bring_up}, return_when=asyncio.FIRST_COMPLETED)
            if bring_up.done() and not bring_up.cancelled():
                bring_up.result()
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*waits, bring_up):
                task.cancel()
            results = await asyncio.gather(*waits, bring_up, return_exceptions=True)
        for result in results:
            if isinstance(result, _Ended):
                await self._recover(result)

    async def _bring_up(self) -> None:
        down = [spec for spec in self.specs if not self._up[spec.name].is_set()]
        if not down:
            return
        async with asyncio.TaskGroup() as group:
            for spec in down:
                group.create_task(self._bring_up_one(spec))
        self._ready.set()
        self.observer.all_ready()

    async def _bring_up_one(self, spec: ChildSpec) -> None:
        for need in spec.needs:
            await self._up[need].wait()
        child, began = self._children[spec.name], time.monotonic()
        if not child.running:
            self.observer.starting(spec.name)
            await child.start()
        try:
            async with asyncio.timeout(spec.ready_timeout_ms / 1000):
                await self._until_ready(child)
        except TimeoutError:
            await child.stop(0)
            what = f"was not ready after {spec.ready_timeout_ms / 1000:g} s"
            self._exits.put_nowait(_Ended(spec.name, what, None, child.last_lines))
            await asyncio.Event().wait()
        self._up[spec.name].set()
        self.observer.ready(spec.name, int((time.monotonic() - began) * 1000))

    async def _until_ready(self, child: Child) -> None:
        if child.spec.task:
            if await child.wait() != 0:
                await asyncio.Event().wait()
            return
        while child.spec.probe is not None:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_PROBE_TIMEOUT_MS / 1000):
                    if await child.spec.probe() and child.running:
                        return
            await asyncio.sleep(_POLL_MS / 1000)

    def _on_exit(self, name: str, code: int) -> None:
        child = self._children[name]
        if child.spec.task and code == 0:
            return
        what = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        self._exits.put_nowait(_Ended(name, what, code, child.last_lines))

    async def _recover(self, ended: _Ended) -> None:
        """Note the crash, stop what depends on the dead process, and wait a little."""
        now, name = time.monotonic(), ended.name
        crashes, child = self._crashes[name], self._children[name]
        crashes.append(now)
        while crashes and now - crashes[0] > self.limits.crash_window_ms / 1000:
            crashes.popleft()
        if len(crashes) >= self.limits.crashes_max or ended.code in self.limits.codes_final:
            raise CrashLoop(
                name, ended.what_happened, len(crashes), child.log_path, ended.last_lines
            )
        delay_ms = min(
            self.limits.backoff_first_ms * 2 ** (len(crashes) - 1), self.limits.backoff_max_ms
        )
        self.observer.died(name, ended.what_happened, delay_ms)
        self._up[name].clear()
        dependents = self._restarted_with(name)
        for dependent in dependents:
            self._up[dependent].clear()
        await self._stop_in_order(dependents, self.limits.dependents_stop_ms)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), delay_ms / 1000)

    def _restarted_with(self, name: str) -> list[str]:
        affected = {name}
        for spec in self.specs:
            if affected & set(spec.restarts_with):
                affected.add(spec.name)
        return [spec.name for spec in self.specs if spec.name in affected - {name}]

    async def _stop_all(self) -> None:
        running = [name for name, child in self._children.items() if child.running]
        self.observer.stopping(list(reversed(running)))
        await self._stop_in_order(running)

    async def _stop_in_order(self, names: Collection[str], timeout_ms: int | None = None) -> None:
        """Stop each only after everything that needs it, or uses it while ending, has ended."""
        left = [spec for spec in self.specs if spec.name in names]
        while left:
            needed = {name for spec in left for name in (*spec.needs, *spec.stops_before)}
            leaves = [spec for spec in left if spec.name not in needed]
            left = [spec for spec in left if spec.name in needed]
            await asyncio.gather(*(self._stop_one(spec.name, timeout_ms) for spec in leaves))

    async def _stop_one(self, name: str, timeout_ms: int | None) -> None:
        stopping = asyncio.create_task(self._children[name].stop(timeout_ms))
        while not stopping.done():
            await asyncio.wait({stopping}, timeout=_POLL_MS / 1000)
            if self._at_once and not stopping.done():
                await self._children[name].stop(0)
        await stopping
