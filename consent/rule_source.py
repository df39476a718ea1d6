"""The text of rule files: YAML to plain data, with the file and line of every value.

Refuses what is not YAML, has a key twice, or does not fit the JSON Schema of the rulebook. What
the data means is not judged here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

import jsonschema

from consent.contracts import data_path
from consent.yaml_source import Path, SourceError, SourceFile, read_source, schema_errors

__all__ = [
    "Path",
    "RuleFile",
    "RulebookError",
    "read_content",
    "read_rule_file",
    "rule_file_problems",
]

SCHEMA_FILE: Final = "rulebook.schema.json"


class RulebookError(SourceError):
    """A rule file can't be used: where, why, and what to do about it. Nothing was loaded."""

    reason_code = "RULEBOOK_INVALID"


@dataclass(frozen=True, slots=True)
class RuleFile(SourceFile):
    """One file of a rulebook as plain data. `lines` holds the line of every value by its path."""

    error_type: type[SourceError] = RulebookError

    def error(self, path: Path, message: str, remedy: str) -> RulebookError:
        """An error at a value."""
        return RulebookError(self.name, self.line_of(path), message, remedy)


@lru_cache(maxsize=128)
def read_rule_file(name: str, text: str) -> RuleFile:
    """The checked data of one file; RulebookError for the first thing that is wrong in it.

    Reading takes long, so that what was read last is kept: nobody may change it.
    """
    source = read_source(name, text, RulebookError, "Begin with `rules:`.")
    return _checked(RuleFile(name, source.data, source.lines))


def rule_file_problems(name: str, text: str) -> list[SourceError]:
    """Everything that is wrong in the form of one file; empty for one that can be read."""
    try:
        source = read_source(name, text, RulebookError, "Begin with `rules:`.")
    except RulebookError as problem:
        return [problem]
    return _problems(RuleFile(name, source.data, source.lines))


def read_content(content: bytes) -> RuleFile:
    """The checked data of a rulebook's canonical content, which has no lines."""
    try:
        data = json.loads(content)
    except ValueError:
        raise RulebookError("content", 1, "not JSON", "Use the content as it was stored.") from None
    if not isinstance(data, dict):
        raise RulebookError("content", 1, "no mapping", "Use the content as it was stored.")
    return _checked(RuleFile("content", data, {}))


@cache
def _validator() -> Any:
    schema = json.loads((data_path("schemas") / SCHEMA_FILE).read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def _problems(file: RuleFile) -> list[SourceError]:
    return schema_errors(file, _validator(), "See the JSON Schema of rule files.")


def _checked(file: RuleFile) -> RuleFile:
    found = _problems(file)
    if found:
        raise found[0]
    return file
