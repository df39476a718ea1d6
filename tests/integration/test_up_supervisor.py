"""The supervisor with small programs: order, restarts, giving up, and leaving no orphan."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from consent_ledger.child import ChildSpec, LogLimits
from consent_ledger.supervisor import CrashLoop, Supervisor, SupervisorLimits, readable

LIMITS = SupervisorLimits(backoff_first_ms=10, backoff_max_ms=20, crashes_max=3)
DEADLINE_S = 20.0

# Says on disk that it is up, and in which order it was asked to end.
SERVICE = """
    import pathlib, signal, sys, time
    name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    def end(*_):
        with (folder / "ended").open("a") as ended:
            ended.write(name + "\\n")
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    print("hello from", name, flush=True)
    (folder / f"{name}.up").write_text(str(time.monotonic()))
    while True:
        time.sleep(60)
"""


@dataclass
class Recorder:
    """Keeps what the supervisor told, in order."""

    said: list[tuple[str, str]] = field(default_factory=list)

    def starting(self, name: str) -> None:
        self.said.append(("starting", name))

    def ready(self, name: str, took_ms: int) -> None:
        self.said.append(("ready", name))

    def all_ready(self) -> None:
        self.said.append(("all_ready", ""))

    def died(self, name: str, what_happened: str, retry_in_ms: int) -> None:
        self.said.append(("died", name))

    def stopping(self, names: Sequence[str]) -> None:
        self.said.append(("stopping", ",".join(names)))

    def count(self, *what: str) -> int:
        return self.said.count((what[0], what[1]))


@dataclass
class Bench:
    """A folder with programs, and specs that run them."""

    folder: Path
    seen: Recorder = field(default_factory=Recorder)

    def spec(self, name: str, code: str = SERVICE, **more: object) -> ChildSpec:
        program = self.folder / f"{name}.py"
        program.write_text(textwrap.dedent(code))
        task = bool(more.get("task"))
        values: dict[str, object] = {
            "name": name,
            "argv": (sys.executable, "-S", str(program), name, str(self.folder)),
            "environment": dict(os.environ),
            "probe": None if task else self.probe(name),
            **more,
        }
        return ChildSpec(**values)  # type: ignore[arg-type]

    def probe(self, name: str) -> Callable[[], object]:
        async def up() -> bool:
            return (self.folder / f"{name}.up").exists()

        return up

    def supervisor(self, *specs: ChildSpec, limits: SupervisorLimits = LIMITS) -> Supervisor:
        return Supervisor(specs, self.folder / "logs", limits, self.seen)

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(supervisor.run())
    try:
        ready = asyncio.create_task(supervisor.wait_ready())
        await asyncio.wait({ready, task}, timeout=DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        assert not task.done(), task
        yield task
    finally:
        supervisor.request_stop()
        with contextlib.suppress(CrashLoop):
            await asyncio.wait_for(task, DEADLINE_S)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


async def test_starts_after_what_is_needed_and_stops_before_it(bench: Bench) -> None:
    """Nothing starts before what it needs is ready, and what is needed ends last."""
    specs = (
        bench.spec("store"),
        bench.spec("prepare", "import sys; sys.exit(0)", task=True, needs=("store",)),
        bench.spec("worker", needs=("store", "prepare")),
    )
    supervisor = bench.supervisor(*specs)
    async with running(supervisor):
        pids = supervisor.pids
        assert pids.keys() == {"store", "worker"}
    order = [said for said in bench.seen.said if said[0] in ("starting", "ready")]
    assert order == [
        *(("starting", "store"), ("ready", "store")),
        *(("starting", "prepare"), ("ready", "prepare")),
        *(("starting", "worker"), ("ready", "worker")),
    ]
    assert bench.lines("ended") == ["worker", "store"]
    assert not any(alive(pid) for pid in pids.values())


async def test_a_child_ends_before_those_that_it_uses_while_ending(bench: Bench) -> None:
    """`stops_before` orders the end alone: the child starts without waiting for the other."""
    slow = bench.spec("slow", SERVICE.replace("print(", "time.sleep(0.5); print("))
    lingering = SERVICE.replace("def end(*_):", "def end(*_):\n        time.sleep(0.5)")
    door = bench.spec("door", lingering, stops_before=("slow",))
    async with running(bench.supervisor(slow, door)):
        assert bench.seen.said.index(("ready", "door")) < bench.seen.said.index(("ready", "slow"))
    assert bench.lines("ended") == ["door", "slow"]


async def test_a_dead_child_comes_back_with_what_depends_on_its_memory(bench: Bench) -> None:
    """A killed child is started again, with those that restart with it and no other."""
    specs = (
        bench.spec("broker"),
        bench.spec("store"),
        bench.spec("prepare", "", task=True, needs=("broker",), restarts_with=("broker",)),
        bench.spec("worker", needs=("prepare", "store"), restarts_with=("broker",)),
    )
    supervisor = bench.supervisor(*specs)
    async with running(supervisor):
        before = supervisor.pids
        os.kill(before["broker"], signal.SIGKILL)
        await until(lambda: bench.seen.count("all_ready", "") == 2)
        after = supervisor.pids
        assert after["store"] == before["store"]
        assert after["broker"] != before["broker"]
        assert after["worker"] != before["worker"]
        os.kill(after["store"], signal.SIGKILL)
        await until(lambda: bench.seen.count("all_ready", "") == 3)
        assert supervisor.pids["worker"] == after["worker"]
    assert bench.seen.count("ready", "prepare") == 2


async def test_a_crash_loop_ends_with_the_last_words(bench: Bench) -> None:
    """A child that keeps dying ends the run with its last lines, and nothing is left running."""
    broken = "import sys; print('the disk is full', flush=True); sys.exit(9)"
    supervisor = bench.supervisor(bench.spec("store"), bench.spec("worker", broken))
    with pytest.raises(CrashLoop) as ended:
        await asyncio.wait_for(supervisor.run(), DEADLINE_S)
    assert (ended.value.name, ended.value.crashes) == ("worker", 3)
    assert ended.value.last_lines == ("the disk is full",)
    assert "ended with code 9" in str(ended.value)
    assert supervisor.pids == {}


async def test_wrong_settings_are_not_tried_again(bench: Bench) -> None:
    """A child that ends with the code for wrong usage ends the run the first time."""
    supervisor = bench.supervisor(bench.spec("worker", "import sys; sys.exit(2)"))
    with pytest.raises(CrashLoop) as ended:
        await asyncio.wait_for(supervisor.run(), DEADLINE_S)
    assert ended.value.crashes == 1


async def test_a_failed_task_is_tried_again_before_anything_needs_it(bench: Bench) -> None:
    """What needs a task starts only after the task has ended well."""
    flaky = """
        import pathlib, sys
        mark = pathlib.Path(sys.argv[2]) / "second"
        sys.exit(0) if mark.exists() else (mark.touch(), sys.exit(1))
    """
    specs = (
        bench.spec("prepare", flaky, task=True),
        bench.spec("worker", needs=("prepare",)),
    )
    async with running(bench.supervisor(*specs)):
        said = bench.seen.said
        assert said.index(("died", "prepare")) < said.index(("starting", "worker"))
        assert bench.seen.count("starting", "prepare") == 2


async def test_a_child_that_does_not_become_ready_counts_as_crashed(bench: Bench) -> None:
    """A child that runs but is never ready is killed and, after some tries, given up."""
    deaf = "import time; time.sleep(600)"
    supervisor = bench.supervisor(bench.spec("worker", deaf, ready_timeout_ms=100))
    with pytest.raises(CrashLoop, match=r"was not ready after 0\.1 s"):
        await asyncio.wait_for(supervisor.run(), DEADLINE_S)
    assert supervisor.pids == {}


async def test_a_child_deaf_to_sigterm_is_killed_with_its_children(bench: Bench) -> None:
    """Stopping is bounded: what does not end in its time is killed, grandchildren as well."""
    deaf = """
        import pathlib, signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        folder = pathlib.Path(sys.argv[2])
        (folder / "grandchild").write_text(str(grandchild.pid))
        (folder / "worker.up").touch()
        time.sleep(600)
    """
    supervisor = bench.supervisor(bench.spec("worker", deaf, stop_timeout_ms=100))
    async with running(supervisor):
        pids = [*supervisor.pids.values(), int((bench.folder / "grandchild").read_text())]
    await until(lambda: not any(alive(pid) for pid in pids))


async def test_a_second_request_kills_at_once(bench: Bench) -> None:
    """Asked to stop twice, the supervisor does not wait for a child's time-out."""
    deaf = SERVICE.replace(
        "signal.signal(signal.SIGTERM, end)", "signal.signal(15, signal.SIG_IGN)"
    )
    supervisor = bench.supervisor(bench.spec("worker", deaf, stop_timeout_ms=600_000))
    async with running(supervisor) as task:
        supervisor.request_stop()
        await until(lambda: bench.seen.said[-1][0] == "stopping")
        supervisor.request_stop()
        await asyncio.wait_for(task, DEADLINE_S)
    assert supervisor.pids == {}


