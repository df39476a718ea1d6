"""The engine: reasons, next allowed instant, missing facts, and what a request may be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from consent.call import (
    CANDIDATES_MAX,
    NO_REGISTRIES,
    CallRequest,
    ListMembership,
    Registries,
    Surroundings,
)
from consent.call_facts import CallFacts
from consent.decision import NextAllowed, allowed_until, decide, unavailable
from consent.errors import Rejected
from consent.findings import Finding, Result
from consent.instants import parse_date, parse_instant
from consent.rulebook import Rulebook
from consent.state import EMPTY, merge
from consent.zones import tzdata_version, zone, zone_names
from tests.decisions import (
    DAY,
    NOW,
    book,
    decided,
    grants,
    packaged_rulebook,
    refusal,
    request,
    rule,
    withdrawal,
)

TEXAS = {"country": "US", "subdivision": "TX", "match": ["address"]}
EVERYWHERE = {"country": "*", "subdivision": None, "match": ["address"]}


def denying(reason: str, following: str = "on_event", **given: Any) -> dict[str, Any]:
    """A row that denies every call in the US with this reason."""
    on_fail = {"effect": "deny", "reason": reason, "next": following}
    return rule(on_fail=on_fail, **given)


def silence(days: int, **given: Any) -> dict[str, Any]:
    """A row that asks for some days of silence after a refusal."""
    check = {"kind": "fact", "params": {"fact": "no_refusal_within", "days": days, "per": "seller"}}
    return denying("REFUSAL_COOLDOWN", "cap_expiry", check=check, **given)


def test_the_first_reason_of_the_order_is_primary() -> None:
    """Whatever the order of rules, the reason that outlasts the others is the primary one."""
    decision = decided(
        request(),
        EMPTY,
        book(
            denying("QUIET_HOURS", id="US-A"),
            denying("NATIONAL_DNC", id="US-B"),
            denying("CONSENT_SCOPE", id="US-C"),
        ),
    )
    assert decision.reasons == ("NATIONAL_DNC", "CONSENT_SCOPE", "QUIET_HOURS")
    assert decision.reason == "NATIONAL_DNC"
    assert decision.rule is not None
    assert decision.rule.name == "US-B@1"


def test_of_equal_reasons_the_narrower_place_decides() -> None:
    """A subdivision decides before a country, a country before a group, then the rule's id."""
    rows = [
        denying("SECTOR_BAN", id="A-ALL", jurisdiction=EVERYWHERE),
        denying("SECTOR_BAN", id="US-B"),
        denying("SECTOR_BAN", id="US-A"),
        denying("SECTOR_BAN", id="US-Z-TX", jurisdiction=TEXAS),
    ]
    for kept, expected in ((4, "US-Z-TX"), (3, "US-A"), (2, "US-B"), (1, "A-ALL")):
        decision = decided(request(), EMPTY, book(*rows[:kept]))
        assert decision.rule is not None
        assert decision.rule.id == expected


def test_subdivisions_have_their_own_rows() -> None:
    """A state's row applies in that state, and among several candidates, and nowhere else."""
    rulebook = book(denying("SECTOR_BAN", jurisdiction=TEXAS))
    assert not decided(request(states=("US-TX",)), EMPTY, rulebook).allowed
    assert not decided(request(states=("US-NY", "US-TX")), EMPTY, rulebook).allowed
    assert decided(request(states=("US-NY",)), EMPTY, rulebook).allowed
    assert decided(request(states=("US",)), EMPTY, rulebook).allowed
    assert decided(request(states=("MX-TX",)), EMPTY, rulebook).allowed


@pytest.mark.parametrize(
    ("following", "expected"),
    [
        (("on_event", "never", "window"), NextAllowed("never")),
        (("on_event", "period_end", "window"), NextAllowed("on_event")),
        (("period_end", "window"), NextAllowed("campaign_period_end")),
    ],
)
def test_permanent_reasons_outrank_timing(
    following: tuple[str, ...], expected: NextAllowed
) -> None:
    """A call is never queued again for an instant while a reason that lasts stands."""
    rows = [denying("QUIET_HOURS", word, id=f"US-{n}") for n, word in enumerate(following)]
    decision = decided(request(), refusal(), book(*rows, silence(60, id="US-SILENCE")))
    assert decision.next_allowed == expected


def test_next_allowed_is_when_every_cooldown_is_over() -> None:
    """The next instant is the first at which all timing rules of all places pass."""
    rows = (silence(10, id="US-SHORT"), silence(20, id="US-LONG"))
    decision = decided(request(), refusal(NOW), book(*rows))
    assert decision.next_allowed == NextAllowed("at", NOW + 20 * DAY)


