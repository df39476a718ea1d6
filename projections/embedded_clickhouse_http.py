"""ClickHouse's HTTP protocol as an ASGI application over the engine in this process.

Owns paths, admission and the life of one request on the event loop; reading a request, running it
and shaping its answer are its neighbours' work. Reads and changes queue apart, so that inserts
can't keep a read waiting, and a full queue says so at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from projections.embedded_clickhouse_engine import Engine
from projections.embedded_clickhouse_reply import Reply, ReplyLimits, ReplyShape, start_message
from projections.embedded_clickhouse_request import (
    Credentials,
    HttpRequest,
    QueryRequest,
    RequestLimits,
    authenticate,
    understand,
    url_parameters,
)
from projections.embedded_clickhouse_run import Runner
from projections.embedded_clickhouse_sql import seems_to_read
from projections.embedded_clickhouse_wire import ClickHouseError, http_status

log = structlog.get_logger(__name__)

_CANCEL_AGAIN_S = 0.25
_CROSS_SITE = ("same-origin", "same-site", "cross-site")
_OVERLOADED = (202, "TOO_MANY_SIMULTANEOUS_QUERIES")


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How much may run and wait at once: statements, milliseconds, bytes of request bodies."""

    reads_max: int = 8
    changes_max: int = 4
    waiting_max: int = 256
    wait_timeout_ms: int = 30_000
    bodies_bytes_max: int = 1024**3


@dataclass(frozen=True, slots=True)
class FrontLimits:
    """All limits of the application."""

    admission: AdmissionLimits = field(default_factory=AdmissionLimits)
    request: RequestLimits = field(default_factory=RequestLimits)
    reply: ReplyLimits = field(default_factory=ReplyLimits)


class _Lane:
    """Statements of one sort: so many run, so many wait, each for so long."""

    def __init__(self, name: str, running_max: int, limits: AdmissionLimits) -> None:
        self.name = name
        self.executor = ThreadPoolExecutor(running_max, thread_name_prefix=f"clickhouse-{name}")
        self._limits = limits
        self._free = asyncio.Semaphore(running_max)
        self._waiting = 0

    @contextlib.asynccontextmanager
    async def admitted(self) -> Any:
        """Hold a place; raises ClickHouseError 202 when none comes free in time."""
        if self._waiting >= self._limits.waiting_max:
            raise ClickHouseError(*_OVERLOADED, f"Too many {self.name} are waiting")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._limits.wait_timeout_ms / 1000):
                await self._free.acquire()
        except TimeoutError:
            raise ClickHouseError(
                *_OVERLOADED, f"Too many {self.name} are running; waited in vain"
            ) from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()


