"""YAML that people write, as plain data with the line of every value.

Rule files and scenario files are read here: what is not YAML, has a key twice, or does not fit its
JSON Schema is refused with file, line and remedy. What the data means is not judged here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from consent.errors import Rejected

# libyaml where PyYAML was built with it: every process of the ledger reads the whole rulebook as it
# starts, and a composer in Python takes twenty times as long.
_Base: Final[Any] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class _Loader(_Base):  # type: ignore[misc]
    """Nodes tagged as YAML 1.2 reads them: `NO` and `on` are text, and so are dates."""


_TAG: Final = "tag:yaml.org,2002:"
_SIGN_OR_DIGIT: Final = "-+0123456789"
for _kind, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0b[01_]+|0o?[0-7_]+|[0-9_]+|0x[0-9a-fA-F_]+)", _SIGN_OR_DIGIT),
    (
        "float",
        r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)"
        r"|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        _SIGN_OR_DIGIT + ".",
    ),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"(?:{_pattern})\\Z"), list(_first))

FILE_BYTES_MAX: Final = 4 * 1024 * 1024
"""A file larger than this is refused."""

NODES_MAX: Final = 200_000
"""So is one that has more values than this, once its aliases are written out."""

DEPTH_MAX: Final = 24
"""And one that is nested deeper, which an alias inside of itself would be."""

Path = tuple[str | int, ...]


class SourceError(Rejected):
    """A file can't be used: where, why, and what to do about it. Nothing of it was used."""

    reason_code = "FILE_INVALID"

    def __init__(self, file: str, line: int, message: str, remedy: str) -> None:
        super().__init__(self.reason_code, f"{file}:{line}", message, remedy)
        self.file = file
        self.line = line

    @property
    def message(self) -> str:
        """What is wrong."""
        return self.value_shown

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file as plain data. `lines` holds the line of every value by its path."""

    name: str
    data: dict[str, Any]
    lines: Mapping[Path, int]
    error_type: type[SourceError] = SourceError

    def line_of(self, path: Path) -> int:
        """The line of a value, or of the closest value around it that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def error(self, path: Path, message: str, remedy: str) -> SourceError:
        """An error at a value."""
        return self.error_type(self.name, self.line_of(path), message, remedy)


def read_source(name: str, text: str, error_type: type[SourceError], begin_with: str) -> SourceFile:
    """The data of one file, a mapping; an error for the first thing that is wrong in its form.

    Dates and times stay text. `begin_with` is the remedy for a file that is no mapping.
    """
    if len(text.encode()) > FILE_BYTES_MAX:
        remedy = f"Split it: at most {FILE_BYTES_MAX} bytes."
        raise error_type(name, 1, "the file is too large", remedy)
    root = _composed(name, text, error_type)
    builder = _Builder(name, error_type)
    data = builder.build(root, ()) if root is not None else None
    if not isinstance(data, dict):
        raise error_type(name, 1, "the file is no mapping", begin_with)
    return SourceFile(name, data, builder.lines, error_type)


def _composed(name: str, text: str, error_type: type[SourceError]) -> Node | None:
    try:
        depth = 0
        for event in yaml.parse(text, _Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            # Said before the composer, which is recursive: thousands of levels end the process.
            if depth > DEPTH_MAX:
                line = event.start_mark.line + 1
                raise error_type(name, line, "the file is too deep", "Split it.")
        return yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = 1 if mark is None else mark.line + 1
        raise error_type(name, line, f"not YAML: {problem.problem}", "Mend the text.") from None
    except (yaml.YAMLError, UnicodeError):
        raise error_type(name, 1, "not YAML", "Mend the text.") from None


def schema_errors(file: SourceFile, validator: Any, about: str) -> list[SourceError]:
    """Everything in a file that does not fit a JSON Schema; what should be read first, first.

    `about` is the remedy where none can be worked out: where the form is described.
    """
    found = [
        (error.validator == "required", _explained(file, error, about))
        for error in validator.iter_errors(file.data)
    ]
    # A misspelt key is also a missing one: what is there and wrong says more.
    return [error for _, error in sorted(found, key=lambda one: (one[0], one[1].line))]


def suggestion(word: str, known: Iterable[str]) -> str:
    """The known word that is nearest, else all of them, as a remedy."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(names)}." if names else "Remove it."


class _Builder:
    """Plain data out of YAML nodes. Dates stay text; a key twice is refused."""

    def __init__(self, name: str, error_type: type[SourceError]) -> None:
        self.name = name
        self.error_type = error_type
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
        kind, value = node.tag.rsplit(":", 1)[-1], node.value
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

    def _error(self, node: Node, message: str, remedy: str) -> SourceError:
        return self.error_type(self.name, node.start_mark.line + 1, message, remedy)


def _explained(file: SourceFile, error: Any, about: str) -> SourceError:
    path: Path = tuple(error.absolute_path)
    place = ".".join(str(part) for part in path) or "the file"
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        key = next(key for key in error.instance if key not in known)
        message = f"unknown key {key!r} in {place}"
        return file.error((*path, key), message, suggestion(key, known))
    if error.validator == "required":
        key = next(key for key in error.validator_value if key not in error.instance)
        return file.error(path, f"{key!r} is missing in {place}", f"Add {key!r}.")
    if error.validator == "enum":
        known = [str(value) for value in error.validator_value]
        message = f"{error.instance!r} is unknown at {place}"
        return file.error(path, message, suggestion(str(error.instance), known))
    if error.validator in ("minItems", "minLength", "minProperties"):
        return file.error(path, f"{place} is empty", "Give at least one.")
    if error.validator == "pattern":
        remedy = f"It must match {error.validator_value}."
        return file.error(path, f"{error.instance!r} has the wrong form at {place}", remedy)
    return file.error(path, f"{place}: {error.message}", about)
