"""The calendars of the US beside a second opinion, the package `holidays`."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from holidays import country_holidays

from consent.calendar_days import compile_calendar
from tests.decisions import packaged_rulebook

YEARS = range(2022, 2036)
EPOCH_DAY = date(1970, 1, 1).toordinal()


def calendar_entry(name: str) -> dict[str, Any]:
    """A calendar of the release, as it is written."""
    entry: dict[str, Any] = json.loads(packaged_rulebook().content)["calendars"][name]
    return entry


def days_of(entry: dict[str, Any]) -> dict[date, str]:
    """Every closed day of the years, with its name."""
    closed, found = compile_calendar(entry), {}
    for year in YEARS:
        for ordinal in range(date(year, 1, 1).toordinal(), date(year + 1, 1, 1).toordinal()):
            for one in closed.on(ordinal - EPOCH_DAY):
                found[date.fromordinal(ordinal)] = one.name
    return found


@pytest.mark.parametrize(
    ("state", "only_here", "only_there"),
    [
        ("AL", {"Mardi Gras", "Rosa Parks Day"}, set()),
        (
            "LA",
            {"All Saints' Day", "Day after Thanksgiving"},
            {"Washington's Birthday", "Juneteenth National Independence Day", "Election Day"},
        ),
        ("MS", set(), {"Confederate Memorial Day", "Juneteenth National Independence Day"}),
        ("NE", {"Day after Thanksgiving"}, set()),
        (
            "PA",
            {"Good Friday", "Flag Day", "Election Day"},
            {"Juneteenth National Independence Day", "Day After Thanksgiving"},
        ),
        ("RI", {"Rhode Island Independence Day", "Election Day"}, set()),
        ("UT", set(), set()),
    ],
)
def test_days_are_those_of_the_second_opinion(
    state: str, only_here: set[str], only_there: set[str]
) -> None:
    """But for the days in which a calling statute differs from the state's, the two agree."""
    entry = calendar_entry(f"US-{state}")
    still = {key: value for key, value in entry.items() if key not in ("shift", "keep")}
    still["days"] = [
        {key: value for key, value in day.items() if key not in ("shift", "keep")}
        for day in entry["days"]
    ]
    here = days_of(still)
    there = dict(country_holidays("US", subdiv=state, years=YEARS, observed=False))
    assert {here[day] for day in here.keys() - there.keys()} == only_here
    assert {there[day] for day in there.keys() - here.keys()} == only_there


def test_alabama_moves_its_days_like_the_second_opinion() -> None:
    """A holiday on a Saturday is closed on the Friday as well, one on a Sunday on the Monday."""
    there = dict(country_holidays("US", subdiv="AL", years=YEARS, observed=True))
    moved = {day for day, name in there.items() if "(observed)" in name}
    assert len(moved) > 10
    assert moved <= days_of(calendar_entry("US-AL")).keys()


def test_pennsylvania_has_thirteen_days() -> None:
    """As many as the attorney general's list."""
    days = days_of(calendar_entry("US-PA"))
    assert all(sum(day.year == year for day in days) == 13 for year in YEARS)


@pytest.mark.parametrize("state", ["LA", "MS", "PA"])
def test_nothing_moves_where_no_statute_says_so(state: str) -> None:
    """No row of these calendars has a shift."""
    entry = calendar_entry(f"US-{state}")
    assert "shift" not in entry
    assert not any("shift" in day for day in entry["days"])
