"""One answer: written by a worker's thread, sent by the event loop, bounded in between.

Owns the choice between an honest status and a fast first byte. Up to a megabyte is kept back, so
that an error in it still gets its own HTTP status and the summary is complete; a request that
waits for the end of its query gets everything kept, on disk beyond a limit. After the first byte
an error can only end the body between marks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import string
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from projections.embedded_clickhouse_engine import Counts
from projections.embedded_clickhouse_wire import (
    ClickHouseError,
    Compressor,
    compressor,
    content_type,
    error_in_stream,
    http_status,
)

_TAG_LETTERS = 16
_PIECE_BYTES = 1024 * 1024


class ClientGone(Exception):
    """The client went away or stopped reading; whatever makes its answer can stop."""


@dataclass(frozen=True, slots=True)
class ReplyLimits:
    """Bounds of one answer, in bytes, pieces and milliseconds."""

    buffer_bytes: int = 1024 * 1024
    held_memory_bytes_max: int = 16 * 1024**2
    pieces_ahead_max: int = 4
    stalled_timeout_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class ReplyShape:
    """What is known of an answer before its query runs."""

    query_id: str
    encoding: str | None
    hold: bool
    version: str
    timezone: str
    server_name: str
    spool_directory: Path


class Reply:
    """The answer to one request.

    A worker calls `describe`, `write`, then `finish` or `fail`; the loop runs `send_to`, and
    `abandon` when the client is gone, after which `write` raises ClientGone.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, shape: ReplyShape, limits: ReplyLimits
    ) -> None:
        self._loop = loop
        self._shape = shape
        self._limits = limits
        self._messages: asyncio.Queue[list[dict[str, Any]]] = asyncio.Queue()
        self._room = threading.BoundedSemaphore(limits.pieces_ahead_max)
        self._gone = threading.Event()
        self._began_ns = time.monotonic_ns()
        self._compressor: Compressor | None = None
        self._held: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - outlives a block
            max_size=limits.held_memory_bytes_max, dir=str(shape.spool_directory)
        )
        self._held_bytes = 0
        self._started = False
        self._latest = b""
        self._tag = "".join(secrets.choice(string.ascii_lowercase) for _ in range(_TAG_LETTERS))
        self._headers: dict[str, str] = {}

    def describe(self, format_name: str | None, timezone: str | None) -> None:
        """Format of the result, None when there is none, and the zone of its times."""
        if format_name is not None:
            self._headers["X-ClickHouse-Format"] = format_name
            self._headers["Content-Type"] = content_type(format_name)
        self._headers["X-ClickHouse-Timezone"] = timezone or self._shape.timezone

    def write(self, data: bytes) -> None:
        """Add to the body; blocks while the client is slow."""
        if self._gone.is_set():
            raise ClientGone
        if self._shape.encoding is not None:
            if self._compressor is None:
                self._compressor = compressor(self._shape.encoding)
            data = self._compressor.compress(data)
        self._put(data)

    def finish(self, counts: Counts) -> None:
        """End of a good answer."""
        if self._compressor is not None:
            self._put(self._compressor.flush())
        self._headers["X-ClickHouse-Summary"] = self._summary(counts)
        self._end(200)

    def fail(self, error: ClickHouseError) -> None:
        """End of an answer that failed; never raises."""
        if self._started:
            tail = error_in_stream(error, self._shape.version, self._tag)
            if self._compressor is not None:
                tail = self._compressor.compress(tail) + self._compressor.flush()
            self._post([_body(self._latest + tail, more=False)])
            return
        self._held.close()
        self._headers.pop("X-ClickHouse-Format", None)
        self._headers["X-ClickHouse-Exception-Code"] = str(error.code)
        self._headers["Content-Type"] = "text/plain; charset=UTF-8"
        if error.name == "REQUIRED_PASSWORD":
            self._headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
        text = error.text(self._shape.version).encode("utf-8", "replace")
        self._headers["Content-Length"] = str(len(text))
        self._post([self._start(http_status(error), compressed=False), _body(text, more=False)])

    async def send_to(self, send: Any) -> None:
        """Send the answer as it comes; returns when it ended or the client stopped reading."""
        more = True
        while more:
            for message in await self._messages.get():
                try:
                    async with asyncio.timeout(self._limits.stalled_timeout_ms / 1000):
                        await send(message)
                except (TimeoutError, OSError):
                    self.abandon()
                    return
                if message["type"] == "http.response.body":
                    more = message["more_body"]
                    self._release()

    def abandon(self) -> None:
        """The client is gone; wakes a writer that waits for it."""
        self._gone.set()
        self._release()

    def _put(self, data: bytes) -> None:
        if not data:
            return
        if self._started:
            # One piece stays behind until the query has ended: a client that stops reading at the
            # last row must not find its session still in use.
            self._latest, piece = data, self._latest
            if piece:
                self._post_slowly(piece)
            return
        self._held.write(data)
        self._held_bytes += len(data)
        if not self._shape.hold and self._held_bytes >= self._limits.buffer_bytes:
            self._headers["X-ClickHouse-Summary"] = self._summary(Counts())
            self._headers["X-ClickHouse-Exception-Tag"] = self._tag
            self._post([self._start(200)])
            self._latest = self._pour_held()

    def _end(self, status: int) -> None:
        if self._started:
            self._post([_body(self._latest, more=False)])
            return
        self._headers["Content-Length"] = str(self._held_bytes)
        if self._held_bytes <= _PIECE_BYTES:
            self._held.seek(0)
            self._post([self._start(status), _body(self._held.read(), more=False)])
            self._held.close()
            return
        self._post([self._start(status)])
        self._post([_body(self._pour_held(), more=False)])

    def _pour_held(self) -> bytes:
        """Send what was held but for its last piece, which is returned."""
        self._held.seek(0)
        latest = b""
        while piece := self._held.read(_PIECE_BYTES):
            if latest:
                self._post_slowly(latest)
            latest = piece
        self._held.close()
        return latest

    def _post_slowly(self, data: bytes) -> None:
        if not self._room.acquire(timeout=self._limits.stalled_timeout_ms / 1000):
            self._gone.set()
        if self._gone.is_set():
            raise ClientGone
        self._post([_body(data, more=True)])

    def _release(self) -> None:
        with contextlib.suppress(ValueError):
            self._room.release()

    def _start(self, status: int, compressed: bool = True) -> dict[str, Any]:
        self._started = True
        shape = self._shape
        headers = {
            "Content-Type": "text/plain; charset=UTF-8",
            "X-ClickHouse-Query-Id": shape.query_id,
            "X-ClickHouse-Server-Display-Name": shape.server_name,
            **self._headers,
        }
        if compressed and self._compressor is not None and shape.encoding is not None:
            headers["Content-Encoding"] = shape.encoding
        return start_message(status, headers)

    def _summary(self, counts: Counts) -> str:
        numbers = {
            "read_rows": counts.read_rows,
            "read_bytes": counts.read_bytes,
            "written_rows": counts.written_rows,
            "written_bytes": counts.written_bytes,
            "total_rows_to_read": counts.read_rows,
            "result_rows": counts.result_rows,
            "result_bytes": counts.written_bytes or self._held_bytes,
            "elapsed_ns": time.monotonic_ns() - self._began_ns,
        }
        return json.dumps({name: str(number) for name, number in numbers.items()})

    def _post(self, messages: list[dict[str, Any]]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._messages.put_nowait, messages)
        except RuntimeError:
            # The loop ended while a query ran: nobody is left to answer.
            self._gone.set()


def start_message(status: int, headers: Mapping[str, str]) -> dict[str, Any]:
    """ASGI message that begins an answer; header values are kept within one line."""
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [
            (name.lower().encode(), _one_line(value).encode("latin-1", "replace"))
            for name, value in headers.items()
        ],
    }


def _one_line(value: str) -> str:
    return value.replace("\r", " ").replace("\n", " ")


def _body(data: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}
