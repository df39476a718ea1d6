"""Which rows of a rulebook scenarios test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from consent.rulebook import Rulebook
from consent.scenario import read_scenarios
from consent.scenario_results import Result, evaluate
from consent_ledger.rule_files import text_of


def scenario_files(paths: Iterable[Path]) -> list[Path]:
    """The files themselves, and every YAML file in the folders."""
    return [
        file
        for path in paths
        for file in (sorted(path.rglob("*.yaml")) if path.is_dir() else [path])
    ]


def covered_rows(rulebook: Rulebook, paths: Iterable[Path]) -> frozenset[str]:
    """Rows (ID@REV) that some scenario names, or that deny or exempt in one."""
    return frozenset(
        name
        for path in scenario_files(paths)
        for scenario in read_scenarios(str(path), text_of(path, "--scenarios"))
        for name in _tested(evaluate(scenario, rulebook))
    )


def _tested(result: Result) -> Iterator[str]:
    expectation = result.scenario.expectation
    expected = None if expectation is None else expectation.rule
    for line in result.decision.outcomes:
        if line.reason or line.exemption or expected in (line.rule.id, line.rule.name):
            yield line.rule.name
