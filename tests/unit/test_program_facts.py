"""Facts of the number and of the seller's program."""

from __future__ import annotations

from typing import Any

import pytest

from consent.call import CallerId, Program, Registration
from consent.decision import Decision, NextAllowed, allowed_until
from consent.instants import parse_date, parse_instant
from consent.rulebook import Rulebook
from consent.state import EMPTY, SubjectState, merge
from consent.state_entries import LastOutcome, Reassignment
from tests.decisions import (
    DAY,
    NOW,
    SELLER,
    attributes,
    book,
    decided,
    grants,
    request,
    rule,
)

HOUR = 3_600_000_000
TODAY = NOW // DAY


def fact(name: str, reason: str = "SECTOR_BAN", **params: Any) -> dict[str, Any]:
    """A row that asks for a fact."""
    given = {name: params.pop(name) for name in ("id", "jurisdiction", "unless") if name in params}
    on_fail = {"effect": "deny", "reason": reason, "next": params.pop("next", "on_event")}
    check = {"kind": "fact", "params": {"fact": name} | params}
    return rule(check=check, on_fail=on_fail, **given)


def call(row: dict[str, Any], state: SubjectState = EMPTY, **given: Any) -> Decision:
    """A call under that row alone."""
    around = {name: given.pop(name) for name in ("program",) if name in given}
    at = given.pop("at", NOW)
    return decided(request(**given), state, book(row), at, **around)


EVERYWHERE = {"country": "*", "subdivision": None, "match": ["address"]}


@pytest.mark.parametrize(
    ("states", "zones", "known"),
    [
        (("US-TX",), ("America/Chicago",), True),
        ((), ("America/Chicago",), False),
        (("US-TX",), (), False),
        ((), (), False),
    ],
)
def test_place_is_known(states: tuple[str, ...], zones: tuple[str, ...], known: bool) -> None:
    """Both a jurisdiction and a zone must be known."""
    row = fact("place_known", jurisdiction=EVERYWHERE)
    assert call(row, states=states, zones=zones).allowed is known


def test_country_alone_is_no_place_where_its_states_have_law() -> None:
    """Where a state has rows of its own, knowing the country is not knowing the law."""
    oklahoma = {"country": "US", "subdivision": "OK", "match": ["address"]}
    place = fact("place_known", jurisdiction=EVERYWHERE)
    divided = book(place, rule(id="US-OK-TEST", jurisdiction=oklahoma))
    assert not decided(request(states=("US",)), EMPTY, divided).allowed
    assert decided(request(states=("US-TX",)), EMPTY, divided).allowed
    assert decided(request(states=("GB",)), EMPTY, divided).allowed
    assert not decided(request(states=("GB", "US")), EMPTY, divided).allowed
    assert decided(request(states=("US",)), EMPTY, book(place)).allowed


def test_protected_numbers() -> None:
    """A number that is tagged as one of these is not called."""
    row = fact(
        "not_tagged", "PROTECTED_LINE", tags=["emergency_line", "health_facility"], next="never"
    )
    assert call(row).allowed
    assert call(row, attributes(tags=("LITIGATOR",))).allowed
    decision = call(row, attributes(tags=("HEALTH_FACILITY", "LITIGATOR")))
    assert (decision.reason, decision.next_allowed) == ("PROTECTED_LINE", NextAllowed("never"))
    assert call(row, attributes(tags=("EMERGENCY_LINE",)), test=True).allowed


def test_silence_after_an_abandoned_call() -> None:
    """An abandoned call buys 72 hours, to the microsecond, of this seller's calls."""
    on = {"outcome": "abandoned", "hours": 72, "next": "cap_expiry"}
    row = fact("no_outcome_within", "ABANDON_COOLDOWN_72H", **on)

    def ended(ago: int, seller: str = SELLER, word: str = "ABANDONED") -> SubjectState:
        return SubjectState(outcomes={(seller, word): LastOutcome(NOW - ago, "call")})

    denied = call(row, ended(HOUR))
    assert denied.next_allowed == NextAllowed("at", NOW + 71 * HOUR)
    assert call(row, ended(72 * HOUR)).allowed
    assert not call(row, ended(72 * HOUR - 1)).allowed
    assert call(row, ended(HOUR, "globex")).allowed
    assert call(row, ended(HOUR, word="ANSWERED_LIVE")).allowed
    assert not call(row, ended(HOUR, "*")).allowed


