"""Erasing a person from a whole ledger: nothing of them is left on the disk, and it stays so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from consent_ledger.embedded import free_ports
from projections.clickhouse import Store, StoreParameters
from projections.suppression_store import StoreFolder, StoreLimits
from tests.integration.test_up import Up, command, until, up
from tests.integration.test_up import environment as up_environment

pytestmark = [pytest.mark.embedded, pytest.mark.slow]

NUMBER = "+14155550177"
OTHER = "+14155550178"
CANARY = "canary.7f3a91@people.example"
FORMS = ("4155550177", "415-555-0177", "(415) 555-0177", "415.555.0177", CANARY)
GONE_S = 180.0
RAW_TIMEOUT_S = 600


def grant(number: str, email: str) -> dict[str, Any]:
    """The person agrees, with evidence."""
    return {
        "type": "ConsentGranted",
        "event_id": str(uuid.uuid4()),
        "occurred_at": datetime.now(UTC).isoformat(),
        "number": number,
        "seller_id": "acme",
        "source": {"system": "web-forms", "channel": "WEB"},
        "consent_kind": "PEWC",
        "purposes": ["MARKETING"],
        "modes": ["PRERECORDED"],
        "evidence": {
            "email": email,
            "name": "Ada Example",
            "note": f"called from {number}, also written (415) 555-{number[-4:]}",
        },
    }


def check(one: Up, number: str) -> tuple[str, list[str]]:
    """Verdict and reasons of a check."""
    asked = {
        "number": number, "seller_id": "acme", "purpose": "MARKETING",
        "call_mode": "PRERECORDED", "dial_mode": "MANUAL",
    }  # fmt: skip
    answer = one.http.post("/v1/calls/check", json=asked).json()
    return answer["verdict"], [reason["code"] for reason in answer["reasons"]]


def environment(one: Up, folder: Path) -> dict[str, str]:
    """Settings under which a command finds the ledger."""
    return up_environment(**one.settings(), CONSENT_DATA_DIR=str(folder / "data"))


def run(
    one: Up, folder: Path, *arguments: str, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command against the ledger."""
    return subprocess.run(
        command(*arguments), env=environment(one, folder), capture_output=True, text=True,
        timeout=120, input=given,
    )  # fmt: skip


def files_with(folder: Path) -> list[str]:
    """Files under a folder that hold the number, in any form, or the canary."""
    needles = [form.encode() for form in FORMS]
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            data = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:
            continue
        if any(needle in data for needle in needles):
            found.append(str(path.relative_to(folder)))
    return found


def rows_with(store: Store) -> list[str]:
    """Columns of any table whose values hold it; the store's files are compressed."""
    columns = store.query_rows(
        "SELECT table, name FROM system.columns WHERE database = currentDatabase() "
        "AND table IN (SELECT name FROM system.tables WHERE database = currentDatabase() "
        "AND engine LIKE '%MergeTree')"
    )
    found = []
    for table, column in columns:
        condition = " OR ".join(f"position(toString(`{column}`), '{form}') > 0" for form in FORMS)
        if store.query_rows(f"SELECT count() FROM `{table}` WHERE {condition}")[0][0]:
            found.append(f"{table}.{column}")
    return found


def old_parts(store: Store) -> int:
    """Parts that were written anew and are still on the disk."""
    rows = store.query_rows(
        "SELECT count() FROM system.parts WHERE database = currentDatabase() "
        "AND table IN ('evidence', 'dead_letters') AND NOT active"
    )
    return int(rows[0][0])


def cached(folder: Path) -> dict[bytes, bytes]:
    """Every key and state in the caches of the stopped project worker."""
    found: dict[bytes, bytes] = {}
    caches = [path for path in folder.rglob("CURRENT") if "tallies" not in str(path)]
    assert caches
    for path in caches:
        store = StoreFolder(path.parent.parent, StoreLimits()).open(int(path.parent.name))
        found |= dict(store.items())
        store.close()
    return found


@pytest.fixture
def ports() -> dict[str, int]:
    return free_ports()


