"""Facts about the number: what it belongs to, whether it was reassigned, what befell its calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from consent.call import UNKNOWN
from consent.call_facts import CallFacts
from consent.findings import Check, Finding, Result, Timeless
from consent.instants import MICROSECONDS, date_text
from consent.local_days import midnights
from consent.rule_context import RuleContext
from consent.state_entries import Reassignment
from consent.zones import ANYWHERE, local_day

_HOUR_US: Final = 3600 * MICROSECONDS


@dataclass(frozen=True, slots=True)
class NotTagged(Timeless):
    """The number is not known to belong to anything of this kind."""

    tags: frozenset[str]

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the number's tags; one that nobody tagged is in order."""
        tags = facts.attributes.get("tags")
        if not tags:
            return _NO_TAGS
        used = (("tags", " ".join(sorted(tags))),)
        return Finding(Result.HOLDS if self.tags.isdisjoint(tags) else Result.FAILS, used)


_NO_TAGS: Final = Finding(Result.HOLDS, (("tags", ""),))


@dataclass(frozen=True, slots=True)
class NotReassigned:
    """The newest answer about a reassignment is one that the call may rest on.

    YES fails; in the profiles and for the purposes of `if_relied_on` only where another rule lets
    the call pass by a consent or a relationship, which would be that of somebody else. Whether
    there is an answer, NO_DATA and its age matter where the query is `mandatory`, and for the
    `certain_modes` where such a rule relies on consent.
    """

    max_age_days: int | None
    mandatory: bool
    certain_modes: frozenset[str]
    profiles_if_relied_on: frozenset[str]
    purposes_if_relied_on: frozenset[str]
    no_data_reason: str
    stale_reason: str
    missing_reason: str

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the newest answer that was given to the seller."""
        newest = _newest(facts)
        if newest is None or newest.at > facts.at:
            if self.mandatory:
                return Finding(Result.FAILS, _NEVER_ASKED.used, self.missing_reason)
            if newest is None:
                return _NEVER_ASKED
        used = _shown(newest)
        if newest.answer == "YES":
            only_relied = facts.profile in self.profiles_if_relied_on or (
                facts.purpose in self.purposes_if_relied_on
            )
            if facts.reliance or not only_relied:
                return Finding(Result.FAILS, used)
        if self.mandatory or (self._is_certain(facts.mode) and "consent" in facts.reliance):
            if newest.answer == "NO_DATA":
                return Finding(Result.FAILS, used, self.no_data_reason)
            if self._is_stale(facts, newest, zones or facts.zones or ANYWHERE):
                return Finding(Result.FAILS, used, self.stale_reason)
        return Finding(Result.HOLDS, used)

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where the answer was given, and where it becomes too old in one of the zones."""
        newest = _newest(facts)
        if newest is not None:
            if after < newest.at <= until:
                yield newest.at
            if self.max_age_days is not None:
                days = {local_day(newest.at, name) + self.max_age_days + 1 for name in facts.zones}
                yield from midnights(facts, days, after, until)

    def _is_stale(self, facts: CallFacts, newest: Reassignment, zones: tuple[str, ...]) -> bool:
        return self.max_age_days is not None and any(
            day - local_day(newest.at, name) > self.max_age_days
            for day, name in zip(facts.days(zones), zones, strict=True)
        )

    def _is_certain(self, mode: str) -> bool:
        return mode in self.certain_modes or mode == UNKNOWN


_NEVER_ASKED: Final = Finding(Result.HOLDS, (("answer", None),))


@dataclass(frozen=True, slots=True)
class NoOutcomeWithin:
    """No call of this seller ended so in the last `period_us`; exactly so long ago is in order."""

    outcome: str
    period_us: int

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the newest such call."""
        newest = self._newest(facts)
        if newest is None:
            return Finding(Result.HOLDS, ((self.outcome.lower(), None),))
        at, event_id = newest
        clears_at = at + self.period_us
        used = (("call", event_id), ("ended_at", at), ("silent_until", clears_at))
        if clears_at <= facts.at:
            return Finding(Result.HOLDS, used)
        return Finding(Result.FAILS, used, clears_at=clears_at)

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where the silence ends."""
        newest = self._newest(facts)
        if newest is not None and after < newest[0] + self.period_us <= until:
            yield newest[0] + self.period_us

    def _newest(self, facts: CallFacts) -> tuple[int, str] | None:
        outcomes = facts.state.outcomes
        if not outcomes:
            return None
        found = [
            (ended.at, ended.event_id)
            for seller in facts.sellers
            if (ended := outcomes.get((seller, self.outcome))) is not None
        ]
        return max(found, default=None)


def _newest(facts: CallFacts) -> Reassignment | None:
    answers = facts.state.reassignments
    if not answers:
        return None
    found = [answers[seller] for seller in facts.sellers if seller in answers]
    return max(found, key=lambda answer: (answer.at, answer.event_id), default=None)


def _shown(newest: Reassignment) -> tuple[tuple[str, object], ...]:
    return (
        ("answer", newest.answer),
        ("answered_at", newest.at),
        ("query_date", date_text(newest.query_date)),
    )


REASSIGNMENT_REASONS: Final[Mapping[str, str]] = {
    "no_data_reason": "RND_NO_DATA",
    "stale_reason": "RND_STALE",
    "missing_reason": "RND_QUERY_MISSING",
}
"""What `not_reassigned` gives beside its rule's own reason, unless its parameters name others."""

NUMBER_FACTS: Final[Mapping[str, Callable[[Mapping[str, Any], RuleContext], Check]]] = {
    "not_tagged": lambda params, context: NotTagged(_upper(params["tags"])),
    "not_reassigned": lambda params, context: NotReassigned(
        max_age_days=params.get("max_age_days"),
        mandatory=params.get("mandatory", False),
        certain_modes=_upper(params.get("certain_modes", ())),
        profiles_if_relied_on=_upper(params.get("if_relied_on", {}).get("profile", ())),
        purposes_if_relied_on=_upper(params.get("if_relied_on", {}).get("purpose", ())),
        **{name: params.get(name, reason) for name, reason in REASSIGNMENT_REASONS.items()},
    ),
    "no_outcome_within": lambda params, context: NoOutcomeWithin(
        params["outcome"].upper(), params["hours"] * _HOUR_US
    ),
}


def _upper(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word.upper() for word in words)


RELYING_FACTS: Final = frozenset({"not_reassigned"})
"""Facts that ask by what the other rules let the call pass: they are judged last."""
