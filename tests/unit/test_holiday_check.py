"""Closed days: how calendars name them, counties, and declarations."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import holidays
import pytest

from consent.calendar_days import compile_calendar
from consent.call import Calendar, Emergency, Holiday
from consent.decision import Decision, NextAllowed
from consent.instants import date_text, parse_date, parse_instant
from consent.rulebook import Rulebook
from consent.state import EMPTY, SubjectState
from tests.decisions import attributes, book_files, decided, request, rule

THANKSGIVING = {"name": "Thanksgiving", "nth": 4, "weekday": "thu", "month": 11}
ALABAMA: dict[str, Any] = {"country": "US", "subdivision": "AL", "match": ["address"]}
NOON = "T18:00:00Z"


def days_of(year: int, *days: dict[str, Any], **calendar: Any) -> list[str]:
    """The closed days of a year, in order."""
    closed = compile_calendar({"title": "t", "days": list(days), **calendar})
    first = parse_date(f"{year}-01-01")
    return [date_text(day) for day in range(first, first + 366) if closed.on(day)]


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ({"on": "12-25"}, "2026-12-25"),
        (THANKSGIVING, "2026-11-26"),
        ({"last": "mon", "month": 5}, "2026-05-25"),
        ({"easter": -2}, "2026-04-03"),
        ({"easter": -47}, "2026-02-17"),
        ({"after": {"nth": 1, "weekday": "mon", "month": 11}, "days": 1}, "2026-11-03"),
        ({"after": {"nth": 4, "weekday": "thu", "month": 11}, "days": 1}, "2026-11-27"),
        ({"nth": 5, "weekday": "sun", "month": 11}, "2026-11-29"),
    ],
)
def test_ways_of_naming_a_day(day: dict[str, Any], expected: str) -> None:
    """Fixed dates, nth and last weekdays, days around Easter, days after another one."""
    assert days_of(2026, {"name": "x", **day}) == [expected]


def test_days_that_a_year_lacks() -> None:
    """A fifth Sunday, or 29 February, is closed in the years that have one."""
    assert days_of(2027, {"name": "x", "on": "02-29"}) == []
    assert days_of(2028, {"name": "x", "on": "02-29"}) == ["2028-02-29"]
    assert days_of(2026, {"name": "x", "nth": 5, "weekday": "fri", "month": 2}) == []


@pytest.mark.parametrize(
    ("year", "shift", "keep", "expected"),
    [
        (2026, {"sat": -1, "sun": 1}, False, ["2026-07-03"]),
        (2026, {"sat": -1, "sun": 1}, True, ["2026-07-03", "2026-07-04"]),
        (2027, {"sat": -1, "sun": 1}, False, ["2027-07-05"]),
        (2027, {"sat": -1}, False, ["2027-07-04"]),
        (2028, {"sat": -1, "sun": 1}, True, ["2028-07-04"]),
    ],
)
def test_moved_days(year: int, shift: dict[str, int], keep: bool, expected: list[str]) -> None:
    """A day is moved off the weekdays that the statute names, and its own stays if it says so."""
    day = {"name": "Independence Day", "on": "07-04"}
    assert days_of(year, day, shift=shift, keep=keep) == expected
    assert days_of(year, {**day, "shift": shift, "keep": keep}, shift={"tue": 3}) == expected


def test_new_year_moves_into_the_old_year() -> None:
    """A day that is moved over the end of a year is closed in the year that it falls in."""
    day = {"name": "New Year", "on": "01-01"}
    assert days_of(2027, day, shift={"sat": -1}) == ["2027-01-01", "2027-12-31"]


def test_years() -> None:
    """A day may begin and end with a year, and come round every second one."""
    election = {
        "name": "Election Day",
        "after": {"nth": 1, "weekday": "mon", "month": 11},
        "days": 1,
        "years": [2024, 2028],
        "every": 2,
    }
    found = {year: days_of(year, election) for year in range(2022, 2032)}
    assert {year for year, days in found.items() if days} == {2024, 2026, 2028}


def test_easter_against_another_library() -> None:
    """Good Friday is that of an independent implementation, for a century."""
    german = holidays.country_holidays("DE", years=range(1991, 2100), language="de")
    fridays = {day for day, name in german.items() if name == "Karfreitag"}
    assert len(fridays) == 109
    for year in range(1991, 2100):
        assert days_of(year, {"name": "x", "easter": -2}) == [
            next(day.isoformat() for day in fridays if day.year == year)
        ]


def alabama(*days: dict[str, Any], declared: bool = True, **given: Any) -> Rulebook:
    """A rulebook that bans the closed days of one calendar in Alabama."""
    params: dict[str, Any] = {"declared": declared}
    calendars = {"US-AL": {"title": "Alabama", "days": list(days)}} if days else {}
    if days:
        params["calendars"] = ["US-AL"]
    on_fail = {"effect": "deny", "reason": "HOLIDAY_BAN", "next": "window"}
    check = {"kind": "holiday", "params": params}
    fields = {"jurisdiction": ALABAMA, "check": check, "on_fail": on_fail} | given
    files = book_files(rule(**fields))
    return Rulebook.load(
        files | {"c.yaml": json.dumps({"calendars": calendars})} if days else files
    )


def on(
    day: str, rulebook: Rulebook, state: SubjectState = EMPTY, time: str = NOON, **given: Any
) -> Decision:
    """A call to Alabama on a day."""
    around = {name: given.pop(name) for name in ("calendar",) if name in given}
    asked = request(**({"states": ("US-AL",), "zones": ("America/Chicago",)} | given))
    return decided(asked, state, rulebook, parse_instant(day + time), **around)


def test_closed_day_ends_at_midnight() -> None:
    """Nobody is called on the day, from midnight to midnight where the called party is."""
    rulebook = alabama(THANKSGIVING)
    assert on("2026-11-26", rulebook, time="T05:59:59.999999Z").allowed
    decision = on("2026-11-26", rulebook, time="T06:00:00Z")
    assert decision.reason == "HOLIDAY_BAN"
    assert decision.outcomes[0].facts == (("date", "2026-11-26"), ("holiday", "Thanksgiving"))
    assert decision.next_allowed == NextAllowed("at", parse_instant("2026-11-27T06:00:00Z"))
    assert not on("2026-11-27", rulebook, time="T05:59:59.999999Z").allowed
    assert on("2026-11-27", rulebook, time="T06:00:00Z").allowed


def test_days_of_some_counties() -> None:
    """A day of some counties counts unless the called party is known to be in others."""
    mardi_gras = {"name": "Mardi Gras", "easter": -47, "counties": ["US-AL/Baldwin"]}
    rulebook, day = alabama(mardi_gras), "2026-02-17"
    assert not on(day, rulebook).allowed
    assert not on(day, rulebook, counties=("US-AL/Baldwin",)).allowed
    assert not on(day, rulebook, counties=("US-AL/baldwin/Daphne",)).allowed
    assert on(day, rulebook, counties=("US-AL/Jefferson",)).allowed
    assert not on(day, rulebook, counties=("US-AL/Jefferson", "US-AL/Baldwin")).allowed
    assert not on(day, rulebook, counties=("US-GA/Fulton",)).allowed
    assert on(day, rulebook, attributes(counties=("US-AL/Jefferson",))).allowed


def declared(jurisdiction: str, *counties: str, day: str = "2026-11-24") -> Calendar:
    """A calendar with one declared holiday."""
    return Calendar(holidays=(Holiday(jurisdiction, parse_date(day), "Storm", counties),))


@pytest.mark.parametrize(
    ("jurisdiction", "counties", "banned"),
    [
        ("US-AL", (), True),
        ("US", (), True),
        ("US-GA", (), False),
        ("FR", (), False),
        ("US-AL", ("US-AL/Mobile",), True),
    ],
)
def test_declared_days(jurisdiction: str, counties: tuple[str, ...], banned: bool) -> None:
    """A day that is declared for the rule's state, or the whole country, is closed."""
    calendar = declared(jurisdiction, *counties)
    assert on("2026-11-24", alabama(), calendar=calendar).allowed is not banned
    without = alabama(THANKSGIVING, declared=False)
    assert on("2026-11-24", without, calendar=calendar).allowed


