"""The kind `holiday`: no calls on the days that a statute or a declaration closes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from consent.call_facts import CallFacts
from consent.closures import Closures, known_calendars
from consent.findings import Finding, Result
from consent.instants import date_text
from consent.local_days import days_between, midnights
from consent.rule_context import RuleContext


@dataclass(frozen=True, slots=True)
class HolidayCheck:
    """No candidate zone has a local date that is closed."""

    closures: Closures

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the local date in every zone."""
        if not zones:
            return Finding(Result.MISSING, (("zones", ()),))
        for day in sorted(set(facts.days(zones))):
            for closed in self.closures.on(facts, day):
                used = (("date", date_text(day)), ("holiday", closed.name))
                return Finding(Result.FAILS, used)
        return Finding(Result.HOLDS, facts.clock_texts(zones))

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where a closed day begins or ends in one of the zones."""
        for day in days_between(after, until):
            if self.closures.is_closed(facts, day):
                yield from midnights(facts, (day, day + 1), after, until)


def compile_holiday(params: Mapping[str, Any], context: RuleContext) -> HolidayCheck:
    """Check of the parameters in a rule file."""
    calendars = known_calendars(params.get("calendars", []), context, ("calendars",))
    return HolidayCheck(Closures(calendars, params.get("declared", False), context.place))
