"""The page that says what the rulebook covers and how sure each row is, generated from the rows.

`python -m consent_ledger.coverage_page > docs/rules-coverage.md`, which `make rules` does.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from consent.rule import IN_FORCE
from consent.rule_context import EVERYWHERE
from consent.rulebook import Rulebook
from consent_ledger.coverage_words import BEFORE, CONFLICTS, LEFT_OUT
from consent_ledger.rule_files import load_rulebook
from consent_ledger.rule_rows import (
    CONFIDENCE,
    Row,
    content_of,
    dates_of,
    name_of,
    place_of,
    reasons_of,
    rows_of,
)

_COUNTRIES: Final = {
    EVERYWHERE: "Everywhere: the house's own policies",
    "AU": "Australia",
    "CA": "Canada",
    "DE": "Germany",
    "ES": "Spain",
    "EU": "European Union, in member states that have rows of their own",
    "FR": "France",
    "GB": "United Kingdom",
    "IN": "India",
    "IT": "Italy",
    "US": "United States",
}


def coverage_page(rulebook: Rulebook) -> str:
    """The page as Markdown, ending with a newline; the same for the same rulebook."""
    rows = rows_of(rulebook)
    parts = [
        BEFORE.format(rows=len(rows), version=rulebook.version),
        *_summary(rows),
        *_without_rows(rulebook, rows),
        "\n## Rows in shadow\n",
        "Evaluated and recorded with every decision, never deciding: not in force yet, set aside,",
        "or proposed.\n",
        *_rows_table([row for row in rows if row["status"] != IN_FORCE], _shadow_cells),
        "\n## Rows that only warn\n",
        "They stand in the trace and never deny, by the house's choice.\n",
        *_rows_table([row for row in rows if row["on_fail"]["effect"] == "warn"], _warning_cells),
        *_audit_reasons(rulebook),
        *_conflicts(),
        f"\n{LEFT_OUT}",
        *_every_row(rows),
        *_sources(content_of(rulebook)["sources"]),
    ]
    return "\n".join(parts) + "\n"


def _summary(rows: list[Row]) -> Iterator[str]:
    yield "\n## Places\n"
    yield "Rows of each place, how sure they are, and what they can say. A state has the rows of"
    yield "its country as well, a member state those of the EU, every place those of the house.\n"
    yield "| place | rows | P | S | K | H | reasons and obligations |"
    yield "|---|---|---|---|---|---|---|"
    by_place: dict[str, list[Row]] = {}
    for row in rows:
        by_place.setdefault(place_of(row), []).append(row)
    for place in sorted(by_place):
        sure = Counter(row["confidence"] for row in by_place[place])
        codes = sorted({code for row in by_place[place] for code in reasons_of(row)})
        counts = " | ".join(str(sure[word] or "") for word in CONFIDENCE)
        said = ", ".join(f"`{code}`" for code in codes)
        yield f"| {place} | {len(by_place[place])} | {counts} | {said} |"
    sure = Counter(row["confidence"] for row in rows)
    counts = " | ".join(str(sure[word]) for word in CONFIDENCE)
    yield f"| **all** | **{len(rows)}** | {counts} | |"


def _without_rows(rulebook: Rulebook, rows: list[Row]) -> Iterator[str]:
    with_rows = {place_of(row) for row in rows}
    states = sorted(place for place in rulebook.zones if place[:3] == "US-")
    alone = [place[3:] for place in states if place not in with_rows]
    yield f"\nStates and territories with the rows of the United States alone: {', '.join(alone)}."


def _rows_table(rows: Iterable[Row], cells: Callable[[Row], tuple[str, ...]]) -> Iterator[str]:
    yield "| rule | place | | gives | what | note |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        yield "| " + " | ".join(cells(row)) + " |"


def _shadow_cells(row: Row) -> tuple[str, ...]:
    return _cells(row, f"{row['status']}, {dates_of(row)}")


def _warning_cells(row: Row) -> tuple[str, ...]:
    return _cells(row, dates_of(row))


def _cells(row: Row, when: str) -> tuple[str, ...]:
    return (
        f"`{name_of(row)}`",
        place_of(row),
        when,
        f"`{row['on_fail']['reason']}`",
        _text(row["title"]),
        _text(row.get("note", "")),
    )


def _audit_reasons(rulebook: Rulebook) -> Iterator[str]:
    yield "\n## Findings of an audit only\n"
    yield "These codes are about the past and never stand on a denial.\n"
    yield "| code | says |"
    yield "|---|---|"
    for reason in rulebook.reasons.reasons.values():
        if reason.group == "audit":
            yield f"| `{reason.code}` | {reason.text} |"


def _conflicts() -> Iterator[str]:
    yield "\n## Known conflicts and open points\n"
    yield "| where | what | reading taken |"
    yield "|---|---|---|"
    for cells in CONFLICTS:
        yield "| " + " | ".join(cells) + " |"


def _every_row(rows: list[Row]) -> Iterator[str]:
    yield "\n## Every row\n"
    for country in sorted({row["jurisdiction"]["country"] for row in rows}, key=_order):
        yield f"\n### {_COUNTRIES.get(country, country)}\n"
        yield "| rule | place | in force | gives | sure | sources | what, and what is doubtful |"
        yield "|---|---|---|---|---|---|---|"
        for row in rows:
            if row["jurisdiction"]["country"] == country:
                yield _line(row)


def _order(country: str) -> tuple[bool, str]:
    return country == EVERYWHERE, country


def _line(row: Row) -> str:
    status = "" if row["status"] == IN_FORCE else f" ({row['status']})"
    note = f" *{_text(row['note'])}*" if row.get("note") else ""
    return (
        f"| `{name_of(row)}` | {place_of(row)} | {dates_of(row)}{status} "
        f"| `{row['on_fail']['reason']}` | {row['confidence']} | {', '.join(row['source'])} "
        f"| {_text(row['title'])}. {_text('; '.join(row['citation']))}.{note} |"
    )


def _sources(sources: dict[str, str]) -> Iterator[str]:
    yield "\n## Sources\n"
    yield "| key | what was read |"
    yield "|---|---|"
    for key in sorted(sources, key=lambda key: (key[0], int(key[1:]) if key[1:].isdigit() else 0)):
        yield f"| {key} | {_text(sources[key])} |"


def _text(text: str) -> str:
    """One line, safe inside of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    sys.stdout.write(coverage_page(load_rulebook(None)))
