"""Exemptions: what saves a call, until when, and what the trace says of it."""

from __future__ import annotations

from typing import Any

import pytest

from consent.call import ListMembership, Program, Registries
from consent.decision import Decision, allowed_until, decide
from consent.instants import parse_date, parse_instant
from consent.rulebook import Rulebook
from consent.state import EMPTY, SubjectState, merge
from consent.state_entries import DncEntry, Relationship
from tests.decisions import (
    DAY,
    NOW,
    SELLER,
    attributes,
    book,
    decided,
    grants,
    in_order,
    listing,
    request,
    rule,
    withdrawal,
)

TODAY = NOW // DAY
CHICAGO = "America/Chicago"


def unless(condition: dict[str, Any], **check: Any) -> Rulebook:
    """A rulebook that denies every call that the condition does not save."""
    exemption = {"code": "SAVED", "when": condition, "profiles": ["strict", "statutory"]}
    return book(rule(unless=[exemption], **check))


def call(condition: dict[str, Any], state: SubjectState = EMPTY, **given: Any) -> Decision:
    """A call now under that rulebook."""
    around = {
        name: given.pop(name) for name in ("program", "registries", "linked") if name in given
    }
    at = given.pop("at", NOW)
    return decided(request(**given), state, unless(condition), at, **around)


def related(kind: str = "PURCHASE", **given: Any) -> SubjectState:
    """A relationship with the seller, of a year ago unless stated otherwise."""
    fields: dict[str, Any] = {
        "at": NOW - DAY,
        "event_id": "r-1",
        "on": TODAY - 365,
        "status": "UNKNOWN",
        "ended_on": None,
        "related_subject_matters": ("offer-1",),
        "affiliate_expected": False,
    }
    seller = given.pop("seller", SELLER)
    return SubjectState(relationships={(seller, kind, "1"): Relationship(**fields | given)})


def on(day: str) -> SubjectState:
    """A purchase on a day."""
    return related(on=parse_date(day), at=parse_instant(f"{day}T18:00:00Z"))


BOTH_CLOCKS = {"relationship": {"kinds": ["purchase"], "months": 18, "days": 540}}


@pytest.mark.parametrize(
    ("clocks", "purchase", "last"),
    [
        ({"months": 18, "days": 540}, "2025-05-25", "2026-11-16"),
        ({"months": 18}, "2025-05-25", "2026-11-25"),
        ({"days": 540}, "2025-05-25", "2026-11-16"),
        ({"months": 3, "days": 90}, "2026-08-31", "2026-11-29"),
        ({"months": 3}, "2026-08-31", "2026-11-30"),
        ({"months": 6}, "2025-08-31", "2026-02-28"),
    ],
)
def test_last_day_of_the_shorter_clock_is_inclusive(
    clocks: dict[str, int], purchase: str, last: str
) -> None:
    """Every clock must run; its last day counts to midnight of the zone that is furthest ahead."""
    condition = {"relationship": {"kinds": ["purchase"], **clocks}}
    midnight = parse_instant(f"{last}T06:00:00Z") + DAY  # of Chicago, in winter
    zones = {"zones": (CHICAGO,)}
    decision = call(condition, on(purchase), at=midnight - 1, **zones)
    assert decision.allowed
    assert dict(decision.outcomes[0].facts) == {
        "relationship": "r-1",
        "kind": "PURCHASE",
        "last_day": last,
    }
    assert decision.outcomes[0].exemption == "SAVED"
    assert not call(condition, on(purchase), at=midnight, **zones).allowed
    until = allowed_until(decision, on(purchase), unless(condition), midnight + DAY)
    assert until == midnight
    ahead = {"zones": (CHICAGO, "America/New_York")}
    assert not call(condition, on(purchase), at=midnight - 1, **ahead).allowed


@pytest.mark.parametrize(
    ("kind", "given", "saved"),
    [
        ("PURCHASE", {}, True),
        ("INQUIRY", {}, False),
        ("PURCHASE", {"seller": "globex"}, False),
        ("PURCHASE", {"seller": "*"}, False),
        ("PURCHASE", {"at": NOW + 1}, False),
        ("PURCHASE", {"on": TODAY + 1}, False),
        ("PURCHASE", {"on": TODAY}, True),
        ("PURCHASE", {"on": TODAY - 600}, False),
        ("PURCHASE", {"on": -(2**31)}, False),
        ("PURCHASE", {"on": 2**31 - 1}, False),
        # The date of a purchase counts, not what is said to have ended.
        ("PURCHASE", {"on": TODAY - 600, "status": "ACTIVE"}, False),
        ("PURCHASE", {"status": "ENDED", "ended_on": TODAY - 300}, True),
    ],
)
def test_purchases(kind: str, given: dict[str, Any], saved: bool) -> None:
    """A purchase from this seller counts from its date, for as long as both clocks run."""
    assert call(BOTH_CLOCKS, related(kind, **given)).allowed is saved


