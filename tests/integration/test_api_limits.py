"""What every door does under too many requests, and when what it stands on is slow or away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from consent_ledger.api.acceptance import AcceptanceLimits
from consent_ledger.api.parts import ApiConfig
from projections.clickhouse import StoreParameters
from tests.api import assert_problem, doors_of, event, fresh_number, keys_of, question, served
from tests.brokers import embedded_broker
from tests.ledger import Ledger, running_ledger
from tests.stores import RunningFront

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest.fixture(scope="module")
def ledger(
    clickhouse_front: RunningFront, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ledger]:
    """A log and a store, without workers."""
    folder = tmp_path_factory.mktemp("limits")
    with (
        embedded_broker() as broker,
        running_ledger(broker, clickhouse_front.url, folder, processes=()) as running,
    ):
        yield running


async def test_too_many_requests_are_told_when_to_come_again(ledger: Ledger) -> None:
    """Past its rate a key gets 429 with Retry-After; another key is not touched by that."""
    keys, tokens = keys_of(("a", ["dialer"], None), ("b", ["dialer"], None))
    config = ApiConfig(keys, requests_per_second_max=5)
    async with served(doors_of(ledger), config, ready=False) as client:

        async def ask(name: str) -> httpx.Response:
            headers = {"Authorization": tokens[name]}
            return await client.post("/v1/calls/check", json={}, headers=headers)

        answers = [await ask("a") for _ in range(20)]
        limited = [answer for answer in answers if answer.status_code == 429]
        assert limited
        assert_problem(limited[0], 429, "too-many-requests")
        assert int(limited[0].headers["retry-after"]) >= 1
        assert (await ask("b")).status_code == 400


async def test_too_many_requests_at_once(ledger: Ledger) -> None:
    """Past the bound on requests in flight the answer is 503; health is answered all the same."""
    config = ApiConfig(requests_in_flight_max=1, answer_after="recorded")
    async with served(doors_of(ledger), config, ready=False) as client:
        slow = asyncio.create_task(
            client.post("/v1/events", json=event("ConsentRefused", fresh_number()))
        )
        async with asyncio.timeout(20):
            while b"in_flight 1.0" not in (await client.get("/metrics")).content:
                await asyncio.sleep(0.01)
        answer = await client.post("/v1/events", json={})
        assert_problem(answer, 503, "unavailable")
        assert answer.headers["retry-after"]
        slow.cancel()


async def test_a_request_that_takes_too_long(ledger: Ledger) -> None:
    """A body that never comes ends with 503 after the request's time."""
    config = ApiConfig(request_timeout_ms=300)
    async with served(doors_of(ledger), config, ready=False) as client:
        port = client.base_url.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 503")
        assert b"application/problem+json" in head
        writer.close()


@pytest.mark.parametrize("query", ["", "?wait=projected"])
async def test_embedded_answers_only_what_is_recorded(ledger: Ledger, query: str) -> None:
    """Where the broker forgets, an event that history does not get is `unavailable`."""
    doors = doors_of(ledger, acceptance=AcceptanceLimits(wait_timeout_ms=500))
    config = ApiConfig(answer_after="recorded")
    async with served(doors, config, ready=False) as client:
        answer = await client.post(
            f"/v1/events{query}", json=event("ConsentRefused", fresh_number())
        )
        content = assert_problem(answer, 503, "unavailable")
        assert content["results"][0]["status"] == "unavailable"
        assert content["results"][0]["reason"] == "NOT_RECORDED"


async def test_a_store_that_is_away_holds_up_no_check(ledger: Ledger) -> None:
    """Checks are answered while history is away; what needs history says that it is."""
    doors = doors_of(ledger, store=StoreParameters(url="http://127.0.0.1:1"))
    async with served(doors, ready=False) as client:
        number = fresh_number()
        assert (await client.post("/v1/calls/check", json=question(number))).status_code == 200
        told = await client.post("/v1/audit/timeline", json={"number": number})
        assert_problem(told, 503, "unavailable")


async def test_a_wait_that_is_not_met_is_told(ledger: Ledger) -> None:
    """Accepted but not projected in time is 202, with `wait_met` false."""
    doors = doors_of(ledger, acceptance=AcceptanceLimits(wait_timeout_ms=300))
    async with served(doors, ready=False) as client:
        document = event("ConsentRefused", fresh_number())
        answer = await client.post("/v1/events?wait=projected", json=document)
        assert answer.status_code == 202
        content = answer.json()
        assert content["wait_met"] is False
        assert content["results"][0]["status"] == "accepted"
        assert "projected_at" not in content["results"][0]
