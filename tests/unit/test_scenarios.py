"""Scenario files: what each field of request and facts means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consent.instants import parse_date, parse_instant
from consent.rulebook import Rulebook
from consent.scenario_results import evaluate
from consent.yaml_source import SourceError
from tests.decisions import book, book_files, rule
from tests.scenarios import AT, GRANT, check_row, decision, denied, scenario

NOT_WITHDRAWN = check_row("fact", {"fact": "not_withdrawn", "lifted_by": ["pewc"]})
CONSENT = check_row("consent", {"kinds": ["pewc"]})
NOT_LISTED = check_row("list_absent", {"list_kinds": ["internal"]})
CAP = check_row("cap", {"max": 1, "hours": 24, "per": "subject_matter"})
NATIONAL = check_row("list_absent", {"registries": ["us_national_dnc"]})
FRESH = check_row("freshness", {"registries": ["us_national_dnc"], "max_age_days": 31})
STATE = check_row("list_absent", {"registries": ["us_ak_dnc"]})


def test_places_given_replace_those_of_the_number() -> None:
    """Given places stand alone; what is not given follows from the number."""
    given = scenario(states=["US-CA"], zones=["America/Los_Angeles"])
    assert given.request.states == ("US-CA",)
    assert given.request.zones == ("America/Los_Angeles",)
    derived = scenario(states=None, zones=None)
    assert derived.request.states == ("US-NY",)
    assert derived.request.zones == ("America/New_York",)
    assert scenario(states=["US-NY"], zones=None).request.zones == ("America/New_York",)


def test_an_explicit_nothing_stays_nothing() -> None:
    """`[]` is that nothing could be resolved, and not that nothing was said."""
    nothing = scenario(states=[], zones=[])
    assert nothing.request.states == () and nothing.request.zones == ()
    place = check_row("fact", {"fact": "place_known"})
    place["jurisdiction"] = {"country": "*", "subdivision": None, "match": ["address"]}
    assert denied(place, states=[], zones=[])
    assert denied(place, states=[])
    assert denied(place, zones=[])
    assert not denied(place)


@pytest.mark.parametrize("profile", ["strict", "STRICT", "Strict", None])
def test_profiles_in_any_case(profile: str | None) -> None:
    """Profiles are taken in any case, and strict is the default."""
    assert scenario(profile=profile).request.profile == "STRICT"
    assert scenario(profile="Statutory").request.profile == "STATUTORY"


def test_what_a_request_says_reaches_the_decision() -> None:
    """Each word of the request, and the instant, are what is decided about."""
    one = scenario(mode="AI_VOICE", dial="ATDS", party="BUSINESS", purpose="SURVEY")
    asked = one.request
    assert (asked.call_mode, asked.dial_mode, asked.party) == ("AI_VOICE", "ATDS", "BUSINESS")
    assert (asked.purpose, asked.seller_id, asked.campaign_id) == ("SURVEY", "acme", "spring")
    assert asked.subject_matter == "offer-1"
    assert decision(CONSENT, one).at == parse_instant(AT)
    assert scenario(dial=None, party=None).request.dial_mode == "MANUAL"


def test_what_a_request_does_not_say_is_ordinary() -> None:
    """No branch that a law names, advertising or a notice, no emergency."""
    asked = scenario().request
    assert (asked.sector, asked.message_class) == ("OTHER", "ADVERTISING")
    assert asked.emergency_purpose is False
    assert scenario(purpose="DEBT").request.message_class == "COMMERCIAL_WITHOUT_ADVERTISING"
    stated = scenario(message_class="NONPROFIT", sector="CHARITY", emergency_purpose=True).request
    assert (stated.sector, stated.message_class) == ("CHARITY", "NONPROFIT")
    assert stated.emergency_purpose is True


def test_known_at_leaves_out_rows_known_later() -> None:
    """A row whose text was collected later is not there; a date and an instant mean the same."""
    row = rule(known={"from": "2026-11-21", "to": None})
    assert denied(row)
    assert not denied(row, known_at="2026-11-20")
    assert not denied(row, known_at="2026-11-20T23:59:59Z")
    assert denied(row, known_at="2026-11-21")


def test_line_type() -> None:
    """The line of the number decides whether a row is for it; unknown may be any."""
    row = rule(applies_when={"line": ["landline"]})
    assert denied(row, {"line_type": "LANDLINE"})
    assert not denied(row, {"line_type": "MOBILE"})
    both = rule(applies_when={"line": ["landline", "unknown"]})
    assert denied(both, {"line_type": "UNKNOWN"}) and denied(both)


def test_lists_not_mentioned_are_fresh_and_do_not_hold_the_number() -> None:
    """Loaded, 5 days old, not a member."""
    found = decision(NATIONAL, scenario()).surroundings.registries.membership("us_national_dnc")
    assert found is not None and found.member is False
    assert found.version_date == parse_date("2026-11-19")
    assert not denied(NATIONAL) and not denied(FRESH)


def test_lists_by_level() -> None:
    """`national` and `state` are every list of that level."""
    assert denied(NATIONAL, {"registries": {"national": {"listed": True}}})
    files = book_files(STATE)
    files["lists.yaml"] = json.dumps(
        {
            "registries": [
                {"id": name, "jurisdiction": "US-AK", "level": "state", "title": "A list of a test"}
                for name in STATE["check"]["params"]["registries"]
            ]
        }
    )
    state = Rulebook.load(files)
    for level, verdict in (("state", "DENY"), ("national", "ALLOW")):
        listed = scenario({"registries": {level: {"listed": True}}})
        assert evaluate(listed, state).decision.verdict == verdict
    assert not denied(NATIONAL, {"registries": {"state": {"listed": True}}})


def test_a_list_by_its_id_goes_first() -> None:
    """What is said of one list is not overruled by what is said of its level."""
    registries = {"national": {"listed": True}, "us_national_dnc": {"listed": False}}
    assert not denied(NATIONAL, {"registries": registries})


def test_age_of_a_list() -> None:
    """31 days are fresh, 32 are not, and a list without a date is of no known age."""
    dated = lambda day: {"registries": {"national": {"version_date": day}}}  # noqa: E731
    assert not denied(FRESH, dated("2026-10-24"))
    assert denied(FRESH, dated("2026-10-23"))
    found = decision(FRESH, scenario(dated(None)))
    assert found.reason == "DATA_MISSING"


def test_date_of_a_listing() -> None:
    """`listed_on` reaches the rule that asks for it."""
    saved = {"listed_less_than": {"registry": "us_national_dnc", "days": 28}}
    unless = [{"code": "NEW", "when": saved, "profiles": ["strict"]}]
    row = check_row("list_absent", {"registries": ["us_national_dnc"]}, unless=unless)
    listed = lambda day: {"registries": {"national": {"listed": True, "listed_on": day}}}  # noqa: E731
    assert not denied(row, listed("2026-11-04"))
    assert denied(row, listed("2026-10-04"))


@pytest.mark.parametrize("given", [None, {"listed": None}])
def test_a_list_that_is_not_loaded(given: Any) -> None:
    """Null is a list without an answer: then there is none."""
    found = decision(NATIONAL, scenario({"registries": {"national": given}}))
    assert (found.verdict, found.reason) == ("UNAVAILABLE", "REGISTRY_UNLOADED")


def test_a_list_that_no_row_names() -> None:
    """A misspelt list is refused, with what was meant."""
    one = scenario({"registries": {"us_national_dcn": {"listed": True}}})
    with pytest.raises(SourceError, match="us_national_dnc"):
        evaluate(one, book(NATIONAL))


def test_a_grant_covers_what_it_names() -> None:
    """Kind, purpose, mode, seller and subject must fit; without purposes it grants nothing."""
    assert not denied(CONSENT, {"grants": [GRANT]})
    for other in (
        {"kind": "EXPRESS"},
        {"purposes": ["SURVEY"]},
        {"modes": ["PRERECORDED"]},
        {"seller": "other"},
        {"subject_matters": ["offer-2"]},
        {"granted_at": "2026-11-24T16:00:01Z"},
        {"expires_at": "2026-11-24T16:00:00Z"},
        {"purposes": []},
        {"modes": ["UNKNOWN"]},
    ):
        assert denied(CONSENT, {"grants": [GRANT | other]}), other
    assert denied(CONSENT, {"grants": [{k: v for k, v in GRANT.items() if k != "purposes"}]})


def test_reasons_of_a_grant_that_does_not_fit() -> None:
    """One that ran out, and one for something else, are told apart."""
    expired = {"grants": [GRANT | {"expires_at": "2026-10-01T00:00:00Z"}]}
    assert decision(CONSENT, scenario(expired)).reason == "CONSENT_EXPIRED"
    elsewhere = {"grants": [GRANT | {"purposes": ["SURVEY"]}]}
    assert decision(CONSENT, scenario(elsewhere)).reason == "CONSENT_SCOPE"


def test_signed_at_is_the_time_of_the_grant_unless_given() -> None:
    """The age of a consent counts from its signature."""
    row = check_row("consent", {"kinds": ["pewc"], "max_age_days": 730})
    old = GRANT | {"granted_at": "2024-06-01T15:00:00Z"}
    assert denied(row, {"grants": [old]})
    assert not denied(row, {"grants": [old | {"signed_at": "2026-06-01T15:00:00Z"}]})
    assert denied(row, {"grants": [GRANT | {"signed_at": "2024-06-01T15:00:00Z"}]})


@pytest.mark.parametrize(
    ("flag", "element"),
    [
        ("signature", "signature"),
        ("request_copy_sha256", "request_copy_sha256"),
        ("authorises_auto", "authorises_automated"),
        ("authorises_automated", "authorises_automated"),
        ("not_condition", "not_a_condition"),
        ("recording", "recording_sha256"),
        ("positive_act", "positive_act"),
        ("notice_sha256", "notice_sha256"),
        ("double_opt_in", "double_opt_in"),
    ],
)
def test_evidence_flags(flag: str, element: str) -> None:
    """A flag is the element that it names; one that is false or not there is missing."""
    row = check_row("consent", {"kinds": ["pewc"], "evidence_required": [element]})
    assert not denied(row, {"grants": [GRANT | {"evidence": {flag: True}}]})
    for lacking in ({}, {flag: False}, {flag: None}):
        facts = {"grants": [GRANT | {"evidence": lacking}]}
        assert decision(row, scenario(facts)).reason == "CONSENT_EVIDENCE_INCOMPLETE"


@pytest.mark.parametrize("name", ["seller_named", "number_named"])
def test_what_a_grant_names(name: str) -> None:
    """That seller and number are named are statements of the grant itself."""
    row = check_row("consent", {"kinds": ["pewc"], "evidence_required": [name]})
    assert not denied(row, {"grants": [GRANT | {name: True}]})
    assert denied(row, {"grants": [GRANT | {name: False}]})
    assert denied(row, {"grants": [GRANT]})


def test_evidence_that_nobody_knows() -> None:
    """A misspelt flag is refused: it would make a consent look incomplete."""
    with pytest.raises(SourceError, match=r"grants\.0\.evidence\.signatur: .* 'signature'"):
        scenario({"grants": [GRANT | {"evidence": {"signatur": True}}]})


@pytest.mark.parametrize(
    "scope",
    [
        {"scope": "*"},
        {"scope": "UNKNOWN"},
        {},
        {"scope": {}},
        {"scope": {"purposes": ["MARKETING"], "modes": ["LIVE"]}},
        {"scope": {"purposes": ["MARKETING"]}},
        {"purposes": ["MARKETING"], "modes": ["LIVE"]},
        {"purposes": "*", "modes": ["LIVE"]},
        {"purposes": ["UNKNOWN"], "modes": "*"},
        {"purposes": ["SURVEY", "*"], "modes": ["*"]},
        {"scope": "*", "seller": "*"},
    ],
)
def test_withdrawals_that_cover_the_call(scope: dict[str, Any]) -> None:
    """`*`, no scope, a scope that names the call, and one of every seller."""
    withdrawal = {"occurred_at": "2026-10-01T12:00:00Z", **scope}
    assert denied(NOT_WITHDRAWN, {"withdrawals": [withdrawal]})


@pytest.mark.parametrize(
    "scope",
    [
        {"scope": {"purposes": ["SURVEY"]}},
        {"scope": {"modes": ["PRERECORDED"]}},
        {"purposes": ["MARKETING"], "modes": ["AI_VOICE", "ARTIFICIAL"]},
        {"scope": "*", "seller": "other"},
        {"subject_matters": ["offer-2"]},
    ],
)
def test_withdrawals_that_do_not(scope: dict[str, Any]) -> None:
    """One of something else, or from another seller."""
    withdrawal = {"occurred_at": "2026-10-01T12:00:00Z", **scope}
    assert not denied(NOT_WITHDRAWN, {"withdrawals": [withdrawal]})


def test_a_newer_grant_lifts_a_withdrawal() -> None:
    """Not one of the same instant: at one instant the stricter wins."""
    withdrawal = {"occurred_at": "2026-10-01T12:00:00Z"}
    for granted_at, stands in (
        ("2026-10-01T12:00:00Z", True),
        ("2026-10-01T12:00:01Z", False),
        ("2026-09-01T12:00:00Z", True),
    ):
        facts = {"withdrawals": [withdrawal], "grants": [GRANT | {"granted_at": granted_at}]}
        assert denied(NOT_WITHDRAWN, facts) is stands


def test_internal_requests() -> None:
    """Of this seller, or of every seller; not of another one."""
    asked = {"requested_at": "2026-02-01T15:00:00Z"}
    assert denied(NOT_LISTED, {"internal_dnc": [asked]})
    assert denied(NOT_LISTED, {"internal_dnc": [asked | {"seller": "*"}]})
    assert not denied(NOT_LISTED, {"internal_dnc": [asked | {"seller": "other"}]})


def test_reported_listings_and_removals() -> None:
    """Entries of other lists, and that they were removed."""
    row = check_row("list_absent", {"list_kinds": ["litigator"]})
    entry = {"list_kind": "LITIGATOR", "at": "2026-02-01T15:00:00Z"}
    assert denied(row, {"listed": [entry]})
    removed = entry | {"at": "2026-03-01T15:00:00Z", "removed": True}
    assert not denied(row, {"listed": [entry, removed]})


def test_refusals() -> None:
    """A refusal of this subject, for so many days; without a subject it is of every one."""
    row = check_row("fact", {"fact": "no_refusal_within", "days": 60, "per": "subject_matter"})
    row["on_fail"] = {"effect": "deny", "reason": "REFUSAL_COOLDOWN", "next": "cap_expiry"}
    refused = {"at": "2026-09-25T16:00:01Z", "subject_matter": "offer-1"}
    assert denied(row, {"refusals": [refused]})
    assert not denied(row, {"refusals": [refused | {"at": "2026-09-25T16:00:00Z"}]})
    assert not denied(row, {"refusals": [refused | {"subject_matter": "offer-2"}]})
    assert not denied(row, {"refusals": [refused | {"seller": "other"}]})
    assert denied(row, {"refusals": [{"at": "2026-11-01T00:00:00Z"}]})


def exempt(when: dict[str, Any]) -> dict[str, Any]:
    """A row that denies every call, unless this condition saves it."""
    return rule(unless=[{"code": "SAVED", "when": when, "profiles": ["strict"]}])


def test_relationships() -> None:
    """Kind, date and seller of a relationship; its last day is included."""
    row = exempt({"relationship": {"kinds": ["purchase"], "days": 90}})
    bought = {"kind": "PURCHASE", "on": "2026-08-26"}
    assert not denied(row, {"relationships": [bought]})
    assert denied(row, {"relationships": [bought | {"on": "2026-08-25"}]})
    assert denied(row, {"relationships": [bought | {"kind": "INQUIRY"}]})
    assert denied(row, {"relationships": [bought | {"seller": "other"}]})
    other = {"kind": "PURCHASE", "on": "2026-01-01"}
    assert not denied(row, {"relationships": [bought, other]})
    assert not denied(row, {"relationships": [other, bought]})


@pytest.mark.parametrize(
    ("contract", "runs"),
    [
        ({"status": "ONGOING"}, True),
        ({"status": "ACTIVE", "on": "2026-11-24"}, True),
        ({}, False),
        ({"status": "UNKNOWN"}, False),
        ({"status": "ENDED", "on": "2026-01-01"}, False),
        ({"status": "EXPIRED", "on": "2026-01-01"}, False),
        ({"status": "ONGOING", "related_subject_matters": ["offer-2"]}, False),
        ({"status": "ONGOING", "seller": "other"}, False),
    ],
)
def test_contracts(contract: dict[str, Any], runs: bool) -> None:
    """A contract runs if it says so, and covers the subjects that it names; its date may lack."""
    stated = {"kind": "CONTRACT", "related_subject_matters": ["offer-1"], **contract}
    assert denied(exempt({"ongoing_contract": {}}), {"relationships": [stated]}) is not runs


def test_a_contract_that_ended() -> None:
    """Its clock runs from the end; without one, from the date that is stated."""
    row = exempt({"relationship": {"kinds": ["contract"], "months": 18}})
    ended = {"kind": "CONTRACT", "on": "2023-01-01", "status": "EXPIRED", "ended_on": "2025-05-24"}
    assert not denied(row, {"relationships": [ended]})
    assert denied(row, {"relationships": [ended | {"ended_on": "2025-05-23"}]})
    undated = {"kind": "CONTRACT", "on": "2025-05-24", "status": "TERMINATED"}
    assert not denied(row, {"relationships": [undated]})
    assert denied(row, {"relationships": [undated | {"on": "2025-05-23"}]})


def test_a_purchase_needs_its_date() -> None:
    """Without one there is nothing to count from."""
    with pytest.raises(SourceError, match=r"relationships\.0\.kind: .*Add 'on'"):
        scenario({"relationships": [{"kind": "PURCHASE"}]})


def test_attempts() -> None:
    """Attempts of this seller and subject count; one without a subject counts for every one."""
    attempt = {"at": "2026-11-24T12:00:00Z", "subject_matter": "offer-1", "mode": "LIVE"}
    assert denied(CAP, {"attempts": [attempt]})
    assert denied(CAP, {"attempts": [attempt | {"seller": "acme"}]})
    assert denied(CAP, {"attempts": [{"at": "2026-11-24T12:00:00Z"}]})
    assert not denied(CAP, {"attempts": [attempt | {"seller": "other"}]})
    assert not denied(CAP, {"attempts": [attempt | {"subject_matter": "offer-2"}]})
    assert not denied(CAP, {"attempts": [attempt | {"at": "2026-11-23T16:00:00Z"}]})
    by_mode = check_row("cap", {"max": 1, "hours": 24, "per": "seller", "modes": ["prerecorded"]})
    assert not denied(by_mode, {"attempts": [attempt]}, mode="PRERECORDED")
    recorded = attempt | {"mode": "PRERECORDED"}
    assert denied(by_mode, {"attempts": [recorded]}, mode="PRERECORDED")


def test_calls_to_linked_numbers_count() -> None:
    """Facts of a person's other numbers are facts of other states."""
    attempt = {"at": "2026-11-24T12:00:00Z", "subject_matter": "offer-1", "mode": "LIVE"}
    assert denied(CAP, {"linked": [{"attempts": [attempt]}]})
    found = decision(CAP, scenario({"linked": [{"attempts": [attempt]}, {}]}))
    assert len(found.surroundings.linked) == 2
