"""Rows of a rulebook, changes and findings as tables for a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from consent.rule_lint import Problem
from consent_ledger.rule_changes import Change
from consent_ledger.rule_rows import (
    CONFIDENCE,
    Row,
    dates_of,
    flattened,
    name_of,
    place_of,
    value_text,
)

_STATUS_STYLES: Final = {"in_force": "", "pending": "yellow", "proposed": "yellow"}
_SCOPE: Final = "purpose mode dial line party sector message_class profile"
_KIND_STYLES: Final = {"added": "green", "removed": "red", "changed": "yellow"}
_NEXT: Final = {
    "window": "until the next window",
    "cap_expiry": "until the period of the cap is over",
    "period_end": "until the campaign's period is over",
    "on_event": "until something happens",
    "never": "for ever",
}
_MISSING: Final = {
    "deny": "deny",
    "strictest": "take the strictest reading",
    "ignore": "let the call pass",
}


def rows_table(rows: Iterable[Row]) -> Table:
    """One line or two for each row."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("rule", no_wrap=True)
    table.add_column("in force", no_wrap=True)
    table.add_column("what it says, and where", overflow="fold", ratio=1)
    table.add_column("", no_wrap=True)
    for row in rows:
        name = Text(name_of(row))
        name.append(f"\n{row['on_fail']['reason']}", style="dim")
        dates = Text(dates_of(row).replace(" to ", "\nto "))
        if row["status"] != "in_force":
            dates.append(f"\n{row['status']}", style=_STATUS_STYLES.get(row["status"], "dim"))
        title = Text(row["title"])
        title.append("\n" + "; ".join(row["citation"]), style="dim")
        table.add_row(name, dates, title, Text(row["confidence"], style="dim"))
    table.caption = "confidence: " + ", ".join(f"{mark} {text}" for mark, text in _CONFIDENCES)
    return table


_CONFIDENCES: Final = (
    ("P", "primary text"),
    ("S", "secondary source"),
    ("K", "memory only"),
    ("H", "house policy"),
)


def row_view(row: Row, content: Mapping[str, Any]) -> RenderableType:
    """All of one row; `content` is that of its rulebook, for what the row only names."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold", ratio=1)
    for name, text in _fields(row, content):
        grid.add_row(name, text)
    head = Text(name_of(row), style="bold").append(f"  {row['title']}", style="not bold")
    return Group(head, Padding(grid, (0, 0, 1, 2)))


def _fields(row: Row, content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "written in", "\n".join(row["citation"])
    yield "place", f"{place_of(row)}, by {value_text(row['jurisdiction']['match'])}"
    yield "in force", dates_of(row)
    yield "status", row["status"].replace("_", " ") + _shadow(row)
    yield "known", " to ".join(date for date in row["known"].values() if date)
    yield "applies to", "\n".join(_scopes(row["applies_when"]))
    yield "checks", "\n".join(_check(row["check"]))
    for calendar in row["check"]["params"].get("calendars", ()):
        yield f"  {calendar}", _calendar(content.get("calendars", {}).get(calendar, {}))
    yield "if it fails", _on_fail(row, content)
    yield "if not known", _MISSING[row["on_missing"]]
    yield "except", "\n".join(_exemptions(row)) or "nothing"
    yield "needs", value_text(row["needs"])
    yield "confidence", f"{row['confidence']}: {CONFIDENCE[row['confidence']]}"
    sources = content.get("sources", {})
    yield "sources", "\n".join(f"{key}: {sources.get(key, '')}" for key in row["source"])
    if row.get("note"):
        yield "note", row["note"]


def _shadow(row: Row) -> str:
    return "" if row["status"] == "in_force" else " (evaluated and recorded, never decides)"


def _scopes(applies: Any) -> Iterator[str]:
    for index, scope in enumerate(applies if isinstance(applies, list) else [applies]):
        named = sorted(scope, key=lambda name: (_SCOPE.find(name), name))
        words = "; ".join(f"{name} {value_text(scope[name])}" for name in named)
        yield ("or " if index else "") + (words or "every call")


def _check(check: Mapping[str, Any]) -> Iterator[str]:
    yield str(check["kind"])
    for name, value in check["params"].items():
        if name == "days" and isinstance(value, Mapping):
            yield from (f"  {days}: {_windows(windows)}" for days, windows in value.items())
        else:
            yield from (f"  {path}: {value_text(one)}" for path, one in flattened(value, name))


def _windows(windows: Sequence[Sequence[str]]) -> str:
    return ", ".join(f"{begin} to {end}" for begin, end in windows) or "closed"


def _calendar(calendar: Mapping[str, Any]) -> str:
    days = ", ".join(str(day.get("name", "")) for day in calendar.get("days", ()))
    title = calendar.get("title", "not in this rulebook")
    return f"{title}: {days}" if days else str(title)


def _on_fail(row: Row, content: Mapping[str, Any]) -> str:
    on_fail = row["on_fail"]
    code = on_fail["reason"]
    texts = {
        entry["code"]: entry["text"]
        for section in ("reasons", "obligations")
        for entry in content.get(section, ())
    }
    until = f", {_NEXT[on_fail['next']]}" if "next" in on_fail else ""
    return f"{on_fail['effect']} {code}{until}\n{texts.get(code, '')}"


def _exemptions(row: Row) -> Iterator[str]:
    for unless in row.get("unless", ()):
        when = "; ".join(f"{path} {value_text(one)}" for path, one in flattened(unless["when"]))
        yield f"{unless['code']} ({value_text(unless['profiles'])}): {when.replace('{}', '')}"


def changes_view(found: Iterable[Change]) -> RenderableType:
    """Each change with its fields, before and after."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("what", overflow="fold", min_width=16)
    table.add_column("before", overflow="fold", ratio=1)
    table.add_column("after", overflow="fold", ratio=1)
    for change in found:
        name = Text(change.name if change.section == "rules" else f"{change.section} {change.name}")
        mark = Text(change.kind, style=_KIND_STYLES[change.kind])
        sides = ["", change.title] if change.kind == "added" else [change.title, ""]
        table.add_row(mark, name, *(sides if change.kind != "changed" else ["", ""]))
        for field in change.fields:
            before, after = value_text(field.before), value_text(field.after)
            table.add_row("", Text(f"  {field.field}", style="dim"), before, after)
    return table


def problems_view(problems: Iterable[Problem]) -> RenderableType:
    """Errors one by one, warnings of one sort together."""
    lines: list[RenderableType] = []
    warnings: list[Problem] = []
    for problem in problems:
        if problem.severity == "warning":
            warnings.append(problem)
            continue
        head = Text("error: ", style="bold red")
        lines.append(head.append(_placed(problem), style="default"))
    for about, same in groupby(
        sorted(warnings, key=lambda one: (one.about, one.file, one.line)),
        key=lambda one: one.about,
    ):
        lines.append(_together(about, list(same)))
    return Group(*lines)


def _together(about: str, same: Sequence[Problem]) -> RenderableType:
    head = Text(f"{about} ({len(same)}): ", style="yellow")
    if {one.message for one in same} == {same[0].message} and same[0].row:
        names = ", ".join(sorted(one.row for one in same))
        return head.append(f"{names}. {same[0].remedy}", style="default")
    for one in same:
        row = f"{one.row} " if one.row else ""
        head.append(f"\n  {one.file}:{one.line}: {row}{one.message}. {one.remedy}", style="default")
    return head


def _placed(problem: Problem) -> str:
    return f"{problem.file}:{problem.line}: {problem.message}. {problem.remedy}"
