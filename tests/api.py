"""The HTTP API in this process, served by a real server, around a running ledger."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import uvicorn

from consent.area_tables import area_tables
from consent_ledger.adapters.publisher import PublisherConfig
from consent_ledger.api.acceptance import AcceptanceLimits
from consent_ledger.api.app import create_app
from consent_ledger.api.authentication import ApiKeys, Role, new_key
from consent_ledger.api.checking import CheckSettings
from consent_ledger.api.opening import DoorsConfig, doors
from consent_ledger.api.parts import ApiConfig
from consent_ledger.api.problems import PROBLEM_TYPES
from consent_ledger.bootstrap import LogIds
from consent_ledger.bootstrap_brokers import admin_connection
from consent_ledger.bootstrap_store import store_parameters
from consent_ledger.keys import load_keys
from consent_ledger.permit_issuing import PermitSettings
from consent_ledger.permit_keys import load_permit_keys, permit_keys_folder
from consent_ledger.rule_files import load_rulebook
from projections.surroundings import SurroundingsConfig
from projections.view import ViewConfig
from tests.ledger import PARTITIONS, Ledger, settings_of

READY_TIMEOUT_S = 60.0


def doors_of(ledger: Ledger, **changes: Any) -> DoorsConfig:
    """Parts as `serve` opens them, with changes."""
    settings = settings_of(ledger)
    keys = load_keys(settings)
    given: dict[str, Any] = {
        "publisher": PublisherConfig(
            settings.kafka_bootstrap, idempotent=ledger.broker.kind == "kafka"
        ),
        "view": ViewConfig(
            bootstrap=settings.kafka_bootstrap,
            partitions=PARTITIONS,
            suppression_key=keys.suppression,
            log_ids=LogIds(admin_connection(settings)).of,
            view_max_age_ms=20_000,
            clock_offset_max_ms=5_000,
        ),
        "surroundings": SurroundingsConfig(
            bootstrap=settings.kafka_bootstrap,
            keyed_partitions=PARTITIONS,
            log_ids=LogIds(admin_connection(settings)).of,
            nonce=bytes(range(16)),
        ),
        "store": store_parameters(settings),
        "rulebook": load_rulebook(None),
        "permits": PermitSettings(
            keys=load_permit_keys(settings, time.time_ns() // 1_000),
            folder=permit_keys_folder(settings),
            suppression_key=keys.suppression,
            issuer=settings.log_origin,
            partitions=PARTITIONS,
        ),
        "history_key": keys.history,
        "acceptance": AcceptanceLimits(wait_timeout_ms=60_000),
        "check": CheckSettings(keyed_partitions=PARTITIONS, region_default="US"),
    }
    return DoorsConfig(**{**given, **changes})


@contextlib.asynccontextmanager
async def served(
    doors_config: DoorsConfig, config: ApiConfig | None = None, ready: bool = True
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that runs with these parts; waits until it is ready."""
    app = create_app(config or ApiConfig(), doors(doors_config))
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="on"))
    running = asyncio.create_task(server.serve([listening]))
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while not server.started:
                assert not running.done(), "the server did not start"
                await asyncio.sleep(0.02)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            await until_reached(client)
            if ready:
                await until_ready(client)
            yield client
    finally:
        server.should_exit = True
        await running


async def until_reached(client: httpx.AsyncClient) -> None:
    """Return once connections arrive.

    A container engine redirects the ports of its containers, and for a moment still those of a
    container that has just ended; such a port may be ours by then.
    """
    async with asyncio.timeout(READY_TIMEOUT_S):
        while True:
            with contextlib.suppress(httpx.ConnectError):
                await client.get("/healthz")
                return
            await asyncio.sleep(0.05)


async def until_ready(client: httpx.AsyncClient) -> None:
    """Return once checks can be answered."""
    async with asyncio.timeout(READY_TIMEOUT_S):
        while (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.05)


def keys_of(*given: tuple[str, list[Role], list[str] | None]) -> tuple[ApiKeys, dict[str, str]]:
    """Accepted keys, and the header value of each by name."""
    made = {name: new_key(name, roles, sellers) for name, roles, sellers in given}
    keys = ApiKeys(entry for _, entry in made.values())
    return keys, {name: f"Bearer {token}" for name, (token, _) in made.items()}


_lines = iter(range(100, 200))
_codes = iter(
    code for code, places in area_tables().area_codes.items() if places.states[0].startswith("US-")
)
_current = {"code": next(_codes)}


def fresh_number() -> str:
    """A fictional number of the United States that no other test of this run has used."""
    global _lines
    line = next(_lines, None)
    if line is None:
        _current["code"] = next(_codes)
        _lines = iter(range(100, 200))
        line = next(_lines)
    return f"+1{_current['code']}555{line:04d}"


def ago(**delta: float) -> str:
    """RFC 3339 of an instant before now."""
    return (datetime.now(UTC) - timedelta(**delta)).isoformat()


def ahead(**delta: float) -> str:
    """RFC 3339 of an instant after now."""
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


def event(kind: str, number: str, **fields: Any) -> dict[str, Any]:
    """A document of an event of a minute ago."""
    return {
        "type": kind,
        "event_id": str(uuid.uuid4()),
        "occurred_at": ago(minutes=1),
        "number": number,
        "seller_id": "acme",
        "source": {"system": "tests", "channel": "API"},
        **fields,
    }


def grant(number: str, **fields: Any) -> dict[str, Any]:
    """Consent that permits a prerecorded call of acme in the US, also to advertise."""
    return event(
        "ConsentGranted",
        number,
        **{
            "occurred_at": ago(minutes=5),
            "consent_kind": "PEWC",
            "change": "GIVEN",
            "purposes": ["MARKETING", "INFORMATIONAL"],
            "modes": ["PRERECORDED"],
            "seller_named": True,
            "number_named": True,
            "authorises_automated": True,
            "not_a_condition": True,
            "request_copy_sha256": "5e" * 32,
            "evidence": {
                "name": "Jo Doe",
                "wording": "I agree to prerecorded calls.",
                "signature_method": "CHECKBOX",
                "signature": "checked",
                "request_copy_uri": "https://example.com/copy",
                "consent_copy_uri": "https://example.com/copy",
            },
            **fields,
        },
    )


def question(number: str, **fields: Any) -> dict[str, Any]:
    """A check that `grant` permits at any time of day, since the call does not advertise."""
    return {
        "number": number,
        "seller_id": "acme",
        "purpose": "INFORMATIONAL",
        "call_mode": "PRERECORDED",
        "dial_mode": "PREDICTIVE",
        **fields,
    }


async def ask(client: httpx.AsyncClient, number: str, **fields: Any) -> dict[str, Any]:
    """The answer to a check."""
    answer = await client.post("/v1/calls/check", json=question(number, **fields))
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


async def publish(
    client: httpx.AsyncClient, *documents: dict[str, Any], wait: str = "projected"
) -> list[dict[str, Any]]:
    """Publish documents and wait; all must be taken."""
    answer = await client.post(f"/v1/events?wait={wait}", json=list(documents))
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The one shape of every answer that is no success."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content: dict[str, Any] = answer.json()
    assert content["type"] == f"/problems/{code}"
    assert (content["code"], content["status"]) == (code, status)
    assert content["title"] == PROBLEM_TYPES[code].title
    assert content["detail"]
    assert set(content) <= {"type", "title", "status", "code", "detail", "errors", "results"}
    for error in content.get("errors", []):
        assert error["reason"]
        assert set(error) <= {"reason", "field", "value", "remedy"}
    return content