def test_next_allowed_uses_the_revisions_of_that_time() -> None:
    """A longer silence that begins before the shorter one ends decides when it ends."""
    effective = {"from": "2026-11-28", "to": None}
    rows = (
        silence(10, effective={"from": "2020-01-01", "to": "2026-11-27"}),
        silence(30, rev=2, effective=effective),
    )
    decision = decided(request(), refusal(NOW), book(*rows))
    assert decision.next_allowed == NextAllowed("at", NOW + 30 * DAY)
    shorter = (
        silence(30, effective={"from": "2020-01-01", "to": "2026-11-27"}),
        silence(2, rev=2, effective=effective),
    )
    asked = request(zones=("America/Chicago",))
    ends_at = (parse_date("2026-11-28") * 24 + 6) * 3_600_000_000
    decision = decided(asked, refusal(NOW), book(*shorter))
    assert decision.next_allowed == NextAllowed("at", ends_at)


def test_timing_without_an_end_waits_for_an_event() -> None:
    """If no instant in the searched time is open, the call waits for an event."""
    decision = decided(request(), EMPTY, book(denying("QUIET_HOURS", "window")))
    assert decision.next_allowed == NextAllowed("on_event")


def registry_book(on_missing: str = "deny") -> Rulebook:
    """A rulebook that asks one registry."""
    check = {"kind": "list_absent", "params": {"registries": ["a_list"]}}
    return book(denying("NATIONAL_DNC", check=check, on_missing=on_missing))


@pytest.mark.parametrize(
    ("member", "verdict", "reason"),
    [
        (False, "ALLOW", None),
        (True, "DENY", "NATIONAL_DNC"),
        (None, "UNAVAILABLE", "REGISTRY_UNLOADED"),
    ],
)
def test_registries(member: bool | None, verdict: str, reason: str | None) -> None:
    """A registry that is not loaded gives no answer, neither a yes nor a no."""
    lists = Registries((ListMembership("a_list", version="1", member=member),))
    decision = decide(request(), EMPTY, Surroundings(lists), registry_book(), NOW)
    assert (decision.verdict, decision.reason) == (verdict, reason)
    assert decision.allowed is (verdict == "ALLOW")
    assert decision.surroundings.registries == lists


def test_registry_that_was_not_asked_is_not_loaded() -> None:
    """A registry that nobody looked up is like one that is not loaded."""
    decision = decided(request(), EMPTY, registry_book(), registries=NO_REGISTRIES)
    assert decision.verdict == "UNAVAILABLE"


def test_denial_stands_without_a_registry() -> None:
    """A rule that denies on what is known denies, although a registry is missing."""
    check = {"kind": "list_absent", "params": {"registries": ["a_list"]}}
    rulebook = book(denying("NATIONAL_DNC", id="US-A", check=check), denying("SECTOR_BAN"))
    decision = decided(request(), EMPTY, rulebook, registries=NO_REGISTRIES)
    assert (decision.verdict, decision.reasons) == ("DENY", ("SECTOR_BAN",))


def test_warnings_are_recorded_and_deny_nothing() -> None:
    """A rule that only warns leaves its line in the trace."""
    on_fail = {"effect": "warn", "reason": "REGISTRATION_MISSING"}
    decision = decided(request(), EMPTY, book(rule(on_fail=on_fail)))
    assert decision.allowed
    assert [(line.outcome, line.reason) for line in decision.outcomes] == [
        ("WARN", "REGISTRATION_MISSING")
    ]


def test_exemptions_save_in_their_profiles() -> None:
    """An exemption counts in the profiles that it names, and is in the trace."""
    unless = [
        {
            "code": "PERMISSION",
            "when": {"consent": {"kinds": ["express"]}},
            "profiles": ["statutory"],
        }
    ]
    rulebook = book(rule(unless=unless))
    assert not decided(request(), grants("EXPRESS"), rulebook).allowed
    decision = decided(request(profile="STATUTORY"), grants("EXPRESS"), rulebook)
    assert [line.exemption for line in decision.outcomes] == ["PERMISSION"]
    assert decision.allowed
    revoked = merge(grants("EXPRESS"), withdrawal())
    assert not decided(request(profile="STATUTORY"), revoked, rulebook).allowed
    assert not decided(request(profile="UNKNOWN"), grants("EXPRESS"), rulebook).allowed


