"""The doors of auditors: reports over HTTP and on the command line, and who looked through them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet
import pytest
import pytest_asyncio

from consent.privacy import subject_token
from consent_ledger.api.authentication import ROLES
from consent_ledger.api.parts import ApiConfig
from consent_ledger.bootstrap_store import prepare_store, store_parameters
from consent_ledger.client import ApiAddress, ApiClient
from consent_ledger.demonstration import Demonstration
from consent_ledger.keys import load_keys
from projections.clickhouse import Store
from projections.report_catalogue import packaged_reports
from tests.api import doors_of, keys_of, served
from tests.brokers import embedded_broker
from tests.ledger import Ledger, running_ledger, settings_of
from tests.stores import RunningFront
from tests.told import ANNA, BEN, Told

NOVEMBER = {
    "from": "2026-11-01T00:00:00Z",
    "to": "2026-12-01T00:00:00Z",
    "known_at": "2026-12-01T00:00:00Z",
}
REASON = {"Access-Reason": "audit 2026/7, § 3".encode()}


@pytest.fixture(scope="module")
def ledger(
    clickhouse_front: RunningFront, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ledger]:
    """A log, and a store with a call without a permit for each of two sellers."""
    folder = tmp_path_factory.mktemp("audit")
    with (
        embedded_broker() as broker,
        running_ledger(broker, clickhouse_front.url, folder, processes=()) as running,
    ):
        prepare_store(settings_of(running))
        told = Told(Store.connect(store_parameters(settings_of(running))), folder / "log")
        told.say("CallPlaced", "2026-11-03 15:00", number=ANNA, call_id="=1+1", seller_id="acme")
        told.say("CallPlaced", "2026-11-03 16:00", number=BEN, call_id="c2", seller_id="other")
        told.record()
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def doors(ledger: Ledger) -> AsyncIterator[tuple[httpx.AsyncClient, dict[str, str]]]:
    """The API with a key for every role, and one that is bound to a seller."""
    keys, tokens = keys_of(
        *((role, [role], None) for role in ROLES), ("bound", ["auditor"], ["acme"])
    )
    config = doors_of(ledger, access_reason_required=True)
    async with served(config, ApiConfig(keys), ready=False) as client:
        yield client, tokens


pytestmark = pytest.mark.asyncio(loop_scope="module")


def accesses(ledger: Ledger) -> list[tuple[Any, ...]]:
    """Who looked, oldest first."""
    store = Store.connect(store_parameters(settings_of(ledger)))
    try:
        return store.query_rows(
            "SELECT who, role, what, why, parameters, lower(hex(subject)) FROM access_log "
            "ORDER BY at"
        )
    finally:
        store.close()


async def test_a_report_comes_in_three_forms(
    doors: tuple[httpx.AsyncClient, dict[str, str]], ledger: Ledger
) -> None:
    """The same rows, with what they rest on, and each answer written down."""
    client, tokens = doors
    headers = {"Authorization": tokens["auditor"], **REASON}
    before = len(accesses(ledger))
    path = "/v1/audit/reports/calls-without-permit"
    answers = {
        form: await client.get(path, params={**NOVEMBER, "format": form}, headers=headers)
        for form in ("json", "csv", "parquet")
    }
    for answer in answers.values():
        assert answer.status_code == 200, answer.text
        assert answer.headers["findings"] == "2"
        assert answer.headers["query-id"]
        assert answer.headers["checkpoint"].startswith("ledger.example/log ")
    told = answers["json"].json()
    assert [row["call_id"] for row in told["rows"]] == ["=1+1", "c2"]
    assert (told["findings"], told["from"]) == (2, "2026-11-01T00:00:00+00:00")
    lines = list(csv.DictReader(io.StringIO(answers["csv"].text)))
    assert [line["call_id"] for line in lines] == ["'=1+1", "c2"]
    table = pyarrow.parquet.read_table(io.BytesIO(answers["parquet"].content))
    assert table.column("call_id").to_pylist() == ["=1+1", "c2"]
    assert json.loads(table.schema.metadata[b"consent-ledger.report"])["findings"] == 2
    new = accesses(ledger)[before:]
    about = '{"personal":"false","report":"calls-without-permit"}'
    assert new == [("auditor", "auditor", "report", "audit 2026/7, § 3", about, "0" * 32)] * 3


async def test_who_may_ask(doors: tuple[httpx.AsyncClient, dict[str, str]]) -> None:
    """Auditors and privacy officers; personal columns take the latter; a bound key its seller."""
    client, tokens = doors
    path = "/v1/audit/reports/call-records"

    async def status(key: str, where: str = path, **params: str) -> int:
        headers = {"Authorization": tokens[key], **REASON}
        answer = await client.get(where, params={**NOVEMBER, **params}, headers=headers)
        return answer.status_code

    for role in ROLES:
        assert await status(role) == (200 if role in ("auditor", "privacy", "admin") else 403)
    assert await status("auditor", personal="true") == 403
    assert await status("privacy", personal="true") == 200
    headers = {"Authorization": tokens["bound"], **REASON}
    mine = await client.get(path, params=NOVEMBER, headers=headers)
    assert [row["seller"] for row in mine.json()["rows"]] == ["acme"]
    assert await status("bound", seller="other") == 422
    assert await status("bound", "/v1/audit/reports/offset-gaps") == 403
    assert await status("auditor", "/v1/audit/reports/nonsense") == 404
    for wrong in (
        {"from": "yesterday"},
        {"from": "2026-12-02T00:00:00Z"},
        {"to": "9999-01-01T00:00:00Z"},
    ):
        assert await status("auditor", **wrong) == 422
    listed = await client.get("/v1/audit/reports", headers={"Authorization": tokens["auditor"]})
    assert [one["name"] for one in listed.json()] == list(packaged_reports())


async def test_nobody_looks_without_a_reason(
    doors: tuple[httpx.AsyncClient, dict[str, str]], ledger: Ledger
) -> None:
    """Where there are keys: none, and one that names a person, are refused, and nothing is read."""
    client, tokens = doors
    before = len(accesses(ledger))
    for reason in (None, "about +1 415 555 0101", "jo@example.com"):
        headers = {"Authorization": tokens["auditor"]}
        if reason is not None:
            headers["Access-Reason"] = reason
        for answer in (
            await client.get("/v1/audit/reports/call-records", headers=headers),
            await client.post("/v1/audit/timeline", json={"number": ANNA}, headers=headers),
        ):
            assert answer.status_code == 422, answer.text
            assert answer.json()["errors"][0]["field"] == "Access-Reason"
    assert len(accesses(ledger)) == before


async def test_a_timeline_names_whose(
    doors: tuple[httpx.AsyncClient, dict[str, str]], ledger: Ledger
) -> None:
    """The access to a person's history is kept under their token."""
    client, tokens = doors
    headers = {"Authorization": tokens["privacy"], **REASON}
    answer = await client.post("/v1/audit/timeline", json={"number": ANNA}, headers=headers)
    assert answer.status_code == 200
    token = subject_token(load_keys(settings_of(ledger)).history, ANNA).hex()
    who, role, what, *_rest, subject = accesses(ledger)[-1]
    assert (who, role, what, subject) == ("privacy", "privacy", "timeline", token)


