"""Hours and weekdays, by worked examples."""

from __future__ import annotations

from typing import Any

import pytest

from consent.call import Calendar, Holiday
from consent.decision import NextAllowed, allowed_until
from consent.instants import parse_date, parse_instant
from consent.rulebook import Rulebook
from consent.state import EMPTY
from tests.decisions import book, decided, request, rule

NEW_YORK: dict[str, Any] = {"states": ("US-NY",), "zones": ("America/New_York",)}
SPLIT: dict[str, Any] = {"states": ("US-FL",), "zones": ("America/New_York", "America/Chicago")}
SECOND = 1_000_000


def hours(days: dict[str, Any], **given: Any) -> dict[str, Any]:
    """A row that asks for these hours."""
    params = {"days": days} | given.pop("params", {})
    on_fail = {"effect": "deny", "reason": "QUIET_HOURS", "next": "window"}
    fields: dict[str, Any] = {
        "check": {"kind": "window", "params": params},
        "on_fail": on_fail,
        "on_missing": "strictest",
    }
    return rule(**(fields | given))


OFFICE = {"mon-sat": [["09:00", "19:00"]], "sun": []}


def verdicts(rulebook: Rulebook, given: dict[str, Any], *instants: str) -> list[bool]:
    """Whether a call is allowed at each instant."""
    asked = request(**given)
    return [decided(asked, EMPTY, rulebook, parse_instant(at)).allowed for at in instants]


def test_hours_begin_inclusive_and_end_exclusive() -> None:
    """Allowed from 09:00:00 to 18:59:59.999999, by the clock of the called party."""
    rulebook = book(hours(OFFICE))
    times = (
        "2026-11-23T13:59:59.999999Z",
        "2026-11-23T14:00:00Z",
        "2026-11-23T23:59:59.999999Z",
        "2026-11-24T00:00:00Z",
    )
    assert verdicts(rulebook, NEW_YORK, *times) == [False, True, True, False]


def test_every_candidate_zone_must_be_open() -> None:
    """Where the area code lies in two zones the call waits for both, and ends with the first."""
    times = (
        "2026-11-23T14:30:00Z",
        "2026-11-23T15:00:00Z",
        "2026-11-23T23:59:59Z",
        "2026-11-24T00:00:00Z",
    )
    assert verdicts(book(hours(OFFICE)), SPLIT, *times) == [False, True, True, False]


def test_closed_day_has_a_reason_of_its_own() -> None:
    """On a weekday without hours the reason is that of the closed day, at other hours its own."""
    rulebook = book(hours(OFFICE, params={"closed_reason": "DAY_BANNED"}))
    sunday = decided(request(**NEW_YORK), EMPTY, rulebook, parse_instant("2026-11-22T17:00:00Z"))
    assert (sunday.reason, sunday.next_allowed) == (
        "DAY_BANNED",
        NextAllowed("at", parse_instant("2026-11-23T14:00:00Z")),
    )
    night = decided(request(**NEW_YORK), EMPTY, rulebook, parse_instant("2026-11-24T03:00:00Z"))
    assert night.reason == "QUIET_HOURS"
    # Sunday already in New York, still Saturday evening in Chicago.
    midnight = decided(request(**SPLIT), EMPTY, rulebook, parse_instant("2026-11-22T05:30:00Z"))
    assert midnight.reason == "DAY_BANNED"


def test_further_clock_must_be_inside_too() -> None:
    """A window in standard time binds beside the local clock, so that summer evenings end early."""
    rulebook = book(hours({"mon-sun": [["08:00", "20:00"]]}, params={"also_in": ["Etc/GMT+6"]}))
    chicago = {"states": ("US-MS",), "zones": ("America/Chicago",)}
    summer = ("2026-07-01T13:00:00Z", "2026-07-01T14:00:00Z", "2026-07-02T00:59:59Z")
    assert verdicts(rulebook, chicago, *summer) == [False, True, True]
    assert verdicts(rulebook, chicago, "2026-07-02T01:00:00Z") == [False]
    decision = decided(request(**chicago), EMPTY, rulebook, parse_instant(summer[0]))
    assert decision.outcomes[0].facts == (
        ("America/Chicago", "Wed 2026-07-01 08:00:00"),
        ("Etc/GMT+6", "Wed 2026-07-01 07:00:00"),
    )


def test_several_intervals_and_midnight() -> None:
    """A break at noon closes, and 24:00 is the end of the day."""
    rulebook = book(hours({"mon-sun": [["10:00", "13:00"], ["14:00", "24:00"]]}))
    paris = {"states": ("US",), "zones": ("Europe/Paris",)}
    times = ("11:59:59", "12:00:00", "12:59:59", "13:00:00", "22:59:59", "23:00:00")
    instants = [f"2026-11-24T{time}Z" for time in times]
    assert verdicts(rulebook, paris, *instants) == [True, False, False, True, True, False]


def test_unknown_zone_is_read_strictly() -> None:
    """Without a zone nobody knows the hour: the rule denies, or says that facts are missing."""
    asked = request(zones=())
    assert decided(asked, EMPTY, book(hours(OFFICE))).reason == "QUIET_HOURS"
    assert decided(asked, EMPTY, book(hours(OFFICE, on_missing="deny"))).reason == "DATA_MISSING"


