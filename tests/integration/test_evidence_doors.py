"""Bundles of evidence from the command line and over HTTP, by who may, and written down."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from consent_ledger.api.parts import ApiConfig
from consent_ledger.evidence_signing import EvidenceSigning
from consent_ledger.verify_bundle import check, parse_key, read
from projections.clickhouse import Store, StoreParameters
from tests.api import doors_of, keys_of, served
from tests.brokers import embedded_broker
from tests.evidence_world import ANNA, FORM, EvidenceWorld
from tests.ledger import Ledger, command, running_ledger
from tests.made_ledger import KEYS, LOG_KEY
from tests.stores import RunningFront

KEY = parse_key(LOG_KEY.verifier.encoded)
_SEEDS = {
    "history": KEYS.history,
    "suppression": KEYS.suppression,
    "dead-letter": KEYS.dead_letters,
    "log": LOG_KEY.seed,
}


@pytest.fixture(scope="module")
def ledger(
    clickhouse_front: RunningFront, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ledger]:
    """A broker and a store, without workers."""
    folder = tmp_path_factory.mktemp("evidence-doors")
    with (
        embedded_broker() as broker,
        running_ledger(broker, clickhouse_front.url, folder, processes=()) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def world(ledger: Ledger) -> Iterator[EvidenceWorld]:
    """The story, in the ledger's own database."""
    environment = ledger.environment
    parameters = StoreParameters(
        url=environment["CONSENT_CLICKHOUSE_URL"],
        database=environment["CONSENT_CLICKHOUSE_DATABASE"],
    )
    store = Store.connect(parameters)
    told = EvidenceWorld(store, ledger.folder / "log")
    told.tell()
    yield told
    store.close()


@pytest.fixture(scope="module")
def environment(ledger: Ledger, world: EvidenceWorld) -> dict[str, str]:
    """Settings of a command that looks at the story."""
    data = ledger.folder / "cli"
    (data / "keys").mkdir(parents=True)
    for name, seed in _SEEDS.items():
        path = data / "keys" / f"{name}.key"
        path.write_bytes(seed)
        path.chmod(0o600)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("CONSENT_")},
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "CONSENT_DEPLOYMENT": "embedded",
        "CONSENT_DATA_DIR": str(data),
        "CONSENT_LOG_DIR": str(world.ledger.folder),
        "CONSENT_LOG_ORIGIN": LOG_KEY.name,
        "CONSENT_CLICKHOUSE_URL": ledger.environment["CONSENT_CLICKHOUSE_URL"],
        "CONSENT_CLICKHOUSE_DATABASE": ledger.environment["CONSENT_CLICKHOUSE_DATABASE"],
    }


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`consent-ledger evidence`, to its end; the number comes by standard input."""
    return subprocess.run(
        command("evidence", "--number", "-", *arguments),
        env=environment,
        input=f"{ANNA}\n",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.embedded
def test_the_command(world: EvidenceWorld, environment: dict[str, str], tmp_path: Path) -> None:
    """A bundle that holds, for its owner only; who looked is kept; nothing is overwritten."""
    path, form = tmp_path / "anna.zip", tmp_path / "form.html"
    form.write_bytes(FORM)
    period = ("--from", "2026-11-01", "--to", "2026-12-01", "--zone", "America/Chicago")
    arguments = (*period, "--copy", str(form), "--why", "case 7", "--out", str(path))
    done = run(environment, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["facts"], told["not_sealed_yet"]) == (10, 0)
    assert told["key"] == LOG_KEY.verifier.encoded
    assert path.stat().st_mode & 0o077 == 0
    files = read(path)
    assert check(files, KEY, [])
    story = json.loads(files["story.json"])
    assert story["period"] == {"from": "2026-11-01T05:00:00Z", "to": "2026-12-01T06:00:00Z"}
    rows = world.store.query_rows("SELECT what, why, hex(subject) FROM access_log")
    assert ("evidence", "case 7", story["subject"].upper()) in rows
    again = run(environment, *arguments)
    assert again.returncode == 2
    assert "OUT_EXISTS" in again.stderr
    assert ANNA not in done.stderr + again.stderr


@pytest.mark.embedded
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--from", "yesterday"), "INVALID_TIME"),
        (("--from", "2026-11-01", "--to", "2026-11-01"), "NOT_LATER"),
        (("--zone", "Mars/Base"), "INVALID_ZONE"),
        (("--why", "about +15125550101"), "REASON_NAMES_PERSON"),
    ],
)
def test_the_command_refuses(
    world: EvidenceWorld,
    environment: dict[str, str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: str,
) -> None:
    """What can't be used ends with 2 and says why."""
    done = run(environment, *arguments, "--out", str(tmp_path / "x.zip"))
    assert done.returncode == 2, done.stderr
    assert code in done.stderr
    assert not (tmp_path / "x.zip").exists()


