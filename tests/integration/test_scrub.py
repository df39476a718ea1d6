"""Lists of numbers: a line of answer for each, one run in the log, and no decision or permit."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import hmac
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from consent_ledger.api.parts import ApiConfig
from consent_ledger.api.scrubbing import ScrubLimits
from consent_ledger.bootstrap_store import store_parameters
from projections.clickhouse import Store, StoreParameters
from tests.api import ask, doors_of, event, fresh_number, keys_of, publish, served
from tests.decisions import book
from tests.ledger import Ledger, ledger_on, settings_of
from tests.stores import RunningFront

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

CALL = {
    "seller_id": "acme",
    "purpose": "INFORMATIONAL",
    "call_mode": "PRERECORDED",
    "dial_mode": "PREDICTIVE",
}


@pytest.fixture(scope="module")
def ledger(
    request: pytest.FixtureRequest,
    clickhouse_front: RunningFront,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ledger]:
    """Both workers around the embedded broker."""
    folder = tmp_path_factory.mktemp("scrub")
    with ledger_on("embedded", request, clickhouse_front.url, folder) as running:
        yield running


async def scrub(client: httpx.AsyncClient, numbers: bytes, **call: Any) -> list[dict[str, Any]]:
    """The lines of the answer."""
    body = json.dumps({**CALL, **call}).encode() + b"\n" + numbers
    answer = await client.post("/v1/scrub", content=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines()]


def entries(ledger: Ledger, run_id: str) -> list[dict[str, str]]:
    """What the log, or what goes into it, says of a run."""
    store = Store.connect(store_parameters(settings_of(ledger)))
    try:
        rows = store.query_rows(
            "SELECT content['what'], content['parameters'], hex(subject) FROM log_entries "
            "WHERE entry_kind = 'ACCESS' ORDER BY at"
        )
    finally:
        store.close()
    found = [{"what": what, **json.loads(parameters)} for what, parameters, _ in rows]
    return [one for one in found if one.get("run_id") == run_id]


async def test_every_line_is_judged_as_a_check_would(ledger: Ledger) -> None:
    """Verdict and reason are those of a check, by line; what is no number is told; one run."""
    numbers = [fresh_number() for _ in range(12)]
    async with served(doors_of(ledger)) as client:
        await publish(client, *(event("ConsentRefused", number) for number in numbers[:4]))
        listed = b"\n".join([*(one.encode() for one in numbers), b"", b"no number", b"x" * 9_000])
        *lines, last = await scrub(client, listed)
        checked = [await ask(client, number) for number in numbers]
    assert [line["line"] for line in lines] == [*range(1, 13), 14, 15]
    for line, answer in zip(lines[:12], checked, strict=True):
        assert line["verdict"] == answer["verdict"]
        assert line.get("reason") == (answer["reason"] or {}).get("code")
        assert "permit" not in line and "number" not in line
    assert [line["verdict"] for line in lines[12:]] == ["rejected", "rejected"]
    run = last["run"]
    assert run["verdicts"] == dict(Counter(line["verdict"] for line in lines))
    assert run["numbers"] == 14 and "recorded" not in run
    salted = hmac.digest(bytes.fromhex(run["salt"]), listed, "sha256")
    assert run["list_sha256"] == salted.hex()
    begun, ended = entries(ledger, run["run_id"])
    assert (begun["what"], ended["what"]) == ("scrub", "scrub-ended")
    assert json.loads(ended["verdicts"]) == run["verdicts"]
    assert json.loads(ended["reasons"]) == run["reasons"]
    assert ended["list_sha256"] == run["list_sha256"]
    assert run["salt"] not in str(ended)
    assert not any(number[2:] in f"{begun}{ended}" for number in numbers)


async def test_the_answer_can_be_compared_with_the_log(ledger: Ledger) -> None:
    """The digest is that of the lines above the run's, as they were sent."""
    body = json.dumps(CALL) + "\n" + "\n".join(fresh_number() for _ in range(3))
    async with served(doors_of(ledger)) as client:
        text = (await client.post("/v1/scrub", content=body.encode())).text
    above, last = text[: text.index('{"run"')], json.loads(text[text.index('{"run"') :])
    assert hashlib.sha256(above.encode()).hexdigest() == last["run"]["answer_sha256"]


async def test_a_scrub_leaves_no_decision(ledger: Ledger) -> None:
    """Numbers that were only scrubbed have nothing in their timelines, and no attempts."""
    number = fresh_number()
    async with served(doors_of(ledger, rulebook=book())) as client:
        first, _run = await scrub(client, number.encode())
        assert first == {"line": 1, "verdict": "allow"}
        await publish(client, event("ConsentRefused", fresh_number()), wait="recorded")
        answer = await client.post("/v1/audit/timeline", json={"number": number})
    assert answer.json()["entries"] == []


