"""Decisions are in the log before they are relied on, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition

from consent import codec
from consent.contracts import contracts
from consent_ledger.adapters.decision_journal import DecisionJournal, JournalEntry, JournalLimits
from consent_ledger.adapters.publisher import (
    EventPublisher,
    Outcome,
    PublisherConfig,
    PublisherUnavailable,
    outgoing,
)
from consent_ledger.api.metrics import ApiMetrics
from consent_ledger.decision_log import (
    DecisionLog,
    DecisionLogLimits,
    DecisionUnrecorded,
    PendingDecision,
)
from tests.api import ask, doors_of, event, fresh_number, grant, publish, served
from tests.brokers import Broker
from tests.events import event as decision_fields
from tests.ledger import PARTITIONS, Ledger, ledger_on
from tests.stores import RunningFront

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

TOPIC = "dial-decisions"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("embedded", marks=pytest.mark.embedded),
        pytest.param("kafka", marks=pytest.mark.kafka),
    ],
)
def ledger(
    request: pytest.FixtureRequest,
    clickhouse_front: RunningFront,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ledger]:
    """Both workers around each broker."""
    folder = tmp_path_factory.mktemp("decisions")
    with ledger_on(request.param, request, clickhouse_front.url, folder) as running:
        yield running


class CutOff(EventPublisher):
    """A publisher whose broker can be taken away and given back."""

    def __init__(self, config: PublisherConfig) -> None:
        super().__init__(config)
        self.away = False

    async def publish(self, records: Any, timeout_ms: int | None = None) -> list[Outcome]:
        if self.away:
            return [PublisherUnavailable("cut off") for _ in records]
        return await super().publish(records, timeout_ms)


@pytest_asyncio.fixture(loop_scope="module")
async def publisher(ledger: Ledger) -> AsyncIterator[CutOff]:
    """A connected publisher that a test may cut off."""
    bootstrap = ledger.broker.bootstrap
    opened = CutOff(PublisherConfig(bootstrap, idempotent=ledger.broker.kind == "kafka"))
    await opened.start()
    yield opened
    await opened.stop()


def decision(number: str, verdict: str = "DENY") -> PendingDecision:
    """A decision as the checker makes it."""
    fields = decision_fields("DialDecision", number=number, verdict=verdict)
    record = contracts().record("DialDecision")
    return PendingDecision(fields["event_id"], outgoing(record, fields, number.encode()))


async def published_ids(broker: Broker) -> list[str]:
    """Ids of every decision in the log, in no order."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    ids = []
    try:
        targets = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
        consumer.assign(targets)
        while True:
            found = await consumer.getmany(timeout_ms=500)
            for records in found.values():
                ids += [codec.decode(record.value)[1]["event_id"] for record in records]
            ends = [consumer.highwater(target) for target in targets]
            positions = [await consumer.position(target) for target in targets]
            if None not in ends and positions >= ends:
                return ids
    finally:
        await consumer.stop()


async def until_published(broker: Broker, wanted: set[str]) -> None:
    """Return once all of these decisions are in the log."""
    async with asyncio.timeout(60):
        while not wanted <= set(await published_ids(broker)):
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def running(log: DecisionLog) -> AsyncIterator[DecisionLog]:
    await log.start()
    try:
        yield log
    finally:
        await log.stop()


async def test_an_allow_is_in_the_log_when_it_is_answered(ledger: Ledger) -> None:
    """The moment an allow is answered its decision can be read from the log."""
    number = fresh_number()
    async with served(doors_of(ledger)) as client:
        await publish(client, grant(number))
        for _ in range(5):
            answer = await ask(client, number)
            assert answer["verdict"] == "allow"
            assert answer["decision_id"] in await published_ids(ledger.broker)


