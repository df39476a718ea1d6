"""The page on evidence bundles says what the command and the auditor's program take."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from consent_ledger import verify_bundle
from consent_ledger.cli.main import application

PAGE = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text()


def test_every_option_of_the_command_is_described() -> None:
    """And no other: those in the page's table and example, but for the program's own."""
    shown = CliRunner().invoke(
        application(["evidence"]), ["evidence", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}
    )
    assert shown.exit_code == 0
    offered = set(re.findall(r"--[a-z-]+", shown.stdout)) - {"--help"}
    described = set(re.findall(r"--[a-z]+", PAGE))
    assert offered <= described
    assert described - offered == {"--key", "--witness"}


def test_the_program_takes_what_the_page_says() -> None:
    """Options and file names."""
    source = Path(verify_bundle.__file__).read_text()
    assert {"--key", "--witness"} == set(re.findall(r'"(--[a-z]+)"', source))
    for name in (verify_bundle.MANIFEST, verify_bundle.KEY, verify_bundle.STORY):
        assert f"`{name}`" in PAGE
