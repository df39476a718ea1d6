"""How long `POST /v1/calls/check` takes at a steady rate, with a real broker and every rule.

The service, the worker that folds facts and decisions, the broker and the load are processes of
their own, as in production. Numbers have consents, withdrawals, do-not-call entries, line types
and attempts; each is asked about once, by calls of several kinds, so that part is allowed, which
waits for the log, and part is denied.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any, Final

from bench.stand import PARTITIONS, Stand, load
from consent.area_tables import area_tables
from consent.codec import encode
from consent.contracts import contracts
from consent.instants import MICROSECONDS, instant_text
from consent.partitioning import partition_of
from tests.brokers import die_with_parent, wait_until
from tests.events import event

RATE_PER_S: Final = 500
SECONDS: Final = 30
# The broker compiles itself for about as long, on the cores that everything else needs, too.
WARM_UP_S: Final = 60
SELLER: Final = "acme"
_HOUR_US: Final = 3600 * MICROSECONDS
_DAY_US: Final = 24 * _HOUR_US
_GRANT: Final[dict[str, Any]] = {
    "consent_kind": "PEWC",
    "change": "GIVEN",
    "purposes": ["MARKETING", "INFORMATIONAL"],
    "modes": ["LIVE", "PRERECORDED"],
    "seller_named": True,
    "number_named": True,
    "authorises_automated": True,
    "not_a_condition": True,
    "request_copy_sha256": b"\x5e" * 32,
}
_EVIDENCE: Final = {
    "name": "Jo Doe",
    "wording": "I agree to calls.",
    "signature_method": "CHECKBOX",
    "signature": "checked",
    "request_copy_uri": "https://example.com/copy",
    "consent_copy_uri": "https://example.com/copy",
}
_CALLS: Final = (
    ("INFORMATIONAL", "PRERECORDED", "PREDICTIVE"),
    ("INFORMATIONAL", "LIVE", "PREDICTIVE"),
    ("MARKETING", "LIVE", "PREDICTIVE"),
    ("MARKETING", "LIVE", "MANUAL"),
    ("MARKETING", "PRERECORDED", "PREDICTIVE"),
)

Event = tuple[str, dict[str, Any]]


def measure(stand: Stand, seed: int) -> dict[str, Any]:
    """The row of the bench, with the share of each answer and what a check costs the service."""
    with stand.cli("worker", "project"), stand.cli("serve") as serve:
        wait_until(lambda: _ready(stand.serve_port), what="the service")
        numbers = _numbers(seed)
        for topic in ("consent-events", "dnc-updates", "call-events"):
            asyncio.run(load(stand.bootstrap, topic, _records(topic, numbers, seed)))
        _until_folded(stand.serve_port, numbers)
        used_s = _processor_s(serve.pid)
        report = _load(stand.serve_port, numbers, seed)
        used_s = _processor_s(serve.pid) - used_s
    waits = sorted(1000 * wait for wait in report["latencies_s"])
    answered = sum(report["outcomes"].values())
    return {
        "name": "check_http_ms",
        "unit": "ms",
        "p50": _quantile(waits, 0.50),
        "p99": _quantile(waits, 0.99),
        "p999": _quantile(waits, 0.999),
        "max": round(waits[-1], 1),
        "samples": len(waits),
        "load_checks_per_s": RATE_PER_S,
        "answers": {name: round(n / answered, 2) for name, n in report["outcomes"].items()},
        "processor_ms_per_check": round(1000 * used_s / len(numbers), 2),
    }


def _numbers(seed: int) -> list[str]:
    """As many as there are checks, in every state of the US."""
    codes = [code for code, at in area_tables().area_codes.items() if at.states[0][:3] == "US-"]
    draw = random.Random(seed)
    places = range(RATE_PER_S * (SECONDS + WARM_UP_S))
    return [f"+1{draw.choice(codes)}9{number:06d}" for number in places]


def _records(topic: str, numbers: list[str], seed: int) -> Iterator[tuple[bytes, bytes]]:
    now = time.time_ns() // 1000
    for number in numbers:
        for name, fields in _facts(random.Random(f"{seed}/{number}"), now):
            if contracts().record(name).topic == topic:
                yield number.encode(), encode(name, event(name, number=number, **fields))


def _facts(draw: random.Random, now: int) -> Iterator[Event]:
    if draw.random() < 0.8:
        at = now - draw.randrange(1, 300) * _DAY_US
        yield "ConsentGranted", {"occurred_at": at, **_GRANT, "evidence": _evidence()}
    if draw.random() < 0.6:
        line = draw.choice(("MOBILE", "LANDLINE"))
        yield "NumberAttributesRecorded", {"occurred_at": now - _DAY_US, "line_type": line}
    if draw.random() < 0.15:
        yield (
            "ConsentWithdrawn",
            {
                "occurred_at": now - _HOUR_US,
                "purposes": ["MARKETING", "INFORMATIONAL"],
                "manner": "KEYWORD",
            },
        )
    if draw.random() < 0.05:
        yield (
            "DncAdded",
            {"occurred_at": now - _DAY_US, "list_kind": "INTERNAL", "list_id": "internal"},
        )
    for call in range(draw.randrange(4)):
        at = now - draw.randrange(1, 40 * 24) * _HOUR_US
        placed = {
            "call_id": f"call-{call}-{at}",
            "purpose": "MARKETING",
            "call_mode": "LIVE",
            "dial_mode": "PREDICTIVE",
        }
        yield "CallPlaced", {"occurred_at": at, **placed}


def _evidence() -> dict[str, Any]:
    fields = contracts().record("ConsentGranted").parsed["fields"]
    inner = next(field for field in fields if field["name"] == "evidence")["type"][1]["fields"]
    return {each["name"]: _EVIDENCE.get(each["name"], each["default"]) for each in inner}


def _until_folded(port: int, numbers: list[str]) -> None:
    """Return once look-ups of the service include the last fact of every partition."""
    last = {partition_of(number.encode(), PARTITIONS): number for number in numbers}
    now = instant_text(time.time_ns() // 1000)
    documents = [
        {
            "type": "NumberAttributesRecorded",
            "event_id": str(uuid.uuid4()),
            "occurred_at": now,
            "number": number,
            "seller_id": SELLER,
            "source": {"system": "bench", "channel": "API"},
            "line_type": "MOBILE",
        }
        for number in last.values()
    ]
    _post(port, "/v1/events?wait=projected", documents)


def _load(port: int, numbers: list[str], seed: int) -> dict[str, Any]:
    draw = random.Random(seed)
    bodies = []
    for number in numbers:
        purpose, call_mode, dial_mode = draw.choice(_CALLS)
        call = {"purpose": purpose, "call_mode": call_mode, "dial_mode": dial_mode}
        bodies.append({"number": number, "seller_id": SELLER, "party": "CONSUMER", **call})
    task = {"port": port, "rate_per_s": RATE_PER_S, "warm_up_s": WARM_UP_S, "bodies": bodies}
    found = subprocess.run(
        [sys.executable, "-m", "bench.check_load"],
        input=json.dumps(task) + "\n",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=SECONDS * 4 + 60,
        preexec_fn=die_with_parent,
    )
    report: dict[str, Any] = json.loads(found.stdout)
    return report


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _post(port: int, path: str, document: Any) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        json.dumps(document).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        content = json.load(answer)
        if answer.status != 200 or not content.get("wait_met", True):
            raise RuntimeError(f"facts were not folded: {content}")


def _processor_s(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _quantile(ordered: list[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)
