"""A client of the HTTP API, for the commands of this product.

Owns addresses, the key, time-outs and what an answer that is no success means. Retries nothing by
itself; who calls knows whether to. Numbers travel in bodies only.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import httpx

from consent.accesses import REASON_FIELD
from consent.errors import ConsentError, Retryable

_RETRY_AFTER_S: Final = 1.0


class ApiUnavailable(Retryable):
    """No answer, or one that asks to come again after `retry_after_s`."""

    def __init__(self, detail: str, retry_after_s: float = _RETRY_AFTER_S) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
        self.results: list[dict[str, Any]] = []


class ApiRefused(ConsentError):
    """An answer that will not change by asking again. `problem` is the problem document."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        errors = problem.get("errors") or []
        lines = [f"{problem.get('title', 'refused')} (HTTP {status}): {problem.get('detail', '')}"]
        lines += [
            " ".join(str(error[name]) for name in ("field", "reason", "remedy") if error.get(name))
            for error in errors
        ]
        super().__init__("\n".join(lines))
        self.status = status
        self.problem = problem


@dataclass(frozen=True, slots=True)
class ApiAddress:
    """Where `serve` is, the key to send, and how long to wait for an answer."""

    url: str
    key: str | None = field(default=None, repr=False)
    connect_timeout_ms: int = 5_000
    answer_timeout_ms: int = 60_000


class ApiClient:
    """An open client; use it as an async context manager."""

    def __init__(self, address: ApiAddress) -> None:
        headers = {} if address.key is None else {"Authorization": f"Bearer {address.key}"}
        timeout = httpx.Timeout(
            address.answer_timeout_ms / 1000, connect=address.connect_timeout_ms / 1000
        )
        self._url = address.url
        self._http = httpx.AsyncClient(base_url=address.url, headers=headers, timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def publish(
        self, documents: Sequence[Mapping[str, Any]], wait: str | None = None
    ) -> list[dict[str, Any]]:
        """One result per document, in order, rejected ones included.

        ApiUnavailable if some are not known to be accepted; its `results` say which are.
        """
        query = "" if wait is None else f"?wait={wait}"
        answer = await self._post(f"/v1/events{query}", list(documents))
        if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
            results: list[dict[str, Any]] = answer.json().get("results", [])
            if len(results) == len(documents):
                return results
        return list(_content(answer)["results"])

    async def check(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one check."""
        return _content(await self._post("/v1/calls/check", dict(request)))

    async def timeline(self, request: Mapping[str, Any], why: str | None = None) -> dict[str, Any]:
        """One page of a timeline; `why` it is looked at is kept by the ledger."""
        return _content(await self._post("/v1/audit/timeline", dict(request), why))

    async def erase(self, request: Mapping[str, Any], why: str | None = None) -> dict[str, Any]:
        """What became of an erasure."""
        return _content(await self._post("/v1/privacy/erasures", dict(request), why))

    async def access(self, request: Mapping[str, Any], why: str | None = None) -> dict[str, Any]:
        """All that is held on a person."""
        return _content(await self._post("/v1/privacy/access", dict(request), why))

    async def scrub(
        self, call: Mapping[str, Any], numbers: AsyncIterator[bytes], why: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """The lines of the answer about a list, which comes as bytes of one number a line.

        The last line is the run's. ApiUnavailable if the answer ends before it.
        """

        async def body() -> AsyncIterator[bytes]:
            yield json.dumps(dict(call)).encode() + b"\n"
            async for part in numbers:
                yield part

        headers = {} if why is None else {REASON_FIELD.encode(): why.encode()}
        try:
            async with self._http.stream(
                "POST", "/v1/scrub", content=body(), headers=headers
            ) as answer:
                if not answer.is_success:
                    await answer.aread()
                    _content(answer)
                async for line in answer.aiter_lines():
                    yield json.loads(line)
        except httpx.TransportError as problem:
            detail = f"no answer from {self._url} ({type(problem).__name__})"
            raise ApiUnavailable(detail) from problem

    async def _post(self, path: str, body: Any, why: str | None = None) -> httpx.Response:
        headers = {} if why is None else {REASON_FIELD.encode(): why.encode()}
        try:
            return await self._http.post(path, json=body, headers=headers)
        except httpx.TransportError as problem:
            detail = f"no answer from {self._url} ({type(problem).__name__})"
            raise ApiUnavailable(detail) from problem


def _content(answer: httpx.Response) -> dict[str, Any]:
    content = _json(answer)
    if answer.is_success:
        return content
    if answer.status_code in (429, 502, 503, 504):
        detail = content.get("detail") or f"HTTP {answer.status_code}"
        unavailable = ApiUnavailable(str(detail), _retry_after_s(answer))
        unavailable.results = list(content.get("results", []))
        raise unavailable
    raise ApiRefused(answer.status_code, content)


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {"title": "no JSON", "detail": ""}


def _retry_after_s(answer: httpx.Response) -> float:
    try:
        return min(60.0, float(answer.headers.get("Retry-After", _RETRY_AFTER_S)))
    except ValueError:
        return _RETRY_AFTER_S
