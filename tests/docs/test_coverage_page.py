"""The page about coverage says what the rulebook holds."""

from __future__ import annotations

from pathlib import Path

from consent_ledger.coverage_page import coverage_page
from tests.decisions import packaged_rulebook

PAGE = (Path(__file__).parents[2] / "docs" / "rules-coverage.md").read_text()


def test_the_page_is_the_generated_one() -> None:
    """docs/rules-coverage.md is what `make rules` writes today."""
    assert coverage_page(packaged_rulebook()) == PAGE


def test_every_row_and_every_doubt_is_told() -> None:
    """Each revision has its line, and what its note says of doubt stands there."""
    for rule in packaged_rulebook().rules:
        assert f"| `{rule.name}` |" in PAGE, rule.name
        note = " ".join(rule.note.split()).replace("|", "\\|").replace("*", "\\*")
        assert note in PAGE, rule.name


def test_it_is_no_legal_advice() -> None:
    """The page says so at its top."""
    assert "not legal advice" in PAGE[:400]