@pytest.mark.parametrize(
    ("zone", "day", "opens", "closes"),
    [
        ("America/New_York", "2026-11-01", "2026-11-01T13:00:00Z", "2026-11-02T01:00:00Z"),
        ("America/New_York", "2027-03-14", "2027-03-14T12:00:00Z", "2027-03-15T00:00:00Z"),
        ("America/Phoenix", "2027-03-14", "2027-03-14T15:00:00Z", "2027-03-15T03:00:00Z"),
    ],
)
def test_days_on_which_clocks_are_changed(zone: str, day: str, opens: str, closes: str) -> None:
    """Hours are those of the wall clock, also on the day on which it is changed."""
    rulebook = book(hours({"mon-sun": [["08:00", "20:00"]]}))
    asked = request(zones=(zone,))
    begins, ends = parse_instant(opens), parse_instant(closes)
    for at, allowed in ((begins - 1, False), (begins, True), (ends - 1, True), (ends, False)):
        assert decided(asked, EMPTY, rulebook, at).allowed is allowed
    before = decided(asked, EMPTY, rulebook, begins - 5 * 3_600 * SECOND)
    assert before.next_allowed == NextAllowed("at", begins)
    decision = decided(asked, EMPTY, rulebook, ends - 30 * SECOND)
    assert allowed_until(decision, EMPTY, rulebook, ends + 30 * SECOND) == ends


def test_clock_that_jumps_into_the_hours() -> None:
    """Hours that would begin in the hour that is left out begin when the clock has jumped."""
    rulebook = book(hours({"mon-sun": [["02:30", "03:30"]]}))
    asked = request(zones=("America/New_York",))
    jump = parse_instant("2027-03-14T07:00:00Z")
    assert not decided(asked, EMPTY, rulebook, jump - 1).allowed
    assert decided(asked, EMPTY, rulebook, jump).allowed
    waiting = decided(asked, EMPTY, rulebook, jump - 3_600 * SECOND)
    assert waiting.next_allowed == NextAllowed("at", jump)


def test_next_allowed_is_open_in_every_place() -> None:
    """The next instant is the first that every rule of every candidate state and zone allows."""
    florida = {"country": "US", "subdivision": "FL", "match": ["address"]}
    rulebook = book(
        hours({"mon-sun": [["08:00", "21:00"]]}, id="US-FED"),
        hours({"mon-sun": [["08:00", "20:00"]]}, id="US-FL", jurisdiction=florida),
    )
    asked = request(states=("US-FL", "US-CA"), zones=("America/New_York", "America/Los_Angeles"))
    decision = decided(asked, EMPTY, rulebook, parse_instant("2026-11-24T01:30:00Z"))
    assert decision.rule is not None
    assert decision.rule.id == "US-FL"
    assert decision.next_allowed == NextAllowed("at", parse_instant("2026-11-24T16:00:00Z"))


def test_next_allowed_follows_the_revision_of_that_day() -> None:
    """Hours that change at midnight are those that the next instant is looked for in."""
    rulebook = book(
        hours(
            {"mon-sun": [["08:00", "21:00"]]}, effective={"from": "2000-01-01", "to": "2026-10-17"}
        ),
        hours(OFFICE, rev=2, effective={"from": "2026-10-18", "to": None}),
    )
    evening = decided(request(**NEW_YORK), EMPTY, rulebook, parse_instant("2026-10-18T02:00:00Z"))
    # The 18th is a Sunday.
    assert evening.next_allowed == NextAllowed("at", parse_instant("2026-10-19T13:00:00Z"))
    assert verdicts(rulebook, NEW_YORK, "2026-10-18T00:30:00Z", "2026-10-20T00:30:00Z") == [
        True,
        False,
    ]


def test_banned_weekday() -> None:
    """A banned weekday is banned wherever it is that day already, or still."""
    on_fail = {"effect": "deny", "reason": "DAY_BANNED", "next": "window"}
    check = {"kind": "day_ban", "params": {"days": ["sun"]}}
    rulebook = book(rule(check=check, on_fail=on_fail))
    times = ("2026-11-22T04:59:59Z", "2026-11-22T05:00:00Z", "2026-11-23T05:59:59Z")
    assert verdicts(rulebook, SPLIT, *times) == [True, False, False]
    decision = decided(request(**SPLIT), EMPTY, rulebook, parse_instant(times[1]))
    assert decision.next_allowed == NextAllowed("at", parse_instant("2026-11-23T06:00:00Z"))


def test_other_hours_on_holidays() -> None:
    """On a holiday its own hours hold instead of those of the weekday."""
    params = {"on_holidays": {"declared": True, "hours": [["13:00", "21:00"]]}}
    rulebook = book(hours({"mon-sun": [["08:00", "21:00"]]}, params=params))
    day = Calendar(holidays=(Holiday("US-NY", parse_date("2026-11-24"), "Day of rest"),))
    asked, morning = request(**NEW_YORK), parse_instant("2026-11-24T15:00:00Z")
    assert decided(asked, EMPTY, rulebook, morning).allowed
    decision = decided(asked, EMPTY, rulebook, morning, calendar=day)
    assert decision.next_allowed == NextAllowed("at", parse_instant("2026-11-24T18:00:00Z"))
    night = decided(asked, EMPTY, rulebook, parse_instant("2026-11-24T04:00:00Z"), calendar=day)
    assert night.next_allowed == decision.next_allowed