_KEYS, _TOKENS = keys_of(
    ("eve", ["auditor"], None), ("bo", ["auditor"], ["b"]), ("dial", ["dialer"], None)
)


@pytest_asyncio.fixture(loop_scope="function")
async def client(ledger: Ledger, world: EvidenceWorld) -> AsyncIterator[httpx.AsyncClient]:
    """The API with keys, and with the log's own."""
    signing = EvidenceSigning(world.ledger.folder, LOG_KEY, KEYS.history)
    config = ApiConfig(keys=_KEYS, evidence=signing)
    async with served(doors_of(ledger, access_reason_required=True), config, ready=False) as opened:
        yield opened


@pytest.mark.embedded
async def test_the_door(client: httpx.AsyncClient, world: EvidenceWorld, tmp_path: Path) -> None:
    """A bundle for auditors, of what their key may see; no number in any header."""
    asked = {"number": ANNA, "from": "2026-11-01", "to": "2026-12-01T00:00:00Z"}
    eve = {"authorization": _TOKENS["eve"], "access-reason": "case 8"}
    answer = await client.post("/v1/audit/evidence", json=asked, headers=eve)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    assert ANNA not in str(answer.headers)
    path = tmp_path / "eve.zip"
    path.write_bytes(answer.content)
    files = read(path)
    assert check(files, KEY, [])
    assert len(json.loads(files["story.json"])["events"]) == 10
    kept = world.store.query_rows("SELECT toString(access_id), who, why FROM access_log")
    (access,) = [one for one in kept if one[1] == "eve"]
    assert access[0] in answer.headers["content-disposition"]
    bound = {**eve, "authorization": _TOKENS["bo"]}
    path.write_bytes((await client.post("/v1/audit/evidence", json=asked, headers=bound)).content)
    story = json.loads(read(path)["story.json"])
    assert [event["fields"]["seller_id"] for event in story["events"]] == ["b"]
    assert story["sellers"] == ["b"]


@pytest.mark.embedded
async def test_the_door_refuses(client: httpx.AsyncClient) -> None:
    """Other roles, no reason, and what is no period."""
    eve = {"authorization": _TOKENS["eve"], "access-reason": "case 8"}
    cases = (
        ({"number": ANNA}, {**eve, "authorization": _TOKENS["dial"]}, 403),
        ({"number": ANNA}, {"authorization": _TOKENS["eve"]}, 422),
        ({"number": ANNA, "from": "then"}, eve, 422),
        ({"number": ANNA, "zone": "Mars/Base"}, eve, 422),
        ({"number": ANNA, "until": "2026-12-01"}, eve, 400),
        ({"number": "12"}, eve, 422),
        ({}, eve, 400),
    )
    for asked, headers, status in cases:
        answer = await client.post("/v1/audit/evidence", json=asked, headers=headers)
        assert answer.status_code == status, (asked, answer.text)
        assert ANNA not in answer.text
