"""Sends checks at a steady rate, whatever becomes of them, and says how long each answer took.

An open loop, in a process of its own: every request has an instant at which it is due, and its
latency counts from there, so that a stall of the server is paid by all who arrive during it.
Reads one line of JSON (`port`, `rate_per_s`, `warm_up_s`, `bodies`), prints one of JSON.
"""

from __future__ import annotations

import asyncio
import collections
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import httptools
import msgspec
import uvloop

CONNECTIONS = 64
_GIVE_UP_S = 30.0


class _Connection(asyncio.Protocol):
    """One connection kept alive; one request at a time."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._due = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._load.idle.append(self)
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""

    def ask(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        latency = time.monotonic() - self._due
        self._load.answered(self, latency, self._parser.get_status_code(), self._body)
        self._begin()


class _Load:
    def __init__(self, bodies: Sequence[dict[str, Any]], warm_up: int) -> None:
        self.idle: collections.deque[_Connection] = collections.deque()
        self._waiting: collections.deque[tuple[bytes, float]] = collections.deque()
        self._left = len(bodies)
        self._warm_up = warm_up
        self._requests = [_request(body) for body in bodies]
        self.latencies: list[float] = []
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.finished = asyncio.Event()

    async def run(self, rate_per_s: int) -> None:
        start = time.monotonic()
        for number, request in enumerate(self._requests):
            due = start + number / rate_per_s
            left = due - time.monotonic()
            if left > 0:
                await asyncio.sleep(left)
            if self.idle:
                self.idle.popleft().ask(request, due)
            else:
                self._waiting.append((request, due))
        await asyncio.wait_for(self.finished.wait(), _GIVE_UP_S)

    def answered(self, connection: _Connection, latency: float, status: int, body: bytes) -> None:
        if self._waiting:
            connection.ask(*self._waiting.popleft())
        else:
            self.idle.append(connection)
        self._warm_up -= 1
        if self._warm_up < 0:
            self.latencies.append(latency)
            answer = msgspec.json.decode(body)
            self.outcomes[answer["verdict"] if status == 200 else str(status)] += 1
        self._left -= 1
        if not self._left:
            self.finished.set()


def _request(body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = "POST /v1/calls/check HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def _main(task: dict[str, Any]) -> None:
    rate_per_s = task["rate_per_s"]
    load = _Load(task["bodies"], int(task["warm_up_s"] * rate_per_s))
    loop = asyncio.get_running_loop()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: _Connection(load), "127.0.0.1", task["port"])
    await load.run(rate_per_s)
    print(json.dumps({"latencies_s": load.latencies, "outcomes": dict(load.outcomes)}))


if __name__ == "__main__":
    uvloop.run(_main(json.loads(sys.stdin.readline())))
