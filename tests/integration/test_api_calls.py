"""Events in, decisions out: the API around a whole ledger, on both brokers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from consent_ledger.api.parts import ApiConfig
from tests.api import (
    ago,
    ask,
    doors_of,
    event,
    fresh_number,
    grant,
    keys_of,
    publish,
    question,
    served,
)
from tests.ledger import Ledger, ledger_on
from tests.stores import RunningFront

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]


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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(ledger: Ledger) -> AsyncIterator[httpx.AsyncClient]:
    """The API as one machine would use it, without keys."""
    async with served(doors_of(ledger)) as opened:
        yield opened


async def test_a_withdrawal_stops_the_next_call(client: httpx.AsyncClient) -> None:
    """A grant allows, a withdrawal denies once projected, a newer grant allows again."""
    number = fresh_number()
    before = await ask(client, number)
    assert (before["verdict"], before["reason"]["code"]) == ("deny", "CONSENT_PEC_MISSING")
    await publish(client, grant(number))
    allowed = await ask(client, number)
    assert allowed["verdict"] == "allow", allowed
    (withdrawn,) = await publish(client, event("ConsentWithdrawn", number))
    assert withdrawn["projected_at"]
    denied = await ask(client, number)
    assert (denied["verdict"], denied["reason"]["code"]) == ("deny", "CONSENT_REVOKED")
    assert denied["reason"]["text"]
    assert denied["next_allowed"] == "on_event"
    await publish(client, grant(number, occurred_at=ago(seconds=1)))
    assert (await ask(client, number))["verdict"] == "allow"


async def test_an_answer_says_what_it_rests_on(client: httpx.AsyncClient) -> None:
    """Freshness, rulebook, decision id and, on request, every applicable rule are in the answer."""
    number = fresh_number()
    await publish(client, grant(number))
    answer = await ask(client, number, explain=True, request_id="call-1", states=["US-TX"])
    assert answer["freshness"]["age_ms"] >= 0
    assert answer["freshness"]["true_at"]
    assert len(answer["rulebook"]) == 64
    assert answer["request_id"] == "call-1"
    assert "US-TX" in answer["states"]
    assert uuid.UUID(answer["decision_id"])
    rules = {line["rule"].split("@")[0]: line for line in answer["trace"]}
    assert rules["US-FED-PEC"]["outcome"] == "PASS"
    assert rules["US-FED-PEC"]["citation"]
    assert number not in str(answer)
    assert "trace" not in await ask(client, number) or (await ask(client, number))["trace"] is None


async def test_a_call_is_judged_wherever_the_person_may_be(client: httpx.AsyncClient) -> None:
    """Number, postal code, what is given and what is recorded each add candidates."""
    number = "+13055550173"
    answer = await ask(client, number)
    assert (answer["states"], answer["zones"]) == (["US-FL"], ["America/New_York"])
    answer = await ask(client, number, postal_code="90210")
    assert answer["states"] == ["US-CA", "US-FL"]
    assert answer["zones"] == ["America/Los_Angeles", "America/New_York"]
    answer = await ask(client, number, states=["US-AZ"], zones=["America/Phoenix"])
    assert (answer["states"][0], answer["zones"][-1]) == ("US-AZ", "America/Phoenix")
    lives = {"address": {"country": "US", "subdivision": "HI"}}
    await publish(client, event("NumberAttributesRecorded", number, evidence=lives))
    answer = await ask(client, number)
    assert answer["states"] == ["US-FL", "US-HI"]
    assert answer["zones"] == ["America/New_York", "Pacific/Honolulu"]


async def test_a_number_without_a_place_is_not_called(client: httpx.AsyncClient) -> None:
    """Toll-free numbers tell none; a postal code that is none is refused and not repeated."""
    number = "+18005550173"
    await publish(client, grant(number))
    answer = await ask(client, number)
    assert (answer["verdict"], answer["reason"]["code"]) == ("deny", "DATA_MISSING")
    assert (answer["states"], answer["zones"]) == ([], [])
    assert (await ask(client, number, postal_code="78701"))["states"] == ["US-TX"]
    for wrong in ("9021", "00000"):
        refused = await client.post("/v1/calls/check", json=question(number, postal_code=wrong))
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == "postal_code"
        assert wrong not in refused.text


async def test_other_sellers_and_scopes_are_not_covered(client: httpx.AsyncClient) -> None:
    """A grant is for its seller, purposes and modes; a withdrawal from all sellers is for all."""
    number = fresh_number()
    await publish(client, grant(number))
    assert (await ask(client, number, seller_id="other"))["verdict"] == "deny"
    assert (await ask(client, number, call_mode="AI_VOICE"))["reason"]["code"] == "CONSENT_SCOPE"
    live = {"call_mode": "LIVE", "dial_mode": "MANUAL"}
    assert (await ask(client, number, seller_id="other", **live))["verdict"] == "allow"
    await publish(client, event("ConsentWithdrawn", number, all_sellers=True))
    assert (await ask(client, number, seller_id="other", **live))["verdict"] == "deny"


async def test_a_do_not_call_request_overrides_consent(client: httpx.AsyncClient) -> None:
    """An internal entry denies whatever was granted, until it is removed."""
    number = fresh_number()
    await publish(client, grant(number), event("DncAdded", number, list_kind="INTERNAL"))
    assert (await ask(client, number))["reason"]["code"] == "INTERNAL_DNC"
    removed = event("DncRemoved", number, list_kind="INTERNAL", reason="PERSON_ASKED")
    removed["occurred_at"] = ago(seconds=1)
    await publish(client, removed)
    assert (await ask(client, number))["verdict"] == "allow"


async def test_an_opt_out_spoken_in_a_call_counts(client: httpx.AsyncClient) -> None:
    """A call that ended with an opt-out denies the next one."""
    number = fresh_number()
    await publish(client, grant(number))
    ended = event("CallEnded", number, call_id="c-1", outcome="ANSWERED_LIVE", opted_out=True)
    await publish(client, ended)
    denied = await ask(client, number)
    assert denied["verdict"] == "deny"
    codes = {reason["code"] for reason in denied["reasons"]}
    assert codes & {"INTERNAL_DNC", "CONSENT_REVOKED"}


async def test_expired_consent_denies(client: httpx.AsyncClient) -> None:
    """A grant counts until it expires."""
    number = fresh_number()
    await publish(client, grant(number, expires_at=ago(seconds=10)))
    assert (await ask(client, number))["reason"]["code"] == "CONSENT_EXPIRED"


async def test_rehearsals_never_count(client: httpx.AsyncClient) -> None:
    """Test events decide test questions only."""
    number = fresh_number()
    await publish(client, grant(number, test=True))
    assert (await ask(client, number))["verdict"] == "deny"
    assert (await ask(client, number, test=True))["verdict"] == "allow"


async def test_a_batch_answers_each_for_itself(client: httpx.AsyncClient) -> None:
    """Answers come in order; one that can't be decided about does not spoil the others."""
    number = fresh_number()
    await publish(client, grant(number))
    checks = [
        question(number),
        question("555-01"),
        question(fresh_number()),
        question(number, request_id=f"x{number[-10:]}"),
        question(number, seller_id="*"),
    ]
    answer = await client.post("/v1/calls/check-batch", json={"checks": checks})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result.get("answer", {}).get("verdict") for result in results] == [
        "allow",
        None,
        "deny",
        None,
        None,
    ]
    assert [result["error"]["field"] for result in results if "error" in result] == [
        "number",
        "request_id",
        "seller_id",
    ]
    assert number not in answer.text


