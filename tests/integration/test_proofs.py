"""Proofs from end to end, by the product's own commands: record, seal, witness, serve, verify."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from consent.checkpoints import opened_checkpoint
from consent.notes import VerifierKey, parse_note
from consent.tiles import Tile, bundles_of_size, decode_bundle
from tests.brokers import die_with_parent, free_port, wait_until
from tests.ledger import Ledger, command, ledger_on
from tests.stores import RunningFront

WITNESS = "witness.example/w1"


@pytest.fixture
def ledger(
    request: pytest.FixtureRequest, clickhouse_front: RunningFront, tmp_path: Path
) -> Iterator[Ledger]:
    """A running ledger on the embedded broker, which will have a witness."""
    settings = {
        "log_policy_file": str(tmp_path / "policy"),
        "log_checkpoint_interval_ms": "500",
        "log_origin": "ledger.example/log",
    }
    (tmp_path / "policy").write_text("# nobody yet\n")
    with ledger_on("embedded", request, clickhouse_front.url, tmp_path, **settings) as running:
        yield running


@contextlib.contextmanager
def witness(ledger: Ledger, key: str) -> Iterator[tuple[VerifierKey, int]]:
    """A witness of the ledger's log: its key and its port."""
    logs = ledger.folder / "logs"
    logs.write_text(f"log {key}\n")
    port = free_port()
    folder = ledger.folder / "witness"
    shown = ledger.run("witness", "--name", WITNESS, "--folder", str(folder), "--show-key")
    arguments = ("--name", WITNESS, "--policy", str(logs), "--port", str(port))
    with (ledger.folder / "witness.log").open("wb") as output:
        process = subprocess.Popen(
            command("witness", *arguments, "--folder", str(folder)),
            env=dict(ledger.environment),
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,
        )
    try:
        wait_until(lambda: _answers(port), 60, "the witness")
        yield VerifierKey.parse(shown.stdout), port
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.embedded
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_is_published_is_proved(ledger: Ledger) -> None:
    """A published event is under a cosigned checkpoint soon after, over HTTP as on disk, and
    `verify` finds nothing; after a change in the store it does.
    """
    key = ledger.run("keys", "log").stdout.strip()
    log_key = VerifierKey.parse(key)
    assert log_key.name == "ledger.example/log"
    with witness(ledger, key) as (witness_key, port):
        line = f"witness w1 {witness_key.encoded} http://127.0.0.1:{port}\n"
        (ledger.folder / "policy").write_text(line)
        ledger.begin("seal", "worker", "seal")
        ledger.start("serve", "serve")
        ledger.await_ready("seal")
        event = {
            "type": "ConsentWithdrawn",
            "event_id": "5f0c7a5e-1d1f-4b5e-9a55-0f3f9a0c7c11",
            "occurred_at": "2026-11-20T10:00:00Z",
            "number": "+14155550123",
            "seller_id": "acme",
            "source": {"system": "crm", "channel": "WEB", "actor": "CONSUMER"},
            "purposes": ["MARKETING"],
            "manner": "KEYWORD",
        }
        answer = httpx.post(f"{ledger.api_url}/v1/events?wait=recorded", json=[event], timeout=60)
        assert answer.status_code in (200, 202), answer.text
        wait_until(lambda: _blocks_in_log(ledger, log_key), 60, "the block to be in the log")
        note = parse_note(httpx.get(f"{ledger.api_url}/v1/log/checkpoint").text)
        assert witness_key.signed_at(note)
        metrics = httpx.get(f"http://127.0.0.1:{ledger.ports['seal']}/metrics").text
        assert 'consent_log_cosignatures_total{outcome="cosigned",witness="w1"}' in metrics
        assert "consent_log_merge_delay_seconds_count" in metrics
    checkpoint = ledger.folder / "kept"
    checkpoint.write_text(note.encoded)
    arguments = ("verify", "--json", "--checkpoint", str(checkpoint), "--key", key)
    verified = ledger.run(*arguments)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["findings"] == 0
    one = ledger.run(*arguments, "--number", "+14155550123")
    assert one.returncode == 0, one.stdout + one.stderr
    assert json.loads(one.stdout)["facts"] >= 1


def _blocks_in_log(ledger: Ledger, key: VerifierKey) -> bool:
    """Whether an entry of a block is under the checkpoint that is served."""
    answer = httpx.get(f"{ledger.api_url}/v1/log/checkpoint")
    if answer.status_code != 200:
        return False
    size = opened_checkpoint(answer.text, [key]).size
    entries: list[bytes] = []
    for tile in bundles_of_size(size):
        found = httpx.get(f"{ledger.api_url}/v1/log/{tile.path}")
        if found.status_code != 200:
            return False
        entries += decode_bundle(Tile(None, tile.index, tile.width), found.content)
    return any(entry.startswith(b"BlockSealed.v1\n") for entry in entries)


def _answers(port: int) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    return False
