"""Rulebooks with one change, and whether a worked case notices it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from random import Random
from typing import Any, Final

import jsonschema

from consent.call import CallRequest, Surroundings
from consent.contracts import data_path
from consent.decision import Decision, decide
from consent.errors import Rejected
from consent.rule import Rule
from consent.rule_source import SCHEMA_FILE, read_rule_file
from consent.rulebook import Rulebook
from consent.rulebook_checks import Placed, compile_rules, merge_files, reason_catalogue
from consent.scenario_results import arguments
from consent.state import SubjectState
from tests.mutation.mutants import (
    PARAMETERS,
    SCOPE,
    Mutant,
    mutants_of_calendars,
    mutants_of_rows,
    vocabulary,
)
from tests.rule_cases import Case

_QUIET: Final = frozenset({"PASS", "NOT_APPLICABLE"})

Line = tuple[str, str | None, str | None]


@dataclass(frozen=True, slots=True)
class Heard:
    """A case, what `decide` takes for it, and what each rule says to it as the rulebook is."""

    case: Case
    arguments: tuple[CallRequest, SubjectState, Surroundings, int]
    lines: Mapping[str, Line]

    def decided(self, rulebook: Rulebook) -> Decision:
        """The decision under another rulebook, in the same surroundings."""
        request, state, surroundings, at = self.arguments
        return decide(request, state, surroundings, rulebook, at)

    def notices(self, rulebook: Rulebook) -> bool:
        """True if the case is not decided as it is stated."""
        try:
            return bool(self.case.compared(self.decided(rulebook)))
        except (Rejected, ArithmeticError, LookupError, ValueError):
            return True


class Workshop:
    """The rulebook as it is, its files, and the cases that it decides as they are stated."""

    def __init__(self, texts: Mapping[str, str], cases: Iterable[Case]) -> None:
        self.texts = dict(texts)
        self.files = {name: read_rule_file(name, text) for name, text in texts.items()}
        self.rulebook = Rulebook.load(self.texts)
        self.merged = merge_files(self.files[name] for name in sorted(self.files))
        self.reasons = reason_catalogue(self.merged)
        # A case that asks what was knowable builds a rulebook of its own from the unchanged rows.
        self.cases = [case for case in cases if case.scenario.known_on is None]

    @cached_property
    def heard(self) -> list[Heard]:
        """Every case with the outcomes of the rules; ValueError if one is not as stated."""
        heard = []
        for case in self.cases:
            request, state, surroundings, _, at = arguments(case.scenario, self.rulebook)
            one = Heard(case, (request, state, surroundings, at), {})
            decision = one.decided(self.rulebook)
            wrong = case.compared(decision)
            if wrong:
                raise ValueError(f"{case.source}: {case.id}: {wrong[0]}")
            heard.append(replace(one, lines=_lines(decision)))
        return heard

    def mutants(self, seed: int, scope: bool = False) -> Iterator[Mutant]:
        """Every change of every file, in the order of the files; the same for one seed."""
        words = vocabulary(self.files)
        parts = (*PARAMETERS, *SCOPE) if scope else PARAMETERS
        for name in sorted(self.files):
            random = Random(f"{seed}/{name}")
            yield from mutants_of_rows(self.files[name], words, random, parts)
            yield from mutants_of_calendars(self.files[name], words, random)

    def killed_by(self, mutant: Mutant) -> str | None:
        """The first case that notices, `refused` if it can't be loaded; None if it survives.

        First the changed rows alone are asked, which is quick: only where they say something else
        is the whole decided again. What is left may still show in the next allowed instant, or in
        a rule that looks at the others, so a change survives only after every case was decided.
        """
        try:
            rows = self._changed_rows(mutant)
        except (Rejected, LookupError, TypeError, ValueError) as problem:
            return f"refused: {problem}"
        names = {mutant.name} if mutant.section == "rules" else {rule.name for rule in rows}
        kept = (rule for rule in self.rulebook.rules if rule.name not in names)
        ordered = sorted((*kept, *rows), key=lambda rule: (rule.id, rule.rev))
        changed, alone = (
            replace(self.rulebook, rules=rules) for rules in (tuple(ordered), tuple(rows))
        )
        listeners = self._listeners(names)
        affected = (heard for heard in listeners if _says_otherwise(heard, names, alone))
        for heard in itertools.chain(affected, listeners):
            if heard.notices(changed):
                return heard.case.id
        return None

    def without_file(self, name: str) -> str | None:
        """The first case that notices that a whole file is gone."""
        texts = {other: text for other, text in self.texts.items() if other != name}
        try:
            rulebook = Rulebook.load(texts)
        except Rejected as problem:
            return f"refused: {problem}"
        rows = {f"{entry['id']}@{entry['rev']}" for entry in self.files[name].data.get("rules", ())}
        heard = sorted(self.heard, key=lambda one: rows.isdisjoint(one.lines))
        return next((one.case.id for one in heard if one.notices(rulebook)), None)

    def _changed_rows(self, mutant: Mutant) -> tuple[Rule, ...]:
        if mutant.section == "rules":
            if mutant.entry is None:
                return ()
            _check_form(mutant.entry)
            placed = Placed(mutant.entry, self.files[mutant.file], ("rules", int(mutant.key)))
            return compile_rules(replace(self.merged, rules=[placed]), self.reasons)
        calendars = {**self.merged.calendars, mutant.key: mutant.entry}
        using = [
            placed
            for placed in self.merged.rules
            if mutant.key in _calendars_of(placed.entry["check"]["params"])
        ]
        return compile_rules(replace(self.merged, calendars=calendars, rules=using), self.reasons)

    def _listeners(self, names: set[str]) -> list[Heard]:
        """Cases that the rows may be for, those to which they say something first."""
        found: dict[int, Heard] = {}
        for name in names:
            found.update({id(heard): heard for heard in self._concerned(name)})
        return sorted(found.values(), key=lambda heard: _distance(heard, names))

    def _concerned(self, name: str) -> list[Heard]:
        rule = next(rule for rule in self.rulebook.rules if rule.name == name)
        if rule.country == "*":
            return self.heard
        countries = self.rulebook.groups.get(rule.country, frozenset({rule.country}))
        places = [f"{country}-{rule.subdivision}" for country in countries]
        keys = places if rule.subdivision else countries
        return [heard for key in keys for heard in self._by_place.get(key, ())]

    @cached_property
    def _by_place(self) -> dict[str, list[Heard]]:
        """Cases by country, and by subdivision, of every candidate."""
        places: dict[str, list[Heard]] = {}
        for heard in self.heard:
            states = heard.decided(self.rulebook).request.states
            for place in {place for state in states for place in (state, state[:2])}:
                places.setdefault(place, []).append(heard)
        return places


@cache
def _row_form() -> Any:
    schema = json.loads((data_path("schemas") / SCHEMA_FILE).read_text())
    form = {"$ref": "#/$defs/rule", "$defs": schema["$defs"]}
    return jsonschema.Draft202012Validator(form)


def _check_form(entry: Any) -> None:
    """ValueError for a row that the JSON Schema refuses."""
    problem = next(_row_form().iter_errors(entry), None)
    if problem is not None:
        raise ValueError(problem.message)


def _lines(decision: Decision) -> dict[str, Line]:
    return {
        line.rule.name: (line.outcome, line.reason, line.exemption) for line in decision.outcomes
    }


def _says_otherwise(heard: Heard, names: set[str], alone: Rulebook) -> bool:
    try:
        said = _lines(heard.decided(alone))
    except (Rejected, ArithmeticError, LookupError, ValueError):
        return True
    return any(said.get(name) != heard.lines.get(name) for name in names)


def _distance(heard: Heard, names: set[str]) -> int:
    said = [heard.lines[name][0] for name in names if name in heard.lines]
    return 0 if any(word not in _QUIET for word in said) else 1 if said else 2


def _calendars_of(params: Mapping[str, Any]) -> list[str]:
    return [*params.get("calendars", ()), *params.get("on_holidays", {}).get("calendars", ())]
