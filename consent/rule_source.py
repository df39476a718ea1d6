"""The text of rule files: YAML to plain data, with the file and line of every value.

Refuses what is not YAML, has a key twice, or does not fit the JSON Schema of the rulebook. What
the data means is not judged here.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import jsonschema
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from consent.contracts import data_path
from consent.errors import Rejected

SCHEMA_FILE: Final = "rulebook.schema.json"
FILE_BYTES_MAX: Final = 4 * 1024 * 1024
"""A rule file larger than this is refused."""

NODES_MAX: Final = 200_000
"""So is one that has more values than this, once its aliases are written out."""

DEPTH_MAX: Final = 24
"""And one that is nested deeper, which an alias inside of itself would be."""

Path = tuple[str | int, ...]


class RulebookError(Rejected):
    """A rule file can't be used: where, why, and what to do about it. Nothing was loaded."""

    def __init__(self, file: str, line: int, message: str, remedy: str) -> None:
        super().__init__("RULEBOOK_INVALID", f"{file}:{line}", message, remedy)
        self.file = file
        self.line = line

    @property
    def message(self) -> str:
        """What is wrong."""
        return self.value_shown

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class RuleFile:
    """One file as plain data. `lines` holds the line of every value by its path."""

    name: str
    data: dict[str, Any]
    lines: Mapping[Path, int]

    def error(self, path: Path, message: str, remedy: str) -> RulebookError:
        """An error at a value, or at the closest value around it that has a line."""
        while path and path not in self.lines:
            path = path[:-1]
        return RulebookError(self.name, self.lines.get(path, 1), message, remedy)


def read_rule_file(name: str, text: str) -> RuleFile:
    """The checked data of one file; RulebookError for the first thing that is wrong in it."""
    if len(text.encode()) > FILE_BYTES_MAX:
        remedy = f"Split it: at most {FILE_BYTES_MAX} bytes."
        raise RulebookError(name, 1, "the file is too large", remedy)
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = 1 if mark is None else mark.line + 1
        raise RulebookError(name, line, f"not YAML: {problem.problem}", "Mend the text.") from None
    except YAMLError:
        raise RulebookError(name, 1, "not YAML", "Mend the text.") from None
    builder = _Builder(name)
    data = builder.build(root, ()) if root is not None else None
    file = RuleFile(name, data if isinstance(data, dict) else {}, builder.lines)
    if not isinstance(data, dict):
        raise RulebookError(name, 1, "the file is no mapping", "Begin with `rules:`.")
    _check_schema(file)
    return file


def read_content(content: bytes) -> RuleFile:
    """The checked data of a rulebook's canonical content, which has no lines."""
    try:
        data = json.loads(content)
    except ValueError:
        raise RulebookError("content", 1, "not JSON", "Use the content as it was stored.") from None
    if not isinstance(data, dict):
        raise RulebookError("content", 1, "no mapping", "Use the content as it was stored.")
    file = RuleFile("content", data, {})
    _check_schema(file)
    return file


class _Builder:
    """Plain data out of YAML nodes. Dates stay text; a key twice is refused."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Path, int] = {}

    def build(self, node: Node, path: Path) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if len(self.lines) > NODES_MAX or len(path) > DEPTH_MAX:
            raise self._error(node, "the file is too large or too deep", "Split it.")
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise self._error(key_node, "a key is no text", "Use plain keys.")
            key = key_node.value
            if key in data:
                raise self._error(key_node, f"key {key!r} is there twice", "Keep one of them.")
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            data[key] = self.build(value_node, (*path, key))
        return data

    def _scalar(self, node: ScalarNode) -> Any:
        kind, value = str(node.tag).rsplit(":", 1)[-1], node.value
        if kind == "null":
            return None
        if kind == "bool":
            return value.lower() == "true"
        try:
            if kind == "int":
                return int(value.replace("_", ""), 10)
            return float(value) if kind == "float" else value
        except ValueError:
            raise self._error(node, f"{value!r} is no number", "Write it in decimal.") from None

    def _error(self, node: Node, message: str, remedy: str) -> RulebookError:
        return RulebookError(self.name, node.start_mark.line + 1, message, remedy)


@cache
def _validator() -> Any:
    schema = json.loads((data_path("schemas") / SCHEMA_FILE).read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def _check_schema(file: RuleFile) -> None:
    """Raise the error that comes first in the file."""
    found = [
        (error.validator == "required", _explained(file, error))
        for error in _validator().iter_errors(file.data)
    ]
    if found:
        # A misspelt key is also a missing one: what is there and wrong says more.
        raise min(found, key=lambda error: (error[0], error[1].line))[1]


def _explained(file: RuleFile, error: Any) -> RulebookError:
    path: Path = tuple(error.absolute_path)
    place = ".".join(str(part) for part in path) or "the file"
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        key = next(key for key in error.instance if key not in known)
        return file.error((*path, key), f"unknown key {key!r} in {place}", _closest(key, known))
    if error.validator == "required":
        key = next(key for key in error.validator_value if key not in error.instance)
        return file.error(path, f"{key!r} is missing in {place}", f"Add {key!r}.")
    if error.validator == "enum":
        known = [str(value) for value in error.validator_value]
        return file.error(
            path, f"{error.instance!r} is unknown at {place}", _closest(str(error.instance), known)
        )
    if error.validator in ("minItems", "minLength", "minProperties"):
        return file.error(path, f"{place} is empty", "Give at least one.")
    if error.validator == "pattern":
        remedy = f"It must match {error.validator_value}."
        return file.error(path, f"{error.instance!r} has the wrong form at {place}", remedy)
    return file.error(path, f"{place}: {error.message}", "See the JSON Schema of rule files.")


def _closest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(names)}." if names else "Remove it."
