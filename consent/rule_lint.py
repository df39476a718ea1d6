"""Everything that is wrong with the files of a rulebook, and what a person should look at.

Loading stops at the first error; here an erroneous row is reported, left out, and the rest is
looked at as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from consent.reasons import ENGINE_REASONS, NO_DENIAL_GROUPS
from consent.rule_source import RulebookError, RuleFile, read_rule_file, rule_file_problems
from consent.rulebook_checks import (
    MergedFiles,
    Placed,
    compile_rules,
    merge_files,
    reason_catalogue,
)
from consent.yaml_source import SourceError

Severity = Literal["error", "warning"]

_PROBLEMS_MAX: Final = 1_000

_OWN_REASONS: Final = {
    "consent": ("CONSENT_EVIDENCE_INCOMPLETE", "CONSENT_SCOPE", "CONSENT_EXPIRED"),
    "not_reassigned": ("RND_STALE", "RND_NO_DATA", "RND_QUERY_MISSING"),
}
"""What a check gives where its row names nothing else, by its kind or fact."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend or to look at.

    `about` groups warnings of one sort, `row` is the ID@REV, source or code that one is about.
    """

    severity: Severity
    file: str
    line: int
    message: str
    remedy: str
    about: str = ""
    row: str = ""


def lint(files: Mapping[str, str], today: str, covered: frozenset[str] | None) -> list[Problem]:
    """Errors in the order of the files, then warnings; only errors keep a rulebook from loading.

    `covered` names the rows (ID@REV) that scenarios test; None: not looked at. `today` is a date
    like 2026-11-24.
    """
    errors: list[Problem] = []
    read: list[RuleFile] = []
    for name in sorted(files):
        problems = rule_file_problems(name, files[name])
        errors += [_error(problem) for problem in problems]
        if not problems:
            read.append(read_rule_file(name, files[name]))
    try:
        merged = merge_files(read)
    except RulebookError as problem:
        return [*errors, _error(problem)]
    errors += _row_errors(merged)
    warnings = [*_warnings(merged, today, covered)]
    # What a row in error cites or gives was not looked at.
    return [*errors, *warnings, *(() if errors else _unused(merged))]


def _error(problem: SourceError) -> Problem:
    return Problem("error", problem.file, problem.line, problem.message, problem.remedy)


def _row_errors(merged: MergedFiles) -> Iterator[Problem]:
    """Errors of rows, each found by leaving out those that were reported before."""
    try:
        reasons = reason_catalogue(merged)
    except RulebookError as problem:
        yield _error(problem)
        return
    for _ in range(_PROBLEMS_MAX):
        try:
            compile_rules(merged, reasons)
        except RulebookError as problem:
            yield _error(problem)
            row = _row_at(merged, problem)
            if row is None:
                return
            merged.rules.remove(row)
        else:
            return


def _row_at(merged: MergedFiles, problem: RulebookError) -> Placed | None:
    """The row in which an error stands: the last of its file that begins at or before its line."""
    begun = [
        row
        for row in merged.rules
        if row.file.name == problem.file and row.file.line_of(row.path) <= problem.line
    ]
    return max(begun, key=lambda row: row.file.line_of(row.path), default=None)


def _warnings(merged: MergedFiles, today: str, covered: frozenset[str] | None) -> Iterator[Problem]:
    for row in merged.rules:
        yield from _row_warnings(row, today, merged.rules)
        name = _name(row)
        if covered is not None and name not in covered:
            yield _warning(
                row, "no scenario tests it", "Add one that it decides.", "without a scenario"
            )


def _row_warnings(row: Placed, today: str, rows: Iterable[Placed]) -> Iterator[Problem]:
    entry = row.entry
    status, effective, known_to = entry["status"], entry["effective"], entry["known"]["to"]
    if entry["confidence"] == "K":
        yield _warning(row, "rests on memory alone", "Find its text.", "from memory")
    if known_to is not None and known_to < today:
        message = f"its text was said to be known until {known_to}"
        yield _warning(row, message, "Look it up again.", "past known.to")
    ends = effective["to"]
    if status == "in_force" and ends is not None and ends < today and "note" not in entry:
        later = [
            other
            for other in rows
            if other.entry["id"] == entry["id"] and other.entry["rev"] > entry["rev"]
        ]
        if not later:
            message = f"it ended on {ends} and nothing follows it"
            yield _warning(row, message, "Add what is law now, or a note.", "ended")
    begins = effective["from"]
    waits = status in ("pending", "proposed")
    if waits and begins is not None and begins <= today:
        message = f"it is {status}, but its date {begins} has come"
        yield _warning(row, message, "Settle its status or its date.", "pending past its date")


def _unused(merged: MergedFiles) -> Iterator[Problem]:
    cited = {source for row in merged.rules for source in row.entry["source"]}
    for source in sorted(set(merged.sources) - cited):
        message, remedy, about = "no row cites it", "Cite it, or remove it.", "unused sources"
        yield Problem("warning", "sources", 1, message, remedy, about, source)
    given = {code for row in merged.rules for code in _codes(row)}
    for placed in merged.reasons:
        code, group = placed.entry["code"], placed.entry["group"]
        if code not in given and code not in ENGINE_REASONS and group not in NO_DENIAL_GROUPS:
            message, remedy, about = "no row gives it", "Use it, or remove it.", "unused reasons"
            line = placed.file.line_of(placed.path)
            yield Problem("warning", placed.file.name, line, message, remedy, about, code)


def _codes(row: Placed) -> Iterator[str]:
    """Every code that a row can give, also where it leaves it to the kind of its check."""
    yield row.entry["on_fail"]["reason"]
    check = row.entry["check"]
    yield from _OWN_REASONS.get(check["params"].get("fact", check["kind"]), ())
    yield from (value for name, value in check["params"].items() if name.endswith("reason"))


def _warning(row: Placed, message: str, remedy: str, about: str) -> Problem:
    line = row.file.line_of(row.path)
    return Problem("warning", row.file.name, line, message, remedy, about, _name(row))


def _name(row: Placed) -> str:
    return f"{row.entry['id']}@{row.entry['rev']}"
