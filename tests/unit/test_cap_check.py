"""Caps on attempts, rates of abandoned calls, and the age of lists, by worked examples."""

from __future__ import annotations

from typing import Any

import pytest

from consent.call import (
    NO_CAMPAIGN,
    NO_REGISTRIES,
    Campaign,
    ListMembership,
    Program,
    Registries,
    Tally,
)
from consent.decision import Decision, NextAllowed, allowed_until
from consent.instants import parse_date, parse_instant
from consent.rulebook import Rulebook
from consent.state import ATTEMPTS_MAX, EMPTY, SubjectState, merge, newest_attempts
from consent.state_entries import Attempt
from tests.decisions import DAY, NOW, SELLER, book, decided, request, rule

HOUR = 3_600_000_000


def cap(**params: Any) -> Rulebook:
    """A rulebook with a cap of three in 24 hours, unless something else is given."""
    given = {"max": 3, "hours": 24, "per": "subject_matter"} | params
    if "days" in params:
        del given["hours"]
    on_fail = {"effect": "deny", "reason": "FREQ_CAP", "next": "cap_expiry"}
    return book(rule(check={"kind": "cap", "params": given}, on_fail=on_fail))


def attempts(
    *ago: int, subject: str = "offer-1", seller: str = SELLER, **words: Any
) -> SubjectState:
    """Calls so many microseconds ago."""
    fields: dict[str, Any] = {
        "permit_id": None,
        "permit_expires_at": None,
        "purpose": "MARKETING",
        "call_mode": "LIVE",
        "dial_mode": "MANUAL",
    }
    made = [
        Attempt(at=NOW - past, event_id=f"{subject}-{past}", call_id=f"c-{past}", **fields | words)
        for past in ago
    ]
    return SubjectState(attempts={(seller, subject): newest_attempts(made)})


def call(rulebook: Rulebook, state: SubjectState, **given: Any) -> Decision:
    """A call now."""
    around = {name: given.pop(name) for name in ("linked",) if name in given}
    return decided(request(**given), state, rulebook, **around)


def test_cap_clears_when_the_oldest_is_a_day_old() -> None:
    """The third attempt is the last, until exactly 24 hours after the first."""
    assert call(cap(), attempts(5 * HOUR, 4 * HOUR)).allowed
    denied = call(cap(), attempts(5 * HOUR, 4 * HOUR, 3 * HOUR))
    assert denied.next_allowed == NextAllowed("at", NOW + 19 * HOUR)
    assert denied.outcomes[0].facts[:2] == (("attempts", 3), ("most", 3))
    assert call(cap(), attempts(24 * HOUR, 4 * HOUR, 3 * HOUR)).allowed
    assert not call(cap(), attempts(24 * HOUR - 1, 4 * HOUR, 3 * HOUR)).allowed


def test_more_than_allowed_clear_one_by_one() -> None:
    """If more were made than allowed, the cap clears when fewer than allowed are left."""
    state = attempts(20 * HOUR, 10 * HOUR, 8 * HOUR, 6 * HOUR, 4 * HOUR)
    assert call(cap(), state).next_allowed == NextAllowed("at", NOW + 16 * HOUR)
    assert call(cap(max=1), state).next_allowed == NextAllowed("at", NOW + 20 * HOUR)


def test_cap_of_days() -> None:
    """A cap of thirty days is one of thirty times 24 hours."""
    state = attempts(*(DAY * day for day in (24, 18, 11)))
    denied = call(cap(days=30), state)
    assert denied.next_allowed == NextAllowed("at", NOW + 6 * DAY)
    assert call(cap(days=24), state).allowed


@pytest.mark.parametrize(
    ("subject", "per", "asked", "counts"),
    [
        ("offer-1", "subject_matter", "offer-1", True),
        ("offer-2", "subject_matter", "offer-1", False),
        ("*", "subject_matter", "offer-1", True),
        ("offer-2", "subject_matter", None, True),
        ("offer-2", "seller", "offer-1", True),
    ],
)
def test_subjects(subject: str, per: str, asked: str | None, counts: bool) -> None:
    """An attempt counts for its subject; of unknown subject for each, and each for an unknown."""
    state = attempts(1, 2, 3, subject=subject)
    assert call(cap(per=per), state, subject_matter=asked).allowed is not counts


def test_attempts_of_others_do_not_count() -> None:
    """Each seller has its own attempts, and a rehearsal those of rehearsals."""
    assert call(cap(), attempts(1, 2, 3, seller="globex")).allowed
    assert call(cap(), attempts(1, 2, 3), test=True).allowed
    assert not call(cap(), attempts(1, 2, 3, seller="test:acme"), test=True).allowed
    assert not call(cap(), attempts(1, 2, 3, seller="*")).allowed


