"""The client of the schema registry, against a server that implements the published interface."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from consent.contracts import RecordContract, packaged_contracts
from consent.errors import Rejected
from consent_ledger.adapters.schema_registry import (
    RegistryConnection,
    RegistryUnreachable,
    SchemaRegistry,
    same_meaning,
)
from tests.contract.registry_server import PASSWORD, USER, Registry, registry_server

RECORDS = packaged_contracts().records
GRANTED = packaged_contracts().record("ConsentGranted")


@pytest.fixture
def server() -> Iterator[Registry]:
    """An empty registry."""
    with registry_server() as registry:
        yield registry


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


def client(server: Registry, clock: Clock | None = None, **settings: Any) -> SchemaRegistry:
    connection = RegistryConnection(url=server.url, **{"backoff_ms": 1, **settings})
    if clock is None:
        return SchemaRegistry(connection)
    return SchemaRegistry(connection, sleep=clock.sleep, monotonic=clock.monotonic)


def altered(record: RecordContract, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(json.dumps(record.schema))
    change(schema)
    return schema


async def test_every_schema_is_registered_under_its_subject(server: Registry) -> None:
    """Each record gets an id of its own, under TopicRecordName, with FULL_TRANSITIVE."""
    async with client(server) as registry:
        ids = await registry.register_all(RECORDS)
    assert set(ids) == {(record.subject, record.version) for record in RECORDS}
    assert len(set(ids.values())) == len(RECORDS)
    assert set(server.versions) == {f"{r.topic}-ledger.consent.{r.name}" for r in RECORDS}
    assert set(server.levels.values()) == {"FULL_TRANSITIVE"}


async def test_registering_twice_changes_nothing(server: Registry) -> None:
    """A second `topics apply` gets the same ids and adds no version."""
    async with client(server) as registry:
        first = await registry.register_all(RECORDS)
        held = json.dumps(server.versions)
        assert await registry.register_all(RECORDS) == first
    assert json.dumps(server.versions) == held


async def test_ids_are_resolved_as_they_were_registered(server: Registry) -> None:
    """A process that only asks learns the ids that registering gave, and writes nothing."""
    async with client(server) as registry:
        given = await registry.register_all(RECORDS)
        server.requests.clear()
        assert await registry.resolve_ids(RECORDS) == given
    assert {method for method, _path in server.requests} == {"POST"}
    assert not any(path.endswith("/versions") for _method, path in server.requests)


async def test_a_schema_that_is_not_registered_is_refused(server: Registry) -> None:
    """Resolving names the subject that the registry lacks, and what to run."""
    async with client(server) as registry:
        await registry.register_all([GRANTED])
        with pytest.raises(Rejected) as refused:
            await registry.resolve_ids(RECORDS)
    assert refused.value.reason == "SCHEMA_NOT_REGISTERED"
    assert refused.value.field == "consent-events-ledger.consent.ConsentWithdrawn"
    assert "topics apply" in refused.value.remedy


async def test_another_schema_under_the_subject_is_not_ours(server: Registry) -> None:
    """A subject that holds only a different schema does not resolve."""
    other = replace(GRANTED, schema=altered(GRANTED, lambda s: s["fields"].pop(7)))
    async with client(server) as registry:
        await registry.register_all([other])
        with pytest.raises(Rejected, match="SCHEMA_NOT_REGISTERED"):
            await registry.resolve_ids([GRANTED])


async def test_an_incompatible_schema_is_refused(server: Registry) -> None:
    """What the registry calls incompatible is not registered, and its answer is passed on."""
    required = {"name": "x", "type": "string"}
    other = replace(GRANTED, schema=altered(GRANTED, lambda s: s["fields"].append(required)))
    async with client(server) as registry:
        await registry.register_all([GRANTED])
        with pytest.raises(Rejected) as refused:
            await registry.register_all([other])
    assert refused.value.reason == "INCOMPATIBLE_SCHEMA"
    assert "incompatible" in refused.value.value_shown


async def test_an_invalid_schema_is_refused(server: Registry) -> None:
    """What the registry calls invalid is refused."""
    broken = replace(GRANTED, schema={"type": "nonsense"})
    async with client(server) as registry:
        with pytest.raises(Rejected, match="REFUSED_SCHEMA"):
            await registry.register_all([broken])


async def test_the_password_is_sent_and_needed(server: Registry) -> None:
    """With basic authentication the right password is let in; none or a wrong one is refused."""
    server.needs_password = True
    async with client(server, username=USER, password=PASSWORD) as registry:
        await registry.register_all([GRANTED])
    for credentials in ({}, {"username": USER, "password": "wrong"}):
        async with client(server, **credentials) as registry:
            with pytest.raises(Rejected, match="UNAUTHENTICATED"):
                await registry.resolve_ids([GRANTED])


def test_the_password_is_not_shown() -> None:
    """Printing the connection does not print its password."""
    connection = RegistryConnection("http://registry", "ledger", "s3cret")
    assert "s3cret" not in repr(connection)


async def test_a_passing_failure_is_tried_again(server: Registry) -> None:
    """A few failures are waited out, longer each time up to the limit."""
    clock = Clock()
    server.failures_left = 4
    settings = {"backoff_ms": 100, "backoff_max_ms": 300, "attempts_max": 5}
    async with client(server, clock, **settings) as registry:
        assert await registry.register_all([GRANTED])
    assert clock.slept == [0.1, 0.2, 0.3, 0.3]


async def test_a_lasting_failure_is_retryable(server: Registry) -> None:
    """A registry that keeps failing is unreachable; the last answer is told."""
    clock = Clock()
    server.failures_left = 100
    async with client(server, clock, attempts_max=3) as registry:
        with pytest.raises(RegistryUnreachable, match=r"failed 3 times.*forwarding failed"):
            await registry.resolve_ids([GRANTED])
    assert len(server.requests) == 3


async def test_a_registry_that_is_not_there_is_retryable(server: Registry) -> None:
    """A refused connection is unreachable, not an unknown schema."""
    connection = RegistryConnection("http://127.0.0.1:1", attempts_max=2, backoff_ms=1)
    async with SchemaRegistry(connection) as registry:
        with pytest.raises(RegistryUnreachable):
            await registry.schema_of(1)


@pytest.mark.parametrize("status", [200, 502])
async def test_an_answer_that_is_not_json_is_retryable(server: Registry, status: int) -> None:
    """A proxy's page is never taken for an answer about a schema."""
    server.failures_left, server.failure_status = 100, status
    server.failure_body = b"<html>bad gateway</html>"
    async with client(server, Clock(), attempts_max=2) as registry:
        with pytest.raises(RegistryUnreachable):
            await registry.schema_of(1)


