"""What the demo does to a running ledger, and what it looks at; shows nothing itself.

Works on any ledger that can be reached, empty or not: every event has an id of its own, and only
what this run published is counted.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from consent import codec
from consent.contracts import contracts
from consent.errors import ConsentError
from consent_ledger.bootstrap_brokers import broker_security
from consent_ledger.bootstrap_store import store_parameters
from consent_ledger.client import ApiClient, ApiUnavailable
from consent_ledger.sample import (
    HERO_ADVERTISING,
    HERO_CHECK,
    HERO_NUMBER,
    Document,
    Sample,
    hero_renewal,
    hero_withdrawal,
)
from consent_ledger.settings import Settings
from projections.clickhouse import Store

BATCH: Final = 1_000
DEADLINE_S: Final = 60.0
_POLL_S: Final = 0.05
_CHECK_GAP_S: Final = 0.005
_MALFORMED_TOPIC: Final = "consent-events"
_DECISIONS_TOPIC: Final = "dial-decisions"
_WHY: Final = "demonstration with fictional numbers"

Place = tuple[str, int, int]


class DemonstrationFailed(ConsentError):
    """The ledger did not do what it promises."""


@dataclass(slots=True)
class Published:
    """What became of the sample, counted by status.

    `recorded`: the answers came once history had the events, not only the broker.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    took_ms: int = 0
    recorded: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """A withdrawal, and how long until a call was denied; milliseconds since it was sent.

    `recorded`: its sender was answered once history had it, not only the broker.
    """

    after: dict[str, Any]
    recorded: bool
    accepted_after_ms: int
    denied_after_ms: int
    checks: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be read, as history has it."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class TopicCount:
    """Events of one topic: how many were published, how many of those are in history, and rows."""

    topic: str
    published: int
    recorded: int
    rows: int

    @property
    def equal(self) -> bool:
        """True if history has each once."""
        return self.published == self.recorded == self.rows


