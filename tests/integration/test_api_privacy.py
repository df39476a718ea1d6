"""The doors of data subjects: who may pass, and what they say to requests that are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from consent_ledger.api.authentication import ROLES
from consent_ledger.api.parts import ApiConfig
from tests.api import doors_of, fresh_number, keys_of, served
from tests.brokers import embedded_broker
from tests.ledger import Ledger, running_ledger
from tests.stores import RunningFront

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]

ERASURES, ACCESS = "/v1/privacy/erasures", "/v1/privacy/access"


@pytest.fixture(scope="module")
def ledger(
    clickhouse_front: RunningFront, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ledger]:
    """A log and a store, without workers."""
    folder = tmp_path_factory.mktemp("privacy")
    with (
        embedded_broker() as broker,
        running_ledger(broker, clickhouse_front.url, folder, processes=()) as running,
    ):
        yield running


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """A problem document, which repeats no number."""
    assert answer.status_code == status, answer.text
    content: dict[str, Any] = answer.json()
    assert content["code"] == code
    return content


async def test_only_the_privacy_office_passes(ledger: Ledger) -> None:
    """Other roles are refused before anything is done, and so is a key that is bound to sellers."""
    names = [(role, [role], None) for role in ROLES]
    keys, tokens = keys_of(*names, ("bound", ["privacy"], ["acme"]))
    number = fresh_number()
    async with served(doors_of(ledger), ApiConfig(keys), ready=False) as client:
        for path, body in (
            (ERASURES, {"number": number, "request_id": "R"}),
            (ACCESS, {"number": number}),
        ):
            refused(await client.post(path, json=body), 401, "unauthenticated")
            for name in ("publisher", "dialer", "auditor", "bound"):
                headers = {"Authorization": tokens[name], "Access-Reason": "case 7"}
                answer = await client.post(path, json=body, headers=headers)
                refused(answer, 403, "forbidden")
                assert number[-7:] not in answer.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (ERASURES, {"number": "+14155550123"}),
        (ERASURES, {"number": "+14155550123", "request_id": ""}),
        (ERASURES, {"number": "+14155550123", "request_id": "x" * 257}),
        (ERASURES, {"number": "+14155550123", "request_id": "R", "cutoff_at": 1}),
        (ACCESS, {"number": "+14155550123", "seller_id": "acme"}),
        (ACCESS, {}),
        (ACCESS, []),
    ],
)
async def test_bodies_that_are_wrong(ledger: Ledger, path: str, body: Any) -> None:
    """Fields that are missing, too long or unknown are named."""
    async with served(doors_of(ledger), ready=False) as client:
        refused(await client.post(path, json=body), 400, "invalid-request")


async def test_numbers_that_are_none(ledger: Ledger) -> None:
    """Refused without being repeated; the method is told where another one is used."""
    async with served(doors_of(ledger), ready=False) as client:
        asked = {"number": "00 not a number", "request_id": "R"}
        for path, body in ((ERASURES, asked), (ACCESS, {"number": "00 not a number"})):
            answer = await client.post(path, json=body)
            refused(answer, 422, "rejected")
            assert "00 not a number" not in answer.text
            refused(await client.get(path), 405, "method-not-allowed")