REASSIGNED: dict[str, Any] = {
    "max_age_days": 31,
    "certain_modes": ["prerecorded", "artificial", "ai_voice"],
    "if_relied_on": {
        "profile": ["statutory"],
        "purpose": ["informational", "transactional", "survey", "debt"],
    },
}


def answer(word: str, at: int = NOW - DAY, seller: str = SELLER) -> SubjectState:
    """An answer about a reassignment."""
    return SubjectState(reassignments={seller: Reassignment(at, "rnd", word, TODAY - 100)})


def relying(**params: Any) -> Rulebook:
    """A rulebook with a rule that lets a call pass by a consent, and one about reassignment."""
    needs = {"kind": "consent", "params": {"kinds": ["pewc"]}}
    on_fail = {"effect": "deny", "reason": "CONSENT_PEWC_MISSING", "next": "on_event"}
    modes = ["prerecorded", "artificial", "ai_voice"]
    return book(
        fact("not_reassigned", "RND_REASSIGNED", id="US-A-RND", **REASSIGNED | params),
        rule(id="US-B-PEWC", check=needs, on_fail=on_fail, applies_when={"mode": modes}),
    )


@pytest.mark.parametrize(
    ("given", "state", "reason"),
    [
        ({}, EMPTY, None),
        ({}, answer("NO"), None),
        ({}, answer("YES"), "RND_REASSIGNED"),
        ({"profile": "STATUTORY"}, answer("YES"), None),
        ({"profile": "STATUTORY", "call_mode": "AI_VOICE"}, answer("YES"), "RND_REASSIGNED"),
        ({"purpose": "DEBT"}, answer("YES"), None),
        ({"purpose": "DEBT", "call_mode": "AI_VOICE"}, answer("YES"), "RND_REASSIGNED"),
        ({}, answer("NO_DATA"), None),
        ({"call_mode": "AI_VOICE"}, answer("NO_DATA"), "RND_NO_DATA"),
        ({"call_mode": "AI_VOICE"}, answer("NO"), None),
        ({"call_mode": "AI_VOICE"}, answer("NO", NOW - 40 * DAY), "RND_STALE"),
        ({}, answer("NO", NOW - 40 * DAY), None),
        ({"call_mode": "AI_VOICE"}, EMPTY, None),
        ({}, answer("YES", seller="globex"), None),
        ({}, answer("YES", NOW + 5), "RND_REASSIGNED"),
    ],
)
def test_reassigned_numbers(given: dict[str, Any], state: SubjectState, reason: str | None) -> None:
    """YES denies, elsewhere only where something is relied on; age matters where it is certain."""
    agreed = grants("PEWC", purposes=("MARKETING", "DEBT"))
    decision = decided(request(**given), merge(agreed, state), relying())
    assert decision.reason == reason
    assert [line.rule.id for line in decision.outcomes[:1]] == ["US-A-RND"]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (EMPTY, "RND_QUERY_MISSING"),
        (answer("NO", NOW + 5), "RND_QUERY_MISSING"),
        (answer("NO_DATA"), "RND_NO_DATA"),
        (answer("NO"), None),
        (answer("NO", parse_instant("2026-10-23T06:00:00Z")), None),
        (answer("NO", parse_instant("2026-10-23T04:59:59Z")), "RND_STALE"),
        (answer("YES"), "RND_REASSIGNED"),
    ],
)
def test_mandatory_query(state: SubjectState, reason: str | None) -> None:
    """Where the query is mandatory there must be an answer, certain and at most 31 days old."""
    decision = decided(request(), state, relying(mandatory=True))
    assert decision.reason == reason


def test_answer_grows_old() -> None:
    """A permit ends at the midnight after the answer's last day."""
    state = answer("NO", parse_instant("2026-10-23T12:00:00Z"))
    decision = decided(request(), state, relying(mandatory=True))
    ends = allowed_until(decision, state, relying(mandatory=True), NOW + 2 * DAY)
    assert ends == parse_instant("2026-11-24T06:00:00Z")


TEXAS = {"country": "US", "subdivision": "TX", "match": ["address"]}


