"""Checks that depend on the campaign, the seller's program and the calendar, on both brokers."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition

from consent.codec import decode
from consent.decision import ENGINE_VERSION
from consent.decision_record import request_of
from consent.rulebook import Rulebook
from consent_ledger.api.opening import DoorsConfig
from projections.clickhouse import Store
from projections.clickhouse_async import AsyncStore
from projections.rulebook_store import stored_content
from tests.api import ago, ahead, ask, doors_of, event, fresh_number, publish, served
from tests.brokers import Broker
from tests.ledger import PARTITIONS, Ledger, ledger_on
from tests.stores import RunningFront

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

PREDICTIVE = {"purpose": "MARKETING", "call_mode": "LIVE", "dial_mode": "PREDICTIVE"}


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
    folder = tmp_path_factory.mktemp("ledger")
    with ledger_on(request.param, request, clickhouse_front.url, folder) as running:
        yield running


@pytest.fixture(scope="module")
def doors(ledger: Ledger) -> DoorsConfig:
    """Parts with one rulebook, whatever happens to its files meanwhile."""
    return doors_of(ledger)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(doors: DoorsConfig) -> AsyncIterator[httpx.AsyncClient]:
    """The API as one machine would use it, without keys."""
    async with served(doors) as opened:
        yield opened


async def tell(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    """Publish a document, without waiting for its effect."""
    answer = await client.post("/v1/events", json=[document])
    assert answer.json()["accepted"] == 1, answer.text


async def records(broker: Broker, topic: str, partitions: int) -> list[dict[str, Any]]:
    """Every event of a topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    found = []
    try:
        targets = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(targets)
        while True:
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                found += [decode(record.value)[1] for record in batch]
            ends = [consumer.highwater(target) for target in targets]
            if None not in ends and [await consumer.position(one) for one in targets] >= ends:
                return found
    finally:
        await consumer.stop()


def ended(campaign_id: str, *, abandoned: bool) -> dict[str, Any]:
    """A live answer of a campaign."""
    return event(
        "CallEnded",
        fresh_number(),
        campaign_id=campaign_id,
        call_id=uuid.uuid4().hex,
        outcome="ABANDONED" if abandoned else "ANSWERED_LIVE",
    )


async def rule_of(client: httpx.AsyncClient, rule: str, number: str, **asked: Any) -> Any:
    """The trace's line of one rule."""
    answer = await ask(client, number, explain=True, **asked)
    lines = [line for line in answer["trace"] if line["rule"].split("@")[0] == rule]
    assert len(lines) == 1, answer
    return lines[0]


async def until_outcome(client: httpx.AsyncClient, rule: str, outcome: str, **asked: Any) -> Any:
    """Asks until a rule says so: followers are some milliseconds behind."""
    async with asyncio.timeout(60):
        while (line := await rule_of(client, rule, **asked))["outcome"] != outcome:
            await asyncio.sleep(0.1)
    return line


async def test_a_campaign_over_its_cap_is_denied(client: httpx.AsyncClient, ledger: Ledger) -> None:
    """More than three of a hundred live answers abandoned; what was counted is on the decision."""
    number = fresh_number()
    asked = {"number": number, "campaign_id": "spring", **PREDICTIVE}
    before = await rule_of(client, "US-FED-ABANDON", **asked)
    assert (before["outcome"], before["facts"]["live_answered"]) == ("PASS", "0")
    calls = [ended("spring", abandoned=n % 25 == 0) for n in range(125)]
    await publish(client, *calls)
    await publish(client, *calls[:50])
    line = await until_outcome(client, "US-FED-ABANDON", "DENY", **asked)
    assert (line["facts"]["live_answered"], line["facts"]["abandoned"]) == ("125", "5")
    answer = await ask(client, **asked)
    assert "ABANDON_CAP" in [one["code"] for one in answer["reasons"]]
    other = await rule_of(client, "US-FED-ABANDON", **(asked | {"campaign_id": "summer"}))
    assert other["outcome"] == "PASS"

    async def recorded() -> dict[str, Any] | None:
        decisions = await records(ledger.broker, "dial-decisions", PARTITIONS)
        return next((one for one in decisions if one["event_id"] == answer["decision_id"]), None)

    async with asyncio.timeout(60):
        while (fields := await recorded()) is None:
            await asyncio.sleep(0.1)
    tally = request_of(fields).surroundings.campaign.tally("THIRTY_DAYS")
    assert tally is not None
    assert (tally.live_answered, tally.abandoned) == (125, 5)
    assert tally.period_start_at is not None


