"""Both ways to one check, the short one and the framework's, answer alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from consent_ledger.api.checking import CallChecker
from consent_ledger.api.parts import ApiConfig
from consent_ledger.api.prompt_checks import PATH
from tests.api import doors_of, keys_of, question, served
from tests.brokers import embedded_broker
from tests.ledger import running_ledger
from tests.stores import RunningFront

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]

NUMBER = "+14155550123"
# The framework takes what has a query.
FRAMEWORK = f"{PATH}?way=long"
KEYS, TOKENS = keys_of(
    ("dialer", ["dialer"], ["acme"]), ("auditor", ["auditor"], None), ("admin", ["admin"], None)
)
NEW_EACH_TIME = {"decision_id", "decided_at", "freshness"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(
    clickhouse_front: RunningFront, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """The API with keys, on a log that nobody folds: its view is never fresh."""
    folder = tmp_path_factory.mktemp("prompt")
    with (
        embedded_broker() as broker,
        running_ledger(broker, clickhouse_front.url, folder, processes=()) as ledger,
    ):
        async with served(doors_of(ledger), ApiConfig(KEYS), ready=False) as opened:
            await until_stale(opened)
            yield opened


async def until_stale(client: httpx.AsyncClient) -> None:
    """Return once the view is loaded, so that one answer does not differ from the next."""
    headers = {"authorization": TOKENS["dialer"]}
    async with asyncio.timeout(60):
        while True:
            answer = await client.post(FRAMEWORK, json=question(NUMBER), headers=headers)
            if answer.json()["reason"]["code"] == "VIEW_STALE":
                return
            await asyncio.sleep(0.05)


def told(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    """All of an answer that must not depend on the way."""
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    headers.pop("date")
    body = answer.json()
    for name in NEW_EACH_TIME & body.keys():
        body[name] = None
    return answer.status_code, headers, body


@pytest.mark.parametrize("role", ["dialer", "auditor", "admin", "nobody"])
@pytest.mark.parametrize(
    "body",
    [
        question(NUMBER),
        question(NUMBER, explain=True, request_id="r-1", freshness_ms_max=1),
        question("not a number"),
        question(NUMBER, seller_id="globex"),
        question(NUMBER, purpose="NONE"),
        question(NUMBER, unknown=1),
        question(NUMBER, request_id="x" * 20_000),
        {},
        [],
        "text",
    ],
    ids=lambda body: json.dumps(body)[:80],
)
async def test_both_ways_answer_alike(client: httpx.AsyncClient, body: Any, role: str) -> None:
    """Status, headers and content, whatever is asked and whoever asks."""
    headers = {"authorization": TOKENS.get(role, "Bearer cl_nobody")}
    short = await client.post(PATH, json=body, headers=headers)
    long = await client.post(FRAMEWORK, json=body, headers=headers)
    assert told(short) == told(long)


@pytest.mark.parametrize("content", [b"", b"{", b'{"number": "\xff"}', b"[" * 10_000])
async def test_what_is_no_json_is_refused_alike(client: httpx.AsyncClient, content: bytes) -> None:
    """The framework says what is wrong with it."""
    headers = {"authorization": TOKENS["dialer"], "content-type": "application/json"}
    short = await client.post(PATH, content=content, headers=headers)
    long = await client.post(FRAMEWORK, content=content, headers=headers)
    assert short.status_code == 400
    assert told(short) == told(long)


async def test_a_body_in_parts_is_read(client: httpx.AsyncClient) -> None:
    """A body without a length, of several chunks."""

    async def parts() -> AsyncIterator[bytes]:
        content = json.dumps(question(NUMBER)).encode()
        yield content[:20]
        yield content[20:]

    headers = {"authorization": TOKENS["dialer"], "content-type": "application/json"}
    answer = await client.post(PATH, content=parts(), headers=headers)
    assert answer.status_code == 200
    assert answer.json()["verdict"] == "unavailable"


async def test_a_fault_is_answered_and_logged_without_what_was_sent(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An error that nobody foresaw, on both ways."""

    async def failing(_self: CallChecker, request: Any, _principal: Any) -> Any:
        raise ZeroDivisionError(request.number)

    monkeypatch.setattr(CallChecker, "check", failing)
    headers = {"authorization": TOKENS["dialer"]}
    short = await client.post(PATH, json=question(NUMBER), headers=headers)
    long = await client.post(FRAMEWORK, json=question(NUMBER), headers=headers)
    assert short.status_code == 500
    assert told(short) == told(long)
    assert NUMBER[1:] not in "".join(capfd.readouterr())


async def test_a_plain_check_takes_the_short_way(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or these tests would compare the framework with itself."""
    monkeypatch.setattr("consent_ledger.api.calls.parts_of", lambda _request: 1 / 0)
    headers = {"authorization": TOKENS["dialer"]}
    assert (await client.post(PATH, json=question(NUMBER), headers=headers)).status_code == 200
    assert (await client.post(FRAMEWORK, json=question(NUMBER), headers=headers)).status_code == 500
