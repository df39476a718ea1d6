"""`consent-ledger rules`: show the rulebook to a person, compare two, find what is wrong in one."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from consent.call import is_jurisdiction
from consent.errors import Rejected
from consent.instants import parse_date
from consent.rule_lint import lint as lint_files
from consent.rulebook import Rulebook
from consent_ledger.cli.rules_backtest import backtest
from consent_ledger.rule_changes import change_fields, changes
from consent_ledger.rule_coverage import covered_rows
from consent_ledger.rule_files import load_rulebook, rule_texts
from consent_ledger.rule_rows import RowFilter, content_of, name_of, place_of, revisions, rows_of
from consent_ledger.rule_tables import changes_view, problems_view, row_view, rows_table
from consent_ledger.terminal import out

group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

_FINDING = 1

Folder = Annotated[
    Path | None, typer.Option("--rules", help="Folder of rule files, instead of this release's.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines.")]


@group.callback()
def _about() -> None:
    """Show the rulebook, compare two, find what is wrong in one."""


@group.command("list")
def list_rows(
    state: Annotated[
        list[str] | None, typer.Option(help="Rows of this state, e.g. US-TX; repeatable.")
    ] = None,
    country: Annotated[
        list[str] | None, typer.Option(help="Rows of this country, its states too; repeatable.")
    ] = None,
    applies_in: Annotated[
        list[str] | None,
        typer.Option("--in", help="Rows that apply there, those of everywhere too; repeatable."),
    ] = None,
    citation: Annotated[str, typer.Option(help="Rows that cite this, e.g. 64.1200.")] = "",
    status: Annotated[
        list[str] | None, typer.Option(help="in_force, pending, waived, vacated, proposed.")
    ] = None,
    reason: Annotated[
        list[str] | None, typer.Option(help="Rows that can give this reason; repeatable.")
    ] = None,
    kind: Annotated[list[str] | None, typer.Option(help="window, consent, cap, …")] = None,
    confidence: Annotated[list[str] | None, typer.Option(help="P, S, K or H.")] = None,
    at: Annotated[str, typer.Option(help="Rows in force on this date.")] = "",
    rules: Folder = None,
    as_json: AsJson = False,
) -> None:
    """List the rows of the rulebook that are wanted, with dates, title and citation."""
    wanted = RowFilter(
        states=_places("--state", state),
        countries=tuple(word.upper() for word in country or ()),
        applies_in=_places("--in", applies_in),
        citation=citation,
        statuses=tuple(word.lower() for word in status or ()),
        reasons=tuple(word.upper() for word in reason or ()),
        kinds=tuple(word.lower() for word in kind or ()),
        confidences=tuple(word.upper() for word in confidence or ()),
        at=_date("--at", at),
    )
    rulebook = load_rulebook(rules)
    rows = rows_of(rulebook, wanted)
    if as_json:
        _print_lines({"rule": name_of(row), "place": place_of(row), **row} for row in rows)
        return
    if rows:
        out.print(rows_table(rows))
    out.print(f"{len(rows)} of {len(rulebook.rules)} rows; {_named(rulebook)}", soft_wrap=True)


@group.command("show")
def show(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="ID, or ID@REV.")],
    rules: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Show all of a row: dates, citation, scope, exemptions, parameters, sources, confidence."""
    rulebook = load_rulebook(rules)
    rows = revisions(rulebook, rule.upper())
    if as_json:
        _print_lines({"rule": name_of(row), "place": place_of(row), **row} for row in rows)
        return
    content = content_of(rulebook)
    for row in rows:
        out.print(row_view(row, content))


@group.command("diff")
def diff(
    before: Annotated[
        Path, typer.Argument(help="Folder, or `packaged`; alone, it is compared with this release.")
    ],
    after: Annotated[Path | None, typer.Argument(help="Folder, or `packaged`.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what changed from one rulebook to another, row by row and field by field."""
    old, new = (before, after) if after is not None else (None, before)
    was, is_now = load_rulebook(old), load_rulebook(new)
    found = changes(was, is_now)
    if as_json:
        _print_lines(change_fields(change) for change in found)
        return
    out.print(f"before: {_named(was)}", soft_wrap=True)
    out.print(f"after:  {_named(is_now)}", soft_wrap=True)
    if found:
        out.print(changes_view(found))
    kinds = Counter(change.kind for change in found)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    out.print(told or "no difference")


@group.command("lint")
def lint(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of rule files; this release's if not given.")
    ] = None,
    scenarios: Annotated[
        list[Path] | None,
        typer.Option(help="Scenario files or folders: name the rows that none of them tests."),
    ] = None,
    at: Annotated[str, typer.Option(help="Judge as of this date; today if not given.")] = "",
    as_json: AsJson = False,
) -> None:
    """Report everything that is wrong with rule files, and what a person should look at.

    Exit code 1 if there is an error; warnings don't change it.
    """
    texts = rule_texts(folder)
    today = _date("--at", at) or datetime.now(UTC).date().isoformat()
    problems = lint_files(texts, today, None)
    errors = sum(problem.severity == "error" for problem in problems)
    if scenarios and not errors:
        covered = covered_rows(Rulebook.load(texts), scenarios)
        problems = lint_files(texts, today, covered)
    if as_json:
        _print_lines(asdict(problem) for problem in problems)
    else:
        if problems:
            out.print(problems_view(problems))
        out.print(f"{errors} errors, {len(problems) - errors} warnings in {len(texts)} files")
    raise typer.Exit(_FINDING if errors else 0)


group.command("backtest")(backtest)


@group.command("version")
def version(rules: Folder = None, as_json: AsJson = False) -> None:
    """Print version and digest of the rulebook, and how many rows it has."""
    rulebook = load_rulebook(rules)
    deciding = sum(rule.decides for rule in rulebook.rules)
    if as_json:
        _print_lines(
            [
                {
                    "version": rulebook.version,
                    "digest": rulebook.digest.hex(),
                    "rows": len(rulebook.rules),
                    "deciding": deciding,
                }
            ]
        )
        return
    out.print(f"version {rulebook.version}")
    out.print(f"digest  {rulebook.digest.hex()}", soft_wrap=True)
    shadow = len(rulebook.rules) - deciding
    out.print(f"rows    {len(rulebook.rules)}: {deciding} can decide, {shadow} in shadow")


def _named(rulebook: Rulebook) -> str:
    return f"rulebook {rulebook.version}, digest {rulebook.digest.hex()[:16]}"


def _places(option: str, given: Iterable[str] | None) -> tuple[str, ...]:
    places = tuple(word.upper() for word in given or ())
    for place in places:
        if not is_jurisdiction(place):
            remedy = "write it with its country: US-TX, CA-ON, FR"
            raise Rejected("UNKNOWN_VALUE", option, place[:40], remedy)
    return places


def _date(option: str, text: str) -> str:
    if text:
        try:
            parse_date(text)
        except ValueError:
            remedy = "write it like 2026-11-24"
            raise Rejected("UNKNOWN_VALUE", option, text[:40], remedy) from None
    return text


def _print_lines(objects: Iterable[dict[str, Any]]) -> None:
    for one in objects:
        sys.stdout.write(json.dumps(one, ensure_ascii=False) + "\n")
