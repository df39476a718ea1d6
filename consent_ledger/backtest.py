"""Recorded decisions of a period made again under another rulebook: which would flip.

Sound about what a record can tell. Each decision is first made again under its own rulebook; only
where that gives the record is a difference the other rulebook's. Lists that nobody had looked up
then are not known now. Calls that would have been placed, or would not, are not imagined: every
decision is judged by what had happened in fact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Final, NamedTuple

from consent.decision import Decision
from consent.decision_record import request_of, verdict_fields
from consent.decision_replay import decided_again, no_answer_reason
from consent.reconstruction import KnownFact, applied_facts
from consent.rulebook import Rulebook
from consent.state import EMPTY, SubjectState, merge
from projections.past import Past

SUBJECTS_AT_ONCE: Final = 500

Told = Callable[[int, int], None]
"""Is told how many numbers are done, of how many."""


class Answer(NamedTuple):
    """What a call was, or would be, answered."""

    verdict: str
    reason: str | None
    rule: str | None


@dataclass(frozen=True, slots=True)
class Flip:
    """A decision that another rulebook answers otherwise; it holds no number."""

    decision_id: str
    decided_at: int
    seller_id: str
    campaign_id: str | None
    before: Answer
    after: Answer

    @property
    def rule(self) -> str:
        """The rule that makes the difference: what decides now, else what decided before."""
        return self.after.rule or self.before.rule or "-"


@dataclass(slots=True)
class BacktestReport:
    """What became of the decisions of a period. Every decision is in exactly one of the counts.

    `same` have the same verdict, `reason_changed` of them another primary reason. `flipped` have
    another verdict. `unknown` depend on lists that were not looked up then (`unknown_lists` by
    rule). `no_answer`: the ledger was not fit to answer. `not_reproduced`: under its own rulebook
    the decision does not come out as recorded, or that rulebook is not kept.
    """

    decisions: int = 0
    same: int = 0
    reason_changed: int = 0
    flipped: int = 0
    unknown: int = 0
    no_answer: int = 0
    not_reproduced: int = 0
    by_change: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    unknown_lists: Counter[str] = field(default_factory=Counter)


class Backtest:
    """Makes decisions again from history; every call blocks. `rulebook_of` finds by digest."""

    def __init__(
        self,
        past: Past,
        rulebook: Rulebook,
        rulebook_of: Callable[[bytes], Rulebook | None],
    ) -> None:
        self._past = past
        self._rulebook = rulebook
        self._rulebook_of = rulebook_of
        self.report = BacktestReport()

    def run(self, since: int, until: int, told: Told = lambda done, total: None) -> Iterator[Flip]:
        """Decisions recorded from `since` up to, not at, `until` that would flip, by number.

        `report` is complete once all were taken.
        """
        subjects = self._past.decided_subjects(since, until)
        for start in range(0, len(subjects), SUBJECTS_AT_ONCE):
            part = subjects[start : start + SUBJECTS_AT_ONCE]
            facts = self._past.facts_of_many(part)
            wanted = {subject: _decisions(found, since, until) for subject, found in facts.items()}
            others = self._others(wanted, facts)
            for subject, decisions in wanted.items():
                yield from self.of_number(decisions, facts[subject], others)
            told(start + len(part), len(subjects))

    def _others(
        self,
        wanted: Mapping[bytes, Sequence[KnownFact]],
        facts: Mapping[bytes, Sequence[KnownFact]],
    ) -> dict[bytes, Sequence[KnownFact]]:
        """Facts of the numbers that counted beside those called."""
        links = {
            link["token"]: link["applied"]
            for decisions in wanted.values()
            for decision in decisions
            for link in _record(decision)["linked"]
        }
        known = {token: facts[token] for token in links if token in facts}
        missing = {token: links[token] for token in sorted(links.keys() - known.keys())}
        return {**known, **self._past.facts_of_linked(missing)}

    def of_number(
        self,
        decisions: Sequence[KnownFact],
        facts: Sequence[KnownFact],
        others: Mapping[bytes, Sequence[KnownFact]],
    ) -> Iterator[Flip]:
        """Judge decisions about one number by all its facts, and those of linked numbers."""
        lifted = _Lifted()
        for decision in decisions:
            self.report.decisions += 1
            flip = self._judged(decision, facts, others, lifted)
            if flip is not None:
                yield flip

    def _judged(
        self,
        decision: KnownFact,
        facts: Sequence[KnownFact],
        others: Mapping[bytes, Sequence[KnownFact]],
        lifted: _Lifted,
    ) -> Flip | None:
        report, record = self.report, _record(decision)
        if no_answer_reason(record) is not None:
            report.no_answer += 1
            return None
        own = self._rulebook_of(record["rulebook_digest"])
        if own is None:
            report.not_reproduced += 1
            return None
        call = request_of(record)
        state = lifted.fold(applied_facts(facts, record["applied"]))
        linked = [
            lifted.fold(applied_facts(others.get(link.token, ()), link.applied))
            for link in call.linked
        ]
        before = decided_again(record, call, state, linked, own)
        if any(record[name] != value for name, value in verdict_fields(before).items()):
            report.not_reproduced += 1
            return None
        after = decided_again(record, call, state, linked, self._rulebook)
        return self._compared(decision, before, after)

    def _compared(self, decision: KnownFact, before: Decision, after: Decision) -> Flip | None:
        report, record = self.report, _record(decision)
        one, other = _answer(before), _answer(after)
        if after.verdict == "UNAVAILABLE" and before.verdict != "UNAVAILABLE":
            unloaded = [line.rule.name for line in after.outcomes if line.outcome == "UNKNOWN"]
            if unloaded:
                report.unknown += 1
                report.unknown_lists.update(unloaded)
                return None
        if one.verdict == other.verdict:
            report.same += 1
            report.reason_changed += one.reason != other.reason
            return None
        flip = Flip(
            decision.event_id,
            record["at"],
            record["seller_id"],
            record["campaign_id"],
            one,
            other,
        )
        report.flipped += 1
        report.by_change[flip.rule, one.verdict, other.verdict] += 1
        return flip


class _Lifted:
    """Folds facts of one number again and again, each lifted once."""

    def __init__(self) -> None:
        self._states: dict[int, tuple[KnownFact, SubjectState]] = {}

    def fold(self, facts: Sequence[KnownFact]) -> SubjectState:
        """As `consent.reconstruction.fold`."""
        return reduce(merge, map(self._of, facts), EMPTY)

    def _of(self, fact: KnownFact) -> SubjectState:
        held = self._states.get(id(fact))
        if held is None:
            # The fact is kept, so that its place in memory is not another's.
            held = self._states[id(fact)] = (fact, fact.lifted())
        return held[1]


def _decisions(facts: Sequence[KnownFact], since: int, until: int) -> list[KnownFact]:
    """The first record of every decision, if it was recorded in the period."""
    first: dict[str, KnownFact] = {}
    for fact in facts:
        if fact.name == "DialDecision" and fact.fields is not None:
            first.setdefault(fact.event_id, fact)
    return [fact for fact in first.values() if since <= fact.position.recorded_at < until]


def _record(decision: KnownFact) -> Mapping[str, Any]:
    assert decision.fields is not None
    return decision.fields


def _answer(decision: Decision) -> Answer:
    rule = None if decision.rule is None else decision.rule.name
    return Answer(decision.verdict, decision.reason, rule)