class Demonstration:
    """One run against the ledger that the settings name. Use it as an async context manager."""

    def __init__(self, settings: Settings, client: ApiClient) -> None:
        self._settings = settings
        self._client = client
        # A broker's clock may be behind this one; older rows than this run's do no harm.
        self._since = datetime.now(UTC) - timedelta(minutes=1)
        self._places: set[Place] = set()
        self._decisions: set[str] = set()

    async def publish(self, sample: Sample) -> Published:
        """Publish every document, in requests of BATCH at once; each result is counted.

        Which request arrives first does not matter: any order of events gives one state.
        """
        result, began = Published(), time.monotonic()
        starts = range(0, len(sample.documents), BATCH)
        requests = [self._send(sample.documents[start : start + BATCH]) for start in starts]
        for answers in await asyncio.gather(*requests):
            result.statuses.update(one["status"] for one in answers)
            result.recorded = any("recorded_at" in one for one in answers)
        result.took_ms = _ms_since(began)
        return result

    async def check(self) -> dict[str, Any]:
        """May the sample's hero be called now? A decision, which is recorded like any other."""
        return await self._ask(HERO_CHECK)

    async def check_advertising(self) -> dict[str, Any]:
        """And may it be advertised to now? That depends on the time of day where the hero is."""
        return await self._ask(HERO_ADVERTISING)

    async def _ask(self, check: Mapping[str, Any]) -> dict[str, Any]:
        answer = await self._client.check(check)
        self._decisions.add(answer["decision_id"])
        return answer

    async def await_verdict(self, verdict: str) -> dict[str, Any]:
        """Ask until the answer is `verdict`."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            answer = await self.check()
            if answer["verdict"] == verdict:
                return answer
            if time.monotonic() > deadline:
                reason = answer["reason"]["code"] if answer["reason"] else "no reason"
                raise DemonstrationFailed(f"{answer['verdict']} ({reason}) instead of {verdict}")
            await asyncio.sleep(_POLL_S)

    async def renew(self) -> dict[str, Any]:
        """The hero agrees anew; returns the answer once calls are allowed."""
        await self._send([hero_renewal(datetime.now(UTC), uuid.uuid4())])
        return await self.await_verdict("allow")

    async def withdraw(self) -> Change:
        """The hero says STOP, while a dialer asks without pause; measures when it is denied."""
        began = time.monotonic()
        withdrawal = hero_withdrawal(datetime.now(UTC), uuid.uuid4())
        sending = asyncio.create_task(self._timed(withdrawal, began))
        checks, denied_ms = 0, None
        while denied_ms is None:
            after = await self.check()
            checks += 1
            if after["verdict"] == "deny":
                denied_ms = _ms_since(began)
            elif time.monotonic() - began > DEADLINE_S:
                raise DemonstrationFailed("a call was still allowed a minute after the withdrawal")
            await asyncio.sleep(_CHECK_GAP_S)
        result, accepted_ms = await sending
        return Change(after, "recorded_at" in result, accepted_ms, denied_ms, checks)

    async def _timed(self, document: Document, began: float) -> tuple[dict[str, Any], int]:
        return (await self._send([document]))[0], _ms_since(began)

    async def timeline(self) -> list[dict[str, Any]]:
        """All that history has of the hero, once every decision of this run is in it."""
        deadline = time.monotonic() + DEADLINE_S
        request = {"number": HERO_NUMBER, "entries_max": 1_000}
        while True:
            entries: list[dict[str, Any]] = (await self._client.timeline(request, _WHY))["entries"]
            if self._decisions <= {entry["event_id"] for entry in entries}:
                return entries
            if time.monotonic() > deadline:
                raise DemonstrationFailed("a decision is not in the history")
            await asyncio.sleep(_POLL_S)

    async def reject(self) -> dict[str, Any]:
        """Send a document that can't be accepted; returns the reason that is answered."""
        document = {**hero_withdrawal(datetime.now(UTC), uuid.uuid4())}
        del document["occurred_at"]
        return (await self._client.publish([document]))[0]

    async def bury(self, store: Store) -> DeadLetter:
        """Write a malformed grant to the log itself; returns its dead letter."""
        record = contracts().record("ConsentGranted")
        place = await self._produce(codec.frame(record.schema_id, b"\x10not a grant"))
        self._places.add(place)
        rows = await self._rows(
            store,
            "SELECT topic, partition, offset, reason, detail FROM dead_letters "
            "WHERE recorded_at >= {since:DateTime64(6)} AND topic = {topic:String} "
            "AND partition = {partition:Int32} AND offset = {offset:Int64}",
            {"topic": place[0], "partition": place[1], "offset": place[2]},
        )
        return DeadLetter(*rows[0])

    async def counts(self, store: Store) -> list[TopicCount]:
        """Published and recorded, by topic; waits until history has as many as were published."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            counts = await asyncio.to_thread(self._count, store)
            if all(count.equal for count in counts) or time.monotonic() > deadline:
                return counts
            await asyncio.sleep(_POLL_S)

    def _count(self, store: Store) -> list[TopicCount]:
        rows = store.query_rows(
            "SELECT topic, partition, offset, count(), any(event_id) FROM facts "
            "WHERE recorded_at >= {since:DateTime64(6)} GROUP BY topic, partition, offset",
            {"since": self._since},
        )
        times = {
            (topic, partition, offset): count
            for topic, partition, offset, count, event_id in rows
            if (topic, partition, offset) in self._places or event_id in self._decisions
        }
        published = Counter(topic for topic, _partition, _offset in self._places)
        published[_DECISIONS_TOPIC] += len(self._decisions)
        return [
            TopicCount(
                topic,
                number,
                sum(place[0] == topic for place in times),
                sum(count for place, count in times.items() if place[0] == topic),
            )
            for topic, number in sorted(published.items())
        ]

    def connect_store(self) -> Store:
        """The history's store, for looking at it with SQL."""
        return Store.connect(store_parameters(self._settings))

    async def _send(self, documents: Sequence[Document]) -> list[dict[str, Any]]:
        """Publish, and again while the ledger is busy: the same event twice is one event."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                results = await self._client.publish(documents)
            except ApiUnavailable as busy:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(busy.retry_after_s)
                continue
            # A duplicate is told with the place of the first.
            self._places.update(_place(one) for one in results if "offset" in one)
            return results

    async def _produce(self, value: bytes) -> Place:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka_bootstrap,
            acks="all",
            **broker_security(self._settings).aiokafka_options(),
        )
        await producer.start()
        try:
            sent = await producer.send_and_wait(
                _MALFORMED_TOPIC, key=HERO_NUMBER.encode(), value=value
            )
        finally:
            await producer.stop()
        return sent.topic, sent.partition, sent.offset

    async def _rows(
        self, store: Store, sql: str, parameters: dict[str, Any]
    ) -> list[tuple[Any, ...]]:
        """Rows of a query, once there are any."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            rows = await asyncio.to_thread(
                store.query_rows, sql, {"since": self._since, **parameters}
            )
            if rows:
                return rows
            if time.monotonic() > deadline:
                raise DemonstrationFailed("what was published is not in the history")
            await asyncio.sleep(_POLL_S)


def _place(result: dict[str, Any]) -> Place:
    return result["topic"], result["partition"], result["offset"]


def _ms_since(began: float) -> int:
    return int((time.monotonic() - began) * 1000)
