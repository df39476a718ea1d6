"""The command line: what is listed exists, help is light, and errors become exit codes."""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import consent_ledger.cli
from consent.errors import ConsentError, Corrupt, Retryable
from consent_ledger.cli import main as entry
from consent_ledger.cli.main import BROKEN, COMMANDS, FINDING, UNAVAILABLE, USAGE, main

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a person runs it."""
    return subprocess.run(
        [sys.executable, "-m", "consent_ledger.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **environment},
        check=False,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_can_be_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command in the overview loads, and its own help begins as the overview says."""
    assert main([name, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"consent-ledger {name}" in shown


def test_every_command_module_is_listed() -> None:
    """No module under cli/ that has a command is forgotten in the overview."""
    modules = {module.name for module in pkgutil.iter_modules(consent_ledger.cli.__path__)}
    commands = {
        name
        for name in modules - {"main"}
        if {"command", "group"} & vars(importlib.import_module(f"consent_ledger.cli.{name}")).keys()
    }
    assert commands == {listed.module for listed in COMMANDS.values()}


def test_help_imports_none_of_the_heavy_libraries() -> None:
    """The overview is immediate because nothing of brokers, stores or arrays is imported."""
    heavy = ["faust", "aiokafka", "polars", "pyarrow", "chdb", "litestar", "pydantic", "fastavro"]
    probe = (
        "import sys\n"
        "from consent_ledger.cli.main import main\n"
        "assert main(['--help']) == 0\n"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", probe],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert shown.stderr.strip() == "[]"


def test_commands_that_ask_import_no_worker_and_no_server() -> None:
    """Who asks one thing does not wait for what follows a log, or answers requests."""
    running = {"demo", "serve", "worker", "publish", "rebuild", "retention", "topics"}
    modules = [f"consent_ledger.cli.{COMMANDS[name].module}" for name in COMMANDS.keys() - running]
    probe = (
        "import importlib, sys\n"
        f"for name in {modules}:\n"
        "    importlib.import_module(name)\n"
        "print([name for name in ['faust', 'aiokafka', 'granian'] if name in sys.modules])\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"


class _Problem(ConsentError):
    pass


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (Retryable("the broker is away"), UNAVAILABLE),
        (Corrupt("a block is short"), FINDING),
        (_Problem("something is in the way"), FINDING),
        (KeyboardInterrupt(), 130),
        (RuntimeError("a mistake of ours"), BROKEN),
    ],
)
def test_errors_become_exit_codes(
    problem: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An expected error is one line and its code; only a mistake of ours shows a traceback."""

    def failing() -> None:
        raise problem

    def application(_arguments: list[str]) -> typer.Typer:
        app = typer.Typer(pretty_exceptions_enable=False)
        app.command()(failing)
        return app

    monkeypatch.setattr(entry, "application", application)
    assert main([]) == code
    assert ("Traceback" in capsys.readouterr().err) == (code == BROKEN)


def test_a_wrong_setting_is_wrong_usage() -> None:
    """A misspelled variable ends a command with code 2 and its name, without a traceback."""
    ended = run("keys", "init", CONSENT_SERVE_PRT="1")
    assert ended.returncode == USAGE
    assert "CONSENT_SERVE_PRT: there is no such setting" in ended.stderr
    assert "CONSENT_SERVE_PORT" in ended.stderr and "Traceback" not in ended.stderr


def test_an_unknown_command_is_wrong_usage() -> None:
    """A command that does not exist ends with code 2."""
    assert run("dance").returncode == USAGE


def test_health_without_a_process_is_unavailable() -> None:
    """Where nothing of the ledger answers, health ends with code 3."""
    ended = run("health", "--port", "1")
    assert ended.returncode == UNAVAILABLE
    assert "no process of the ledger answers" in ended.stderr
