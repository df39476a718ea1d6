"""The number of a data subject, given so that it stays out of shell history and process lists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consent.errors import Rejected
from consent.numbers import canonical_number
from consent_ledger.cli.addresses import number_given
from consent_ledger.settings import Settings

SubjectNumber = Annotated[
    str | None,
    typer.Argument(
        help="E.164, e.g. +14155550123; - for standard input. Written here it stays in the shell's "
        "history and shows in the process list."
    ),
]
NumberFile = Annotated[
    Path | None,
    typer.Option("--number-file", help="File whose first line is the number.", exists=True),
]


def subject_number(number: str | None, file: Path | None, settings: Settings) -> str:
    """E.164 of whichever was given; Rejected unless exactly one was."""
    if (number is None) == (file is None):
        remedy = "give NUMBER, - for standard input, or --number-file"
        raise Rejected("NUMBER_MISSING", "number", "", remedy)
    if file is not None:
        lines = file.read_text().splitlines()
        return canonical_number(lines[0] if lines else "", settings.region_default)
    return number_given(number or "", settings)