class Front:
    """The ASGI application. Serve it from one event loop; `close` it when that has ended."""

    def __init__(
        self,
        engine: Engine,
        runner: Runner,
        credentials: Credentials,
        limits: FrontLimits,
        spool_directory: Path,
    ) -> None:
        self._engine = engine
        self._runner = runner
        self._credentials = credentials
        self._limits = limits
        self._spool_directory = spool_directory
        self._server_name = socket.gethostname()
        self._bodies_bytes = 0
        admission = limits.admission
        self._reads = _Lane("reads", admission.reads_max, admission)
        self._changes = _Lane("changes", admission.changes_max, admission)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        path = scope["path"]
        try:
            _refuse_browsers(headers)
            if path in ("/ping", "/replicas_status") or (path == "/" and _is_greeting(scope)):
                await _send_text(send, 200, "Ok.\n", {})
            elif path != "/":
                await _send_text(send, 404, f"There is no handle {path}\n", {})
            elif scope["method"] not in ("GET", "HEAD", "POST", "PUT"):
                raise ClickHouseError(48, "NOT_IMPLEMENTED", "Use GET or POST")
            else:
                await self._query(scope, headers, receive, send)
        except ClickHouseError as error:
            await self._send_error(send, error)

    async def end_statements(self, grace_ms: int) -> None:
        """Give what runs so much time, then cancel it; each client gets its error."""
        await asyncio.sleep(grace_ms / 1000)
        await asyncio.to_thread(self._runner.cancel_all)

    def close(self) -> None:
        """Wait for the workers' threads to end."""
        for lane in (self._reads, self._changes):
            lane.executor.shutdown(wait=True, cancel_futures=True)

    async def _query(self, scope: Any, headers: dict[str, str], receive: Any, send: Any) -> None:
        query_string: bytes = scope["query_string"]
        parameters = url_parameters(query_string)
        authenticate(headers, parameters, self._credentials)
        async with self._body(receive, headers) as body:
            if body is None:
                return
            http = HttpRequest(scope["method"], query_string, headers, body)
            packed = "content-encoding" in headers
            head = parameters.get("query", "").encode("utf-8", "surrogateescape")
            reads = seems_to_read(head, b"" if packed else body)
            lane = self._reads if reads else self._changes
            async with lane.admitted():
                request = await self._understood(lane, http)
                del body, http
                await self._answer(lane, request, receive, send)

    async def _understood(self, lane: _Lane, http: HttpRequest) -> QueryRequest:
        limits = self._limits.request
        copies = "content-encoding" in http.headers or "multipart" in http.headers.get(
            "content-type", ""
        )
        if not copies:
            return understand(http, limits)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(lane.executor, understand, http, limits)

    async def _answer(self, lane: _Lane, request: QueryRequest, receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()
        reply = Reply(
            loop,
            ReplyShape(
                query_id=request.query_id,
                encoding=request.encoding,
                hold=request.hold,
                version=self._engine.version,
                timezone=self._engine.timezone,
                server_name=self._server_name,
                spool_directory=self._spool_directory,
            ),
            self._limits.reply,
        )
        worker = loop.run_in_executor(lane.executor, self._run, request, reply)
        sender = asyncio.create_task(reply.send_to(send))
        reads = lane is self._reads
        watcher = asyncio.create_task(self._watch(receive, request, reply, sender, reads))
        try:
            await asyncio.shield(worker)
            await asyncio.wait([sender])
        except asyncio.CancelledError:
            # The server stops: the place in the lane is held until the thread is really free.
            reply.abandon()
            await asyncio.to_thread(self._runner.cancel, request)
            await worker
            raise
        finally:
            watcher.cancel()
            sender.cancel()

    def _run(self, request: QueryRequest, reply: Reply) -> None:
        try:
            self._runner.run(request, reply)
        except Exception as bug:
            # The edge of a worker: whatever happened, the client must get an answer.
            log.exception("embedded_clickhouse_bug", query_id=request.query_id)
            reply.fail(ClickHouseError(1002, "UNKNOWN_EXCEPTION", type(bug).__name__))

    async def _watch(
        self,
        receive: Any,
        request: QueryRequest,
        reply: Reply,
        sender: asyncio.Task[None],
        reads: bool,
    ) -> None:
        """Notice a client that goes away; its read is cancelled if it asked for that.

        A change goes on to its end, as on a server: who asked for it will ask again.
        """
        while (await receive())["type"] != "http.disconnect":
            pass
        reply.abandon()
        sender.cancel()
        # Again and again until it has ended: it may not have begun yet.
        while reads and request.cancel_when_gone:
            await asyncio.to_thread(self._runner.cancel, request)
            await asyncio.sleep(_CANCEL_AGAIN_S)

    @contextlib.asynccontextmanager
    async def _body(self, receive: Any, headers: dict[str, str]) -> Any:
        """The whole body, within the limits; None when the client went away before its end."""
        limits = self._limits
        _refuse_large(int(headers.get("content-length", "0") or 0), limits.request.body_bytes_max)
        pieces: list[bytes] = []
        size = 0
        try:
            try:
                async with asyncio.timeout(limits.request.body_timeout_ms / 1000):
                    while True:
                        message = await receive()
                        if message["type"] == "http.disconnect":
                            yield None
                            return
                        piece = message.get("body", b"")
                        pieces.append(piece)
                        size += len(piece)
                        self._bodies_bytes += len(piece)
                        _refuse_large(size, limits.request.body_bytes_max)
                        if self._bodies_bytes > limits.admission.bodies_bytes_max:
                            raise ClickHouseError(*_OVERLOADED, "Too many request bodies at once")
                        if not message.get("more_body", False):
                            break
            except TimeoutError:
                raise ClickHouseError(
                    209, "SOCKET_TIMEOUT", "The request's body did not arrive in time"
                ) from None
            whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            yield whole
        finally:
            self._bodies_bytes -= size

    async def _send_error(self, send: Any, error: ClickHouseError) -> None:
        headers = {"X-ClickHouse-Exception-Code": str(error.code), "Connection": "close"}
        await _send_text(send, http_status(error), error.text(self._engine.version), headers)


def _refuse_browsers(headers: dict[str, str]) -> None:
    """A page in a browser must not reach a database on the same machine; clients send no origin."""
    if "origin" in headers or headers.get("sec-fetch-site", "none") in _CROSS_SITE:
        raise ClickHouseError(497, "ACCESS_DENIED", "Requests from web pages are not accepted")


def _is_greeting(scope: Any) -> bool:
    return scope["method"] in ("GET", "HEAD") and not scope["query_string"]


def _refuse_large(size: int, bytes_max: int) -> None:
    if size > bytes_max:
        raise ClickHouseError(229, "QUERY_IS_TOO_LARGE", f"Request body is over {bytes_max} bytes")


async def _send_text(
    send: Callable[..., Any], status: int, text: str, headers: dict[str, str]
) -> None:
    body = text.encode("utf-8", "replace")
    fixed = {"Content-Type": "text/plain; charset=UTF-8", "Content-Length": str(len(body))}
    await send(start_message(status, fixed | headers))
    await send({"type": "http.response.body", "body": body, "more_body": False})