async def test_logs_are_bounded_and_kept_per_child(bench: Bench) -> None:
    """Output goes to the child's own files, which never exceed their number and size."""
    loud = """
        import pathlib, sys, time
        for n in range(2_000):
            print(f"line {n} " + "x" * 100, flush=n % 50 == 0)
        sys.stdout.flush()
        (pathlib.Path(sys.argv[2]) / "worker.up").touch()
        time.sleep(600)
    """
    limits = SupervisorLimits(log=LogLimits(bytes_max=20_000, files_max=3))
    async with running(bench.supervisor(bench.spec("worker", loud), limits=limits)):
        pass
    files = sorted((bench.folder / "logs").iterdir())
    assert {file.name for file in files} <= {"worker.log", "worker.log.1", "worker.log.2"}
    assert "worker.log.1" in {file.name for file in files}
    assert sum(file.stat().st_size for file in files) < 3 * (20_000 + 70_000)
    assert any(b"line 1999" in file.read_bytes() for file in files)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain words", "plain words"),
        ('{"n": 1}', '{"n": 1}'),
        (
            '{"timestamp": "2026-11-22T10:11:12.3Z", "level": "error", "event": "gone", "n": 2}',
            "10:11:12 gone n=2",
        ),
    ],
)
def test_last_words_are_shown_for_a_person(line: str, shown: str) -> None:
    """A JSON log line is shown as its time, event and fields; anything else as it is."""
    assert readable(line) == shown


