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
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from consent_ledger.embedded import free_ports
from consent_ledger.sample import HERO_CHECK, HERO_NUMBER, hero_renewal, hero_withdrawal
from consent_ledger.settings import variable_name
from tests.brokers import die_with_parent

pytestmark = [pytest.mark.embedded, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
DEADLINE_S = 90.0
OTHER_NUMBER = "+14155550124"


@dataclass
class Up:
    """A running `consent-ledger up`."""

    process: subprocess.Popen[str]
    url: str
    log: Path
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=30)

    def settings(self) -> dict[str, str]:
        """Where another command finds this ledger."""
        pairs = (line.rsplit(": ", 1) for line in self.said().splitlines() if "127.0.0.1" in line)
        found = dict(pairs)
        return {
            "CONSENT_API_URL": found["HTTP API"],
            "CONSENT_KAFKA_BOOTSTRAP": found["Kafka"],
            "CONSENT_CLICKHOUSE_URL": found["ClickHouse"],
        }

    def said(self) -> str:
        return self.log.read_text()

    def times_ready(self) -> int:
        return self.said().count("The ledger is ready")

    def pids(self) -> dict[str, int]:
        """Processes of the deployment by what they run, from the kernel."""
        found = {}
        for child in _children(self.process.pid):
            argv = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
            names = ("broker", "embedded_clickhouse", "project", "record", "seal", "serve")
            for name in names:
                if any(part == name or part.endswith(f".{name}") for part in argv):
                    found[name] = child
        return found

    def publish(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Publish, again while the answer says so, until it is recorded."""
        deadline = time.monotonic() + DEADLINE_S
        while (answer := self.http.post("/v1/events", json=document)).status_code == 503:
            assert time.monotonic() < deadline, answer.text
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()["results"][0]
        assert result["status"] in ("accepted", "duplicate"), result
        return result

    def verdict(self) -> tuple[str, str]:
        answer = self.http.post("/v1/calls/check", json=HERO_CHECK).json()
        reason = answer.get("reason") or {}
        return answer.get("verdict", str(answer)), reason.get("code", "")

    def timeline(self) -> list[str]:
        return [entry["event_id"] for entry in self._entries()]

    def answered(self) -> str:
        """Live answers of the campaign in its period, as a check sees them."""
        asked = {"purpose": "MARKETING", "call_mode": "LIVE", "campaign_id": "autumn"}
        check = {**HERO_CHECK, **asked, "explain": True}
        trace = self.http.post("/v1/calls/check", json=check).json()["trace"] or []
        lines = [line for line in trace if line["rule"].startswith("US-FED-ABANDON@")]
        return str(lines[0]["facts"]["live_answered"]) if lines else ""

    def linked(self) -> list[str]:
        """Tokens of the person's other numbers, as a decision that is made now names them."""
        asked = self.http.post("/v1/calls/check", json=HERO_CHECK).json()["decision_id"]
        until(lambda: asked in self.timeline())
        decision = next(entry for entry in self._entries() if entry["event_id"] == asked)
        return [one["token"] for one in decision["fields"].get("linked", [])]

    def _entries(self) -> list[dict[str, Any]]:
        answer = self.http.post("/v1/audit/timeline", json={"number": HERO_NUMBER}).json()
        entries: list[dict[str, Any]] = answer["entries"]
        return entries


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
    with log.open("w") as output:
        return subprocess.Popen(
            command("up"),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(CONSENT_DATA_DIR=str(folder / "data"), **settings),
            text=True,
            preexec_fn=die_with_parent,
        )


def code_of_refusal(folder: Path, ports: Mapping[str, int], log: Path) -> int:
    """Exit code of an `up` that should not run; it is ended if it does."""
    process = start(folder, ports, log)
    try:
        return process.wait(DEADLINE_S)
    finally:
        process.terminate()
        process.wait()


def command(*arguments: str) -> list[str]:
    """A command line of the product."""
    return [sys.executable, "-m", "consent_ledger.cli.main", *arguments]


def environment(**settings: str) -> dict[str, str]:
    """The environment of a command, with no setting but these."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("CONSENT_")}
    return {**others, "PYTHONPATH": str(ROOT), **settings}


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


def linking(number: str) -> dict[str, Any]:
    """The number is one of the hero's."""
    return {
        "type": "NumberAttributesRecorded",
        "event_id": str(uuid.uuid4()),
        "occurred_at": datetime.now(UTC).isoformat(),
        "number": number,
        "seller_id": HERO_CHECK["seller_id"],
        "source": {"system": "tests"},
        "evidence": {"party_reference": "hero"},
    }


def program() -> list[dict[str, Any]]:
    """A campaign that was declared two days ago, and three calls of it, one from before."""
    now = datetime.now(UTC)
    common = {"seller_id": HERO_CHECK["seller_id"], "source": {"system": "tests"}}
    times = (now - timedelta(days=3), now - timedelta(days=1), now - timedelta(hours=1))
    declared = {
        "type": "CampaignDeclared",
        "starts_at": (now - timedelta(days=2)).isoformat(),
        "occurred_at": (now - timedelta(minutes=1)).isoformat(),
    }
    calls = [
        {
            "type": "CallEnded",
            "number": OTHER_NUMBER,
            "call_id": f"call-{place}",
            "outcome": "ANSWERED_LIVE",
            "occurred_at": at.isoformat(),
        }
        for place, at in enumerate(times)
    ]
    return [
        {**common, "campaign_id": "autumn", "event_id": str(uuid.uuid4()), **one}
        for one in (*calls, declared)
    ]


def withdrawal() -> dict[str, Any]:
    return hero_withdrawal(datetime.now(UTC), uuid.uuid4())


def test_a_second_start_answers_the_same(tmp_path: Path, ports: dict[str, int]) -> None:
    """What was answered as recorded survives a stop: verdict and timeline are as before, and which
    other number of the person counts.
    """
    with up(tmp_path, ports) as first:
        for number in (HERO_NUMBER, OTHER_NUMBER):
            first.publish(linking(number))
        first.publish(grant())
        until(lambda: first.verdict()[0] == "allow")
        pids = first.pids()
        assert pids.keys() == {
            "broker",
            "embedded_clickhouse",
            "project",
            "record",
            "seal",
            "serve",
        }
        first.publish(withdrawal())
        until(lambda: first.verdict()[0] == "deny")
        denied, linked, told = first.verdict(), first.linked(), first.timeline()
        assert len(linked) == 1
    assert first.process.returncode == 0
    assert all(gone(pid) for pid in pids.values())
    with up(tmp_path, ports) as second:
        assert second.verdict() == denied
        kept = dict.fromkeys(second.timeline())
        assert [event_id for event_id in kept if event_id in told] == told
        assert second.linked() == linked
        second.publish(grant())
        until(lambda: second.verdict()[0] == "allow")


def test_a_second_start_counts_on(tmp_path: Path, ports: dict[str, int]) -> None:
    """Declaration and calls survive a stop; a call whose event comes again is counted once."""
    events = program()
    with up(tmp_path, ports) as first:
        for one in events:
            first.publish(one)
        until(lambda: first.answered() == "2")
    with up(tmp_path, ports) as second:
        assert second.answered() == "2"
        second.publish(events[1] | {"event_id": str(uuid.uuid4())})
        second.publish(events[1] | {"event_id": str(uuid.uuid4()), "call_id": "another"})
        until(lambda: second.answered() == "3")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One deployment for the tests that leave it as it was."""
    with up(tmp_path_factory.mktemp("up"), free_ports()) as one:
        yield one


@pytest.mark.parametrize("name", ["embedded_clickhouse", "project", "record", "seal", "serve"])
def test_a_killed_process_comes_back(running: Up, name: str) -> None:
    """After any process but the broker is killed, it alone is started again and all goes on."""
    running.publish(grant())
    others = {other: pid for other, pid in running.pids().items() if other != name}
    ready = running.times_ready()
    os.kill(running.pids()[name], signal.SIGKILL)
    until(lambda: running.times_ready() > ready)
    assert {other: running.pids()[other] for other in others} == others
    until(lambda: running.verdict()[0] == "allow")
    running.publish(withdrawal())
    until(lambda: running.verdict()[0] == "deny")


def test_nothing_recorded_is_lost_when_the_broker_is_killed(running: Up) -> None:
    """A killed broker comes back with the states that history has, and takes new events."""
    running.publish(grant())
    running.publish(withdrawal())
    until(lambda: running.verdict()[0] == "deny")
    denied, before, ready = running.verdict(), running.pids(), running.times_ready()
    os.kill(before["broker"], signal.SIGKILL)
    until(lambda: running.times_ready() > ready)
    assert running.verdict() == denied
    kept = {name for name, pid in running.pids().items() if before[name] == pid}
    assert kept == {"embedded_clickhouse"}
    running.publish(grant())
    until(lambda: running.verdict()[0] == "allow")


def test_a_second_instance_is_refused(running: Up, tmp_path: Path) -> None:
    """Another `up` on the same folder ends at once and says who has it; the first goes on."""
    log = tmp_path / "second.txt"
    assert code_of_refusal(running.log.parent, free_ports(), log) == 3
    assert f"process {running.process.pid}" in log.read_text()
    assert "CONSENT_DATA_DIR" in log.read_text() and "Traceback" not in log.read_text()
    assert running.http.get("/healthz").status_code == 200


def test_a_taken_port_is_refused_by_name(tmp_path: Path, ports: dict[str, int]) -> None:
    """A port of another program is named, with the setting that chooses another one."""
    log = tmp_path / "up.txt"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports["record_port"]))
        taken.listen()
        assert code_of_refusal(tmp_path, ports, log) == 3
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


@pytest.mark.parametrize("running_already", [False, True], ids=["own", "running"])
def test_the_demo_shows_what_a_ledger_does(
    running_already: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The demo ends well only if all that was published is in history and the call was denied."""
    settings = {"TMPDIR": str(tmp_path)}
    if running_already:
        ledger: Up = request.getfixturevalue("running")
        settings |= ledger.settings()
    shown = subprocess.run(
        command("demo", *(["--running"] if running_already else [])),
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for said in (
        "consent given: ALLOW",
        "after STOP: DENY",
        "UNDECODABLE",
        "equal",
        " duplicate",
    ):
        assert said in shown.stdout
    assert "DIFFERENT" not in shown.stdout and "Traceback" not in shown.stderr
    assert list(tmp_path.iterdir()) == []
