"""A trace as a person reads it: what decided first, what saved the call, the rest as a count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Line = Mapping[str, Any]
"""One line of a trace: rule, outcome, facts, citation, and reason or exemption where there are."""

_STYLES: Final = {
    "deny": "bold red",
    "unknown": "bold yellow",
    "oblige": "cyan",
    "warn": "yellow",
    "pass": "green",
    "shadow": "dim",
}
_WORDS: Final = {
    "deny": "denies",
    "unknown": "not known",
    "oblige": "asks for",
    "warn": "warns",
    "pass": "saved",
    "shadow": "would deny",
}
_ORDER: Final = ("deny", "unknown", "oblige", "warn", "pass", "shadow")
_FACTS_MAX: Final = 6


@dataclass(frozen=True, slots=True)
class Explanation:
    """Lines worth a row, in the order in which they are read, and how many others there are."""

    shown: tuple[Line, ...]
    passed: tuple[str, ...]
    not_applicable: int
    shadow: int


def explain(trace: Sequence[Line], rule: str | None, reasons: Sequence[str]) -> Explanation:
    """Sort a trace: the deciding rule, other denials by reason, obligations, what saved the call.

    Rules that passed without an exemption are named only, those in shadow that would not have
    denied and those that did not apply are counted.
    """
    shown, passed, not_applicable, shadow = [], [], 0, 0
    for line in trace:
        outcome = str(line["outcome"]).lower()
        if outcome == "not_applicable":
            not_applicable += 1
        elif outcome == "pass" and not line.get("exemption"):
            passed.append(str(line["rule"]))
        elif outcome == "shadow" and not line.get("reason"):
            shadow += 1
        else:
            shown.append(line)
    places = {reason: place for place, reason in enumerate(reasons)}

    def place_of(line: Line) -> tuple[int, bool, int, str]:
        outcome = _ORDER.index(str(line["outcome"]).lower())
        place = places.get(str(line.get("reason")), len(places))
        return outcome, line["rule"] != rule, place, str(line["rule"])

    return Explanation(tuple(sorted(shown, key=place_of)), tuple(passed), not_applicable, shadow)


def explanation_view(explanation: Explanation) -> RenderableType:
    """The explanation as a table and lines of text below it."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("rule", no_wrap=True)
    table.add_column("what it says, and the facts", overflow="fold", ratio=3)
    table.add_column("written in", overflow="fold", ratio=2)
    for line in explanation.shown:
        outcome = str(line["outcome"]).lower()
        name = Text(str(line["rule"]))
        code = line.get("exemption") or line.get("reason")
        if code:
            name.append(f"\n{code}", style=_STYLES[outcome])
        citation = "; ".join(line.get("citation") or ())
        said = Text(str(line.get("title") or ""))
        for fact in _facts(line.get("facts") or {}):
            said.append(f"\n{fact}" if said else fact, style="dim")
        table.add_row(Text(_WORDS[outcome], style=_STYLES[outcome]), name, said, citation)
    parts: list[RenderableType] = [table] if explanation.shown else []
    return Group(*parts, *(Text(text, style="dim") for text in _rest(explanation)))


def _rest(explanation: Explanation) -> Iterator[str]:
    if explanation.passed:
        yield f"passed: {', '.join(explanation.passed)}"
    counts = [
        f"{count} {what}"
        for count, what in (
            (explanation.not_applicable, "did not apply"),
            (explanation.shadow, "in shadow would have passed"),
        )
        if count
    ]
    if counts:
        yield "; ".join(counts)


def _facts(facts: Mapping[str, Any]) -> Iterator[str]:
    for index, (name, value) in enumerate(facts.items()):
        if index == _FACTS_MAX:
            yield f"… and {len(facts) - _FACTS_MAX} more"
            return
        shown = ", ".join(str(one) for one in value) if isinstance(value, list) else value
        yield f"{name.replace('_', ' ')}: {_word(shown)}"


def _word(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