@pytest.mark.parametrize(
    ("params", "words", "counts"),
    [
        ({"modes": ["prerecorded"]}, {"call_mode": "LIVE"}, False),
        ({"modes": ["prerecorded"]}, {"call_mode": "PRERECORDED"}, True),
        ({"modes": ["prerecorded"]}, {"call_mode": "UNKNOWN"}, True),
        ({"purposes": ["marketing"]}, {"purpose": "DEBT"}, False),
        ({"purposes": ["marketing"]}, {"purpose": "UNKNOWN"}, True),
        ({"contact_kinds": ["call"]}, {"contact_kind": "TEXT"}, False),
        ({"contact_kinds": ["call"]}, {"contact_kind": "UNKNOWN"}, True),
        ({"contact_kinds": ["text"]}, {"contact_kind": "UNKNOWN"}, False),
        ({"contact_kinds": ["call", "text"]}, {"contact_kind": "TEXT"}, True),
    ],
)
def test_only_some_attempts_count(params: dict[str, Any], words: Any, counts: bool) -> None:
    """A cap may be on some modes, purposes and kinds of contact; what is unknown counts."""
    assert call(cap(**params), attempts(1, 2, 3, **words)).allowed is not counts


def test_calls_to_all_numbers_of_the_person_count() -> None:
    """Attempts on the person's other numbers count, in whatever order these are given."""
    one, other = attempts(5 * HOUR), attempts(3 * HOUR)
    own = attempts(4 * HOUR)
    assert call(cap(), own, linked=(one,)).allowed
    for linked in ((one, other), (other, one)):
        denied = call(cap(), own, linked=linked)
        assert denied.next_allowed == NextAllowed("at", NOW + 19 * HOUR)
    assert call(cap(), own, linked=(one, attempts(3 * HOUR, subject="offer-2"))).allowed


def test_permit_counts_until_it_is_used_or_over() -> None:
    """A permit counts as an attempt until it expires, and only once together with its call."""
    permit = {"permit_id": "p", "permit_expires_at": NOW + 60_000_000}
    state = merge(attempts(3 * HOUR, 2 * HOUR), attempts(1, **permit))
    denied = call(cap(), state)
    assert denied.next_allowed == NextAllowed("at", NOW + 60_000_000)
    used = merge(state, attempts(0, permit_id="p"))
    assert call(cap(max=4), used).allowed
    over = merge(attempts(3 * HOUR, 2 * HOUR), attempts(1, permit_id="p", permit_expires_at=NOW))
    assert call(cap(), over).allowed


def test_full_list_hides_older_attempts() -> None:
    """Where older attempts may have been dropped inside of the time, the cap is used up."""
    full = attempts(*(HOUR * (1 + n) for n in range(ATTEMPTS_MAX)))
    assert call(cap(max=16), full).next_allowed == NextAllowed("at", NOW + 8 * HOUR)
    # Sixteen are kept and seventeen allowed, but there may have been more.
    assert call(cap(max=100), full).next_allowed == NextAllowed("at", NOW + 8 * HOUR)
    assert call(cap(max=100, modes=["prerecorded"]), full).reason == "FREQ_CAP"
    older = attempts(*(HOUR * (9 + n) for n in range(ATTEMPTS_MAX)))
    assert call(cap(max=17), older).allowed
    assert not call(cap(max=17), EMPTY, linked=(full,)).allowed


def test_packages() -> None:
    """One notice for a package, and one more for every signature that failed."""
    rulebook = cap(max=1, days=30, per="seller", shipment=True)
    told = attempts(HOUR, subject="parcels", shipment_id="s-1")
    assert not call(rulebook, told, shipment_id="s-1").allowed
    assert call(rulebook, told, shipment_id="s-2").allowed
    assert call(rulebook, told, shipment_id="s-1", failed_signature_attempts=1).allowed
    assert call(rulebook, told).reason == "DATA_MISSING"
    assert call(rulebook, EMPTY).reason == "DATA_MISSING"
    unnamed = attempts(HOUR, subject="parcels")
    assert not call(rulebook, unnamed, shipment_id="s-1").allowed


def test_permit_ends_before_a_cap_would() -> None:
    """Attempts never make a permit end early: they only stop counting."""
    state = attempts(24 * HOUR - 30_000_000, HOUR)
    decision = call(cap(), state)
    assert allowed_until(decision, state, cap(), NOW + 60_000_000) == NOW + 60_000_000


def rate(**params: Any) -> Rulebook:
    """A rulebook that allows three in a hundred live answers to be abandoned."""
    given = {
        "numerator": "abandoned",
        "denominator": "live_answered",
        "max_ppm": 30_000,
        "min_denominator": 100,
        "period": "thirty_days",
    }
    on_fail = {"effect": "deny", "reason": "ABANDON_CAP", "next": "period_end"}
    return book(rule(check={"kind": "rate", "params": given | params}, on_fail=on_fail))