async def test_the_commands(ledger: Ledger, tmp_path: Path) -> None:
    """`report` ends with 1 where it finds something, `subject` prints a token; both are kept."""
    times = ("--from", NOVEMBER["from"], "--to", NOVEMBER["to"], "--known-at", NOVEMBER["known_at"])
    found = ledger.run("report", "calls-without-permit", *times, "--json", "--why", "case 8")
    assert found.returncode == 1, found.stderr
    assert [row["call_id"] for row in json.loads(found.stdout)["rows"]] == ["=1+1", "c2"]
    clean = ledger.run("report", "offset-gaps", *times)
    assert clean.returncode == 0, clean.stderr
    assert "checkpoint ledger.example/log" in clean.stdout
    file = tmp_path / "calls.parquet"
    done = ledger.run("report", "call-records", *times, "--format", "parquet", "--out", str(file))
    assert done.returncode == 0, done.stderr
    assert pyarrow.parquet.read_table(file).num_rows == 2
    assert "calls-after-withdrawal" in ledger.run("report").stdout
    assert ledger.run("report", "call-record").returncode == 2
    said = ledger.run("subject", "-", "--why", "case 8", stdin=ANNA + "\n")
    token = subject_token(load_keys(settings_of(ledger)).history, ANNA).hex()
    assert (said.returncode, said.stdout) == (0, token + "\n"), said.stderr
    who, role, what, why, _about, subject = accesses(ledger)[-1]
    assert who.startswith("cli:")
    assert (role, what, why, subject) == ("operator", "subject-token", "case 8", token)


async def test_what_can_not_be_written_down_is_not_shown(ledger: Ledger) -> None:
    """With the store away no door answers, and the command ends with 3."""
    away = {**ledger.environment, "CONSENT_CLICKHOUSE_URL": "http://127.0.0.1:9"}
    alone = Ledger(ledger.broker, away, ledger.folder, ledger.ports)
    done = alone.run("subject", ANNA)
    assert (done.returncode, done.stdout) == (3, "")


async def test_the_demonstration_says_why_it_looks(
    doors: tuple[httpx.AsyncClient, dict[str, str]], ledger: Ledger
) -> None:
    """Where keys are asked for, a reason is as well: the demo's own steps give one."""
    client, tokens = doors
    key = tokens["auditor"].removeprefix("Bearer ")
    async with ApiClient(ApiAddress(str(client.base_url), key)) as api:
        assert await Demonstration(settings_of(ledger), api).timeline() == []
