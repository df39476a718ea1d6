"""The text of a rulebook's files: those of this release, or of a folder that somebody edits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from consent.contracts import data_path
from consent.errors import Rejected
from consent.rulebook import Rulebook

PACKAGED: Final = "packaged"
"""Names the rulebook of this release where a folder is asked for."""


def text_of(path: Path, field: str) -> str:
    """The text of a file; Rejected, naming the option that it was given with, if it has none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as problem:
        reason = problem.strerror or "can't be read"
        raise Rejected("NO_FILE", field, str(path), reason) from problem
    except UnicodeDecodeError as problem:
        raise Rejected("NOT_TEXT", field, str(path), "save it as UTF-8") from problem


def rule_texts(folder: Path | None, added: Iterable[Path] = ()) -> dict[str, str]:
    """Texts by file name: of the folder, None being that of this release, and files beside it.

    An added file takes the place of one of the same name.
    """
    if folder is None or str(folder) == PACKAGED:
        folder = data_path("rules")
    if not folder.is_dir():
        remedy = f"give a folder with rule files, or {PACKAGED}"
        raise Rejected("NO_FOLDER", "--rules", str(folder), remedy)
    paths = {path.name: path for path in sorted(folder.glob("*.yaml"))}
    paths |= {path.name: path for path in added}
    if not paths:
        raise Rejected("NO_RULES", "--rules", str(folder), "there is no .yaml file in it")
    return {name: text_of(path, "--rules") for name, path in paths.items()}


def load_rulebook(folder: Path | None, added: Iterable[Path] = ()) -> Rulebook:
    """The rulebook of these files; RulebookError, with file and line, if any is wrong."""
    return Rulebook.load(rule_texts(folder, added))
