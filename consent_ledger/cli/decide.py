"""`consent-ledger decide`: evaluate scenario files, without any service."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from consent.errors import Rejected
from consent.scenario import Scenario, read_scenarios
from consent.scenario_results import Result, evaluate, next_allowed_text, result_fields
from consent.shown_facts import shown_facts
from consent_ledger.explanation import explain, explanation_view
from consent_ledger.rule_files import load_rulebook, text_of
from consent_ledger.terminal import out

_FINDING = 1
_STYLES = {"ALLOW": "bold green", "DENY": "bold red", "UNAVAILABLE": "bold yellow"}
_MARKS = {
    True: Text("✓", style="green"),
    False: Text("✗", style="bold red"),
    None: Text("·", style="dim"),
}


def command(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Scenario files; - for standard input.")
    ],
    rules: Annotated[
        Path | None, typer.Option(help="Folder of rule files, instead of this release's.")
    ] = None,
    add: Annotated[
        list[Path] | None,
        typer.Option(help="A rule file beside those; takes the place of one of the same name."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--id", help="Only the scenario of this id; repeatable.")
    ] = None,
    show_trace: Annotated[
        bool, typer.Option("--explain", help="Show by which rules and facts.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line per scenario, in file order.")
    ] = False,
) -> None:
    """Decide the calls of scenario files by the rulebook, and compare with what they expect.

    Nothing has to run: a scenario holds the call and all facts. Exit code 1 if an expectation is
    not met, 2 if a file can't be used.
    """
    rulebook = load_rulebook(rules, add or ())
    scenarios = _wanted([one for file in files for one in _read(file)], only or ())
    results = [evaluate(scenario, rulebook) for scenario in scenarios]
    if as_json:
        for result in results:
            sys.stdout.write(json.dumps(result_fields(result), ensure_ascii=False) + "\n")
    else:
        _show(results, show_trace)
        _summarise(results, f"rulebook {rulebook.version}, {rulebook.digest.hex()[:16]}")
    raise typer.Exit(_FINDING if any(result.passed is False for result in results) else 0)


def _read(file: Path) -> list[Scenario]:
    if str(file) == "-":
        return read_scenarios("standard input", sys.stdin.read())
    return read_scenarios(str(file), text_of(file, "FILE"))


def _wanted(scenarios: list[Scenario], only: Sequence[str]) -> list[Scenario]:
    unknown = sorted(set(only) - {scenario.id for scenario in scenarios})
    if unknown:
        raise Rejected("NO_SCENARIO", "--id", ", ".join(unknown), "no file has it")
    return [scenario for scenario in scenarios if not only or scenario.id in only]


def _show(results: Iterable[Result], show_trace: bool) -> None:
    if not show_trace:
        table = _table()
        for result in results:
            table.add_row(*_row(result))
        out.print(table)
        return
    for result in results:
        table = _table()
        table.add_row(*_row(result))
        out.print(table)
        decision = result.decision
        rule = None if decision.rule is None else decision.rule.name
        out.print(explanation_view(explain(_lines(result), rule, decision.reasons)))
        out.print()


def _table() -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("scenario", overflow="fold", ratio=2)
    table.add_column("decision", overflow="fold", ratio=3)
    return table


def _row(result: Result) -> list[Text]:
    name = Text(result.scenario.id)
    if result.scenario.why:
        name.append(f"\n{result.scenario.why}", style="dim")
    decision = result.decision
    told = Text(decision.verdict, style=_STYLES[decision.verdict])
    told.append(f" {', '.join(decision.reasons)}", style="default not bold")
    following = next_allowed_text(decision)
    parts = [
        "" if decision.rule is None else decision.rule.name,
        "" if following is None else f"next {following}",
        *decision.obligations,
    ]
    if any(parts):
        told.append(f"\n{', '.join(part for part in parts if part)}", style="dim not bold")
    for difference in result.differences:
        told.append(f"\n{difference}", style="red not bold")
    return [_MARKS[result.passed], name, told]


def _lines(result: Result) -> list[dict[str, Any]]:
    return [
        {
            "rule": line.rule.name,
            "title": line.rule.title,
            "outcome": line.outcome,
            "reason": line.reason,
            "exemption": line.exemption,
            "facts": shown_facts(line.facts),
            "citation": line.rule.citation,
        }
        for line in result.decision.outcomes
    ]


def _summarise(results: Sequence[Result], rulebook: str) -> None:
    met = sum(result.passed is True for result in results)
    missed = sum(result.passed is False for result in results)
    noun = "scenario" if len(results) == 1 else "scenarios"
    counts = Text(f"{len(results)} {noun}: {met} as expected")
    counts.append(f", {missed} not", style="bold red" if missed else "")
    if met + missed < len(results):
        counts.append(f", {len(results) - met - missed} without an expectation")
    out.print(counts.append(f"  ({rulebook})", style="dim"))
