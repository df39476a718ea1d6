"""Calendars outside of the US beside a second opinion, the package `holidays`."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import pytest
from holidays import country_holidays

from consent.calendar_days import compile_calendar
from tests.decisions import packaged_rulebook

STATES = ("ACT", "NSW", "NT", "QLD", "SA", "TAS", "VIC", "WA")
LIEU_OF_CHRISTMAS = {(12, 27), (12, 28)}
YEARS = range(2017, 2036)
EPOCH = date(1970, 1, 1)


def days_of(name: str) -> dict[date, str]:
    """Every closed day of the years in a calendar of the release, with its name."""
    entry: dict[str, Any] = json.loads(packaged_rulebook().content)["calendars"][name]
    closed, found = compile_calendar(entry), {}
    for year in YEARS:
        day = date(year, 1, 1)
        while day.year == year:
            for one in closed.on((day - EPOCH).days):
                found[day] = one.name
            day += timedelta(days=1)
    return found


def test_france_agrees() -> None:
    """The national holidays of France are those of the second opinion, day by day."""
    assert set(days_of("FR")) == set(country_holidays("FR", years=YEARS))


def test_spain_agrees_but_for_what_regions_decide() -> None:
    """Spain's differ by days that regions may replace, and that are then declared."""
    ours, theirs = days_of("ES"), country_holidays("ES", years=YEARS)
    # Days moved from a Sunday, and Maundy Thursday, are for the regions to decide.
    only_ours = {day for day in set(ours) - set(theirs) if day.weekday() != 6}
    assert {ours[day] for day in only_ours} <= {"Epifanía del Señor"}
    # Good Friday and the fixed days of both agree.
    assert [name for day, name in theirs.items() if day not in ours and day.weekday() != 0] == []


@pytest.mark.parametrize("state", STATES)
def test_australia_closes_what_every_state_does(state: str) -> None:
    """On weekdays, what the national calendar closes by itself is a holiday in every state.

    At weekends the states differ: some move the day, some add another one.
    """
    ours, theirs = days_of("AU"), country_holidays("AU", subdiv=state, years=YEARS)
    in_lieu = {day for day in ours if day.weekday() == 0 and day - timedelta(days=1) in ours}
    lacking = {day for day in set(ours) - set(theirs) - in_lieu if day.weekday() < 5}
    assert {(day.month, day.day) for day in lacking} <= LIEU_OF_CHRISTMAS


def test_australia_keeps_what_all_states_share() -> None:
    """A weekday that is a holiday in every state and territory is one of the national calendar."""
    shared = set.intersection(
        *(set(country_holidays("AU", subdiv=state, years=YEARS)) for state in STATES)
    )
    lacking = {day for day in shared - set(days_of("AU")) if day.weekday() != 6}
    # The day of mourning was declared once; Easter Saturday is every state's own doing.
    assert {day for day in lacking if day.weekday() != 5} == {date(2022, 9, 22)}