def filed(**given: Any) -> Program:
    """A program with one registration in Texas."""
    fields: dict[str, Any] = {
        "registration_id": "r-1",
        "jurisdiction": "US-TX",
        "kind": "TELEMARKETER",
        "valid_from": TODAY - 100,
    }
    return Program(registrations=(Registration(**fields | given),))


@pytest.mark.parametrize(
    ("program", "params", "reason"),
    [
        (filed(), {}, None),
        (filed(), {"kinds": ["telemarketer"]}, None),
        (filed(), {"kinds": ["bond"]}, "REGISTRATION_MISSING"),
        (filed(), {"kinds": ["telemarketer", "bond"]}, "REGISTRATION_MISSING"),
        (filed(jurisdiction="US"), {}, "REGISTRATION_MISSING"),
        (filed(jurisdiction="US-OK"), {}, "REGISTRATION_MISSING"),
        (filed(valid_from=TODAY), {}, None),
        (filed(valid_from=TODAY + 1), {}, "REGISTRATION_MISSING"),
        (filed(valid_until=TODAY), {}, None),
        (filed(valid_until=TODAY - 1), {}, "REGISTRATION_MISSING"),
        (filed(campaign_id="spring"), {}, None),
        (filed(campaign_id="autumn"), {}, "REGISTRATION_MISSING"),
        (filed(area="512"), {}, "REGISTRATION_MISSING"),
        (Program(registrations=()), {}, "REGISTRATION_MISSING"),
        (Program(), {}, "DATA_MISSING"),
    ],
)
def test_registrations(program: Program, params: dict[str, Any], reason: str | None) -> None:
    """Each kind must be on file in the rule's own state, on the day, for the campaign."""
    row = fact("registered", "REGISTRATION_MISSING", jurisdiction=TEXAS, **params)
    assert call(row, program=program).reason == reason


def test_registrations_of_countries() -> None:
    """A country's rule wants a registration of the country, of each one that may be meant."""
    anywhere = {"country": "*", "subdivision": None, "match": ["address"]}
    row = fact("registered", "REGISTRATION_MISSING", jurisdiction=anywhere)
    assert call(row, program=filed(jurisdiction="US")).allowed
    assert not call(row, program=filed()).allowed
    two = {"states": ("US-TX", "CA-ON")}
    assert not call(row, program=filed(jurisdiction="US"), **two).allowed


def test_registration_runs_out_at_midnight() -> None:
    """A permit ends with the last day of a registration."""
    row = fact("registered", "REGISTRATION_MISSING", jurisdiction=TEXAS)
    decision = call(row, program=filed(valid_until=TODAY))
    ends = allowed_until(decision, EMPTY, book(row), NOW + 2 * DAY)
    assert ends == parse_instant("2026-11-24T06:00:00Z")


def shown(**given: Any) -> Program:
    """A program that may show the request's number."""
    fields: dict[str, Any] = {
        "authorisation_id": "a-1",
        "number": "+15125550199",
        "valid_from_at": NOW - DAY,
    }
    return Program(caller_ids=(CallerId(**fields | given),))


@pytest.mark.parametrize(
    ("program", "params", "reason"),
    [
        (shown(), {}, None),
        (shown(number="+15125550198"), {}, "CALLER_ID_INVALID"),
        (shown(valid_from_at=NOW), {}, None),
        (shown(valid_from_at=NOW + 1), {}, "CALLER_ID_INVALID"),
        (shown(valid_until_at=NOW), {}, "CALLER_ID_INVALID"),
        (shown(valid_until_at=NOW + 1), {}, None),
        (shown(), {"answers_opt_outs": True}, "CALLER_ID_INVALID"),
        (shown(answers_opt_outs=True), {"answers_opt_outs": True}, None),
        (Program(caller_ids=()), {}, "CALLER_ID_INVALID"),
        (Program(), {}, "DATA_MISSING"),
    ],
)
def test_caller_ids(program: Program, params: dict[str, Any], reason: str | None) -> None:
    """The number to be shown is one that the seller may show at that instant."""
    row = fact("caller_id_authorised", "CALLER_ID_INVALID", **params)
    assert call(row, program=program).reason == reason
    assert call(row, program=program, caller_id_number=None).reason == "DATA_MISSING"


