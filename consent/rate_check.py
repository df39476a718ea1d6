"""The kind `rate`: the campaign's share of abandoned calls in its current period."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from consent.call_facts import CallFacts
from consent.findings import Finding, Result, Timeless
from consent.rule_context import RuleContext

_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class RateCheck(Timeless):
    """At most `max_ppm` abandoned of a million live answers, once there are `min_denominator`.

    With `count_false_positives` the live answers that the campaign declares to be taken for
    machines by mistake count as abandoned, rounded up.
    """

    max_ppm: int
    min_denominator: int
    period: str
    count_false_positives: bool

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the counts of the period; counts that are not known are missing."""
        tally = facts.surroundings.campaign.tally(self.period)
        if tally is None or tally.live_answered is None or tally.abandoned is None:
            return Finding(Result.MISSING, (("period", self.period),))
        live, abandoned = tally.live_answered, tally.abandoned
        ppm = facts.surroundings.program.machine_detection_false_positives_ppm or 0
        if self.count_false_positives:
            abandoned -= -live * ppm // _MILLION
        used = (
            ("live_answered", live),
            ("abandoned", abandoned),
            ("period", self.period),
            ("period_start_at", tally.period_start_at),
        )
        exceeded = live >= self.min_denominator and abandoned * _MILLION > self.max_ppm * live
        return Finding(Result.FAILS if exceeded else Result.HOLDS, used)


def compile_rate(params: Mapping[str, Any], context: RuleContext) -> RateCheck:
    """Check of the parameters in a rule file."""
    return RateCheck(
        max_ppm=params["max_ppm"],
        min_denominator=params["min_denominator"],
        period=params["period"].upper(),
        count_false_positives=params.get("count_false_positives", False),
    )
