"""Declared holidays and emergencies, looked up for a call."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from consent.calendars_declared import CalendarBook
from consent.tallies import DAY_US
from tests.events import NOW_US, event

TODAY = NOW_US // DAY_US


def book(*events: tuple[str, dict[str, Any]]) -> CalendarBook:
    made = CalendarBook()
    for name, fields in events:
        made.take(name, fields, fields["occurred_at"])
    return made


def holiday(**given: Any) -> tuple[str, dict[str, Any]]:
    declared: dict[str, Any] = {
        "declaration_id": "h-1",
        "jurisdiction": "US-NE",
        "date": TODAY,
        "name": "Day of mourning",
        "seller_id": "*",
    }
    return "HolidayDeclared", event("HolidayDeclared", **(declared | given))


def emergency(**given: Any) -> tuple[str, dict[str, Any]]:
    declared: dict[str, Any] = {
        "declaration_id": "e-1",
        "jurisdiction": "US-NY",
        "from_at": NOW_US - DAY_US,
        "until_at": None,
        "seller_id": "*",
    }
    return "EmergencyDeclared", event("EmergencyDeclared", **(declared | given))


def lifted(**given: Any) -> tuple[str, dict[str, Any]]:
    said: dict[str, Any] = {
        "declaration_id": "e-1",
        "jurisdiction": "US-NY",
        "lifted_at": NOW_US,
        "seller_id": "*",
    }
    return "EmergencyLifted", event("EmergencyLifted", **(said | given))


def standing(made: CalendarBook, at: int = NOW_US, state: str = "US-NY") -> list[int | None]:
    return [one.until_at for one in made.calendar([state], at, test=False).emergencies]


def names(made: CalendarBook, states: list[str], at: int = NOW_US) -> list[str]:
    return [one.name for one in made.calendar(states, at, test=False).holidays]


def test_a_declared_day_counts_where_and_when_it_is() -> None:
    """For its state, a country that stands alone, and a state of a country; near its date."""
    made = book(holiday(), holiday(declaration_id="h-2", jurisdiction="US", name="National"))
    assert names(made, ["US-NE"]) == ["National", "Day of mourning"]
    assert names(made, ["US-TX"]) == ["National"]
    assert names(made, ["US"]) == ["National", "Day of mourning"]
    assert names(made, ["GB"]) == []
    assert names(made, ["US-NE"], NOW_US + 3 * DAY_US) == []
    assert names(made, ["US-NE"], NOW_US - 45 * DAY_US) == ["National", "Day of mourning"]
    assert made.calendar(["US-NE"], NOW_US, test=True).holidays == ()


def test_a_day_taken_back_is_open_again() -> None:
    """By an event after its declaration; at the same instant the day stays barred."""
    later = holiday(withdrawn=True, occurred_at=NOW_US + 1)
    for events in permutations((holiday(), later)):
        assert names(book(*events), ["US-NE"]) == []
    for events in permutations((holiday(), holiday(withdrawn=True))):
        assert names(book(*events), ["US-NE"]) == ["Day of mourning"]


def test_an_emergency_stands_until_it_ends_or_is_lifted() -> None:
    """Whichever comes first, and in whatever order that is known."""
    assert standing(book(emergency())) == [None]
    until = NOW_US + DAY_US
    assert standing(book(emergency(until_at=until))) == [until]
    assert standing(book(emergency(until_at=until)), until) == []
    for events in permutations((emergency(), lifted(occurred_at=NOW_US + 1))):
        assert standing(book(*events), NOW_US - 1) == [NOW_US]
        assert standing(book(*events)) == []
    assert standing(book(lifted())) == []


def test_a_new_declaration_opens_it_again() -> None:
    """A lift counts against what was declared before it; at one instant the emergency stands."""
    events = (
        emergency(),
        lifted(occurred_at=NOW_US + 1),
        emergency(occurred_at=NOW_US + 2, counties=["US-NY/Erie"]),
    )
    for shuffled in permutations(events):
        made = book(*shuffled)
        assert standing(made) == [None]
        (one,) = made.calendar(["US-NY"], NOW_US, test=False).emergencies
        assert one.counties == ("US-NY/Erie",)
    for shuffled in permutations((emergency(), lifted())):
        assert standing(book(*shuffled)) == [None]


def test_one_that_was_over_before_it_began_never_was() -> None:
    """Lifted before its start."""
    made = book(
        emergency(from_at=NOW_US + DAY_US), lifted(occurred_at=NOW_US + 1, lifted_at=NOW_US)
    )
    assert standing(made, NOW_US - 1) == []
