"""Files that people write: the same data and lines as another parser of YAML finds in them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from consent.contracts import data_path
from consent.errors import Rejected
from consent.yaml_source import DEPTH_MAX, SourceError, SourceFile, read_source

FILES = sorted(data_path("rules").glob("*.yaml")) + sorted(
    (Path(__file__).parents[2] / "examples").glob("**/*.yaml")
)


def read(text: str) -> SourceFile:
    return read_source("a.yaml", text, SourceError, "Begin with a key.")


def second_opinion(text: str) -> tuple[Any, dict[tuple[str | int, ...], int]]:
    """What ruamel.yaml composes of a text, in pure Python and by the rules of YAML 1.2."""
    lines: dict[tuple[str | int, ...], int] = {}
    return _plain(YAML(typ="safe", pure=True).compose(text), (), lines), lines


def _plain(node: Any, path: tuple[str | int, ...], lines: dict[Any, int]) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, MappingNode):
        for key, _ in node.value:
            lines[(*path, key.value)] = key.start_mark.line + 1
        return {key.value: _plain(value, (*path, key.value), lines) for key, value in node.value}
    if isinstance(node, SequenceNode):
        return [_plain(item, (*path, index), lines) for index, item in enumerate(node.value)]
    assert isinstance(node, ScalarNode)
    value, kind = node.value, str(node.tag).rsplit(":", 1)[-1]
    known = {"null": lambda _: None, "bool": lambda word: word.lower() == "true"}
    known |= {"int": lambda digits: int(digits.replace("_", ""), 10), "float": float}
    return known.get(kind, str)(value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_two_parsers_read_the_same(path: Path) -> None:
    """Data, and the line of every value, of everything that is shipped."""
    file = read(path.read_text())
    assert (file.data, file.lines) == second_opinion(path.read_text())


@given(st.text("0123456789+-_.:eExobnNaAuUlLiIfFtTrRsSyYhH~", max_size=8))
@example("NO")
@example("on")
@example("2026-11-24")
@example("2026-11-24T16:00:00Z")
@example("1_000")
@example("0x1f")
@example("+.inf")
@example(".NaN")
@example("~")
@example("")
def test_plain_words_mean_what_yaml_1_2_says(word: str) -> None:
    """The same value, or refused, by both; a quoted word is text, whatever it looks like."""
    text = f"key: {word}"
    try:
        expected = second_opinion(text)[0]["key"]
    except Exception:
        with pytest.raises(SourceError):
            read(text)
        return
    found = read(text).data["key"]
    assert type(found) is type(expected)
    assert found == expected or (math.isnan(found) and math.isnan(expected))
    assert read(f"key: '{word}'").data["key"] == word


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: [", 3, "not YAML"),
        ("a: 1\nb: {c: 1\n", 3, "not YAML"),
        ("a: 1\n\tb: 2", 2, "not YAML"),
        ("a: *nowhere", 1, "not YAML"),
        ("a: 1\n---\nb: 2", 2, "not YAML"),
        ("a: \x07", 1, "not YAML"),
        ("a: 1\na: 2", 2, "there twice"),
        ("a:\n  b: 0o17", 2, "is no number"),
        ("a:\n  ? [b]\n  : 1", 2, "a key is no text"),
        ("a: &a [*a]", 1, "too deep"),
        ("", 1, "no mapping"),
        ("- a", 1, "no mapping"),
    ],
)
def test_what_is_refused(text: str, line: int, message: str) -> None:
    """With file, line and remedy."""
    with pytest.raises(Rejected) as caught:
        read(text)
    assert isinstance(caught.value, SourceError)
    assert (caught.value.file, caught.value.line) == ("a.yaml", line)
    assert message in caught.value.message and caught.value.remedy


@pytest.mark.parametrize("text", ["a: " + "[" * 1_000_000, "a:\n" + "- " * 1_000_000])
def test_a_million_levels_are_refused(text: str) -> None:
    """A recursive composer would end the process, and the scanner's time grows as their square."""
    with pytest.raises(SourceError, match="deep"):
        read(text)


def test_the_deepest_that_is_read() -> None:
    """The bound is on levels below the file's own mapping."""
    nested = DEPTH_MAX - 1
    assert read("a: " + "[" * nested + "]" * nested).data
    with pytest.raises(SourceError, match="deep"):
        read("a: " + "[" * (nested + 1) + "]" * (nested + 1))