@pytest.mark.timeout(RAW_TIMEOUT_S)
def test_nothing_of_an_erased_person_is_left(tmp_path: Path, ports: dict[str, int]) -> None:
    """Byte search over the data folder, before and after a restart; proofs stay, calls do not."""
    data = tmp_path / "data"
    number_file = tmp_path / "number.txt"
    number_file.write_text(NUMBER + "\n")
    with up(tmp_path, ports) as one:
        publish_person(one)
        told = run(one, tmp_path, "access", "-", "--json", given=NUMBER)
        assert told.returncode == 0, told.stderr
        content = json.loads(told.stdout)
        assert CANARY in told.stdout and content["state"]
        assert {event["type"] for event in content["events"]} >= {"ConsentGranted", "DialDecision"}
        refused_under_a_hold(one, tmp_path, number_file)
        done = run(
            one, tmp_path, "erase", "--number-file", str(number_file), "--request", "REQ-7",
            "--json", "--why", "request 7",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        answer = json.loads(done.stdout)
        assert answer["certificate"]["topics_until"] and "17(3)" in answer["certificate_text"]
        again = run(one, tmp_path, "erase", "-", "--request", "REQ-7", "--json", given=NUMBER)
        assert json.loads(again.stdout)["certificate"] == answer["certificate"]
        assert check(one, NUMBER)[0] == "deny"
        # A replay of what was published before the erasure brings nothing back.
        one.publish(late_grant())
        wait_until_gone(one, data)
        proven(one, tmp_path)
    states = cached(data)
    assert not [key for key in states if b"4155550177" in key]
    assert any(key.startswith(b"#") for key in states)
    assert files_with(data) == []
    with up(tmp_path, ports) as one:
        verdict, reasons = check(one, NUMBER)
        assert verdict == "deny" and "CONSENT_REVOKED" in reasons, (verdict, reasons)
        told = run(one, tmp_path, "access", "-", "--json", given=NUMBER)
        assert CANARY not in told.stdout
        assert not [event for event in json.loads(told.stdout)["events"] if event["evidence_kept"]]
        wait_until_gone(one, data)
        proven(one, tmp_path)
        one.publish(grant(NUMBER, "new@people.example"))
        renewed = json.loads(run(one, tmp_path, "access", "-", "--json", given=NUMBER).stdout)
        kept = [event["type"] for event in renewed["events"] if event["evidence_kept"]]
        assert kept == ["ConsentGranted"]


@pytest.mark.fault
@pytest.mark.timeout(RAW_TIMEOUT_S)
def test_erasing_goes_on_after_the_api_was_killed(tmp_path: Path, ports: dict[str, int]) -> None:
    """A kill -9 at any moment of an erasure, then the same request again: one erasure, whole."""
    people = {f"+141555501{digits}": delay for digits, delay in ((60, 0.0), (61, 0.4), (62, 1.0))}
    with up(tmp_path, ports) as one:
        url = one.settings()["CONSENT_CLICKHOUSE_URL"]
        store = Store.connect(StoreParameters(url=url))
        for number, delay in people.items():
            one.publish(grant(number, CANARY))
            request = f"REQ-{number[-2:]}"
            erasing = subprocess.Popen(
                command("erase", number, "--request", request),
                env=environment(one, tmp_path), stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            # Somewhere between its start and its end: each moment must do.
            until(partial(begun, store, request, erasing))
            time.sleep(delay)
            os.kill(one.pids()["serve"], signal.SIGKILL)
            assert erasing.wait(120) in (0, 3)
            until(lambda: answers(one))
            again = run(one, tmp_path, "erase", "-", "--request", request, given=number)
            assert again.returncode == 0, again.stdout + again.stderr
            assert executed(store, request) == 1
            assert check(one, number)[0] == "deny"
        assert rows_with(store) == []
        store.close()
        proven(one, tmp_path)


def begun(store: Store, request: str, erasing: subprocess.Popen[bytes]) -> bool:
    """The request of an erasure is recorded, or the command has ended already."""
    return recorded(store, "ErasureRequested", request) > 0 or erasing.poll() is not None


def executed(store: Store, request: str) -> int:
    """How often a request was executed."""
    return recorded(store, "ErasureExecuted", request)


def recorded(store: Store, name: str, request: str) -> int:
    """Facts of one event type of a request."""
    rows = store.query_rows(
        f"SELECT count() FROM facts WHERE event_name = '{name}' AND request_id = '{request}'"
    )
    return int(rows[0][0])


def answers(one: Up) -> bool:
    """The API is there and can decide."""
    try:
        return one.http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def publish_person(one: Up) -> None:
    """Two people agree and are checked; a record of one can't be used."""
    one.publish(grant(NUMBER, CANARY))
    one.publish(grant(OTHER, "other@people.example"))
    check(one, NUMBER)
    check(one, OTHER)


def late_grant() -> dict[str, Any]:
    """Dated before the erasure."""
    late = grant(NUMBER, CANARY)
    late["occurred_at"] = datetime.fromtimestamp(time.time() - 3_600, UTC).isoformat()
    return late


def refused_under_a_hold(one: Up, folder: Path, number_file: Path) -> None:
    """A legal hold stops an erasure until it is released."""
    hold = {
        "event_id": str(uuid.uuid4()), "occurred_at": datetime.now(UTC).isoformat(),
        "number": NUMBER, "seller_id": "acme", "hold_id": "H-1",
        "source": {"system": "legal"},
    }  # fmt: skip
    one.publish({"type": "LegalHoldPlaced", **hold})
    refused = run(one, folder, "erase", "--number-file", str(number_file), "--request", "REQ-6")
    assert refused.returncode == 1 and "H-1" in refused.stdout, refused.stdout + refused.stderr
    released = {"event_id": str(uuid.uuid4()), "occurred_at": datetime.now(UTC).isoformat()}
    one.publish({"type": "LegalHoldReleased", **hold, **released})


def wait_until_gone(one: Up, data: Path) -> None:
    """Caches, the journal of decisions and old parts are cleaned behind the answer."""
    url = one.settings()["CONSENT_CLICKHOUSE_URL"]
    store = Store.connect(StoreParameters(url=url))
    try:
        deadline = time.monotonic() + GONE_S
        while (files := files_with(data)) or old_parts(store):
            assert time.monotonic() < deadline, (files, old_parts(store))
            time.sleep(1)
        assert rows_with(store) == []
    finally:
        store.close()


def proven(one: Up, folder: Path) -> None:
    """`verify` finds nothing, and the certificate's digest is in the log."""

    def clean() -> bool:
        verified = run(one, folder, "verify", "--json")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        return json.loads(verified.stdout.splitlines()[-1])["blocks_unsealed"] == 0

    until(clean)
