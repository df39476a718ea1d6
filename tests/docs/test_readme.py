"""What the README says exists, exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from consent_ledger.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "HACKING.md", *ROOT.glob("docs/**/*.md")])
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of every page names a file that is there."""
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_named_make_targets_exist() -> None:
    """Every `make` command of README and HACKING is a target."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = README + (ROOT / "HACKING.md").read_text()
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE))
    assert named
    assert named <= targets


def test_named_commands_exist() -> None:
    """Every `consent-ledger` command that a page shows is one that the program has."""
    for page in PAGES:
        named = set(re.findall(r"consent-ledger ([a-z][a-z-]+)", page.read_text()))
        assert named <= COMMANDS.keys(), page.name


def test_commands_explain_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command's module can be run as far as its help; one as its user runs it."""
    program = Path(sys.executable).parent / "consent-ledger"
    done = subprocess.run([program, "health", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert main([command, "--help"]) == 0, command
        assert command in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    """Every path in code type that looks like one of ours is there."""
    pattern = r"`((?:consent|projections|streams|consent_ledger|schemas|rules|docs|docker|examples"
    for name in re.findall(pattern + r"|bench|tests)/[\w./-]+)`", page.read_text()):
        if "<" not in name and "*" not in name and name != "bench/results.json":
            assert (ROOT / name).exists(), name