def test_killing_the_supervisor_leaves_no_orphan(tmp_path: Path) -> None:
    """When the supervising process is killed with SIGKILL, the kernel ends its children."""
    program = tmp_path / "supervising.py"
    program.write_text(
        textwrap.dedent(f"""
            import asyncio, os, pathlib, sys
            from consent_ledger.child import ChildSpec
            from consent_ledger.supervisor import Supervisor, SupervisorLimits
            from tests.integration.test_up_supervisor import Recorder
            async def main():
                folder = pathlib.Path({str(tmp_path)!r})
                code = "import os, sys, time; os.mknod(sys.argv[1]); time.sleep(600)"
                argv = (sys.executable, "-S", "-c", code, str(folder / "up"))
                async def probe():
                    return (folder / "up").exists()
                spec = ChildSpec("worker", argv, dict(os.environ), probe)
                supervisor = Supervisor([spec], folder, SupervisorLimits(), Recorder())
                run = asyncio.create_task(supervisor.run())
                await supervisor.wait_ready()
                print(supervisor.pids["worker"], flush=True)
                await run
            asyncio.run(main())
        """)
    )
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    with subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, text=True, env=environment
    ) as supervising:
        assert supervising.stdout is not None
        child_pid = int(supervising.stdout.readline())
        assert alive(child_pid)
        supervising.kill()
    deadline = time.monotonic() + DEADLINE_S
    while alive(child_pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