async def test_every_answer_is_in_the_timeline(client: httpx.AsyncClient) -> None:
    """Events and decisions of a number are told in order, with reasons, once recorded."""
    number = fresh_number()
    first = grant(number)
    await publish(client, first, wait="recorded")
    await publish(client, first, event("ConsentWithdrawn", number), wait="recorded")
    asked = [await ask(client, number) for _ in range(2)]
    entries = await timeline_with(client, number, 4)
    assert [entry["type"] for entry in entries] == [
        "ConsentGranted",
        "ConsentWithdrawn",
        "DialDecision",
        "DialDecision",
    ]
    assert entries[0]["event_id"] == first["event_id"]
    assert {"name", "wording"} <= set(entries[0]["evidence"])
    assert "Jo Doe" not in str(entries)
    assert number not in str(entries)
    assert [entry["event_id"] for entry in entries[2:]] == [one["decision_id"] for one in asked]
    assert entries[2]["reasons"][0]["code"] == "CONSENT_REVOKED"
    assert all(entry["summary"] for entry in entries)
    assert [entry["recorded_at"] for entry in entries] == sorted(
        entry["recorded_at"] for entry in entries
    )


async def test_a_timeline_comes_in_pages(client: httpx.AsyncClient) -> None:
    """Pages put together are the whole, without a gap or a repeat."""
    number = fresh_number()
    documents = [event("ConsentRefused", number) for _ in range(7)]
    await publish(client, *documents, wait="recorded")
    seen: list[str] = []
    after = None
    for _ in range(4):
        request = {"number": number, "entries_max": 2, "after": after}
        page = (await client.post("/v1/audit/timeline", json=request)).json()
        seen += [entry["event_id"] for entry in page["entries"]]
        after = page["next"]
    assert seen == [document["event_id"] for document in documents]
    assert after is None
    wrong = {"number": number, "after": "nonsense"}
    answer = await client.post("/v1/audit/timeline", json=wrong)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "after")


