"""The doors that bad input comes through, and what is seen of it afterwards."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
from aiokafka import AIOKafkaProducer

from consent.partitioning import partition_of
from projections.clickhouse_async import AsyncStore
from tests.api import ask, event, publish
from tests.ledger import PARTITIONS, Ledger

LIVE = {"call_mode": "LIVE", "dial_mode": "MANUAL"}
"""A call that needs no consent: denied only by an opt-out."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record is."""

    topic: str
    partition: int
    offset: int


class Doors:
    """Both ways in, and both ways to see what became of it."""

    def __init__(self, client: httpx.AsyncClient, ledger: Ledger, store: AsyncStore) -> None:
        self.client = client
        self._ledger = ledger
        self._store = store
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> None:
        """Connect a producer that adds nothing of its own."""
        bootstrap = self._ledger.broker.bootstrap
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=4 << 20)
        await self._producer.start()

    async def close(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    @property
    def broker_kind(self) -> str:
        """Which broker this is."""
        return self._ledger.broker.kind

    async def http(self, document: Any) -> dict[str, Any]:
        """Send one document over HTTP; its result, once projected if it was taken."""
        answer = await self.client.post("/v1/events?wait=projected", json=document)
        assert answer.status_code in (200, 422), answer.text
        result: dict[str, Any] = answer.json()["results"][0]
        return result

    async def raw(
        self, key: bytes | None, value: bytes | None, topic: str = "consent-events", **at: int
    ) -> Place:
        """Write a record to the log as it is."""
        assert self._producer is not None
        partition = at.get("partition", partition_of(key or b"", PARTITIONS))
        sent = await self._producer.send_and_wait(topic, value, key, partition)
        return Place(topic, partition, sent.offset)

    async def settled(self, *numbers: str) -> None:
        """Return once all that is in the log of these numbers is in what dialers are told."""
        markers = [event("ConsentRefused", number, test=True) for number in numbers]
        await publish(self.client, *markers)

    async def verdict(self, number: str, **fields: Any) -> str:
        """Verdict and reason of a call that a grant would permit."""
        answer = await ask(self.client, number, **fields)
        reason = answer["reason"]
        return str(answer["verdict"] if reason is None else reason["code"])

    async def until_denied(self, number: str) -> str:
        """The reason why a call that needs no consent is denied, once it is."""
        async with asyncio.timeout(30):
            while (reason := await self.verdict(number, **LIVE)) == "allow":
                await asyncio.sleep(0.05)
        return reason

    async def dead_letter(self, place: Place) -> str:
        """Reason of the dead letter of a record, once history has it."""
        query = (
            "SELECT reason FROM dead_letters WHERE topic = {topic:String}"
            " AND partition = {partition:Int32} AND offset = {offset:Int64}"
        )
        return str(await self._found(query, place))

    async def fact(self, place: Place) -> str:
        """Reason for which a record is an unreadable fact, empty for a readable one."""
        query = (
            "SELECT unreadable FROM facts WHERE topic = {topic:String}"
            " AND partition = {partition:Int32} AND offset = {offset:Int64}"
        )
        return str(await self._found(query, place))

    async def _found(self, query: str, place: Place) -> Any:
        parameters = {name: getattr(place, name) for name in Place.__slots__}
        async with asyncio.timeout(60):
            while not (rows := await self._store.query_rows(query, parameters)):
                await asyncio.sleep(0.1)
        assert len(rows) == 1
        return rows[0][0]