@pytest.mark.parametrize(
    ("live", "abandoned", "allowed"),
    [
        (1000, 30, True),
        (1000, 31, False),
        (100, 3, True),
        (100, 4, False),
        (99, 50, True),
        (0, 0, True),
    ],
)
def test_rate(live: int, abandoned: int, allowed: bool) -> None:
    """Exactly the share is allowed, one more is not; at the least number the rule applies."""
    campaign = Campaign((Tally("THIRTY_DAYS", live, abandoned, NOW - DAY),))
    decision = decided(request(), EMPTY, rate(), campaign=campaign)
    assert decision.allowed is allowed
    if not allowed:
        assert decision.next_allowed == NextAllowed("campaign_period_end")
        assert dict(decision.outcomes[0].facts)["abandoned"] == abandoned


def test_rate_takes_its_own_period() -> None:
    """The counts of the rule's own period are judged; without them facts are missing."""
    campaign = Campaign((Tally("THIRTY_DAYS", 1000, 500), Tally("CALENDAR_MONTH", 1000, 1)))
    asked = request()
    assert not decided(asked, EMPTY, rate(), campaign=campaign).allowed
    assert decided(asked, EMPTY, rate(period="calendar_month"), campaign=campaign).allowed
    for unknown in (campaign, NO_CAMPAIGN, Campaign((Tally("TWENTY_FOUR_HOURS", 5),))):
        decision = decided(asked, EMPTY, rate(period="twenty_four_hours"), campaign=unknown)
        assert decision.reason == "DATA_MISSING"


def test_people_taken_for_machines_are_abandoned_too() -> None:
    """Where a regulator says so, live answers wrongly taken for machines count as abandoned."""
    campaign = Campaign((Tally("THIRTY_DAYS", 1000, 25),))
    program = Program(machine_detection_false_positives_ppm=5_001)
    given: dict[str, Any] = {"campaign": campaign, "program": program}
    assert decided(request(), EMPTY, rate(), **given).allowed
    assert not decided(request(), EMPTY, rate(count_false_positives=True), **given).allowed
    given["program"] = Program(machine_detection_false_positives_ppm=5_000)
    assert decided(request(), EMPTY, rate(count_false_positives=True), **given).allowed


def freshness() -> Rulebook:
    """A rulebook that wants a list of at most 31 days."""
    params = {"registries": ["a_list"], "max_age_days": 31}
    on_fail = {"effect": "deny", "reason": "SCRUB_STALE", "next": "on_event"}
    return book(rule(check={"kind": "freshness", "params": params}, on_fail=on_fail))


@pytest.mark.parametrize(
    ("at", "zones", "allowed"),
    [
        ("2026-11-20T16:00:00Z", ("America/New_York",), True),
        ("2026-11-21T04:59:59.999999Z", ("America/New_York",), True),
        ("2026-11-21T05:00:00Z", ("America/New_York",), False),
        ("2026-11-21T05:00:00Z", ("America/Chicago",), True),
        ("2026-11-21T05:00:00Z", ("America/Chicago", "America/New_York"), False),
    ],
)
def test_list_is_fresh_for_31_days(at: str, zones: tuple[str, ...], allowed: bool) -> None:
    """Thirty-one days are fresh and thirty-two not, by the zone that is furthest ahead."""
    lists = Registries((ListMembership("a_list", None, "1", parse_date("2026-10-20"), False),))
    asked, instant = request(zones=zones), parse_instant(at)
    decision = decided(asked, EMPTY, freshness(), instant, registries=lists)
    assert decision.allowed is allowed
    if allowed:
        ends = min(
            parse_instant("2026-11-21T05:00:00Z" if "New_York" in zone else "2026-11-21T06:00:00Z")
            for zone in zones
        )
        assert allowed_until(decision, EMPTY, freshness(), ends + DAY) == ends


@pytest.mark.parametrize(
    ("lists", "verdict", "reason"),
    [
        (NO_REGISTRIES, "UNAVAILABLE", "REGISTRY_UNLOADED"),
        (Registries((ListMembership("a_list"),)), "UNAVAILABLE", "REGISTRY_UNLOADED"),
        (Registries((ListMembership("a_list", member=False),)), "DENY", "DATA_MISSING"),
    ],
)
def test_list_without_a_date(lists: Registries, verdict: str, reason: str) -> None:
    """A list that is not loaded gives no answer, one without a date is missing a fact."""
    decision = decided(request(), EMPTY, freshness(), registries=lists)
    assert (decision.verdict, decision.reason) == (verdict, reason)