@pytest.mark.parametrize(
    ("given", "saved"),
    [
        ({"status": "ACTIVE", "on": TODAY - 5_000}, True),
        ({"status": "UNKNOWN", "on": TODAY - 5_000}, False),
        ({"status": "ENDED", "on": TODAY - 5_000, "ended_on": TODAY - 30}, True),
        ({"status": "ENDED", "on": TODAY - 5_000, "ended_on": TODAY - 31}, False),
        ({"status": "ACTIVE", "on": TODAY - 5_000, "ended_on": TODAY - 30}, True),
        ({"status": "ENDED", "on": TODAY - 5_000}, False),
        ({"status": "ENDED", "on": TODAY - 20}, True),
    ],
)
def test_contracts_run_until_they_end(given: dict[str, Any], saved: bool) -> None:
    """A contract that runs counts however old; the clock of one that ended runs from its end."""
    condition = {"relationship": {"kinds": ["contract"], "days": 30}}
    assert call(condition, related("CONTRACT", **given)).allowed is saved


def test_relationship_without_clocks() -> None:
    """Without clocks a relationship counts for ever, but not one that has ended."""
    condition = {"relationship": {"kinds": ["personal", "membership"]}}
    assert call(condition, related("PERSONAL", on=0)).allowed
    assert not call(condition, related("MEMBERSHIP", status="ENDED", ended_on=TODAY - 1)).allowed


def test_relationship_of_some_sort() -> None:
    """A rule may ask for some statuses, and for a relationship to the subject of the call."""
    active = {"relationship": {"kinds": ["contract"], "statuses": ["active"]}}
    assert call(active, related("CONTRACT", status="ACTIVE")).allowed
    assert not call(active, related("CONTRACT", status="UNKNOWN")).allowed
    subject = {"relationship": {"kinds": ["purchase"], "days": 540, "related": True}}
    assert call(subject, related()).allowed
    assert not call(subject, related(), subject_matter="offer-2").allowed
    assert not call(subject, related(), subject_matter=None).allowed


def test_the_relationship_that_lasts_longest_is_named() -> None:
    """Of several relationships the trace names the one on which the call may rest longest."""
    older, newer = related(event_id="older"), related("INQUIRY", event_id="newer", on=TODAY - 5)
    condition = {"relationship": {"kinds": ["purchase", "inquiry"], "days": 400}}
    facts = dict(call(condition, merge(older, newer)).outcomes[0].facts)
    assert (facts["relationship"], facts["kind"]) == ("newer", "INQUIRY")


def test_do_not_call_request_ends_a_relationship() -> None:
    """A request to the seller that stands ends it, whenever it was made, until it is removed."""
    assert not call(BOTH_CLOCKS, merge(related(), listing(NOW - 400 * DAY))).allowed
    assert call(BOTH_CLOCKS, merge(related(), listing(NOW - DAY, listed=False))).allowed
    other_list = listing(key=("*", "NATIONAL", "us_national_dnc"))
    assert call(BOTH_CLOCKS, merge(related(), other_list)).allowed
    other_seller = listing(key=("globex", "INTERNAL", "internal"))
    assert call(BOTH_CLOCKS, merge(related(), other_seller)).allowed
    everyone = listing(key=("*", "INTERNAL", "internal"))
    assert not call(BOTH_CLOCKS, merge(related(), everyone)).allowed
    whole_party = listing(key=(SELLER, "INTERNAL", "internal/whole-party"))
    assert not call(BOTH_CLOCKS, related(), linked=(whole_party,)).allowed
    assert call(BOTH_CLOCKS, related(), linked=(listing(),)).allowed


def test_removal_of_a_request_is_an_edge() -> None:
    """A request that will be removed ends a relationship until then."""
    state = merge(related(), listing(NOW + 1_000_000, listed=False))
    rulebook = unless(BOTH_CLOCKS)
    assert not decided(request(), state, rulebook).allowed
    assert decided(request(), state, rulebook, NOW + 1_000_000).allowed


def test_consent_with_evidence() -> None:
    """A consent saves while it covers the call, if it came with what the rule asks for."""
    plain: dict[str, Any] = {"consent": {"kinds": ["express"]}}
    evident = {"consent": {"kinds": ["express"], "evidence_required": ["quiet_hours_agreed"]}}
    either = {"consent": {"kinds": ["express"], "evidence_required": [["signature", "name"]]}}
    decision = call(plain, grants("EXPRESS"))
    assert dict(decision.outcomes[0].facts)["grant"].startswith("grant-EXPRESS")
    assert not call(evident, grants("EXPRESS")).allowed
    assert call(evident, grants("EXPRESS", evidence=("quiet_hours_agreed",))).allowed
    assert call(either, grants("EXPRESS", evidence=("name",))).allowed
    assert not call(either, grants("EXPRESS", evidence=("email",))).allowed
    assert not call(plain, merge(grants("EXPRESS"), withdrawal())).allowed
    ending = grants("EXPRESS", expires_at=NOW + 1_000_000)
    decision = call(plain, ending)
    assert allowed_until(decision, ending, unless(plain), NOW + DAY) == NOW + 1_000_000


