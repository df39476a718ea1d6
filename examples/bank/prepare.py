"""Turns the public Bank Marketing data into calls that could have been made: adds what it lacks.

The data has real outbound calls but no numbers, sellers or dates. A seeded generator adds
fictional ones: numbers that are kept for fiction (555-0100 to 555-0199 of an area code), and for
every call a day that has its month and weekday, in local time. The same seed gives the same file.

    python examples/bank/prepare.py bank-additional.csv > calls.csv
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TextIO

LAST_DAY = date(2026, 11, 20)
"""No call is later than this."""

LINES_PER_AREA_CODE = 100
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ADDED = ("row_id", "phone", "state", "zone", "called_at", "ended_at", "called_on", "seller")


@dataclass(frozen=True, slots=True)
class Place:
    """Area codes that lie whole in one state and one zone."""

    state: str
    zone: str
    area_codes: tuple[int, ...]


PLACES = (
    Place("US-NY", "America/New_York", (212, 315, 516, 518, 585, 607, 631, 716, 718, 845, 914)),
    Place("US-PA", "America/New_York", (215, 412, 484, 570, 610, 717, 724, 814)),
    Place("US-GA", "America/New_York", (229, 404, 478, 678, 706, 770, 912)),
    Place("US-IL", "America/Chicago", (217, 309, 312, 618, 630, 708, 773, 815, 847)),
    Place("US-MN", "America/Chicago", (218, 320, 507, 612, 651, 763, 952)),
    Place("US-CO", "America/Denver", (303, 719, 720, 970)),
    Place("US-CA", "America/Los_Angeles", (209, 213, 310, 408, 415, 510, 619, 650, 707, 805, 916)),
)


def fictional_numbers() -> list[tuple[str, Place]]:
    """Every fictional number of these places, written as people there write it."""
    return [
        (f"({code}) 555-01{line:02d}", place)
        for place in PLACES
        for code in place.area_codes
        for line in range(LINES_PER_AREA_CODE)
    ]


def day_like(month: str, weekday: str, draw: random.Random) -> date:
    """A day of the last year that has this month and weekday."""
    days = (LAST_DAY - timedelta(days=back) for back in range(365))
    wanted = (MONTHS.index(month) + 1, WEEKDAYS.index(weekday))
    return draw.choice([day for day in days if (day.month, day.weekday()) == wanted])


def prepared(rows: Iterator[dict[str, str]], seed: int) -> Iterator[dict[str, str]]:
    """The rows with the columns of ADDED; each has a number of its own."""
    draw = random.Random(seed)
    numbers = fictional_numbers()
    draw.shuffle(numbers)
    for row_id, (row, (phone, place)) in enumerate(zip(rows, numbers, strict=False), start=1):
        day = day_like(row["month"], row["day_of_week"], draw)
        called_at = datetime.combine(day, time(9)) + timedelta(seconds=draw.randrange(8 * 3600))
        ended_at = called_at + timedelta(seconds=int(row["duration"]))
        added = (
            f"{row_id:05d}",
            phone,
            place.state,
            place.zone,
            called_at.isoformat(sep=" "),
            ended_at.isoformat(sep=" "),
            day.isoformat(),
            "fictional-bank",
        )
        yield {**row, **dict(zip(ADDED, added, strict=True))}


def write(source: TextIO, target: TextIO, seed: int) -> int:
    """Write the prepared file and return how many rows it has."""
    reader = csv.DictReader(source)
    writer = csv.DictWriter(target, [*(reader.fieldnames or ()), *ADDED], lineterminator="\n")
    writer.writeheader()
    count = 0
    for row in prepared(reader, seed):
        writer.writerow(row)
        count += 1
    return count


def main(arguments: Sequence[str]) -> None:
    """Read the file named, write to standard output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path, help="bank-additional.csv")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with options.file.open(newline="") as source:
        rows = write(source, sys.stdout, options.seed)
    sys.stderr.write(f"{rows} rows\n")


if __name__ == "__main__":
    main(sys.argv[1:])