@pytest.mark.parametrize(
    "head",
    [b"", b"no json\n", b'{"seller_id": "acme"}\n', b'{"number": "+12125550100"}\n', b"x" * 5_000],
)
async def test_a_list_without_a_call_is_refused(ledger: Ledger, head: bytes) -> None:
    """Before anything is answered."""
    async with served(doors_of(ledger), ready=False) as client:
        answer = await client.post("/v1/scrub", content=head + b"+12125550100")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")


async def test_whose_list_may_be_judged(ledger: Ledger) -> None:
    """It takes the role of a dialer, of that seller, and a list that is not too large."""
    keys, headers = keys_of(
        ("d", ["dialer"], ["acme"]), ("o", ["dialer"], ["other"]), ("a", ["auditor"], None)
    )
    body = json.dumps(CALL).encode() + b"\n"
    async with served(doors_of(ledger), ApiConfig(keys=keys), ready=False) as client:
        for name, status in (("d", 200), ("o", 422), ("a", 403)):
            answer = await client.post(
                "/v1/scrub", content=body, headers={"authorization": headers[name]}
            )
            assert answer.status_code == status, answer.text


async def test_without_the_store_nothing_is_judged(ledger: Ledger) -> None:
    """A run that can't be recorded is not begun."""
    away = doors_of(ledger, store=StoreParameters(url="http://127.0.0.1:1"))
    async with served(away, ready=False) as client:
        answer = await client.post("/v1/scrub", content=json.dumps(CALL).encode() + b"\n")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_the_command(ledger: Ledger, tmp_path: Path) -> None:
    """CSV beside the numbers, or the answer as JSON lines; exit codes say how it ended."""
    numbers = [fresh_number() for _ in range(3)]
    plain, mixed = tmp_path / "plain.txt", tmp_path / "mixed.txt"
    plain.write_text("\n".join(numbers) + "\n")
    mixed.write_text(f"{numbers[0]}\n\nnothing\n{numbers[1]}\n")
    ledger.start("serve", "serve")
    call = ["--seller", "acme", "--purpose", "informational", "--mode", "prerecorded"]
    call += ["--dial", "predictive", "--why", "campaign of the spring"]
    try:
        judged = await asyncio.to_thread(ledger.run, "scrub", str(plain), *call)
        told = await asyncio.to_thread(
            ledger.run, "scrub", str(mixed), *call, "--out", str(tmp_path / "out.csv")
        )
        as_json = await asyncio.to_thread(ledger.run, "scrub", str(plain), *call, "--json")
        refused = await asyncio.to_thread(
            ledger.run, "scrub", str(plain), "--seller", "acme", "--purpose", "SALES"
        )
    finally:
        ledger.stop("serve")
    away = await asyncio.to_thread(ledger.run, "scrub", str(plain), *call)
    assert judged.returncode == 0, judged.stderr
    rows = list(csv.DictReader(io.StringIO(judged.stdout)))
    assert [row["number"] for row in rows] == numbers
    assert {row["verdict"] for row in rows} == {"deny"}
    assert "3 numbers: 3 deny" in judged.stderr
    assert told.returncode == 1, told.stderr
    told_rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [(row["number"], row["verdict"]) for row in told_rows] == [
        (numbers[0], "deny"),
        ("nothing", "rejected"),
        (numbers[1], "deny"),
    ]
    assert json.loads(as_json.stdout.splitlines()[-1])["run"]["numbers"] == 3
    assert (refused.returncode, away.returncode) == (1, 3)


async def test_a_list_beyond_the_limit_is_refused(ledger: Ledger) -> None:
    """Before it is judged, and without keeping it."""
    doors = doors_of(ledger, scrub=ScrubLimits(bytes_max=1_000))
    async with served(doors, ready=False) as client:
        body = json.dumps(CALL).encode() + b"\n" + b"+12125550100\n" * 1_000
        answer = await client.post("/v1/scrub", content=body)
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")


async def test_only_so_many_lists_at_once(ledger: Ledger) -> None:
    """The next one is asked to come again, and taken once another has ended."""
    doors = doors_of(ledger, scrub=ScrubLimits(runs_max=1))
    body = json.dumps(CALL).encode() + b"\n" + b"+12125550100\n" * 20_000
    async with served(doors) as client:
        async with client.stream("POST", "/v1/scrub", content=body) as judging:
            await anext(judging.aiter_lines())
            refused = await client.post("/v1/scrub", content=json.dumps(CALL).encode() + b"\n")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        async with asyncio.timeout(60):
            while (await client.post("/v1/scrub", content=json.dumps(CALL))).status_code != 200:
                await asyncio.sleep(0.1)
