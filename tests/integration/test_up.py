"""`consent-ledger up` as a person runs it: start, stop, start again, and everything that dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from consent_ledger.embedded import free_ports
from consent_ledger.sample import HERO_CHECK, HERO_NUMBER, hero_renewal, hero_withdrawal
from consent_ledger.settings import variable_name

pytestmark = [pytest.mark.embedded, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
DEADLINE_S = 90.0


@dataclass
class Up:
    """A running `consent-ledger up`."""

    process: subprocess.Popen[str]
    url: str
    log: Path
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=30)

    def said(self) -> str:
        return self.log.read_text()

    def times_ready(self) -> int:
        return self.said().count("The ledger is ready")

    def pids(self) -> dict[str, int]:
        """Processes of the deployment by what they run, from the kernel."""
        found = {}
        for child in _children(self.process.pid):
            argv = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
            names = ("broker", "embedded_clickhouse", "project", "record", "serve")
            for name in names:
                if any(part == name or part.endswith(f".{name}") for part in argv):
                    found[name] = child
        return found

    def publish(self, document: Mapping[str, Any]) -> dict[str, Any]:
        answer = self.http.post("/v1/events", json=document)
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()["results"][0]
        assert result["status"] == "accepted", result
        return result

    def verdict(self) -> tuple[str, str]:
        answer = self.http.post("/v1/calls/check", json=HERO_CHECK).json()
        reason = answer.get("reason") or {}
        return answer.get("verdict", str(answer)), reason.get("code", "")

    def timeline(self) -> list[str]:
        answer = self.http.post("/v1/audit/timeline", json={"number": HERO_NUMBER}).json()
        return [entry["event_id"] for entry in answer["entries"]]


@pytest.fixture
def ports() -> dict[str, int]:
    return free_ports()


@contextmanager
def up(folder: Path, ports: Mapping[str, int]) -> Iterator[Up]:
    """Start it, wait until it says that it is ready, and stop it at the end."""
    log = folder / f"up-{uuid.uuid4().hex}.txt"
    process = start(folder, ports, log)
    one = Up(process, f"http://127.0.0.1:{ports['serve_port']}", log)
    try:
        until(lambda: one.times_ready() == 1 or process.poll() is not None)
        assert process.poll() is None, one.said()
        yield one
    finally:
        one.http.close()
        process.terminate()
        process.wait(DEADLINE_S)


def start(folder: Path, ports: Mapping[str, int], log: Path) -> subprocess.Popen[str]:
    """The command with its data under `folder` and its output in `log`."""
    settings = {variable_name(name): str(port) for name, port in ports.items()}
    environment = {
        **os.environ,
        **settings,
        "PYTHONPATH": str(ROOT),
        "CONSENT_DATA_DIR": str(folder / "data"),
    }
    with log.open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "consent_ledger.cli.main", "up"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
        )


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except FileNotFoundError:
        return []


def gone(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rsplit(")", 1)[1].split()[0] == "Z"


def grant() -> dict[str, Any]:
    return hero_renewal(datetime.now(UTC), uuid.uuid4())


def withdrawal() -> dict[str, Any]:
    return hero_withdrawal(datetime.now(UTC), uuid.uuid4())


def test_a_second_start_answers_the_same(tmp_path: Path, ports: dict[str, int]) -> None:
    """What was answered as recorded survives a stop: verdict and timeline are as before."""
    with up(tmp_path, ports) as first:
        assert first.publish(grant())["recorded_at"]
        until(lambda: first.verdict()[0] == "allow")
        pids = first.pids()
        assert pids.keys() == {"broker", "embedded_clickhouse", "project", "record", "serve"}
        first.publish(withdrawal())
        until(lambda: first.verdict()[0] == "deny")
        denied, told = first.verdict(), first.timeline()
    assert first.process.returncode == 0
    assert all(gone(pid) for pid in pids.values())
    with up(tmp_path, ports) as second:
        assert second.verdict() == denied
        timeline = second.timeline()
        assert timeline[: len(told)] == told
        second.publish(grant())
        until(lambda: second.verdict()[0] == "allow")


def test_nothing_recorded_is_lost_when_the_broker_is_killed(
    tmp_path: Path, ports: dict[str, int]
) -> None:
    """A killed broker comes back with the states that history has, and takes new events."""
    with up(tmp_path, ports) as one:
        one.publish(grant())
        one.publish(withdrawal())
        until(lambda: one.verdict()[0] == "deny")
        denied, store = one.verdict(), one.pids()["embedded_clickhouse"]
        os.kill(one.pids()["broker"], signal.SIGKILL)
        until(lambda: one.times_ready() == 2)
        assert one.verdict() == denied
        assert one.pids()["embedded_clickhouse"] == store
        one.publish(grant())
        until(lambda: one.verdict()[0] == "allow")


@pytest.mark.parametrize("name", ["embedded_clickhouse", "project", "record", "serve"])
def test_a_killed_process_comes_back(tmp_path: Path, ports: dict[str, int], name: str) -> None:
    """After any process is killed, events are recorded and decided on as before."""
    with up(tmp_path, ports) as one:
        one.publish(grant())
        others = {other: pid for other, pid in one.pids().items() if other != name}
        os.kill(one.pids()[name], signal.SIGKILL)
        until(lambda: one.times_ready() == 2)
        assert {other: one.pids()[other] for other in others} == others
        until(lambda: one.verdict()[0] == "allow")
        one.publish(withdrawal())
        until(lambda: one.verdict()[0] == "deny")


def test_a_second_instance_is_refused(tmp_path: Path, ports: dict[str, int]) -> None:
    """Another `up` on the same folder ends at once and says who has it; the first goes on."""
    with up(tmp_path, ports) as first:
        log = tmp_path / "second.txt"
        second = start(tmp_path, free_ports(), log)
        assert second.wait(DEADLINE_S) == 3
        assert f"process {first.process.pid}" in log.read_text()
        assert "CONSENT_DATA_DIR" in log.read_text() and "Traceback" not in log.read_text()
        assert first.http.get("/healthz").status_code == 200


def test_a_taken_port_is_refused_by_name(tmp_path: Path, ports: dict[str, int]) -> None:
    """A port of another program is named, with the setting that chooses another one."""
    log = tmp_path / "up.txt"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports["record_port"]))
        taken.listen()
        refused = start(tmp_path, ports, log)
        assert refused.wait(DEADLINE_S) == 3
    assert f"port {ports['record_port']}" in log.read_text()
    assert "CONSENT_RECORD_PORT" in log.read_text() and "Traceback" not in log.read_text()


def test_killing_it_leaves_no_process(tmp_path: Path, ports: dict[str, int]) -> None:
    """When `up` itself is killed, its processes end, and it can be started again at once."""
    with up(tmp_path, ports) as first:
        first.publish(grant())
        pids = first.pids()
        first.process.kill()
        first.process.wait()
        until(lambda: all(gone(pid) for pid in pids.values()))
    with up(tmp_path, ports) as second:
        assert second.verdict()[0] == "allow"