async def test_a_known_id_is_asked_for_once(server: Registry) -> None:
    """An id never changes its schema, so it is kept."""
    async with client(server) as registry:
        ids = await registry.register_all([GRANTED])
        server.requests.clear()
        schema_id = ids[GRANTED.subject, 1]
        texts = {await registry.schema_of(schema_id) for _ in range(5)}
    assert len(texts) == len(server.requests) == 1


async def test_an_unknown_id_is_asked_for_again_later(server: Registry) -> None:
    """An id that is not there yet is not asked for with every record, but may come."""
    clock = Clock()
    async with client(server, clock, unknown_retry_ms=30_000) as registry:
        assert await registry.schema_of(100_001) is None
        assert await registry.schema_of(100_001) is None
        assert len(server.requests) == 1
        await registry.register_all([GRANTED])
        clock.now += 29
        assert await registry.schema_of(100_001) is None
        clock.now += 2
        assert await registry.schema_of(100_001) is not None


async def test_the_cache_is_bounded(server: Registry) -> None:
    """A publisher that sends ever new ids can't fill the memory."""
    async with client(server, cache_entries_max=2) as registry:
        for schema_id in range(5):
            await registry.schema_of(schema_id)
        server.requests.clear()
        for schema_id in (4, 3):
            await registry.schema_of(schema_id)
        assert server.requests == []
        await registry.schema_of(0)
        assert len(server.requests) == 1


async def test_an_id_in_use_stays_in_the_cache(server: Registry) -> None:
    """When the cache is full, the id that was used longest ago makes room."""
    names = ("ConsentGranted", "ConsentWithdrawn", "ConsentRefused")
    records = [packaged_contracts().record(name) for name in names]
    async with client(server, cache_entries_max=2) as registry:
        granted, withdrawn, refused = sorted((await registry.register_all(records)).values())
        for schema_id in (granted, withdrawn, granted, refused):
            await registry.schema_of(schema_id)
        server.requests.clear()
        await registry.schema_of(granted)
        assert server.requests == []


async def test_an_unreachable_registry_leaves_the_id_open(server: Registry) -> None:
    """A failure while asking is not remembered as an unknown id."""
    async with client(server, Clock(), attempts_max=1) as registry:
        await registry.register_all([GRANTED])
        server.failures_left = 1
        with pytest.raises(RegistryUnreachable):
            await registry.schema_of(100_001)
        assert await registry.schema_of(100_001) is not None


async def test_our_record_is_known_under_another_registration(server: Registry) -> None:
    """Our schema without its docs is ours; a different one, or none, is nobody's."""
    bare = replace(GRANTED, schema=_without_docs(GRANTED.schema), subject="elsewhere")
    millis = {"type": "long", "logicalType": "timestamp-millis"}
    other_unit = altered(GRANTED, lambda s: s["fields"][1].update(type=millis))
    stranger = replace(GRANTED, schema=other_unit, subject="stranger")
    async with client(server) as registry:
        ids = await registry.register_all([bare, stranger])
        assert await registry.record_of(ids["elsewhere", 1], RECORDS) is GRANTED
        assert await registry.record_of(ids["stranger", 1], RECORDS) is None
        assert await registry.record_of(5, RECORDS) is None


def test_a_unit_is_part_of_the_meaning() -> None:
    """Schemas that differ in a unit write the same bytes and do not mean the same."""
    micros = {"type": "long", "logicalType": "timestamp-micros"}
    assert same_meaning({**micros, "doc": "When."}, micros)
    assert not same_meaning({**micros, "logicalType": "timestamp-millis"}, micros)
    assert not same_meaning("long", micros)


def _without_docs(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_docs(part) for part in schema]
    if isinstance(schema, dict):
        return {key: _without_docs(part) for key, part in schema.items() if key != "doc"}
    return schema