def callback(**given: Any) -> SubjectState:
    """A request to be called within this hour."""
    times = {"call_from_at": NOW - 1_000_000, "call_until_at": NOW + 1_000_000}
    return related("CALLBACK", **times | given)


def test_appointment() -> None:
    """Who asked to be called at a time may be called then, and a later withdrawal ends that."""
    condition: dict[str, Any] = {"calling_agreed": {}}
    decision = call(condition, callback())
    assert decision.allowed
    ends = allowed_until(decision, callback(), unless(condition), NOW + DAY)
    assert ends == NOW + 1_000_000
    assert not call(condition, callback(call_until_at=NOW)).allowed
    assert call(condition, callback(call_from_at=NOW)).allowed
    assert not call(condition, callback(call_from_at=NOW + 1)).allowed
    assert not call(condition, callback(call_until_at=None)).allowed
    assert call(condition, callback(call_from_at=None)).allowed
    assert not call(condition, callback(status="ENDED")).allowed
    assert not call(condition, merge(callback(), withdrawal(NOW - 2))).allowed
    assert call(condition, merge(callback(), withdrawal(NOW - 2 * DAY))).allowed


WORDS: list[tuple[dict[str, Any], dict[str, Any], SubjectState, bool]] = [
    ({"sector": ["charity", "other"]}, {}, EMPTY, True),
    ({"sector": ["charity"]}, {}, EMPTY, False),
    ({"sector": ["charity"]}, {"sector": "UNKNOWN"}, EMPTY, False),
    ({"sector": ["charity", "unknown"]}, {"sector": "UNKNOWN"}, EMPTY, True),
    ({"message_class": ["advertising"]}, {}, EMPTY, True),
    ({"message_class": ["nonprofit"]}, {}, EMPTY, False),
    ({"dial": ["manual", "preview"]}, {}, EMPTY, True),
    ({"dial": ["preview"]}, {}, EMPTY, False),
    ({"dial": ["manual"]}, {"dial_mode": "UNKNOWN"}, EMPTY, False),
    ({"mode": ["live"]}, {}, EMPTY, True),
    ({"mode": ["live"]}, {"call_mode": "AI_VOICE"}, EMPTY, False),
    ({"party": "consumer"}, {}, EMPTY, True),
    ({"party": "business"}, {"party": "BUSINESS"}, EMPTY, True),
    ({"party": "business"}, {"party": "UNKNOWN"}, EMPTY, False),
    ({"party": "business"}, {"party": "BUSINESS"}, attributes(party=("CONSUMER",)), False),
    ({"line": ["landline"]}, {}, attributes(line_type=("LANDLINE",)), True),
    ({"line": ["landline"]}, {}, attributes(line_type=("LANDLINE", "MOBILE")), False),
    ({"line": ["landline"]}, {}, EMPTY, False),
    ({"line": ["landline", "unknown"]}, {}, EMPTY, True),
    ({"emergency_purpose": {}}, {"emergency_purpose": True}, EMPTY, True),
    ({"emergency_purpose": {}}, {"emergency_purpose": False}, EMPTY, False),
    ({"emergency_purpose": {}}, {}, EMPTY, False),
]


@pytest.mark.parametrize(("condition", "given", "state", "saved"), WORDS)
def test_words(
    condition: dict[str, Any], given: dict[str, Any], state: SubjectState, saved: bool
) -> None:
    """What is stated saves only if all that may be so is listed; what is not stated never does."""
    assert call(condition, state, **given).allowed is saved


def test_what_the_campaign_declares() -> None:
    """Type of seller, sectors and charges are those that the campaign declares."""
    bank = Program(seller_type="bank")
    assert call({"seller_type": ["nonprofit", "bank"]}, program=bank).allowed
    assert not call({"seller_type": ["nonprofit"]}, program=bank).allowed
    assert not call({"seller_type": ["bank"]}, program=Program()).allowed
    both = Program(sectors=("CHARITY",))
    assert not call({"sector": ["other"]}, program=both).allowed
    assert call({"sector": ["charity"]}, program=both, sector="UNKNOWN").allowed
    assert call({"free_to_recipient": {}}, program=Program(free_to_recipient=True)).allowed
    for charged in (Program(free_to_recipient=False), Program()):
        assert not call({"free_to_recipient": {}}, program=charged).allowed


