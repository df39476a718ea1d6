"""Runs one contestant and turns its progress into a rate."""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench.contestants.task import Task
from bench.stand import Stand
from tests.brokers import die_with_parent

WARM_UP_SHARE = 0.1
"""Share of the records that are done before the clock starts: imports, joins and caches."""

_POLL_S = 0.02
_HANDLED = re.compile(r"^consent_stream_records_total\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)

Sample = tuple[float, int]


def rate_of_contestant(name: str, task: Task, seconds_max: float) -> float:
    """Records/s of `bench.contestants.<name>`; a slow one is ended after `seconds_max`."""
    command = [sys.executable, "-m", f"bench.contestants.{name}", task.to_json()]
    if name.endswith("_faust"):
        command += ["worker", "--without-web"]
    Path(task.folder).mkdir(parents=True, exist_ok=True)
    with open(f"{task.folder}/output.log", "wb") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            preexec_fn=die_with_parent,
        )
        try:
            samples = list(_reported(process, task.records, seconds_max))
        finally:
            process.kill()
            process.wait()
    return _rate(samples, task.records, name)


def rate_of_worker(stand: Stand, name: str, records: int, seconds_max: float) -> float:
    """Acknowledged records/s of our own worker, as its metrics count them."""
    port = stand.project_port if name == "project" else stand.record_port
    samples: list[Sample] = []
    with stand.cli("worker", name) as process:
        deadline = time.monotonic() + seconds_max
        while not samples or samples[-1][1] < records:
            if time.monotonic() > deadline:
                break
            if process.poll() is not None:
                raise RuntimeError(f"worker {name} ended with {process.returncode}")
            handled = _handled(port)
            if handled is not None:
                samples.append((time.monotonic(), handled))
            time.sleep(_POLL_S)
    return _rate(samples, records, name)


def _rate(samples: list[Sample], records: int, name: str) -> float:
    first = next((s for s in samples if s[1] >= min(WARM_UP_SHARE * records, 2_000)), None)
    if first is None or samples[-1][1] <= first[1]:
        raise RuntimeError(f"{name} made no progress: {samples[-3:]}")
    last = next(s for s in samples if s[1] == samples[-1][1])
    return (last[1] - first[1]) / (last[0] - first[0])


def _reported(
    process: subprocess.Popen[bytes], records: int, seconds_max: float
) -> Iterator[Sample]:
    """Samples until all is done, the process ends, or the time that follows the first is up."""
    assert process.stdout is not None
    deadline = time.monotonic() + seconds_max + 60
    started = False
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        buffer = b""
        while time.monotonic() < deadline:
            if not selector.select(timeout=0.5):
                continue
            read = os.read(process.stdout.fileno(), 65_536)
            if not read:
                return
            *lines, buffer = (buffer + read).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    report = json.loads(line)
                    sample = (float(report["at"]), int(report["done"]))
                    if sample[1] and not started:
                        started, deadline = True, time.monotonic() + seconds_max
                    yield sample
                    if sample[1] >= records:
                        return


def _handled(port: int) -> int | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
            text = answer.read().decode()
    except OSError:
        return None
    return int(sum(float(found) for found in _HANDLED.findall(text)))