@pytest.mark.parametrize(
    ("applies", "given", "applicable"),
    [
        ({"purpose": ["marketing"]}, {}, True),
        ({"purpose": ["debt"]}, {}, False),
        ({"purpose": ["debt"]}, {"purpose": "UNKNOWN"}, True),
        ({"mode": ["ai_voice"]}, {}, False),
        ({"dial": ["atds", "manual"]}, {}, True),
        ({"dial": ["atds"]}, {"dial_mode": "UNKNOWN"}, True),
        ({"profile": ["statutory"]}, {}, False),
        ({"party": "business"}, {}, False),
        ({"party": "business"}, {"party": "BUSINESS"}, True),
        ({"party": "consumer"}, {"party": "UNKNOWN"}, True),
        ({"line": ["landline"]}, {}, False),
        ([{"line": ["landline"]}, {"purpose": ["marketing"]}], {}, True),
        ([{"line": ["landline"]}, {"party": "consumer"}], {}, True),
    ],
)
def test_scopes(applies: Any, given: dict[str, str], applicable: bool) -> None:
    """A rule is for a call if all named parts of any one of its scopes fit."""
    decision = decided(request(**given), EMPTY, book(rule(applies_when=applies)))
    assert decision.allowed is not applicable
    assert len(decision.outcomes) == int(applicable)


def test_consent_grows_old_where_a_rule_says_so() -> None:
    """A rule may bound the age of a consent, counted from its signature."""
    params = {"kinds": ["opt_in"], "max_age_days": 730}
    rulebook = book(denying("CONSENT_OPTIN_MISSING", check={"kind": "consent", "params": params}))
    old = grants("OPT_IN", NOW - 100 * DAY, signed_at=NOW - 730 * DAY)
    assert decided(request(), old, rulebook).reason == "CONSENT_EXPIRED"
    assert decided(request(), old, rulebook, NOW - 1).allowed


@pytest.mark.parametrize("reason", ["VIEW_STALE", "VIEW_UNLOADED"])
def test_no_answer_is_neither_yes_nor_no(reason: str) -> None:
    """Without a usable state the answer is unavailable, with its reason and no rule."""
    decision = unavailable(request(), reason, packaged_rulebook(), NOW)
    assert (decision.verdict, decision.reasons) == ("UNAVAILABLE", (reason,))
    assert not decision.allowed
    assert decision.rule is None
    with pytest.raises(ValueError, match="QUIET_HOURS"):
        unavailable(request(), "QUIET_HOURS", packaged_rulebook(), NOW)


def test_allowed_until_the_consent_ends() -> None:
    """A permit may last until the first instant at which a rule denies."""
    ends_at = NOW + 30_000_000
    state = grants("PEWC", expires_at=ends_at)
    decision = decided(request(call_mode="PRERECORDED"), state)
    rulebook = packaged_rulebook()
    assert allowed_until(decision, state, rulebook, NOW + 60_000_000) == ends_at
    assert allowed_until(decision, state, rulebook, NOW + 20_000_000) == NOW + 20_000_000
    live = decided(request(), state)
    assert allowed_until(live, state, rulebook, NOW + 60_000_000) == NOW + 60_000_000


def test_allowed_until_the_only_consent_ends() -> None:
    """The end of a consent is found by the rule that needs it, also by age."""
    params = {"kinds": ["opt_in"], "max_age_days": 730}
    rulebook = book(denying("CONSENT_OPTIN_MISSING", check={"kind": "consent", "params": params}))
    state = grants("OPT_IN", NOW - 730 * DAY + 1_000_000)
    decision = decided(request(), state, rulebook)
    assert decision.allowed
    assert allowed_until(decision, state, rulebook, NOW + DAY) == NOW + 1_000_000


def test_allowed_until_the_newer_consent_ends() -> None:
    """A withdrawal that a newer consent lifted stands again where that consent ends."""
    params = {"fact": "not_withdrawn", "lifted_by": ["express"]}
    rulebook = book(denying("CONSENT_REVOKED", check={"kind": "fact", "params": params}))
    agreed = grants("EXPRESS", NOW - 1, expires_at=NOW + 1_000_000)
    state = merge(withdrawal(NOW - DAY), agreed)
    decision = decided(request(), state, rulebook)
    assert decision.allowed
    assert allowed_until(decision, state, rulebook, NOW + DAY) == NOW + 1_000_000