async def test_denials_follow_their_answer(ledger: Ledger) -> None:
    """Every denial that was answered gets into the log, also those just before the end."""
    async with served(doors_of(ledger)) as client:
        answers = await asyncio.gather(*(ask(client, fresh_number()) for _ in range(50)))
    assert {answer["verdict"] for answer in answers} == {"deny"}
    await until_published(ledger.broker, {answer["decision_id"] for answer in answers})


async def test_without_the_log_nothing_is_allowed(ledger: Ledger, publisher: CutOff) -> None:
    """An allow that can't be recorded may not be answered; its correction follows in the log."""
    log = DecisionLog(publisher, ApiMetrics())
    async with running(log):
        allow = decision(fresh_number(), "ALLOW")
        assert await log.record_before([allow]) == [True]
        publisher.away = True
        assert await log.record_before([decision(fresh_number(), "ALLOW")]) == [False]
        denial = decision(fresh_number())
        await log.record_behind([denial])
        assert log.pending == 1
        publisher.away = False
        await until_published(ledger.broker, {allow.event_id, denial.event_id})
    assert log.pending == 0


async def test_denials_beyond_the_bound_are_not_answered(publisher: CutOff) -> None:
    """When too many decisions wait to be published, no more are answered."""
    limits = DecisionLogLimits(
        pending_max=10, publish_timeout_ms=200, batch_records_max=1, stop_timeout_ms=100
    )
    metrics = ApiMetrics()
    log = DecisionLog(publisher, metrics, limits=limits)
    publisher.away = True
    async with running(log):
        with pytest.raises(DecisionUnrecorded):
            for _ in range(20):
                await log.record_behind([decision(fresh_number())])
        waiting = log.pending
        assert waiting >= 10
    assert f"consent_decisions_lost_total {float(waiting)}" in metrics.text().decode()


async def test_the_journal_keeps_what_the_log_did_not_get(
    ledger: Ledger, publisher: CutOff, tmp_path: Path
) -> None:
    """Answered with the broker away, then killed: the next start publishes, in order, once."""
    limits = DecisionLogLimits(stop_timeout_ms=50, release_every_ms=50)
    journal = DecisionJournal(tmp_path)
    journal.open()
    log = DecisionLog(publisher, ApiMetrics(), journal, limits=limits)
    publisher.away = True
    decisions = [decision(fresh_number()) for _ in range(30)]
    async with running(log):
        await log.record_behind(decisions)
    await journal.close()
    publisher.away = False
    again = DecisionJournal(tmp_path)
    again.open()
    assert [entry.event_id for entry in again.unreleased] == [one.event_id for one in decisions]
    async with running(DecisionLog(publisher, ApiMetrics(), again, limits=limits)):
        await until_published(ledger.broker, {one.event_id for one in decisions})
        async with asyncio.timeout(20):
            while again.entries:
                await asyncio.sleep(0.05)
    await again.close()
    ids = await published_ids(ledger.broker)
    assert all(ids.count(one.event_id) == 1 for one in decisions)


async def test_a_full_journal_stops_answers(publisher: CutOff, tmp_path: Path) -> None:
    """If the journal takes nothing more, neither an allow nor a denial may be answered."""
    journal = DecisionJournal(tmp_path, JournalLimits(file_bytes=1_000, bytes_max=1))
    journal.open()
    await journal.append(JournalEntry("0", TOPIC, b"k", b"v"))
    async with running(DecisionLog(publisher, ApiMetrics(), journal)) as log:
        assert await log.record_before([decision(fresh_number(), "ALLOW")]) == [False]
        with pytest.raises(DecisionUnrecorded):
            await log.record_behind([decision(fresh_number())])
    await journal.close()


