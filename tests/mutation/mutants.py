"""What is changed: every number, time, date bound and word of a row's parameters, one at a time.

A number is taken one up and one down, a time one minute, a date one day; a word is replaced by
another that stands under the same key somewhere in the rulebook, or left out of its list; a weekday
is opened or closed. Pure, and the same for one seed.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Any, Final

from consent.yaml_source import Path, SourceFile
from tests.rule_cases import WEEKDAYS

PARAMETERS: Final = (("check", "params"), ("effective",), ("unless",))
"""Parts of a row whose values are changed."""

SCOPE: Final = (("applies_when",),)
"""Changed as well if the scope of rows is asked for."""

_NAMES: Final = frozenset({"code", "name", "title"})
"""Keys whose values name something for people, or for the trace."""

_TIME: Final = re.compile(r"[0-2][0-9]:[0-5][0-9]")
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_DAY: Final = re.compile(r"[01][0-9]-[0-3][0-9]")

EQUIVALENT: Final = (
    (
        re.compile(r".*\.relationship\.months 18 -> 19"),
        re.compile(r"'days': 540\b"),
        "540 days have always ended before 18 months, so that a longer clock changes nothing",
    ),
)
"""Changes that can't show: what is changed, what stands in the row as well, and why."""

Vocabulary = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one entry of a section. `line` is where the changed value stands."""

    file: str
    line: int
    section: str
    key: str | int
    name: str
    what: str
    entry: Any

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.name}: {self.what}"

    @property
    def equivalent(self) -> str | None:
        """Why the change can't show; None if it can."""
        for changed, beside, why in EQUIVALENT:
            if changed.fullmatch(self.what) and beside.search(str(self.entry)):
                return why
        return None


def vocabulary(files: Mapping[str, SourceFile]) -> Vocabulary:
    """Every word that stands under a key anywhere in the rules and calendars, by key."""
    words: dict[str, set[str]] = {}
    for file in files.values():
        sections = [file.data.get("rules", []), file.data.get("calendars", {})]
        for path, value in _leaves(sections, ()):
            if isinstance(value, str):
                words.setdefault(_key(path), set()).add(value)
    return {key: tuple(sorted(found)) for key, found in words.items()}


def mutants_of_rows(
    file: SourceFile, words: Vocabulary, random: Random, parts: tuple[Path, ...]
) -> Iterator[Mutant]:
    """Every change of the rows of a file, and every row left out (its entry is None)."""
    for index, entry in enumerate(file.data.get("rules", ())):
        name = f"{entry['id']}@{entry['rev']}"
        at: Path = ("rules", index)
        yield Mutant(file.name, file.line_of(at), "rules", index, name, "left out", None)
        for part in parts:
            if not _has(entry, part):
                continue
            for path, what, changed in _changes(_get(entry, part), part, words, random):
                mutated = copy.deepcopy(entry)
                _set(mutated, path, changed)
                line = file.line_of((*at, *path))
                shown = f"{'.'.join(map(str, path))} {what}"
                yield Mutant(file.name, line, "rules", index, name, shown, mutated)


def mutants_of_calendars(file: SourceFile, words: Vocabulary, random: Random) -> Iterator[Mutant]:
    """Every change of the days of the calendars of a file."""
    for calendar_id, calendar in file.data.get("calendars", {}).items():
        at: Path = ("calendars", calendar_id)
        for path, what, changed in _changes(calendar, (), words, random):
            mutated = copy.deepcopy(calendar)
            _set(mutated, path, changed)
            line = file.line_of((*at, *path))
            shown = f"{'.'.join(map(str, path))} {what}"
            yield Mutant(file.name, line, "calendars", calendar_id, calendar_id, shown, mutated)
        for index, day in enumerate(calendar["days"]):
            mutated = copy.deepcopy(calendar)
            del mutated["days"][index]
            line = file.line_of((*at, "days", index))
            what = f"{day['name']} left out"
            yield Mutant(file.name, line, "calendars", calendar_id, calendar_id, what, mutated)


def _changes(
    value: Any, path: Path, words: Vocabulary, random: Random
) -> Iterator[tuple[Path, str, Any]]:
    """Paths inside of an entry, what is done there, and what stands there then."""
    if path and path[-1] in _NAMES:
        return
    if isinstance(value, dict):
        if _is_week(value):
            yield from _weekday_changes(value, path)
        for key, inner in value.items():
            yield from _changes(inner, (*path, key), words, random)
    elif isinstance(value, list):
        yield from _list_changes(value, path, words, random)
    elif value is not None:
        for changed in _scalar_changes(value, path, words, random):
            yield path, f"{value} -> {changed}", changed


def _list_changes(
    value: list[Any], path: Path, words: Vocabulary, random: Random
) -> Iterator[tuple[Path, str, Any]]:
    is_window = bool(value) and all(
        isinstance(item, str) and _TIME.fullmatch(item) for item in value
    )
    for index, item in enumerate(value):
        if len(value) > 1 and isinstance(item, str) and not is_window:
            yield path, f"without {item}", [*value[:index], *value[index + 1 :]]
        if isinstance(item, str) and not is_window:
            others = [word for word in words.get(_key(path), ()) if word not in value]
            if others:
                other = random.choice(others)
                yield (*path, index), f"{item} -> {other}", other
        else:
            yield from _changes(item, (*path, index), words, random)


def _scalar_changes(value: Any, path: Path, words: Vocabulary, random: Random) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value - 1
        yield value + 1
    elif _TIME.fullmatch(value):
        hour, minute = map(int, value.split(":"))
        for minutes in (hour * 60 + minute - 1, hour * 60 + minute + 1):
            if 0 <= minutes <= 24 * 60:
                yield f"{minutes // 60:02}:{minutes % 60:02}"
    elif _DATE.fullmatch(value):
        for step in (-1, 1):
            yield str(date.fromisoformat(value) + timedelta(days=step))
    elif _DAY.fullmatch(value):
        for step in (-1, 1):
            yield str(date.fromisoformat(f"2024-{value}") + timedelta(days=step))[5:]
    else:
        others = [word for word in words.get(_key(path), ()) if word != value]
        if others:
            yield random.choice(others)


def _weekday_changes(days: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, str, Any]]:
    """Each weekday closed, and each closed one opened."""
    by_day = {
        WEEKDAYS[position]: windows for span, windows in days.items() for position in _span(span)
    }
    some_window = next((windows for windows in by_day.values() if windows), [["09:00", "17:00"]])
    for weekday, windows in by_day.items():
        changed = {**by_day, weekday: [] if windows else some_window}
        yield path, f"{weekday} {'closed' if windows else 'opened'}", changed


def _is_week(value: Mapping[str, Any]) -> bool:
    return all(key[:3] in WEEKDAYS and isinstance(value[key], list) for key in value)


def _span(span: str) -> range:
    first, _, last = span.partition("-")
    return range(WEEKDAYS.index(first), WEEKDAYS.index(last or first) + 1)


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))
    else:
        yield path, value


def _key(path: Path) -> str:
    """The nearest key that is no position in a list."""
    return next((str(part) for part in reversed(path) if isinstance(part, str)), "")


def _has(entry: Mapping[str, Any], path: Path) -> bool:
    found: Any = entry
    for part in path:
        if part not in found:
            return False
        found = found[part]
    return True


def _get(entry: Any, path: Path) -> Any:
    for part in path:
        entry = entry[part]
    return entry


def _set(entry: Any, path: Path, value: Any) -> None:
    _get(entry, path[:-1])[path[-1]] = value
