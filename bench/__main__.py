"""`python -m bench`: every row in one run; writes bench/results.json and bench/results.png."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import as_of, check_http, decide, revocation, verify
from bench.contestants.task import Task
from bench.measure import rate_of_contestant, rate_of_worker
from bench.report import machine, save, show
from bench.stand import PARTITIONS, TOPIC, Stand, load, stand
from bench.workload import Keys, records

SLOW_SECONDS = 25.0
FAST_SECONDS = 120.0
Row = dict[str, Any]


def main() -> None:
    """Measure the rows that were asked for."""
    options = _options()
    measured = {
        "projection": lambda folder: _projection(folder, options, "uniform"),
        "projection_zipf": lambda folder: _projection(folder, options, "zipf"),
        "history": lambda folder: _history(folder, options),
        "revocation_ms": lambda folder: _revocation(folder, options),
        "decide": lambda folder: decide.measure(options.seed),
        "verify": lambda folder: _verify(folder, options),
        "as_of_ms": lambda folder: as_of.measure(folder, options.as_of_facts, options.seed),
        "check_http_ms": lambda folder: _check_http(folder, options),
    }
    rows: list[Row] = []
    for name in options.rows or measured:
        with tempfile.TemporaryDirectory(prefix="ledger-bench-") as folder:
            print(f"measuring {name} ...", flush=True)
            row = measured[name](Path(folder) / "stand")
            rows.append(row)
            show(row)
    save({"machine": machine(), "rows": rows}, options.out)


def _projection(folder: Path, options: argparse.Namespace, keys: Keys) -> Row:
    with stand(folder) as made:
        count = asyncio.run(
            load(made.bootstrap, TOPIC, records(options.records, keys, options.seed))
        )
        peer = _peer(made, count)
        peers = {
            "faust_idiomatic": peer("projection_faust", 1, SLOW_SECONDS),
            "quix_streams": peer("projection_quix", 1, SLOW_SECONDS),
            "aiokafka_bare": peer("projection_bare", options.repeats, FAST_SECONDS),
        }
        ours = rate_of_worker(made, "project", count, FAST_SECONDS)
    name = "projection" if keys == "uniform" else "projection_zipf"
    return _rates_row(name, ours, peers)


def _history(folder: Path, options: argparse.Namespace) -> Row:
    with stand(folder, store=True) as made:
        source = records(options.records, "uniform", options.seed)
        count = asyncio.run(load(made.bootstrap, TOPIC, source))
        peer = _peer(made, count)
        peers = {
            "faust_idiomatic": peer("history_faust", 1, SLOW_SECONDS),
            "aiokafka_bare": peer("history_bare", options.repeats, FAST_SECONDS),
        }
        ours = rate_of_worker(made, "record", count, FAST_SECONDS)
    return _rates_row("history", ours, peers)


def _revocation(folder: Path, options: argparse.Namespace) -> Row:
    with stand(folder) as made:
        latency = revocation.measure(made, options.seed)
    return {
        "name": "revocation_ms",
        "unit": "ms",
        "p50": latency.p50,
        "p99": latency.p99,
        "samples": latency.samples,
        "load_records_per_s": revocation.RATE_PER_S,
    }


def _check_http(folder: Path, options: argparse.Namespace) -> Row:
    with stand(folder) as made:
        return check_http.measure(made, options.seed)


def _verify(folder: Path, options: argparse.Namespace) -> Row:
    rate = verify.measure(folder, options.records, options.seed)
    return {
        "name": "verify",
        "unit": "facts/s",
        "ours": round(rate.with_evidence),
        "peers": {},
        "ratios": {},
        "without_evidence": round(rate.without_evidence),
        "facts": rate.facts,
        "blocks": rate.blocks,
    }


def _peer(made: Stand, count: int) -> Callable[[str, int, float], float]:
    def measured(name: str, repeats: int, seconds_max: float) -> float:
        rates = []
        for _ in range(repeats):
            group = f"{name}-{uuid.uuid4().hex[:8]}".replace("_", "-")
            task = Task(
                bootstrap=made.bootstrap,
                topic=TOPIC,
                partitions=PARTITIONS,
                records=count,
                group=group,
                folder=str(made.folder / group),
                clickhouse_url=made.clickhouse_url,
            )
            rates.append(rate_of_contestant(name, task, seconds_max))
        return statistics.median(rates)

    return measured


def _rates_row(name: str, ours: float, peers: dict[str, float]) -> Row:
    return {
        "name": name,
        "unit": "records/s",
        "ours": round(ours),
        "peers": {peer: round(rate) for peer, rate in peers.items()},
        "ratios": {peer: round(ours / rate, 2) for peer, rate in peers.items()},
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("rows", nargs="*", help="rows to measure; all unless named")
    parser.add_argument("--records", type=int, default=400_000, help="records per topic")
    parser.add_argument(
        "--as-of-facts", type=int, default=2_000_000, help="facts of the row as_of_ms"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="runs of a bare loop; the median")
    parser.add_argument("--out", type=Path, default=Path("bench"))
    options = parser.parse_args()
    known: Sequence[str] = (
        "projection",
        "projection_zipf",
        "history",
        "revocation_ms",
        "decide",
        "check_http_ms",
        "verify",
        "as_of_ms",
    )
    for row in options.rows:
        if row not in known:
            parser.error(f"no row {row}; there are {', '.join(known)}")
    return options


if __name__ == "__main__":
    main()
