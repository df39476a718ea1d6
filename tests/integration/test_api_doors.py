"""What every door does with requests that are wrong, too many, too large or not allowed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from consent_ledger.api.authentication import ROLES, ApiKeys, new_key
from consent_ledger.api.parts import ApiConfig
from consent_ledger.api.problems import PROBLEM_TYPES
from tests.api import ago, assert_problem, doors_of, event, fresh_number, keys_of, question, served
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
    folder = tmp_path_factory.mktemp("doors")
    with (
        embedded_broker() as broker,
        running_ledger(broker, clickhouse_front.url, folder, processes=()) as running,
    ):
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(ledger: Ledger) -> AsyncIterator[httpx.AsyncClient]:
    """The API without keys; its view never becomes fresh."""
    async with served(doors_of(ledger), ready=False) as opened:
        yield opened


POSTS = ["/v1/events", "/v1/calls/check", "/v1/calls/check-batch", "/v1/audit/timeline"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("content", "media_type", "status", "code"),
    [
        (b"{", "application/json", 400, "invalid-request"),
        (b"", "application/json", 400, "invalid-request"),
        (b'{"number": "\xff"}', "application/json", 400, "invalid-request"),
        (b"[" * 100_000, "application/json", 400, "invalid-request"),
        (b'"text"', "application/json", 400, "invalid-request"),
        (b"x" * 1_048_577, "application/json", 413, "body-too-large"),
    ],
    ids=["no JSON", "empty", "no UTF-8", "too deep", "no object", "too large"],
)
async def test_bodies_that_can_not_be_read(
    client: httpx.AsyncClient, path: str, content: bytes, media_type: str, status: int, code: str
) -> None:
    """A body that is no JSON of the right form, or too large, is a problem at every door."""
    answer = await client.post(path, content=content, headers={"content-type": media_type})
    if path == "/v1/events" and content == b'"text"':
        status, code = 422, "rejected"
    assert_problem(answer, status, code)


@pytest.mark.parametrize("path", POSTS)
async def test_the_wrong_method(client: httpx.AsyncClient, path: str) -> None:
    """Another method is a problem and names the right one."""
    answer = await client.get(path)
    assert_problem(answer, 405, "method-not-allowed")
    assert "POST" in answer.headers["allow"]


async def test_no_such_address(client: httpx.AsyncClient) -> None:
    """An unknown address is a problem."""
    assert_problem(await client.get("/v1/nothing"), 404, "not-found")
    assert_problem(await client.post("/v1/nothing", json={}), 404, "not-found")
    assert_problem(await client.get("/problems/nothing"), 404, "not-found")


@pytest.mark.parametrize("code", PROBLEM_TYPES)
async def test_every_problem_is_explained(client: httpx.AsyncClient, code: str) -> None:
    """What the `type` of a problem points to says what it means."""
    answer = await client.get(f"/problems/{code}")
    assert answer.status_code == 200
    assert PROBLEM_TYPES[code].meaning in answer.text


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/calls/check", {"seller_id": "acme"}, "purpose"),
        ("/v1/calls/check", {**question(""), "number": 1}, "number"),
        ("/v1/calls/check", question("+12125550177", purpose="SALES"), "purpose"),
        ("/v1/calls/check", question("+12125550177", foo=1), "foo"),
        ("/v1/calls/check", question("+12125550177", seller_id=""), "seller_id"),
        ("/v1/calls/check", question("+12125550177", zones=["x"] * 65), "zones"),
        ("/v1/calls/check-batch", {"checks": [{"number": 1}]}, "number"),
        ("/v1/audit/timeline", {"number": "+12125550177", "entries_max": 0}, "entries_max"),
        ("/v1/events?wait=tomorrow", {}, "wait"),
    ],
)
async def test_fields_that_are_wrong(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], field: str
) -> None:
    """A request whose form is wrong names the field."""
    content = assert_problem(await client.post(path, json=body), 400, "invalid-request")
    assert field in json.dumps(content["errors"])
    assert "5550177" not in json.dumps(content)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (question("12"), "number"),
        (question("+12125550177", seller_id="*"), "seller_id"),
        (question("+12125550177", seller_id="test:acme"), "seller_id"),
        (question("+12125550177", states=["Texas"]), "states"),
        (question("+12125550177", zones=["Mars/Base"]), "zones"),
        (question("+12125550177", campaign_id="212-555-0177"), "campaign_id"),
        (question("+12125550177", caller_id_number="+12125550177"), "caller_id_number"),
    ],
)
async def test_calls_that_can_not_be_decided_about(
    client: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    """A question without an answer is rejected by field, and is no verdict."""
    content = assert_problem(await client.post("/v1/calls/check", json=body), 422, "rejected")
    assert content["errors"][0]["field"] == field
    assert "5550177" not in json.dumps(content)


async def test_too_many_items(client: httpx.AsyncClient) -> None:
    """More events or checks than allowed, or none, is a problem and publishes nothing."""
    number = fresh_number()
    events = [event("ConsentRefused", number)] * 1001
    assert_problem(await client.post("/v1/events", json=events), 413, "too-many-items")
    assert_problem(await client.post("/v1/events", json=[]), 400, "invalid-request")
    checks = {"checks": [question(number)] * 1001}
    answer = await client.post("/v1/calls/check-batch", json=checks)
    assert_problem(answer, 413, "too-many-items")
    answer = await client.post("/v1/calls/check-batch", json={"checks": []})
    assert_problem(answer, 400, "invalid-request")


async def test_an_unloaded_view_is_unavailable(client: httpx.AsyncClient) -> None:
    """Before any watermark no call is allowed nor denied, and the process is not ready."""
    answer = await client.post("/v1/calls/check", json=question(fresh_number()))
    assert answer.status_code == 200
    content = answer.json()
    assert content["verdict"] == "unavailable"
    assert content["reason"]["code"] in ("VIEW_UNLOADED", "VIEW_STALE")
    assert content["reason"]["text"]
    not_ready = await client.get("/readyz")
    assert_problem(not_ready, 503, "unavailable")
    assert not_ready.headers["retry-after"]
    assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_results_come_for_each_event(client: httpx.AsyncClient) -> None:
    """Accepted, duplicate and rejected stand side by side, in order; the whole is a 207."""
    number = fresh_number()
    first = event("ConsentRefused", number)
    other = {**first, "objection": True}
    wrong = event("ConsentGranted", number, purpsoes=["MARKETING"])
    odd = event("ConsentWithdrawn", number, purposes=["SALES"])
    answer = await client.post("/v1/events", json=[first, first, other, wrong, odd])
    assert answer.status_code == 207
    content = answer.json()
    results = content["results"]
    assert [result["status"] for result in results] == [
        "accepted",
        "duplicate",
        "accepted",
        "rejected",
        "accepted",
    ]
    assert (content["accepted"], content["duplicate"], content["rejected"]) == (3, 1, 1)
    assert results[1]["offset"] == results[0]["offset"]
    assert results[2]["notices"][0]["reason"] == "EVENT_ID_REUSED"
    assert (results[3]["reason"], results[3]["field"]) == ("UNKNOWN_FIELD", "purpsoes")
    assert results[4]["notices"][0]["reason"] == "UNKNOWN_VALUE"
    again = await client.post("/v1/events", json=first)
    assert (again.status_code, again.json()["results"][0]["status"]) == (200, "duplicate")
    assert again.json()["results"][0]["offset"] == results[0]["offset"]
    assert number not in answer.text


async def test_a_rejected_event_is_a_problem(client: httpx.AsyncClient) -> None:
    """If nothing was accepted the answer is a problem with the errors and the results."""
    answer = await client.post("/v1/events", json={"type": "ConsentGranted"})
    content = assert_problem(answer, 422, "rejected")
    assert content["errors"][0]["field"] == "event_id"
    assert content["results"][0]["status"] == "rejected"


async def test_the_same_event_at_once_is_published_once(client: httpx.AsyncClient) -> None:
    """Of many equal requests at the same time one is accepted; all name the same place."""
    document = event("ConsentRefused", fresh_number())
    answers = await asyncio.gather(*(client.post("/v1/events", json=document) for _ in range(20)))
    results = [answer.json()["results"][0] for answer in answers]
    assert sorted(result["status"] for result in results) == ["accepted"] + ["duplicate"] * 19
    assert len({(result["partition"], result["offset"]) for result in results}) == 1


CLOUD_EVENT = {
    "specversion": "1.0",
    "type": "ledger.consent.ConsentWithdrawn.v1",
    "source": "/sms",
    "id": "m-1",
}


async def test_cloud_events_in_every_mode(client: httpx.AsyncClient) -> None:
    """Structured, batch and binary CloudEvents are one event if source and id are equal."""
    data = {"number": fresh_number(), "seller_id": "acme"}
    structured = {**CLOUD_EVENT, "time": ago(minutes=1), "data": data}
    media_type = "application/cloudevents+json; charset=utf-8"
    one = await client.post(
        "/v1/events", content=json.dumps(structured), headers={"content-type": media_type}
    )
    batch = await client.post(
        "/v1/events",
        content=json.dumps([structured]),
        headers={"content-type": "application/cloudevents-batch+json"},
    )
    attributes = {f"ce-{name}": str(value) for name, value in structured.items() if name != "data"}
    binary = await client.post("/v1/events", json=data, headers=attributes)
    results = [answer.json()["results"][0] for answer in (one, batch, binary)]
    assert [result["status"] for result in results] == ["accepted", "duplicate", "duplicate"]


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", "", "multipart/form-data"])
async def test_other_media_types(client: httpx.AsyncClient, media_type: str) -> None:
    """Only JSON and CloudEvents are taken; a form that a web page could send is not."""
    headers = {"content-type": media_type} if media_type else {}
    answer = await client.post("/v1/events", content=b"{}", headers=headers)
    assert_problem(answer, 415, "unsupported-media-type")


ALLOWED = {
    "/v1/calls/check": {"dialer", "admin"},
    "/v1/calls/check-batch": {"dialer", "admin"},
    "/v1/audit/timeline": {"auditor", "privacy", "admin"},
}


async def test_roles_open_their_doors_only(ledger: Ledger) -> None:
    """Without a valid key nothing is answered; with one, only what its role may do."""
    keys, tokens = keys_of(*((role, [role], None) for role in ROLES))
    number = fresh_number()
    bodies = {
        "/v1/calls/check": question(number),
        "/v1/calls/check-batch": {"checks": [question(number)]},
        "/v1/audit/timeline": {"number": number},
        "/v1/events": event("ConsentRefused", number),
    }
    async with served(doors_of(ledger), ApiConfig(keys), ready=False) as client:
        for path, body in bodies.items():
            for header in ("", "Bearer nonsense", "Basic eDp5", "Bearer", "Bearer \xe9"):
                headers = {"Authorization": header.encode("latin-1")} if header else {}
                answer = await client.post(path, json=body, headers=headers)
                assert_problem(answer, 401, "unauthenticated")
                assert answer.headers["www-authenticate"].startswith("Bearer")
        for role in ROLES:
            headers = {"Authorization": tokens[role]}
            for path, allowed in ALLOWED.items():
                answer = await client.post(path, json=bodies[path], headers=headers)
                if role in allowed:
                    assert answer.status_code != 403
                else:
                    assert_problem(answer, 403, "forbidden")
            answer = await client.post("/v1/events", json=bodies["/v1/events"], headers=headers)
            taken = answer.status_code == 200
            assert taken == (role in ("publisher", "admin"))
        for path in ("/healthz", "/metrics", "/docs"):
            assert (await client.get(path)).status_code == 200


async def test_a_key_that_ran_out_is_unknown(ledger: Ledger) -> None:
    """An expired key opens nothing."""
    token, entry = new_key("old", ["admin"], None)
    entry.expires_at = ago(seconds=1)
    config = ApiConfig(ApiKeys([entry]))
    async with served(doors_of(ledger), config, ready=False) as client:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await client.post("/v1/calls/check", json=question("+1"), headers=headers)
        assert_problem(answer, 401, "unauthenticated")


@pytest.mark.parametrize("host", ["evil.example", "10.0.0.1"])
async def test_without_keys_another_name_is_refused(client: httpx.AsyncClient, host: str) -> None:
    """A page whose host name was pointed at this machine can't use the open API."""
    answer = await client.post("/v1/events", json={}, headers={"host": host})
    assert_problem(answer, 401, "unauthenticated")


