"""The page about decisions says what the packaged rules are."""

from __future__ import annotations

from pathlib import Path

from consent.conditions import CONDITIONS
from consent.fact_checks import FACTS
from consent.rule_kinds import KINDS
from consent.rulebook import Rulebook
from tests.decisions import packaged_files, packaged_rulebook

PAGE = (Path(__file__).parents[2] / "docs" / "decisions-and-reasons.md").read_text()


def rows_of(heading: str) -> list[list[str]]:
    """Cells of the first table under a heading, without marks of code."""
    lines = PAGE.split(f"\n## {heading}", 1)[1].splitlines()
    table = [line for line in lines[: _end(lines)] if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table[2:]]


def _end(lines: list[str]) -> int:
    begins = next(number for number, line in enumerate(lines) if line.startswith("|"))
    return next(
        (number for number, line in enumerate(lines) if number > begins and not line), len(lines)
    )


def test_page_lists_every_reason_in_its_order() -> None:
    """The table of reasons is the catalogue, in its total order."""
    catalogue = packaged_rulebook().reasons.reasons.values()
    expected = [[str(one.rank + 1), one.code, one.group, one.text] for one in catalogue]
    assert rows_of("Reasons, in their order") == expected


def test_page_lists_every_obligation() -> None:
    """The table of obligations is the catalogue."""
    catalogue = packaged_rulebook().reasons.obligations.values()
    assert rows_of("Obligations of an allowed call") == [[one.code, one.text] for one in catalogue]


def test_page_names_what_a_rule_can_ask_for() -> None:
    """Every kind of check, fact and condition is described."""
    described = PAGE.split("\n## Writing a rule", 1)[1]
    assert [name for name in (*KINDS, *FACTS, *CONDITIONS) if f"`{name}`" not in described] == []


def test_example_row_is_a_rule() -> None:
    """The row that the page shows is accepted in place of the packaged one."""
    row = PAGE.split("```yaml\n", 1)[1].split("```", 1)[0]
    rulebook = Rulebook.load(packaged_files() | {"fr.yaml": f"rules:\n{row}"})
    shown = next(rule for rule in rulebook.rules if rule.name == "FR-OPTIN@2")
    packaged = next(rule for rule in packaged_rulebook().rules if rule.name == "FR-OPTIN@2")
    assert (shown.title, shown.check) == (packaged.title, packaged.check)