def ported(ago: int, port: str = "WIRELINE_TO_WIRELESS") -> SubjectState:
    """A port so many microseconds ago."""
    return attributes(port=(port,), ported_at=(str(NOW - ago),))


def test_lately_ported() -> None:
    """A number moved to a mobile at most fifteen days ago, by everything that is known."""
    condition = {"ported_within": {"days": 15}}
    assert call(condition, ported(15 * DAY)).allowed
    assert not call(condition, ported(15 * DAY + 1)).allowed
    assert not call(condition, ported(-1)).allowed
    assert not call(condition, ported(DAY, "WIRELESS_TO_WIRELESS")).allowed
    assert not call(condition, EMPTY).allowed
    state = ported(15 * DAY - 1_000_000)
    decision = call(condition, state)
    until = allowed_until(decision, state, unless(condition), NOW + DAY)
    assert until == NOW + 1_000_001


LISTED = {
    "check": {
        "kind": "list_absent",
        "params": {"list_kinds": ["national"], "registries": ["a_list"]},
    }
}


def listed(member: bool, listed_on: int | None = None) -> Registries:
    """What the registry says."""
    return Registries((ListMembership("a_list", None, "1", TODAY, member, listed_on),))


def reported(listed_on: int | None) -> SubjectState:
    """A listing that reached the number's state."""
    entry = DncEntry(NOW - DAY, "dnc", True, NOW - DAY, False, listed_on)
    return SubjectState(dnc={("*", "NATIONAL", "a_list"): entry})


@pytest.mark.parametrize(
    ("registries", "state", "saved"),
    [
        (listed(True, TODAY - 27), EMPTY, True),
        (listed(True, TODAY - 28), EMPTY, False),
        (listed(True), EMPTY, False),
        (listed(True, TODAY - 27), reported(TODAY - 27), True),
        (listed(True, TODAY - 27), reported(TODAY - 28), False),
        (listed(True, TODAY - 27), reported(None), False),
        (listed(False), reported(TODAY - 1), True),
    ],
)
def test_lately_listed(registries: Registries, state: SubjectState, saved: bool) -> None:
    """A listing may be ignored for some days, if every list says when it was made."""
    rulebook = unless({"listed_less_than": {"registry": "a_list", "days": 28}}, **LISTED)
    decision = decided(request(), state, rulebook, registries=registries)
    assert decision.allowed is saved
    if saved:
        until = allowed_until(decision, state, rulebook, NOW + 60 * DAY)
        assert until == parse_instant("2026-11-24T06:00:00Z") or state is not EMPTY


@pytest.mark.parametrize(
    ("given_at", "listed_on", "saved"),
    [
        ("2026-11-11T06:00:00Z", "2026-11-10", True),
        ("2026-11-11T05:59:59.999999Z", "2026-11-10", False),
        ("2026-11-09T12:00:00Z", "2026-11-10", False),
        ("2026-11-11T06:00:00Z", None, False),
    ],
)
def test_consent_since_the_listing(given_at: str, listed_on: str | None, saved: bool) -> None:
    """A listing takes back earlier consents, those of its own day too, but not later ones."""
    condition = {"consent_since_listing": {"registry": "a_list", "kinds": ["opt_in"]}}
    lists = listed(True, None if listed_on is None else parse_date(listed_on))
    state = grants("OPT_IN", parse_instant(given_at))
    rulebook = unless(condition, **LISTED)
    assert decided(request(), state, rulebook, registries=lists).allowed is saved


def test_any_and_all() -> None:
    """Conditions may be joined; all facts that they rest on are in the trace."""
    charity, sold = {"sector": ["charity"]}, BOTH_CLOCKS
    assert call({"any": [charity, sold]}, related()).allowed
    assert not call({"any": [charity, sold]}, EMPTY).allowed
    assert not call({"all": [charity, sold]}, related()).allowed
    decision = call({"all": [charity, sold]}, related(), sector="CHARITY")
    assert [name for name, _ in decision.outcomes[0].facts] == [
        "sector",
        "relationship",
        "kind",
        "last_day",
    ]
    until = allowed_until(decision, related(), unless({"all": [charity, sold]}), NOW + 400 * DAY)
    assert until > NOW + DAY


def test_exemption_is_looked_at_before_a_missing_fact() -> None:
    """A call that is exempt needs no fact of the rule, not even a list."""
    rulebook = unless({"sector": ["other"]}, **LISTED)
    decision = decided(request(), EMPTY, rulebook, registries=Registries())
    assert (decision.verdict, decision.outcomes[0].exemption) == ("ALLOW", "SAVED")
    around = in_order(request(), rulebook)
    assert decide(request(), EMPTY, around, rulebook, NOW).outcomes[0].exemption is None