def test_permit_ends_with_the_right_to_show_the_number() -> None:
    """A permit ends where the authorisation does."""
    row = fact("caller_id_authorised", "CALLER_ID_INVALID")
    decision = call(row, program=shown(valid_until_at=NOW + 1_000_000))
    assert allowed_until(decision, EMPTY, book(row), NOW + DAY) == NOW + 1_000_000


def test_kinds_of_numbers_to_show() -> None:
    """A number may have to be of another kind than mobile, or to begin in some way."""
    row = fact("caller_id_not_mobile", "CALLER_ID_INVALID")
    assert call(row, program=shown(number_kind="geographic")).allowed
    assert call(row, program=shown(number_kind="mobile")).reason == "CALLER_ID_INVALID"
    assert call(row, program=shown()).reason == "DATA_MISSING"
    prefix = fact("caller_id_begins", "CALLER_ID_INVALID", prefixes=["+34400", "+1512"])
    assert call(prefix).allowed
    assert call(prefix, caller_id_number="+34911").reason == "CALLER_ID_INVALID"
    assert call(prefix, caller_id_number=None).reason == "DATA_MISSING"


@pytest.mark.parametrize(
    ("seconds", "rings", "reason"),
    [
        (15, 0, None),
        (14, 0, "RING_FLOOR"),
        (0, 4, None),
        (14, 3, "RING_FLOOR"),
        (14, 4, None),
        (0, 0, "DATA_MISSING"),
    ],
)
def test_ringing(seconds: int, rings: int, reason: str | None) -> None:
    """It must ring for fifteen seconds or four times; what is not declared is missing."""
    row = fact("ring_floor", "RING_FLOOR", seconds=15, rings=4)
    program = Program(ring_seconds_min=seconds, ring_count_min=rings)
    assert call(row, program=program).reason == reason


def test_ringing_by_seconds_alone() -> None:
    """Where only seconds count, rings don't."""
    row = fact("ring_floor", "RING_FLOOR", seconds=15)
    assert call(row, program=Program(ring_count_min=9)).reason == "RING_FLOOR"


@pytest.mark.parametrize("name", ["recording_notice_available", "free_to_recipient"])
@pytest.mark.parametrize(
    ("stated", "reason"), [(True, None), (False, "SECTOR_BAN"), (None, "DATA_MISSING")]
)
def test_declarations(name: str, stated: bool | None, reason: str | None) -> None:
    """What the campaign declares holds or fails; what it does not is missing."""
    assert call(fact(name), program=Program(**{name: stated})).reason == reason


def test_banned_sectors() -> None:
    """A branch is banned if request or campaign states it; an unknown one is missing."""
    row = fact("sector_not", sectors=["energy_renovation"])
    assert call(row).allowed
    assert call(row, sector="ENERGY_RENOVATION").reason == "SECTOR_BAN"
    assert call(row, program=Program(sectors=("ENERGY_RENOVATION",))).reason == "SECTOR_BAN"
    assert call(row, sector="UNKNOWN").reason == "DATA_MISSING"
    assert call(row, sector="UNKNOWN", program=Program(sectors=("OTHER",))).allowed


def test_scopes_of_sectors_and_classes() -> None:
    """A row may be for some sectors and classes of messages; what is unknown fits always."""
    for part, field in (("sector", "sector"), ("message_class", "message_class")):
        words = {"sector": ["charity"], "message_class": ["nonprofit"]}
        rulebook = book(rule(applies_when={part: words[part]}))
        assert decided(request(), EMPTY, rulebook).allowed
        assert not decided(request(**{field: words[part][0].upper()}), EMPTY, rulebook).allowed
        assert not decided(request(**{field: "UNKNOWN"}), EMPTY, rulebook).allowed
    declared = Program(sectors=("CHARITY",))
    rulebook = book(rule(applies_when={"sector": ["charity"]}))
    assert not decided(request(), EMPTY, rulebook, program=declared).allowed


def test_days_are_local() -> None:
    """Dates of registrations are those where the called party is."""
    row = fact("registered", "REGISTRATION_MISSING", jurisdiction=TEXAS)
    program = filed(valid_until=parse_date("2026-11-23"))
    late = parse_instant("2026-11-24T05:59:59Z")
    assert call(row, program=program, at=late).allowed
    ahead = ("America/Chicago", "America/New_York")
    assert not call(row, program=program, at=late, zones=ahead).allowed
