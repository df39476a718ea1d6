"""Recorded decisions made again: the same, or the first difference by its name."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest

from consent.call import ListMembership, Registries
from consent.codec import decode, encode
from consent.decision import Decision, decide, unavailable
from consent.decision_record import RecordContext, decision_record
from consent.decision_replay import replay, unrecorded
from consent.errors import Corrupt
from consent.rulebook import Rulebook
from consent.state import EMPTY, SubjectState
from consent_ledger.backtest import Backtest
from projections.past import Past
from tests.decisions import (
    NOW,
    book,
    decided,
    grants,
    in_order,
    packaged_rulebook,
    request,
    rule,
    withdrawal,
)

NUMBER = "+14155550123"


def recorded(decision: Decision, **changed: Any) -> dict[str, Any]:
    """The record of a decision, as it comes back from its bytes; with changes."""
    context = RecordContext(
        event_id=str(uuid.UUID(int=9)),
        occurred_at=NOW,
        number=NUMBER,
        salt=bytes(16),
        system="serve",
        partition=0,
    )
    fields = decode(encode("DialDecision", decision_record(decision, context)))[1]
    return {**fields, **changed}


def test_the_same_comes_out_the_same() -> None:
    """An allow, a denial with a next instant, and what no rule was asked about."""
    rulebook = packaged_rulebook()
    states: tuple[SubjectState, ...] = (EMPTY, grants("PEWC"), withdrawal())
    for state in states:
        for at in (NOW, NOW - 12 * 3_600_000_000):
            record = recorded(decided(request(), state, rulebook, at))
            again = replay(record, state, (), rulebook)
            assert again.same, again.difference
            assert again.made_by == ()
    stale = recorded(unavailable(request(), "VIEW_STALE", rulebook, NOW))
    assert replay(stale, grants("PEWC"), (), rulebook).same


def test_an_allow_that_could_not_be_recorded() -> None:
    """Its correction has the trace of the allow, and no answer."""
    rulebook = book(rule(on_fail={"effect": "oblige", "reason": "RECORDING_NOTICE"}))
    decision = decided(request(), EMPTY, rulebook)
    assert decision.allowed
    record = recorded(unrecorded(decision))
    assert record["reason"] == "DECISION_UNRECORDED"
    assert replay(record, EMPTY, (), rulebook).same


def test_the_first_difference_has_a_name() -> None:
    """A field, a rule's outcome, or one fact that a rule used."""
    rulebook = packaged_rulebook()
    state = grants("PEWC")
    record = recorded(decided(request(), state, rulebook))
    changed = replay({**record, "verdict": "DENY", "reason": "QUIET_HOURS"}, state, (), rulebook)
    assert changed.difference is not None
    assert changed.difference[:2] == ("verdict", "DENY")
    line = next(one for one in record["outcomes"] if one["facts"])
    altered = [
        {**one, "facts": [{**one["facts"][0], "value": "tampered"}, *one["facts"][1:]]}
        if one is line
        else one
        for one in record["outcomes"]
    ]
    found = replay({**record, "outcomes": altered}, state, (), rulebook).difference
    assert found is not None
    name = line["facts"][0]["name"]
    assert found == (
        f"outcomes[{line['rule']}].facts[{name}]",
        "tampered",
        line["facts"][0]["value"],
    )
    dropped = [one for one in record["outcomes"] if one is not line]
    gone = replay({**record, "outcomes": dropped}, state, (), rulebook).difference
    assert gone is not None
    assert gone.place == f"outcomes[{line['rule']}]"
    assert gone.recorded == "(nothing)"


def test_another_engine_is_named() -> None:
    """Beside the difference, or without one."""
    rulebook = packaged_rulebook()
    record = recorded(decided(request(), EMPTY, rulebook), engine_version="0")
    again = replay(record, EMPTY, (), rulebook)
    assert again.same
    assert [one.place for one in again.made_by] == ["engine_version"]
    assert replay({**record, "tzdata_version": None}, EMPTY, (), rulebook).same


def test_another_rulebook_is_refused() -> None:
    """A decision is repeated under its own only."""
    record = recorded(decided(request(), EMPTY, packaged_rulebook()))
    with pytest.raises(Corrupt):
        replay(record, EMPTY, (), book(rule()))


class Judged:
    """A backtest of single decisions, without a store."""

    def __init__(self, rulebook: Rulebook, own: Rulebook | None) -> None:
        self.made = Backtest(Past(None), rulebook, lambda _digest: own)  # type: ignore[arg-type]

    def flip(self, decision: Decision, **changed: Any) -> Any:
        """What becomes of one decision about a number without facts."""
        from consent.lift import Derived, Position
        from consent.reconstruction import KnownFact

        record = recorded(decision, **changed)
        place = Position("dial-decisions", bytes(16), 0, 5, NOW + 1)
        fact = KnownFact(
            place, bytes(16), "DialDecision", 1, NOW, record, b"", Derived(0, (), None)
        )
        return next(iter(self.made.of_number([fact], [fact], {})), None)


def test_a_backtest_lists_what_would_flip() -> None:
    """By the rule that makes the difference; the same verdict is no flip."""
    before, after = book(), book(rule())
    decision = decided(request(), EMPTY, before)
    assert decision.allowed
    testing = Judged(after, before)
    flip = testing.flip(decision)
    assert (flip.before.verdict, flip.after.verdict) == ("ALLOW", "DENY")
    assert flip.rule == "US-TEST@1"
    assert testing.made.report.by_change == {("US-TEST@1", "ALLOW", "DENY"): 1}
    same = Judged(before, before)
    assert same.flip(decision) is None
    assert same.made.report.same == 1


def test_a_backtest_does_not_judge_what_it_can_not_know() -> None:
    """A list that nobody looked up, a record that does not come out, and no answer at all."""
    listing = rule(
        check={
            "kind": "list_absent",
            "params": {"list_kinds": ["national"], "registries": ["us_national_dnc"]},
        },
        on_fail={"effect": "deny", "reason": "SECTOR_BAN", "next": "on_event"},
    )
    before, after = book(), book(listing)
    alone = replace(in_order(request(), before), registries=Registries())
    decision = decide(request(), EMPTY, alone, before, NOW)
    assert decision.allowed
    testing = Judged(after, before)
    assert testing.flip(decision) is None
    assert testing.made.report.unknown == 1
    assert testing.made.report.unknown_lists == {"US-TEST@1": 1}
    looked_up = ListMembership("us_national_dnc", None, "v1", NOW // 86_400_000_000, True)
    known = replace(alone, registries=Registries((looked_up,)))
    flip = Judged(after, before).flip(decide(request(), EMPTY, known, before, NOW))
    assert flip.after.verdict == "DENY"
    altered = Judged(after, before)
    assert altered.flip(decision, verdict="DENY") is None
    assert altered.made.report.not_reproduced == 1
    lost = Judged(after, None)
    assert lost.flip(decision) is None
    assert lost.made.report.not_reproduced == 1
    stale = Judged(after, before)
    assert stale.flip(unavailable(request(), "VIEW_STALE", before, NOW)) is None
    assert stale.made.report.no_answer == 1