def test_allowed_until_a_law_begins() -> None:
    """A permit ends where a rule that denies comes into force."""
    rulebook = book(rule(effective={"from": "2026-11-24", "to": None}))
    midnight = (parse_date("2026-11-24") * 24 + 6) * 3_600_000_000
    decision = decided(request(), EMPTY, rulebook, midnight - 10_000_000)
    assert allowed_until(decision, EMPTY, rulebook, midnight + 50_000_000) == midnight


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"seller_id": ""}, "seller_id"),
        ({"seller_id": "*"}, "seller_id"),
        ({"seller_id": "test:acme"}, "seller_id"),
        ({"purpose": "SELLING"}, "purpose"),
        ({"call_mode": "live"}, "call_mode"),
        ({"dial_mode": ""}, "dial_mode"),
        ({"party": "*"}, "party"),
        ({"profile": "LAX"}, "profile"),
        ({"sector": "*"}, "sector"),
        ({"message_class": "*"}, "message_class"),
        ({"states": ("TX", "Texas")}, "states"),
        ({"states": ("US-tx",)}, "states"),
        ({"zones": ("Mars/Phobos",)}, "zones"),
        ({"states": ("US",) * (CANDIDATES_MAX + 1)}, "states"),
        ({"counties": ("US-NY/Erie",) * (CANDIDATES_MAX + 1)}, "counties"),
    ],
)
def test_requests_that_make_no_sense_are_rejected(given: dict[str, Any], field: str) -> None:
    """A request that can't be decided about is refused with its field and a remedy."""
    with pytest.raises(Rejected) as caught:
        request(**given)
    assert caught.value.field == field
    assert caught.value.remedy


def test_least_request_is_read_strictly() -> None:
    """What is not stated in a request is unknown, and the profile is strict."""
    least = CallRequest("acme", "MARKETING", "LIVE")
    assert (least.dial_mode, least.party, least.profile) == ("UNKNOWN", "UNKNOWN", "STRICT")
    assert decided(least, EMPTY).reason == "DATA_MISSING"


def test_zones_come_from_the_packaged_data() -> None:
    """Zone data is that of the package of this release, with a version, and unknown names fail."""
    assert tzdata_version()[:2] == "20"
    assert "America/New_York" in zone_names()
    with pytest.raises(KeyError):
        zone("../../etc/localtime")


@dataclass(frozen=True, slots=True)
class Asks:
    """A check of a fact that nobody has."""

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Miss it."""
        return Finding(Result.MISSING, (("wanted", None),))

    def edges(self, facts: CallFacts, after: int, until: int) -> tuple[int, ...]:
        """Time brings nothing."""
        return ()


@pytest.mark.parametrize(
    ("on_missing", "effect", "outcome", "reason"),
    [
        ("deny", "deny", "DENY", "DATA_MISSING"),
        ("strictest", "deny", "DENY", "QUIET_HOURS"),
        ("ignore", "deny", "NOT_APPLICABLE", None),
        ("deny", "oblige", "DENY", "DATA_MISSING"),
        ("strictest", "oblige", "OBLIGE", "END_CALL_10S"),
        ("strictest", "warn", "WARN", "QUIET_HOURS"),
    ],
)
def test_missing_facts(on_missing: str, effect: str, outcome: str, reason: str | None) -> None:
    """A missing fact denies, takes the strictest reading or is let go, as the rule says."""
    code = "END_CALL_10S" if effect == "oblige" else "QUIET_HOURS"
    on_fail = {"effect": effect, "reason": code, "next": "window"}
    rulebook = book(rule(on_missing=on_missing, on_fail=on_fail))
    asking = replace(rulebook, rules=(replace(rulebook.rules[0], check=Asks()),))
    decision = decided(request(), EMPTY, asking)
    assert [(line.outcome, line.reason) for line in decision.outcomes] == [(outcome, reason)]
    assert decision.allowed is (outcome != "DENY")
    if reason == "DATA_MISSING":
        assert decision.next_allowed == NextAllowed("on_event")


def test_revisions_are_judged_in_their_own_zones() -> None:
    """On the night of a change each revision judges the candidate zones in which it is in force."""
    rulebook = book(
        rule(effective={"from": "2020-01-01", "to": "2026-11-23"}),
        rule(rev=2, effective={"from": "2026-11-24", "to": None}),
    )
    seen: dict[int, tuple[str, ...]] = {}

    @dataclass(frozen=True, slots=True)
    class Notes(Asks):
        rev: int

        def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
            seen[self.rev] = zones
            return Finding(Result.HOLDS)

    noting = replace(
        rulebook, rules=tuple(replace(row, check=Notes(row.rev)) for row in rulebook.rules)
    )
    asked = request(zones=("America/Chicago", "America/New_York"))
    between = parse_instant("2026-11-24T05:30:00Z")  # 00:30 in New York, 23:30 in Chicago
    assert decided(asked, EMPTY, noting, between).allowed
    assert seen == {1: ("America/Chicago",), 2: ("America/New_York",)}