async def test_an_event_sent_twice_is_marked(ledger: Ledger) -> None:
    """Another process does not remember the id: both copies are recorded, the second is marked."""
    number = fresh_number()
    document = event("ConsentRefused", number)
    for _ in range(2):
        async with served(doors_of(ledger)) as client:
            (result,) = await publish(client, document, wait="recorded")
            assert result["status"] == "accepted"
            entries = (await client.post("/v1/audit/timeline", json={"number": number})).json()
    assert [entry.get("repeated", False) for entry in entries["entries"]] == [False, True]


async def test_recorded_at_is_the_time_that_history_keeps(client: httpx.AsyncClient) -> None:
    """The answer after `wait=recorded` and the timeline name the same instant."""
    number = fresh_number()
    (result,) = await publish(client, event("ConsentRefused", number), wait="recorded")
    entries = (await client.post("/v1/audit/timeline", json={"number": number})).json()["entries"]
    assert entries[0]["recorded_at"] == result["recorded_at"]
    place = [entries[0][name] for name in ("topic", "partition", "offset")]
    assert place == [result[name] for name in ("topic", "partition", "offset")]


async def test_keys_bound_to_a_seller(ledger: Ledger) -> None:
    """A bound key acts for its seller only, in events and in checks."""
    keys, tokens = keys_of(("acme", ["publisher", "dialer"], ["acme"]))
    headers = {"Authorization": tokens["acme"]}
    number = fresh_number()
    async with served(doors_of(ledger), ApiConfig(keys)) as client:
        client.headers.update(headers)
        answer = await client.post(
            "/v1/events?wait=projected",
            json=[
                grant(number),
                grant(number, seller_id="other"),
                event("ConsentWithdrawn", number, seller_id="*"),
                event("DncRemoved", number, all_sellers=True),
                event("ErasureRequested", number, request_id="r"),
                event("ErasureExecuted", number, request_id="r", cutoff_at=ago(minutes=1)),
            ],
        )
        assert answer.status_code == 207
        reasons = [result.get("reason", "") for result in answer.json()["results"]]
        not_mine = "SELLER_NOT_ALLOWED"
        assert reasons == ["", not_mine, not_mine, not_mine, "", "ROLE_NOT_ALLOWED"]
        assert (await ask(client, number))["verdict"] in ("allow", "deny")
        refused = await client.post("/v1/calls/check", json=question(number, seller_id="other"))
        assert (refused.status_code, refused.json()["errors"][0]["reason"]) == (422, not_mine)


async def test_a_bound_auditor_sees_its_seller_only(ledger: Ledger) -> None:
    """A key of one seller reads that seller's events and those for every seller, no others."""
    keys, tokens = keys_of(("acme", ["auditor", "admin"], ["acme"]), ("all", ["admin"], None))
    number = fresh_number()
    documents = [event("ConsentRefused", number, seller_id=name) for name in ("acme", "other", "*")]
    async with served(doors_of(ledger), ApiConfig(keys)) as client:
        client.headers["Authorization"] = tokens["all"]
        await publish(client, *documents, wait="recorded")
        client.headers["Authorization"] = tokens["acme"]
        answer = await client.post("/v1/audit/timeline", json={"number": number})
    seen = [entry["seller_id"] for entry in answer.json()["entries"]]
    assert seen == ["acme", "*"]


async def timeline_with(client: httpx.AsyncClient, number: str, count: int) -> list[dict[str, Any]]:
    """The timeline once it has so many entries."""
    async with asyncio.timeout(60):
        while True:
            answer = await client.post("/v1/audit/timeline", json={"number": number})
            entries: list[dict[str, Any]] = answer.json()["entries"]
            if len(entries) >= count:
                return entries
            await asyncio.sleep(0.1)


async def test_the_log_lines_hold_no_numbers(client: httpx.AsyncClient, ledger: Ledger) -> None:
    """After events and checks, neither worker has written the number anywhere in its log."""
    number = fresh_number()
    await publish(client, grant(number), wait="recorded")
    await ask(client, number)
    for name in ("project", "record"):
        assert number[2:] not in ledger.log_of(name)


async def test_the_data_folder_is_private(ledger: Ledger) -> None:
    """Keys can be read by their owner only."""
    folder = Path(ledger.environment["CONSENT_DATA_DIR"]) / "keys"
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
