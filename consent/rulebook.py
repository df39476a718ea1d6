"""The rulebook: every rule of a release, compiled and indexed, under one digest.

Loading is all or nothing: the first thing that is wrong is raised as RulebookError with its file
and line. The digest is the SHA-256 of the content in a canonical form, which does not depend on
the names of the files, the order of the rows, or comments; the same content can be loaded again
from that form alone, so a decision can be repeated by whoever holds it.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

from consent.call_facts import Geography
from consent.errors import Corrupt
from consent.reasons import ReasonCatalogue
from consent.rule import CallWords, Rule
from consent.rule_context import EVERYWHERE
from consent.rule_source import RuleFile, read_content, read_rule_file
from consent.rulebook_checks import compile_rules, merge_files, reason_catalogue
from consent.zones import ANYWHERE

Content = dict[str, Any]

_ROWS_CACHED_MAX: Final = 20_000
"""So many combinations of places, words and times are kept indexed; then the cache starts anew."""


class Registry(NamedTuple):
    """A do-not-call list that rows name. `wash`: it is asked number by number."""

    id: str
    jurisdiction: str
    level: str
    title: str
    wash: bool


class Rows(NamedTuple):
    """Revisions that are for a call. `certain`: each is in force, in whatever zone.

    Otherwise some may be in force in some zones only.
    """

    rules: tuple[Rule, ...]
    certain: bool


RowsKey = tuple[int | None, tuple[str, ...], CallWords]


@dataclass(frozen=True, eq=False)
class Rulebook:
    """Rules in the order of their names. Build it with `load` or `from_content`."""

    version: str
    content: bytes
    digest: bytes
    rules: tuple[Rule, ...]
    reasons: ReasonCatalogue
    groups: Mapping[str, frozenset[str]]
    zones: Mapping[str, tuple[str, ...]]
    aliases: Mapping[str, str]
    registries: tuple[Registry, ...]
    _rows: dict[RowsKey, Rows] = field(default_factory=dict, init=False)

    @classmethod
    def load(cls, files: Mapping[str, str]) -> Rulebook:
        """The rulebook of these files, as text by file name; RulebookError if any is wrong."""
        return _build([read_rule_file(name, files[name]) for name in sorted(files)])

    @classmethod
    def from_content(cls, content: bytes, digest: bytes) -> Rulebook:
        """The rulebook of a stored content; Corrupt if it does not have this digest."""
        if hashlib.sha256(content).digest() != digest:
            raise Corrupt("the stored rulebook does not have its digest")
        return _build([read_content(content)])

    def known_on(self, day: int) -> Rulebook:
        """The same rulebook without the rows whose text was collected later than this date.

        For asking what was knowable. What a ledger did know is the rulebook active then.
        """
        content = json.loads(self.content)
        kept = {
            rule.name
            for rule in self.rules
            if rule.known_from <= day and (rule.known_to is None or day <= rule.known_to)
        }
        content["rules"] = [
            entry for entry in content["rules"] if f"{entry['id']}@{entry['rev']}" in kept
        ]
        if not content["rules"]:
            del content["rules"]
        return _build([read_content(canonical(content))])

    @cached_property
    def geography(self) -> Geography:
        """What the rows say about places. A group's rows are no law of its members' own."""
        lawful_countries = frozenset(
            rule.country
            for rule in self.rules
            if rule.decides and rule.country != EVERYWHERE and rule.country not in self.groups
        )
        divided = frozenset(
            rule.country for rule in self.rules if rule.decides and rule.subdivision
        )
        washes = frozenset(registry.id for registry in self.registries if registry.wash)
        return Geography(lawful_countries, self.aliases, washes, divided)

    @cached_property
    def _turning_points(self) -> tuple[int, ...]:
        """Instants between which every revision is in force everywhere, or nowhere, or unsure."""
        return tuple(sorted({at for rule in self.rules for at in rule.turning_points}))

    def rows(self, states: tuple[str, ...], words: CallWords, at: int | None) -> Rows:
        """Revisions that are for a call in any of the jurisdictions, in the order of their names.

        Those that may be in force at an instant; all of them if there is none.
        """
        stretch = None if at is None else bisect_right(self._turning_points, at)
        key = (stretch, states, words)
        rows = self._rows.get(key)
        if rows is None:
            if len(self._rows) >= _ROWS_CACHED_MAX:
                self._rows.clear()
            rows = self._rows[key] = self._select(states, words, at)
        return rows

    def zones_of(self, states: tuple[str, ...]) -> tuple[str, ...]:
        """Zones whose dates stand for these jurisdictions where no zone is known."""
        zones = {
            name
            for state in states or (EVERYWHERE,)
            for name in self.zones.get(state) or self.zones.get(state[:2], ANYWHERE)
        }
        return tuple(sorted(zones))

    def registries_of(self, states: tuple[str, ...]) -> tuple[Registry, ...]:
        """The lists to look a number up in, for a call to these jurisdictions."""
        return tuple(
            registry
            for registry in self.registries
            if any(registry.jurisdiction in (state, state[:2]) for state in states)
        )

    def _select(self, states: tuple[str, ...], words: CallWords, at: int | None) -> Rows:
        places = states or (EVERYWHERE,)
        rules = tuple(
            rule
            for rule in self.rules
            if any(self._in_jurisdiction(rule, place) for place in places)
            and (at is None or rule.zones_in_force(at, ANYWHERE))
            and any(scope.fits(words) for scope in rule.scopes)
        )
        certain = at is not None and all(
            rule.zones_in_force(at, ANYWHERE) == ANYWHERE for rule in rules
        )
        return Rows(rules, certain)

    def _in_jurisdiction(self, rule: Rule, place: str) -> bool:
        if rule.country == EVERYWHERE:
            return True
        country = place[:2]
        if rule.country != country and country not in self.groups.get(rule.country, ()):
            return False
        return rule.subdivision is None or place == f"{country}-{rule.subdivision}"


def canonical(content: Content) -> bytes:
    """The one form of a content that is digested: JSON, keys sorted, no spaces, UTF-8."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def _build(files: list[RuleFile]) -> Rulebook:
    merged = merge_files(files)
    reasons = reason_catalogue(merged)
    rules = compile_rules(merged, reasons)
    content = canonical(merged.content())
    return Rulebook(
        version=merged.version,
        content=content,
        digest=hashlib.sha256(content).digest(),
        rules=rules,
        reasons=reasons,
        groups={name: frozenset(members) for name, members in merged.groups.items()},
        zones={country: tuple(zones) for country, zones in merged.zones.items()},
        aliases=merged.aliases,
        registries=tuple(
            Registry(
                id=entry["id"],
                jurisdiction=entry["jurisdiction"],
                level=entry["level"],
                title=entry["title"],
                wash=entry.get("wash", False),
            )
            for entry in merged.content().get("registries", ())
        ),
    )