async def test_the_journal_empties_once_history_has_the_decisions(
    ledger: Ledger, tmp_path: Path
) -> None:
    """Through the whole ledger: journaled, published, recorded, released, and not sent again."""
    limits = DecisionLogLimits(release_every_ms=100, rotate_every_ms=100)
    doors = doors_of(ledger, journal_folder=tmp_path / "journal", decisions=limits)
    number = fresh_number()
    async with served(doors) as client:
        await publish(client, grant(number))
        answers = [await ask(client, number), await ask(client, fresh_number())]
        assert [answer["verdict"] for answer in answers] == ["allow", "deny"]
        async with asyncio.timeout(60):
            while journaled(tmp_path / "journal"):
                await asyncio.sleep(0.1)
    async with served(doors):
        pass
    ids = await published_ids(ledger.broker)
    assert [ids.count(answer["decision_id"]) for answer in answers] == [1, 1]


def journaled(folder: Path) -> int:
    """Bytes of entries that are still kept."""
    return sum(path.stat().st_size for path in folder.glob("*.journal"))


async def test_what_history_has_is_not_published_again(ledger: Ledger, tmp_path: Path) -> None:
    """An entry whose decision was recorded before the kill is released at the next start."""
    folder = tmp_path / "journal"
    number = fresh_number()
    slow = DecisionLogLimits(release_every_ms=3_600_000)
    doors = doors_of(ledger, journal_folder=folder, decisions=slow)
    async with served(doors) as client:
        await publish(client, grant(number))
        answer = await ask(client, number)
        async with asyncio.timeout(60):
            while answer["decision_id"] not in str(
                (await client.post("/v1/audit/timeline", json={"number": number})).json()
            ):
                await asyncio.sleep(0.1)
    assert journaled(folder)
    async with served(replace(doors, decisions=DecisionLogLimits(release_every_ms=100))):
        pass
    ids = await published_ids(ledger.broker)
    assert ids.count(answer["decision_id"]) == 1


async def test_a_stale_answer_is_recorded_too(ledger: Ledger) -> None:
    """An `unavailable` is a decision of the log like any other."""
    doors = doors_of(ledger)
    doors = replace(doors, view=replace(doors.view, view_max_age_ms=1))
    async with served(doors, ready=False) as client:
        answer = await ask(client, fresh_number())
        assert answer["verdict"] == "unavailable"
        assert answer["reason"]["code"] in ("VIEW_STALE", "VIEW_UNLOADED")
        await until_published(ledger.broker, {answer["decision_id"]})


async def test_a_caller_may_ask_for_a_fresher_view(ledger: Ledger) -> None:
    """A view older than the request asks for is stale to it, and only to it."""
    number = fresh_number()
    async with served(doors_of(ledger)) as client:
        await publish(client, event("ConsentRefused", number))
        async with asyncio.timeout(30):
            while True:
                answer = await ask(client, number, freshness_ms_max=1)
                if answer["freshness"]["age_ms"] > 1:
                    break
        assert (answer["verdict"], answer["reason"]["code"]) == ("unavailable", "VIEW_STALE")
        assert (await ask(client, number))["verdict"] != "unavailable"


async def test_the_recorded_decision_holds_what_was_answered(ledger: Ledger) -> None:
    """Verdict, reason, rulebook and freshness in the log are those of the answer."""
    number = fresh_number()
    async with served(doors_of(ledger)) as client:
        await publish(client, grant(number))
        answer = await ask(client, number, request_id="r-1", states=["US-TX"], zones=["US/Central"])
    consumer = AIOKafkaConsumer(
        TOPIC, bootstrap_servers=ledger.broker.bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            while True:
                fields = codec.decode((await consumer.getone()).value)[1]
                if fields["event_id"] == answer["decision_id"]:
                    break
    finally:
        await consumer.stop()
    assert fields["number"] == number
    assert fields["verdict"] == answer["verdict"].upper()
    assert (fields["reason"], fields["request_id"]) == (None, "r-1")
    assert fields["states"] == answer["states"]
    assert fields["rulebook_digest"].hex() == answer["rulebook"]
    assert fields["watermark"]["lag_ms"] == answer["freshness"]["age_ms"]
    assert fields["applied"]
    assert fields["outcomes"]
