"""The rulebook: every rule of a release, compiled and indexed, under one digest.

Loading is all or nothing: the first thing that is wrong is raised as RulebookError with its file
and line. The digest is the SHA-256 of the content in a canonical form, which does not depend on
the names of the files, the order of the rows, or comments; the same content can be loaded again
from that form alone, so a decision can be repeated by whoever holds it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

from consent.call_facts import CallFacts, Geography
from consent.errors import Corrupt
from consent.reasons import ReasonCatalogue
from consent.rule import EVERYWHERE, Remainder, Rule
from consent.rule_source import RuleFile, read_content, read_rule_file
from consent.rulebook_checks import compile_rules, merge_files, reason_catalogue
from consent.zones import ANYWHERE

Content = dict[str, Any]

_ROWS_CACHED_MAX: Final = 20_000
"""So many combinations of jurisdictions and words are kept indexed; then the cache starts anew."""


class Row(NamedTuple):
    """A rule that fits the words of a request; `remainders` are what is left to ask, () nothing."""

    rule: Rule
    remainders: tuple[Remainder, ...]

    def covers(self, facts: CallFacts) -> bool:
        """True if the rule is for this call."""
        return not self.remainders or any(remainder.covers(facts) for remainder in self.remainders)


RowKey = tuple[tuple[str, ...], str, str, str, str]


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
    _rows: dict[RowKey, tuple[Row, ...]] = field(default_factory=dict, init=False)

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
        """Countries with rows of their own, which a group's rows don't give, and second names."""
        lawful_countries = frozenset(
            rule.country
            for rule in self.rules
            if rule.decides and rule.country != EVERYWHERE and rule.country not in self.groups
        )
        return Geography(lawful_countries, self.aliases)

    @cached_property
    def _places(self) -> frozenset[str]:
        """Jurisdictions that some row tells apart."""
        return frozenset(
            f"{rule.country}-{rule.subdivision}" if rule.subdivision else rule.country
            for rule in self.rules
            if rule.country not in self.groups
        ) | frozenset(country for members in self.groups.values() for country in members)

    def rows(self, states: tuple[str, ...], words: tuple[str, str, str, str]) -> tuple[Row, ...]:
        """Every revision that may apply in any of the jurisdictions, in the order of their names.

        `words` are purpose, call mode, dial mode and profile of the request.
        """
        places = tuple(sorted({self._place(state) for state in states})) or (EVERYWHERE,)
        key = (places, *words)
        rows = self._rows.get(key)
        if rows is None:
            if len(self._rows) >= _ROWS_CACHED_MAX:
                self._rows.clear()
            rows = self._rows[key] = tuple(self._select(places, words))
        return rows

    def zones_of(self, states: tuple[str, ...]) -> tuple[str, ...]:
        """Zones whose dates stand for these jurisdictions where no zone is known."""
        zones = {
            name
            for state in states or (EVERYWHERE,)
            for name in self.zones.get(state[:2], ANYWHERE)
        }
        return tuple(sorted(zones))

    def _place(self, state: str) -> str:
        """The jurisdiction itself, else its country, else everywhere: so that keys are few."""
        if state in self._places:
            return state
        return state[:2] if state[:2] in self._places else EVERYWHERE

    def _select(self, places: tuple[str, ...], words: tuple[str, str, str, str]) -> Iterable[Row]:
        for rule in self.rules:
            if not any(self._in_jurisdiction(rule, place) for place in places):
                continue
            fitting = [scope for scope in rule.scopes if scope.fits(*words)]
            if not fitting:
                continue
            remainders = [scope.remainder for scope in fitting if scope.remainder is not None]
            yield Row(rule, tuple(remainders) if len(remainders) == len(fitting) else ())

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
    )
