"""The kind `freshness`: the versions of the registries that were looked up are young enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from consent.call_facts import CallFacts
from consent.findings import Finding, Result
from consent.local_days import midnights
from consent.rule_context import RuleContext, known_registries
from consent.zones import day_text


@dataclass(frozen=True, slots=True)
class FreshnessCheck:
    """The local date of the call is at most `max_age_days` after each list's own date."""

    registries: tuple[str, ...]
    max_age_days: int

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge every list by the local date of the zone that is furthest ahead."""
        used: list[tuple[str, object]] = []
        result = Result.HOLDS
        today: int | None = None
        for list_id in self.registries:
            found = facts.membership(list_id)
            if found is None or found.member is None:
                used.append((list_id, None))
                result = _worse(result, Result.UNLOADED)
            elif found.version_date is None:
                used.append((list_id, found.version))
                result = _worse(result, Result.MISSING)
            else:
                today = max(facts.days(zones)) if today is None else today
                used.append((list_id, day_text(found.version_date)))
                if today - found.version_date > self.max_age_days:
                    result = Result.FAILS
        return Finding(result, tuple(used))

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where a list becomes too old in one of the zones."""
        for list_id in self.registries:
            found = facts.membership(list_id)
            if found is not None and found.version_date is not None:
                day = found.version_date + self.max_age_days + 1
                yield from midnights(facts, (day,), after, until)


def _worse(one: Result, other: Result) -> Result:
    """Of two results the one that denies more surely."""
    order = (Result.HOLDS, Result.UNLOADED, Result.MISSING, Result.FAILS)
    return max(one, other, key=order.index)


def compile_freshness(params: Mapping[str, Any], context: RuleContext) -> FreshnessCheck:
    """Check of the parameters in a rule file."""
    return FreshnessCheck(known_registries(params, context), params["max_age_days"])