async def test_a_declared_start_begins_the_period(client: httpx.AsyncClient) -> None:
    """Calls of an earlier period don't count any more once the campaign is declared."""
    asked = {"number": fresh_number(), "campaign_id": "autumn", **PREDICTIVE}
    old = [ended("autumn", abandoned=True) | {"occurred_at": ago(days=3)} for _ in range(110)]
    await publish(client, *old)
    await until_outcome(client, "US-FED-ABANDON", "DENY", **asked)
    declared = {
        "type": "CampaignDeclared",
        "event_id": str(uuid.uuid4()),
        "occurred_at": ago(seconds=1),
        "seller_id": "acme",
        "source": {"system": "tests", "channel": "API"},
        "campaign_id": "autumn",
        "starts_at": ago(days=2),
    }
    await tell(client, declared)
    async with asyncio.timeout(60):
        # The partitions count anew one after the other.
        while (await rule_of(client, "US-FED-ABANDON", **asked))["facts"]["live_answered"] != "0":
            await asyncio.sleep(0.1)
    assert (await rule_of(client, "US-FED-ABANDON", **asked))["outcome"] == "PASS"


async def test_a_declared_emergency_is_seen(client: httpx.AsyncClient) -> None:
    """In its state, and no longer once it is lifted."""
    number = fresh_number()
    asked = {"number": number, "states": ["US-NY"], **PREDICTIVE}
    declaration: dict[str, Any] = {
        "type": "EmergencyDeclared",
        "event_id": str(uuid.uuid4()),
        "occurred_at": ago(seconds=2),
        "seller_id": "*",
        "source": {"system": "tests", "channel": "API"},
        "declaration_id": "e-1",
        "jurisdiction": "US-NY",
        "from_at": ago(days=1),
        "until_at": ahead(days=1),
    }
    lift = {
        **{name: declaration[name] for name in ("seller_id", "source", "declaration_id")},
        "type": "EmergencyLifted",
        "event_id": str(uuid.uuid4()),
        "occurred_at": ago(seconds=1),
        "jurisdiction": "US-NY",
        "lifted_at": ago(seconds=1),
    }

    async def banned() -> bool:
        codes = [one["code"] for one in (await ask(client, **asked))["reasons"]]
        return "EMERGENCY_BAN" in codes

    for document, expected in ((declaration, True), (lift, False)):
        await tell(client, document)
        async with asyncio.timeout(60):
            while await banned() != expected:
                await asyncio.sleep(0.1)


async def test_what_is_too_old_is_no_answer(doors: DoorsConfig) -> None:
    """Neither yes nor no, also for a call of no campaign."""
    doors = replace(doors, surroundings=replace(doors.surroundings, max_age_ms=0))
    async with served(doors) as client:
        for given in ({}, {"campaign_id": "spring"}):
            answer = await ask(client, fresh_number(), **given)
            assert (answer["verdict"], answer["reason"]["code"]) == ("unavailable", "VIEW_STALE")


async def test_a_rulebook_is_activated_once(ledger: Ledger, doors: DoorsConfig) -> None:
    """By whoever serves first; its content is kept, and gives the same rulebook."""

    async def activated() -> list[dict[str, Any]]:
        found = await records(ledger.broker, "program-events", 1)
        return [one for one in found if "rulebook_digest" in one]

    digest = doors.rulebook.digest
    other = Rulebook.load({"only.yaml": _without_last_rule(doors.rulebook)})
    async with served(doors), served(doors):
        async with asyncio.timeout(60):
            while not await activated():
                await asyncio.sleep(0.1)
    once = {one["event_id"]: one for one in await activated()}
    assert [one["rulebook_digest"] for one in once.values()] == [digest]
    async with served(replace(doors, rulebook=other)):
        async with asyncio.timeout(60):
            while len({one["event_id"] for one in await activated()}) < 2:
                await asyncio.sleep(0.1)
    async with served(doors):
        async with asyncio.timeout(60):
            while len({one["event_id"] for one in await activated()}) < 3:
                await asyncio.sleep(0.1)
    last = (await activated())[-1]
    assert (last["rulebook_digest"], last["previous_digest"]) == (digest, other.digest)
    await kept(doors.store, digest)


async def kept(parameters: Any, digest: bytes) -> None:
    """Return once the store has the rulebook, and says by what it is used."""
    store = AsyncStore(lambda: Store.connect(parameters))
    try:
        async with asyncio.timeout(60):
            while (content := await stored_content(store, digest)) is None:
                await asyncio.sleep(0.1)
        assert Rulebook.from_content(content, digest).digest == digest
        rows = await store.query_rows(
            "SELECT engine_version, tzdata_version != '', count() FROM rulebook_uses "
            "WHERE rulebook_digest = unhex({digest:String}) GROUP BY ALL",
            {"digest": digest.hex()},
        )
        assert rows == [(ENGINE_VERSION, True, 1)]
        (count,) = (await store.query_rows("SELECT count() FROM rulebooks"))[0]
        assert count == 2
    finally:
        await store.close()


def _without_last_rule(rulebook: Rulebook) -> str:
    """Another rulebook: JSON is YAML."""
    content = json.loads(rulebook.content)
    content["rules"] = content["rules"][:-1]
    return json.dumps(content)
