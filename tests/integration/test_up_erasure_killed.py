"""Erasing a person while the API is killed: the same request again makes it whole."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import httpx
import pytest

from consent_ledger.embedded import free_ports
from projections.clickhouse import Store, StoreParameters
from tests.erased_person import (
    CANARY,
    RAW_TIMEOUT_S,
    check,
    environment,
    grant,
    proven,
    rows_with,
    run,
)
from tests.integration.test_up import Up, command, until, up

pytestmark = [pytest.mark.embedded, pytest.mark.slow]


@pytest.mark.fault
@pytest.mark.timeout(RAW_TIMEOUT_S)
def test_erasing_goes_on_after_the_api_was_killed(tmp_path: Path) -> None:
    """A kill -9 at any moment of an erasure, then the same request again: one erasure, whole."""
    people = {f"+141555501{digits}": delay for digits, delay in ((60, 0.0), (61, 0.4), (62, 1.0))}
    with up(tmp_path, free_ports()) as one:
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
