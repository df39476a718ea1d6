"""The page for authors of rules: its example is run, and it names all that a scenario can say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from consent.contracts import data_path
from consent.scenario_facts import evidence_flags
from consent_ledger.cli.main import COMMANDS, main
from tests.unit.test_command_line import run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rules.md").read_text()
SCHEMA = json.loads((data_path("schemas") / "scenarios.schema.json").read_text())


def block(name: str) -> str:
    """The YAML block of the page that begins with this file's name."""
    found = re.search(rf"```yaml\n# {re.escape(name)}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the example, where its commands are run."""
    for name in ("lunch.yaml", "lunch-cases.yaml"):
        (tmp_path / name).write_text(block(name))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_holds(folder: Path) -> None:
    """The command of the page ends well and prints what the page shows."""
    (command,) = re.findall(r"\$ consent-ledger (decide .*)", PAGE)
    words = [str(folder / word) if word.endswith(".yaml") else word for word in command.split()]
    ended = run(*words, COLUMNS="80")
    assert ended.returncode == 0, ended.stderr
    assert "4 scenarios: 4 as expected" in ended.stdout
    (shown,) = re.findall(r"```\n(     scenario .*?)```", PAGE, re.DOTALL)
    lines = [line.rstrip() for line in ended.stdout.splitlines()]
    for line in shown.splitlines():
        assert line.rstrip() in lines


def test_the_example_depends_on_its_row(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the row, or with other hours, it does not hold."""
    assert main(["decide", "lunch-cases.yaml"]) == 1
    row = folder / "lunch.yaml"
    row.write_text(row.read_text().replace('"12:00"', '"12:01"'))
    assert main(["decide", "lunch-cases.yaml", "--add", "lunch.yaml"]) == 1
    assert "NOON" in capsys.readouterr().out


def test_the_page_names_all_that_a_scenario_can_say() -> None:
    """Every field of the schema, and no other one, is in the tables."""
    for part in ("request", "facts", "expect"):
        table = PAGE.split(f"| `{part}` | |\n", 1)[1].split("\n\n", 1)[0]
        first = [line.split("|")[1] for line in table.splitlines()[1:]]
        named = {name for cell in first for name in re.findall(r"`(\w+)`", cell)}
        assert named == set(SCHEMA["$defs"][part]["properties"])
    for part in ("grant", "withdrawal", "relationship", "attempt", "campaign", "program"):
        for name in SCHEMA["$defs"][part]["properties"]:
            assert f"`{name}`" in PAGE, (part, name)


def test_the_flags_named_are_flags() -> None:
    """Every flag of evidence on the page can be stated."""
    sentence = PAGE.split("Flags of `evidence`", 1)[1].split("or any element", 1)[0]
    flags = set(re.findall(r"`(\w+)`", sentence))
    assert len(flags) > 8 and flags <= set(evidence_flags())


def test_the_commands_named_exist() -> None:
    """Each command of the page is one."""
    assert set(re.findall(r"consent-ledger (\w+)", PAGE)) <= set(COMMANDS)
