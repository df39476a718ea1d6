"""Entry point of `consent-ledger`: finds the command, runs it, turns errors into exit codes.

Only the module of the command that was asked for is imported, so that help is immediate.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

from consent.errors import ConsentError, Rejected, Retryable

DONE = 0
FINDING = 1
USAGE = 2
UNAVAILABLE = 3
# sysexits.h EX_SOFTWARE: a mistake of ours, never one of the three above.
BROKEN = 70
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: its module under `consent_ledger.cli`, and its line in the overview.

    The module exposes `command`, a function that Typer can run, or `group`, a Typer of several.
    """

    module: str
    summary: str
    panel: str


_RUN, _USE, _CARE = "Run a ledger", "Use a ledger", "Set up and look after it"

COMMANDS: dict[str, Entry] = {
    "demo": Entry("demo", "Show everything once with sample data, then stop.", _RUN),
    "up": Entry("up", "Run a whole ledger on this machine until it is stopped.", _RUN),
    "serve": Entry("serve", "Run the HTTP API.", _RUN),
    "worker": Entry("worker", "Run one worker: project, record or seal.", _RUN),
    "publish": Entry("publish", "Publish events from a file.", _USE),
    "check": Entry("check", "Ask whether a number may be called now.", _USE),
    "scrub": Entry("scrub", "Say which numbers of a list may not be called.", _USE),
    "decide": Entry("decide", "Decide the calls of scenario files; needs no service.", _USE),
    "timeline": Entry("timeline", "Show all that is known of a number, in order.", _USE),
    "reconstruct": Entry("reconstruct", "Show what was true and known at a past moment.", _USE),
    "rules": Entry("rules", "Show the rulebook, compare two, find errors.", _USE),
    "report": Entry("report", "Show what a regulator asks for.", _USE),
    "subject": Entry("subject", "Print the token of a number, for questions in SQL.", _USE),
    "evidence": Entry("evidence", "Write a number's story with proofs, for an auditor.", _USE),
    "verify": Entry("verify", "Prove that nothing was altered or left out.", _USE),
    "erase": Entry("erase", "Erase a person, and get the certificate.", _USE),
    "access": Entry("access", "Export everything that is held on a person.", _USE),
    "retention": Entry("retention", "Let evidence go that is past its retention.", _CARE),
    "topics": Entry("topics", "Create the topics, or compare them with the contracts.", _CARE),
    "keys": Entry("keys", "Make the secret keys.", _CARE),
    "rebuild": Entry("rebuild", "Fold the history back into an empty projection.", _CARE),
    "health": Entry("health", "Ask the processes of this machine if they are well.", _CARE),
    "witness": Entry("witness", "Cosign the checkpoints of other people's logs.", _CARE),
    "settings": Entry("settings", "List every setting, its default and its value.", _CARE),
}


def run() -> None:
    """Run the command line of this process and exit with its code."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run one command; the exit code says what happened, the error stream says why."""
    try:
        code = application(arguments)(args=arguments, prog_name="consent-ledger")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else USAGE
    except ConsentError as problem:
        return _refused(problem)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; that is not our failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception:  # noqa: BLE001
        import traceback

        traceback.print_exc()
        return BROKEN
    return code if isinstance(code, int) else DONE


def application(arguments: list[str]) -> typer.Typer:
    """The command line, with the wanted command loaded and every other one only listed."""
    app = typer.Typer(
        name="consent-ledger",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        help="Prove, for every outbound call, that it was allowed at the second it was dialled.",
        epilog="Exit codes: 0 done, 1 a finding, 2 wrong usage, 3 something is unavailable.",
    )
    app.callback()(_options)
    completing = "_CONSENT_LEDGER_COMPLETE" in os.environ
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    for name, entry in COMMANDS.items():
        if completing or name == wanted:
            _add_loaded(app, name, entry)
        else:
            app.command(name, help=entry.summary, rich_help_panel=entry.panel)(_listed_only)
    return app


def _add_loaded(app: typer.Typer, name: str, entry: Entry) -> None:
    module = importlib.import_module(f"consent_ledger.cli.{entry.module}")
    group: typer.Typer | None = getattr(module, "group", None)
    if group is not None:
        app.add_typer(group, name=name, help=entry.summary, rich_help_panel=entry.panel)
    else:
        command: Callable[..., Any] = module.command
        app.command(name, rich_help_panel=entry.panel)(command)


def _listed_only() -> None:
    raise AssertionError("only the wanted command is ever run")


def _options(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if show_version:
        try:
            typer.echo(f"consent-ledger {version('consent-ledger')}")
        except PackageNotFoundError:
            typer.echo("consent-ledger (not installed)")
        raise typer.Exit


def _refused(problem: ConsentError) -> int:
    from consent_ledger.settings import SettingsRejected
    from consent_ledger.terminal import print_problem

    print_problem(str(problem))
    if isinstance(problem, (Rejected, SettingsRejected)):
        return USAGE
    return UNAVAILABLE if isinstance(problem, Retryable) else FINDING


if __name__ == "__main__":
    run()
