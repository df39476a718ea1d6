"""Client of a schema registry that speaks Confluent's REST interface.

Registers the packaged schemas and learns the ids that the registry gave them. It never takes a
schema from a registry into use: what this release reads and writes is packaged with it, and an id
that it can't match to a packaged schema stays unknown.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import httpx
from fastavro.schema import to_parsing_canonical_form

from consent.contracts import RecordContract
from consent.errors import Rejected, Retryable

COMPATIBILITY: Final = "FULL_TRANSITIVE"
MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"

_NOT_FOUND = 404
_REFUSED = {
    401: ("UNAUTHENTICATED", "Check the registry's user name and password."),
    403: ("FORBIDDEN", "Let this user read and, for `topics apply`, write the subjects."),
    409: ("INCOMPATIBLE_SCHEMA", "Another version of this subject contradicts it; look there."),
    422: ("REFUSED_SCHEMA", "The registry calls it invalid; its answer says why."),
}

SchemaIds = dict[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class RegistryConnection:
    """Where the registry is, and how patiently it is asked.

    A passing failure is tried `attempts_max` times, waiting `backoff_ms`, then twice that, up to
    `backoff_max_ms`. An id found unknown is asked for again after `unknown_retry_ms`.
    """

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout_ms: int = 5_000
    attempts_max: int = 6
    backoff_ms: int = 100
    backoff_max_ms: int = 5_000
    cache_entries_max: int = 1_000
    unknown_retry_ms: int = 30_000


class RegistryUnreachable(Retryable):
    """The registry did not answer, or not properly, as often as it was asked."""


class SchemaRegistry:
    """One registry. Use as `async with`; calls may run concurrently on one event loop."""

    def __init__(
        self,
        connection: RegistryConnection,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._sleep = sleep
        self._monotonic = monotonic
        self._known: OrderedDict[int, str] = OrderedDict()
        self._unknown_until: OrderedDict[int, float] = OrderedDict()
        auth = None
        if connection.username is not None:
            auth = httpx.BasicAuth(connection.username, connection.password or "")
        self._client = httpx.AsyncClient(
            base_url=connection.url.rstrip("/"),
            auth=auth,
            timeout=connection.timeout_ms / 1000,
            headers={"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE},
        )

    async def __aenter__(self) -> SchemaRegistry:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def register_all(self, records: Sequence[RecordContract]) -> SchemaIds:
        """Register every schema, oldest version first; harmless to repeat.

        Each subject is set to FULL_TRANSITIVE before its first version, so that the registry holds
        other publishers to it too. Answers the ids by (subject, version), for
        `consent.contracts.adopt_schema_ids`. Rejected if the registry refuses a schema.
        """
        ids: SchemaIds = {}
        for record in sorted(records, key=lambda record: (record.subject, record.version)):
            subject = quote(record.subject, safe="")
            await self._call("PUT", f"/config/{subject}", {"compatibility": COMPATIBILITY})
            answer = await self._call(
                "POST", f"/subjects/{subject}/versions", _schema_document(record)
            )
            ids[record.subject, record.version] = int(answer["id"])
        return ids

    async def resolve_ids(self, records: Sequence[RecordContract]) -> SchemaIds:
        """Ids of schemas that were registered before; changes nothing.

        Rejected, naming the subject, if the registry does not hold exactly this schema.
        """
        ids: SchemaIds = {}
        for record in records:
            subject = quote(record.subject, safe="")
            answer = await self._found("POST", f"/subjects/{subject}", _schema_document(record))
            if answer is None:
                remedy = "Run `consent-ledger topics apply` with this release."
                shown = f"version {record.version}"
                raise Rejected("SCHEMA_NOT_REGISTERED", record.subject, shown, remedy)
            ids[record.subject, record.version] = int(answer["id"])
        return ids

    async def schema_of(self, schema_id: int) -> str | None:
        """The Avro schema that an id names, as JSON text, or None if the registry has none.

        Known ids are kept, they never change; an unknown one is asked for again only after a
        while. RegistryUnreachable leaves it open: then nothing may be decoded by a guess.
        """
        known = self._known.get(schema_id)
        if known is not None:
            self._known.move_to_end(schema_id)
            return known
        if self._monotonic() < self._unknown_until.get(schema_id, 0.0):
            return None
        answer = await self._found("GET", f"/schemas/ids/{schema_id}")
        if answer is None:
            until = self._monotonic() + self._connection.unknown_retry_ms / 1000
            self._keep(self._unknown_until, schema_id, until)
            return None
        self._unknown_until.pop(schema_id, None)
        self._keep(self._known, schema_id, str(answer["schema"]))
        return self._known[schema_id]

    async def record_of(
        self, schema_id: int, records: Sequence[RecordContract]
    ) -> RecordContract | None:
        """The packaged record that an id names under another registration, or None.

        A publisher may have registered our schema without its docs, which gives it an id of its
        own. Anything else, a newer version too, is None: this release can't say what it means.
        """
        text = await self.schema_of(schema_id)
        if text is None:
            return None
        try:
            schema = json.loads(text)
            return next((record for record in records if same_meaning(schema, record.schema)), None)
        except (ValueError, TypeError, KeyError):
            return None

    def _keep(self, cache: OrderedDict[int, Any], schema_id: int, value: object) -> None:
        cache[schema_id] = value
        while len(cache) > self._connection.cache_entries_max:
            cache.popitem(last=False)

    async def _call(self, method: str, path: str, body: object = None) -> Any:
        answer = await self._found(method, path, body)
        if answer is None:
            remedy = "Is this the address of a schema registry?"
            raise Rejected("NO_SUCH_RESOURCE", path, self._connection.url, remedy)
        return answer

    async def _found(self, method: str, path: str, body: object = None) -> Any:
        """The answer's document, or None for 404."""
        problem = ""
        for attempt in range(self._connection.attempts_max):
            if attempt:
                await self._sleep(self._backoff_s(attempt))
            try:
                response = await self._client.request(method, path, json=body)
            except httpx.TransportError as failure:
                problem = f"{type(failure).__name__}: {failure}"
                continue
            if response.is_success:
                return _document(response)
            if response.status_code == _NOT_FOUND:
                return None
            if response.status_code in _REFUSED:
                reason, remedy = _REFUSED[response.status_code]
                raise Rejected(reason, path, _message(response), remedy)
            problem = f"HTTP {response.status_code}: {_message(response)}"
        attempts = self._connection.attempts_max
        raise RegistryUnreachable(
            f"{method} {self._connection.url}{path} failed {attempts} times, last: {problem}"
        )

    def _backoff_s(self, attempt: int) -> float:
        wait_ms = self._connection.backoff_ms * (1 << (attempt - 1))
        return min(wait_ms, self._connection.backoff_max_ms) / 1000


def same_meaning(one: Any, other: Any) -> bool:
    """True if two schemas read and write the same bytes and mean the same by them.

    Docs and defaults may differ. Units may not: the parsing canonical form alone would take
    milliseconds for microseconds.
    """
    if list(_logical_types(one)) != list(_logical_types(other)):
        return False
    return to_parsing_canonical_form(one) == to_parsing_canonical_form(other)


def _logical_types(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for branch in schema:
            yield from _logical_types(branch)
    elif isinstance(schema, dict):
        if "logicalType" in schema:
            yield str(schema["logicalType"])
        for key in ("type", "items", "fields"):
            yield from _logical_types(schema.get(key))


def _schema_document(record: RecordContract) -> Mapping[str, str]:
    text = json.dumps(record.schema, ensure_ascii=False, separators=(",", ":"))
    return {"schemaType": "AVRO", "schema": text}


def _document(response: httpx.Response) -> Any:
    try:
        return response.json()
    except json.JSONDecodeError as broken:
        raise RegistryUnreachable(f"{response.url}: the answer is not JSON") from broken


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json().get("message", ""))[:300]
    except (json.JSONDecodeError, AttributeError):
        return response.text[:300]
