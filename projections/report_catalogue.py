"""The reports that an auditor may ask for: one SQL file each, which also says what it is.

A file of `projections/reports/` begins with lines `-- word: text`; what follows is one SELECT. Its
words: `title`, `answers` (the provision, or question, that it answers), `finding` (`rows`: each is
one; `column NAME`: each where that is true; `none`), `reads` (an event type and the fields that are
put in a table of its name), `column` (name, then what it means), `note`, `parameter` (name, type,
default, meaning), `personal` (columns that only some may see), `scope: ledger` (it can't be
limited to a seller) and `with` (a file of `shared/` whose head and `WITH` clause come first, where
several reports ask the same tables). Adding a report is adding a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from consent.contracts import contracts

_HEADER: Final = re.compile(r"-- ([a-z]+): (.+)")
_READS: Final = re.compile(r"(\w+)(?:\.(\w+))? (during|until|always) \(([\w, ]+)\)")
_FINDING: Final = re.compile(r"rows|none|column (\w+)")
_NAMED: Final = re.compile(r"(\w+) (.+)")
_PARAMETER: Final = re.compile(r"(\w+) (\w+) (\S+) (.+)")
_CAPITAL: Final = re.compile(r"(?<!^)(?=[A-Z])")

EVERY_ROW: Final = "rows"


class ReportInvalid(ValueError):
    """A report's file is wrong: a mistake of whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Events that a report reads, as the table that it finds them in.

    `during`: those of the period; `until`: of the period and before; `always`: all that was known.
    With `exploded`, each row is one entry of that list, with the entry's fields as columns.
    """

    event: str
    window: str
    fields: tuple[str, ...]
    exploded: str | None = None

    @property
    def table(self) -> str:
        """Name of the table."""
        name = _CAPITAL.sub("_", self.event).lower()
        return name if self.exploded is None else f"{name}_{self.exploded}"


@dataclass(frozen=True, slots=True)
class ReportColumn:
    """A column and what it means; `personal` ones may be hidden."""

    name: str
    meaning: str
    personal: bool = False


@dataclass(frozen=True, slots=True)
class ReportParameter:
    """What may be set beside the period: its ClickHouse type, default and meaning."""

    name: str
    kind: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Report:
    """One report. `finding` is `rows`, `none` or the name of a column that says yes."""

    name: str
    title: str
    answers: str
    finding: str
    sql: str
    readings: tuple[Reading, ...] = ()
    columns: tuple[ReportColumn, ...] = ()
    parameters: tuple[ReportParameter, ...] = ()
    notes: tuple[str, ...] = ()
    whole_ledger: bool = False

    @property
    def personal(self) -> bool:
        """True if some columns are personal data."""
        return any(column.personal for column in self.columns)


def packaged_reports() -> Mapping[str, Report]:
    """Every report of this release by name; ReportInvalid if a file is wrong."""
    return load_reports(files("projections") / "reports")


def load_reports(folder: Traversable) -> Mapping[str, Report]:
    """The reports of a folder, in the order of their names."""
    found = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=str)
    shared = folder / "shared"
    texts = {
        file.name.removesuffix(".sql"): file.read_text()
        for file in (shared.iterdir() if shared.is_dir() else ())
    }
    reports = [
        read_report(file.name.removesuffix(".sql"), file.read_text(), texts) for file in found
    ]
    return {report.name: report for report in reports}


def read_report(name: str, text: str, shared: Mapping[str, str] | None = None) -> Report:
    """A report from its file's text, and those of the files that it may be `with`."""
    said, sql = _parted(name, text)
    try:
        for other in said.get("with", ()):
            theirs, before = _parted(other, (shared or {})[other])
            said = {word: said.get(word, []) + theirs.get(word, []) for word in {**said, **theirs}}
            sql = f"{before}\n{sql}"
        finding = _matched(_FINDING, said["finding"][0])
        personal = {one for text in said.get("personal", ()) for one in text.split(", ")}
        return Report(
            name=name,
            title=said["title"][0],
            answers=said["answers"][0],
            finding=finding[1] or finding[0],
            sql=sql,
            readings=tuple(_reading(text) for text in said.get("reads", ())),
            columns=tuple(_column(text, personal) for text in said["column"]),
            parameters=tuple(
                ReportParameter(*_matched(_PARAMETER, text).groups())
                for text in said.get("parameter", ())
            ),
            notes=tuple(said.get("note", ())),
            whole_ledger="ledger" in said.get("scope", ()),
        )
    except (KeyError, ValueError) as problem:
        raise ReportInvalid(f"{name}: {problem}") from problem


def _parted(name: str, text: str) -> tuple[dict[str, list[str]], str]:
    """What the head of a file says, by word, and the SQL after it."""
    said: dict[str, list[str]] = {}
    lines = text.splitlines()
    start = next((at for at, line in enumerate(lines) if not line.startswith("--")), len(lines))
    for line in lines[:start]:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise ReportInvalid(f"{name}: not a line of the head: {line}")
        said.setdefault(found[1], []).append(found[2])
    return said, "\n".join(lines[start:]).strip().removesuffix(";")


def _matched(form: re.Pattern[str], text: str) -> re.Match[str]:
    found = form.fullmatch(text)
    if found is None:
        raise ValueError(f"can't be read: {text}")
    return found


def _column(text: str, personal: set[str]) -> ReportColumn:
    name, meaning = _matched(_NAMED, text).groups()
    return ReportColumn(name, meaning, name in personal)


def _reading(text: str) -> Reading:
    event, exploded, window, fields = _matched(_READS, text).groups()
    contracts().record(event)
    return Reading(event, window, tuple(fields.split(", ")), exploded)
