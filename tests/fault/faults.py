"""The faults of a campaign and their order, wholly given by a seed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tests.fault.cluster import BROKERS
from tests.fault.deployment import SESSION_MS, Child, Deployment

STORE_AWAY_S: Final = 20.0
_IN_SYNC_TIMEOUT_S: Final = 240.0
FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "kill": ("kill_record", "kill_project", "kill_two"),
    "pause": ("pause_project", "pause_record", "pause_two"),
    "broker": ("kill_broker",),
    "store": ("pause_store", "kill_store"),
    "proofs": ("kill_seal", "pause_seal", "kill_witness"),
    "answers": ("kill_serve",),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `target` is a worker or a broker; the times are what it takes, in seconds."""

    name: str
    target: int
    second: tuple[str, str]
    after_s: float
    away_s: float

    def __str__(self) -> str:
        return f"{self.name}({self.target}) after {self.after_s:.1f} s for {self.away_s:.1f} s"


def schedule(seed: int) -> Iterator[Fault]:
    """Faults without end: each round has every one once, and begins with one of each family."""
    chance = random.Random(seed)
    while True:
        families = {name: chance.sample(kinds, len(kinds)) for name, kinds in FAMILIES.items()}
        first = [kinds.pop() for kinds in families.values()]
        rest = [kind for kinds in families.values() for kind in kinds]
        chance.shuffle(first)
        chance.shuffle(rest)
        for name in (*first, *rest):
            yield _drawn(name, chance)


def _drawn(name: str, chance: random.Random) -> Fault:
    away_s = chance.uniform(0.0, 3.0)
    if name.startswith("pause"):
        away_s = SESSION_MS / 1000 + chance.uniform(1.0, 4.0)
    elif name == "kill_broker":
        away_s = chance.uniform(5.0, 12.0)
    if name.endswith("store"):
        away_s = STORE_AWAY_S
    kinds = ("project", "record")
    target = chance.randrange(BROKERS if name == "kill_broker" else 2)
    second = (f"{chance.choice(kinds)}-{target}", f"{chance.choice(kinds)}-{1 - target}")
    return Fault(name, target, second, chance.uniform(0.0, 4.0), away_s)


class Faults:
    """Carries faults out. At most one broker is away at any time."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._boot: asyncio.Task[None] | None = None
        self._carried_out: Mapping[str, Callable[[Fault], Awaitable[None]]] = {
            "kill_record": lambda fault: self._kill(fault, f"record-{fault.target}"),
            "kill_project": lambda fault: self._kill(fault, f"project-{fault.target}"),
            "kill_two": lambda fault: self._kill(fault, *fault.second),
            "pause_record": lambda fault: self._pause(fault, f"record-{fault.target}"),
            "pause_project": lambda fault: self._pause(fault, f"project-{fault.target}"),
            "pause_two": lambda fault: self._pause(fault, *fault.second),
            "kill_seal": lambda fault: self._kill(fault, f"seal-{fault.target}"),
            "pause_seal": lambda fault: self._pause(fault, f"seal-{fault.target}"),
            "kill_witness": lambda fault: self._kill(fault, "witness"),
            "kill_serve": lambda fault: self._kill(fault, "serve"),
            "kill_broker": self._kill_broker,
            "pause_store": self._pause_store,
            "kill_store": self._kill_store,
        }

    async def carry_out(self, fault: Fault) -> None:
        """Do it and end it. A killed broker is booted, and may still be away on return."""
        await asyncio.sleep(fault.after_s)
        await self._carried_out[fault.name](fault)

    async def healed(self) -> None:
        """Return when everything is there again."""
        if self._boot is not None:
            await self._boot
        await self._until_in_sync()

    async def _kill(self, fault: Fault, *names: str) -> None:
        workers = self._named(*names)
        for worker in workers:
            worker.kill()
        await asyncio.sleep(fault.away_s)
        for worker in workers:
            worker.start()

    async def _pause(self, fault: Fault, *names: str) -> None:
        workers = self._named(*names)
        for worker in workers:
            worker.pause()
        await asyncio.sleep(fault.away_s)
        for worker in workers:
            worker.resume()

    async def _kill_broker(self, fault: Fault) -> None:
        await self.healed()
        await asyncio.to_thread(self._deployment.cluster.kill, fault.target)
        await asyncio.sleep(fault.away_s)
        self._boot = asyncio.create_task(
            asyncio.to_thread(self._deployment.cluster.boot, fault.target)
        )

    async def _pause_store(self, fault: Fault) -> None:
        self._deployment.store.pause()
        await asyncio.sleep(fault.away_s)
        self._deployment.store.resume()

    async def _kill_store(self, fault: Fault) -> None:
        self._deployment.store.kill()
        await asyncio.sleep(fault.away_s)
        self._deployment.store.start()
        await asyncio.to_thread(self._deployment.await_store)

    def _named(self, *names: str) -> list[Child]:
        return [self._deployment.workers[name] for name in dict.fromkeys(names)]

    async def _until_in_sync(self) -> None:
        deadline = time.monotonic() + _IN_SYNC_TIMEOUT_S
        while not await asyncio.to_thread(self._deployment.all_in_sync):
            if time.monotonic() > deadline:
                raise TimeoutError(f"replicas were not in sync within {_IN_SYNC_TIMEOUT_S} s")
            await asyncio.sleep(0.5)
