"""What a run found, for machines (JSON) and for people (a table and a plot)."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot

Row = dict[str, Any]


def machine() -> dict[str, Any]:
    """What the rates depend on; the ratios less so."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory_kib / 1024 / 1024, 1),
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def show(row: Row) -> None:
    """Print one row."""
    if "ours" in row:
        print(f"{row['name']}: ours {row['ours']:,} {row['unit']}")
        for peer, rate in row["peers"].items():
            print(f"  {peer}: {rate:,} {row['unit']}, ours is {row['ratios'][peer]} times that")
    else:
        print(f"{row['name']}: p50 {row['p50']} ms, p99 {row['p99']} ms")


def save(results: dict[str, Any], folder: Path) -> None:
    """Write results.json and results.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    rates = [row for row in results["rows"] if "ours" in row]
    if rates:
        _plot(rates, folder / "results.png")
    print(f"written: {folder / 'results.json'}")


def _plot(rows: list[Row], path: Path) -> None:
    figure, axes = pyplot.subplots(1, len(rows), figsize=(4.5 * len(rows), 3.6), squeeze=False)
    for axis, row in zip(axes[0], rows, strict=True):
        bars = {"consent ledger": row["ours"], **row["peers"]}
        colours = ["#1f5f8b"] + ["#b8c4cc"] * len(row["peers"])
        drawn = axis.barh(list(bars), list(bars.values()), color=colours)
        axis.bar_label(drawn, labels=[f"{rate:,}" for rate in bars.values()], padding=3)
        axis.invert_yaxis()
        axis.set_title(row["name"])
        axis.set_xlabel(row["unit"])
        axis.margins(x=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