def test_declared_day_of_another_candidate() -> None:
    """A country's rule counts the days of each of its states, but only in those."""
    anywhere = {"country": "US", "subdivision": None, "match": ["address"]}
    rulebook = alabama(jurisdiction=anywhere)
    both = {"states": ("US-AL", "US-GA")}
    assert not on("2026-11-24", rulebook, calendar=declared("US-GA"), **both).allowed
    assert on("2026-11-24", rulebook, calendar=declared("US-FL"), **both).allowed
    assert not on("2026-11-24", rulebook, calendar=declared("US-GA"), states=("US",)).allowed


def emergency(until: str | None = None, *counties: str) -> Calendar:
    """An emergency in New York from noon on."""
    until_at = None if until is None else parse_instant(until)
    from_at = parse_instant("2026-11-24T17:00:00Z")
    return Calendar(emergencies=(Emergency("e-1", "US-NY", from_at, until_at, counties),))


def test_emergency_waits_for_an_event() -> None:
    """An emergency bans calls from its beginning until its end, and names no time for another."""
    place = {"country": "US", "subdivision": "NY", "match": ["address"]}
    check = {"kind": "fact", "params": {"fact": "no_emergency"}}
    on_fail = {"effect": "deny", "reason": "EMERGENCY_BAN", "next": "on_event"}
    rulebook = Rulebook.load(book_files(rule(jurisdiction=place, check=check, on_fail=on_fail)))
    ending = emergency("2026-11-25T17:00:00Z", "US-NY/Erie")

    def call(at: str, *counties: str, states: tuple[str, ...] = ("US-NY",)) -> Decision:
        asked = request(states=states, zones=("America/New_York",), counties=counties)
        return decided(asked, EMPTY, rulebook, parse_instant(at), calendar=ending)

    assert call("2026-11-24T16:59:59.999999Z").allowed
    banned = call("2026-11-24T17:00:00Z")
    assert (banned.reason, banned.next_allowed) == ("EMERGENCY_BAN", NextAllowed("on_event"))
    assert call("2026-11-25T17:00:00Z").allowed
    inside, outside = "US-NY/Erie/Buffalo", "US-NY/Kings"
    assert not call("2026-11-24T18:00:00Z", inside).allowed
    assert call("2026-11-24T18:00:00Z", outside).allowed
    assert call("2026-11-24T18:00:00Z", states=("US-NJ",)).allowed
    assert not call("2026-11-24T18:00:00Z", states=("US-NJ", "US-NY")).allowed


def test_calendar_keeps_nothing_of_what_it_was_asked() -> None:
    """Asking for many years gives each the same answer as asking for it alone."""
    entry = {"title": "t", "days": [{"name": "x", "on": "01-01", "shift": {"sat": -1}}]}
    closed = compile_calendar(entry)
    first = date(1600, 1, 1)
    asked = [first + timedelta(days=97 * step) for step in range(3_000)]
    days = [(day - date(1970, 1, 1)).days for day in asked]
    assert [closed.on(day) for day in days] == [compile_calendar(entry).on(day) for day in days]
