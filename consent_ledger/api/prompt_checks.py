"""The short way to one check: `POST /v1/calls/check` without the web framework.

A dialer asks this before each call, and the framework would cost it more than the decision does.
The address is one of the framework's all the same: that describes it, and answers every request
with anything unusual about it. Both ways ask the same checker and answer alike.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from litestar import Litestar

from consent_ledger.api.authentication import principal_from
from consent_ledger.api.models import CheckAnswer, CheckRequest
from consent_ledger.api.problems import problem_message, problem_of

Scope = Any
Receive = Any
Send = Any

PATH: Final = "/v1/calls/check"
# A check has a few hundred bytes; what is larger is for the framework to judge.
_BODY_BYTES_MAX: Final = 16_384
_HEADERS_READ: Final = frozenset((b"host", b"authorization"))
# Any of these is unusual.
_HEADERS_UNUSUAL: Final = frozenset((b"content-encoding", b"transfer-encoding", b"expect"))


class PromptChecks:
    """ASGI wrapper around the framework's application."""

    def __init__(self, app: Litestar) -> None:
        self._app = app
        self._read = msgspec.json.Decoder(CheckRequest).decode
        self._write = msgspec.json.Encoder().encode

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a check; hand on what is none, or not plainly one."""
        headers = _headers(scope) if _is_check(scope) else None
        if headers is None:
            await self._app(scope, receive, send)
            return
        message = await receive()
        request = self._request(message)
        if request is None:
            await self._app(scope, _after(message, receive), send)
            return
        scope["path_template"] = PATH
        try:
            body = self._write(await self._answer(scope, headers, request))
            status, raw = 200, [(b"content-type", b"application/json"), _length(body)]
        except Exception as error:  # noqa: BLE001 - every error has an answer
            status, body, raw = problem_message(problem_of(error, PATH))
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    def _request(self, message: Any) -> CheckRequest | None:
        """The question; None if it is for the framework to say what is wrong with it."""
        if message["type"] != "http.request" or message.get("more_body"):
            return None
        try:
            return self._read(message["body"])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    async def _answer(
        self, scope: Scope, headers: dict[bytes, bytes], request: CheckRequest
    ) -> CheckAnswer:
        state = self._app.state
        client = scope.get("client")
        principal = principal_from(
            state.api_keys,
            None if client is None else client[0],
            _host_name(headers[b"host"]),
            headers.get(b"authorization", b"").decode("latin-1"),
        )
        state.rates.take(principal.name)
        principal.require("dialer")
        answer: CheckAnswer = await state.parts.checker.check(request, principal)
        return answer


def _is_check(scope: Scope) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] == "POST"
        and scope["path"] == PATH
        and not scope["query_string"]
    )


def _headers(scope: Scope) -> dict[bytes, bytes] | None:
    """Those that are read, None if there is anything unusual about the headers."""
    read: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _HEADERS_READ:
            if name in read:
                return None
            read[name] = value
        elif name in _HEADERS_UNUSUAL or (
            name == b"content-length" and int(value) > _BODY_BYTES_MAX
        ):
            return None
    return read if b"host" in read else None


@lru_cache(maxsize=1_024)
def _host_name(host: bytes) -> str:
    """Without the port; empty, which is no name of this machine, if it can't be read."""
    try:
        return urlsplit(f"//{host.decode('latin-1')}").hostname or ""
    except ValueError:
        return ""


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % len(body)


def _after(message: Any, receive: Receive) -> Receive:
    """Receives `message` first: it was taken already."""
    taken = [message]

    async def next_message() -> Any:
        return taken.pop() if taken else await receive()

    return next_message
