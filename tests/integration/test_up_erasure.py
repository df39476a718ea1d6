"""Erasing a person from a whole ledger: nothing of them is left on the disk, and it stays so."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from consent_ledger.embedded import free_ports
from tests.erased_person import (
    CANARY,
    NUMBER,
    OTHER,
    RAW_TIMEOUT_S,
    cached,
    check,
    files_with,
    grant,
    proven,
    run,
    wait_until_gone,
)
from tests.integration.test_up import Up, up

pytestmark = [pytest.mark.embedded, pytest.mark.slow]


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