async def test_the_documentation_is_complete_and_needs_nothing(client: httpx.AsyncClient) -> None:
    """The OpenAPI document lists every address; its page loads nothing from elsewhere."""
    document = (await client.get("/docs/openapi.json")).json()
    assert {*POSTS, "/healthz", "/readyz", "/metrics"} <= set(document["paths"])
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]
    page = (await client.get("/docs")).text
    for path in POSTS:
        assert path in page
    assert "<script" not in page
    assert "http" not in page.replace("http</code>", "")
    assert (await client.get("/docs/openapi.yml")).status_code == 200


async def test_answers_are_not_kept_or_guessed(client: httpx.AsyncClient) -> None:
    """Every answer tells browsers not to sniff, embed or refer."""
    for answer in (await client.get("/healthz"), await client.get("/v1/nothing")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


async def test_metrics_count_by_path_and_status(client: httpx.AsyncClient) -> None:
    """Requests, events and checks are counted, with no number anywhere."""
    number = fresh_number()
    await client.post("/v1/events", json=event("ConsentRefused", number))
    await client.post("/v1/calls/check", json=question(number))
    text = (await client.get("/metrics")).text
    assert 'consent_http_requests_total{method="POST",path="/v1/events",status="200"}' in text
    assert 'consent_events_received_total{reason="",status="accepted"}' in text
    assert 'consent_checks_total{reason="VIEW_' in text
    assert number[1:] not in text
