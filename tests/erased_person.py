"""A person who is erased from a whole ledger: what they leave, and where it is looked for."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from projections.clickhouse import Store, StoreParameters
from projections.suppression_store import StoreFolder, StoreLimits
from tests.integration.test_up import Up, command, until
from tests.integration.test_up import environment as up_environment

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
        return bool(json.loads(verified.stdout.splitlines()[-1])["blocks_unsealed"] == 0)

    until(clean)
