"""Files of rows and of results: what goes into a publication and what is kept of it.

Reads CSV and JSON lines one row at a time, whatever their size; a row that can't be read is an
event that is rejected, never the end of the file.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from consent.errors import Rejected
from consent_ledger.mapping import CsvForm, MappingFile

Document = Mapping[str, Any]
Result = dict[str, Any]

DONE_STATUSES: Final = frozenset({"accepted", "duplicate"})
LINE_CHARS_MAX: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class RowEvent:
    """One document of one row, or why there is none. `line` counts from 1."""

    line: int
    row: Any
    document: Document | None
    problem: Rejected | None


class ResultFiles:
    """The results and rejects of a run, on disk as they come in; both hold what the input holds."""

    def __init__(self, results: Path | None, rejects: Path | None) -> None:
        self._results = _appending(results)
        self._rejects = _appending(rejects)

    def write(self, event: RowEvent, result: Result) -> None:
        """Keep one result, and the row of a rejected one."""
        if self._results is not None:
            line = {"line": event.line, **result}
            self._results.write(json.dumps(line, separators=(",", ":")) + "\n")
        if self._rejects is not None and result["status"] == "rejected":
            shown = {name: result.get(name) for name in ("reason", "field", "remedy")}
            line = {"line": event.line, **shown, "row": event.row}
            self._rejects.write(json.dumps(line, separators=(",", ":"), default=str) + "\n")

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        for file in (self._results, self._rejects):
            if file is not None:
                file.flush()

    def close(self) -> None:
        """Close the files."""
        for file in (self._results, self._rejects):
            if file is not None:
                file.close()


def rejection(problem: Rejected | None) -> Result:
    """The result of a document that can't be used."""
    if problem is None:
        return {"status": "rejected", "reason": "INVALID_ROW"}
    return {
        "status": "rejected",
        "reason": problem.reason,
        "field": problem.field,
        "value": problem.value_shown,
        "remedy": problem.remedy,
    }


def done_before(results: Path | None) -> frozenset[str]:
    """Ids of the events that an earlier run with this results file has finished.

    A last line that was cut off is left out: its event is sent once more.
    """
    if results is None or not results.exists():
        return frozenset()
    done = set()
    with results.open() as lines:
        for line in lines:
            try:
                result = json.loads(line)
            except ValueError:
                continue
            if result.get("status") in DONE_STATUSES:
                done.add(str(result.get("event_id", "")).lower())
    return frozenset(done)


def json_events(file: TextIO, mapping: MappingFile | None) -> Iterator[RowEvent]:
    """Events of a JSON lines file; empty lines are passed over."""
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        if len(line) > LINE_CHARS_MAX:
            yield RowEvent(number, None, None, _bad_row(f"the line has {len(line)} characters"))
            continue
        try:
            row = json.loads(line, parse_constant=_no_constant)
            _require_unicode(json.dumps(row, ensure_ascii=False) if "\\u" in line else line)
        except (ValueError, RecursionError) as problem:
            yield RowEvent(number, line.rstrip("\n"), None, _bad_row(f"no JSON: {problem}"))
            continue
        yield from _events_of(number, row, mapping)


def csv_events(file: TextIO, mapping: MappingFile, form: CsvForm) -> Iterator[RowEvent]:
    """Events of a CSV file with a header; Rejected if it lacks a column that the mapping reads."""
    reader = csv.DictReader(
        file, delimiter=form.delimiter, quotechar=form.quote, restkey="", strict=True
    )
    mapping.check_columns(reader.fieldnames or ())
    while True:
        try:
            row = next(reader, None)
        except csv.Error as problem:
            yield RowEvent(reader.line_num, None, None, _bad_row(f"no CSV: {problem}"))
            continue
        if row is None:
            return
        if "" in row and row[""] is not None and "" not in (reader.fieldnames or ()):
            too_long = _bad_row("the row has more cells than the header")
            yield RowEvent(reader.line_num, row, None, too_long)
            continue
        try:
            _require_unicode("".join(filter(None, row.values())))
        except ValueError as problem:
            yield RowEvent(reader.line_num, row, None, _bad_row(str(problem)))
            continue
        yield from _events_of(reader.line_num, row, mapping)


def _events_of(line: int, row: Any, mapping: MappingFile | None) -> Iterator[RowEvent]:
    if not isinstance(row, dict):
        yield RowEvent(line, row, None, _bad_row("it is no JSON object"))
        return
    if mapping is None:
        yield RowEvent(line, row, row, None)
        return
    try:
        documents = list(mapping.documents(row))
    except Rejected as problem:
        yield RowEvent(line, row, None, problem)
        return
    for document in documents:
        yield RowEvent(line, row, document, None)


def _require_unicode(text: str) -> None:
    """ValueError for bytes that were no text in the encoding named, and for half characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it is not in the encoding that was named") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _bad_row(why: str) -> Rejected:
    return Rejected("INVALID_ROW", "", "(not shown)", why)


def _appending(path: Path | None) -> TextIO | None:
    if path is None:
        return None
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "a")
