"""Every window of every place at its boundaries, and timing against a slow, independent reading."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent.call import CallRequest
from consent.decision import Decision, allowed_until, decide
from consent.instants import parse_date, parse_instant
from consent.rule import Rule
from consent.state import EMPTY, SubjectState, newest_attempts
from consent.state_entries import Attempt, Attribute, Refusal, Relationship
from consent.zones import zone as zone_of
from tests.decisions import DAY, NOW, SELLER, book, in_order, packaged_rulebook, request, rule

SECOND = 1_000_000
MINUTE = 60 * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

DAYS = (
    *(f"2026-11-{day}" for day in range(23, 30)),
    "2026-11-01",  # clocks go back in the US
    "2027-03-14",  # and forward
    "2026-10-25",  # back in Europe
    "2027-03-28",
    "2026-10-04",  # forward in Australia
    "2027-04-04",
)

HOLIDAYS = ("2026-11-26", "2026-11-27")

Intervals = list[tuple[time, time]]


@cache
def rows() -> dict[str, dict[str, Any]]:
    """Every row of the release as it is written, by name."""
    entries = json.loads(packaged_rulebook().content)["rules"]
    return {f"{entry['id']}@{entry['rev']}": entry for entry in entries}


def window_rows() -> list[str]:
    """Names of the rows that ask for hours."""
    return [name for name, entry in rows().items() if entry["check"]["kind"] == "window"]


def hours_on(params: dict[str, Any], weekday: int) -> Intervals:
    """The hours of a weekday, read again from what the file says."""
    for label, intervals in params["days"].items():
        first, _, last = label.partition("-")
        begin, end = WEEKDAYS.index(first), WEEKDAYS.index(last or first)
        if (weekday - begin) % 7 <= (end - begin) % 7:
            return [(clock(opens), clock(closes)) for opens, closes in intervals]
    raise AssertionError("no hours for a weekday")


def clock(text: str) -> time:
    """A time of the day; the end of the day is its last microsecond."""
    return time.max if text == "24:00" else time.fromisoformat(text)


def is_open(params: dict[str, Any], at: int, zones: tuple[str, ...]) -> bool:
    """Whether all clocks are inside of the hours, by the standard library's own zones."""
    for name in (*zones, *params.get("also_in", ())):
        local = (EPOCH + timedelta(microseconds=at)).astimezone(zone_of(name))
        hours = hours_on(params, local.weekday())
        now = local.time()
        if not any(opens <= now < closes or now == closes == time.max for opens, closes in hours):
            return False
    return True


def fitting(rule_row: Rule, zones: tuple[str, ...]) -> tuple[CallRequest, SubjectState]:
    """A call that a row is for, and a number of the line that it is for."""
    scope = rule_row.scopes[0]
    country = rule_row.country
    members = packaged_rulebook().groups.get(country, ())
    country = min(members) if members else country.replace("*", "US")
    place = f"{country}-{rule_row.subdivision}" if rule_row.subdivision else country
    asked = request(
        states=(place,),
        zones=zones,
        purpose=min(scope.purposes),
        call_mode=min(scope.modes),
        dial_mode=min(scope.dials),
        party=scope.party or "CONSUMER",
        profile=max(scope.profiles, key=lambda word: word == "STRICT"),
        sector=min(scope.sectors),
        message_class=min(scope.message_classes),
    )
    line = Attribute(1, (min(scope.lines),))
    return asked, SubjectState(attributes={"line_type": line})


def passes(row: Rule, asked: CallRequest, state: SubjectState, at: int) -> bool | None:
    """Whether the row lets the call pass; None if it is not in force then."""
    decision = decide(
        asked, state, in_order(asked, packaged_rulebook(), at), packaged_rulebook(), at
    )
    line = next((one for one in decision.outcomes if one.rule.name == row.name), None)
    if line is None:
        return None
    return line.outcome == "PASS" or (line.outcome == "SHADOW" and line.reason is None)


def boundaries(params: dict[str, Any], day: date, zone: str) -> Iterator[tuple[int, int]]:
    """Instants at which the hours of a day begin and end by one zone's clock."""
    for opens, closes in hours_on(params, day.weekday()):
        ends = datetime.combine(day, closes, zone_of(zone))
        yield (
            (datetime.combine(day, opens, zone_of(zone)) - EPOCH) // timedelta(microseconds=1),
            (ends - EPOCH) // timedelta(microseconds=1) + (closes == time.max),
        )


@pytest.mark.parametrize("name", window_rows())
def test_every_window_at_its_boundaries(name: str) -> None:
    """One second before the hours begin no, at their begin yes, one before their end yes, then no.

    In each zone of the place alone, and in all of them at once; on ordinary days, and on those on
    which clocks are changed.
    """
    row = next(one for one in packaged_rulebook().rules if one.name == name)
    params = rows()[name]["check"]["params"]
    place = f"{row.country}-{row.subdivision}" if row.subdivision else row.country
    zones = packaged_rulebook().zones_of((place,))
    looked_at = 0
    for zone in zones:
        for text in DAYS:
            if text in HOLIDAYS and "on_holidays" in params:
                continue
            for opens, closes in boundaries(params, date.fromisoformat(text), zone):
                for candidates in ((zone,), zones):
                    asked, state = fitting(row, candidates)
                    for at in (opens - SECOND, opens, closes - SECOND, closes):
                        found = passes(row, asked, state, at)
                        if found is not None:
                            looked_at += 1
                            assert found == is_open(params, at, candidates), (zone, text, at)
                    if candidates == (zone,) and not {"also_in", "on_holidays"} & set(params):
                        steps = (opens - SECOND, opens, closes - SECOND, closes)
                        found_at = [passes(row, asked, state, at) for at in steps]
                        if None not in found_at and _stands_alone(params, text):
                            assert found_at == [False, True, True, False]
    ended = row.effective_to is not None and row.effective_to < parse_date("2026-10-04")
    assert looked_at or ended


def _stands_alone(params: dict[str, Any], text: str) -> bool:
    """True if the hours of a day touch neither those of another day nor each other."""
    hours = hours_on(params, date.fromisoformat(text).weekday())
    edges = [edge for interval in hours for edge in interval]
    return len(set(edges)) == len(edges) and time.min not in edges and time.max not in edges


@pytest.mark.parametrize("name", sorted(rows()))
def test_every_revision_is_in_force_from_midnight_to_midnight(name: str) -> None:
    """A row is in the trace from the local midnight of its first day, until that after its last."""
    row = next(one for one in packaged_rulebook().rules if one.name == name)
    place = f"{row.country}-{row.subdivision}" if row.subdivision else row.country
    for zone in packaged_rulebook().zones_of((place,))[:4]:
        asked, state = fitting(row, (zone,))
        for day, before in ((row.effective_from, False), (row.effective_to, True)):
            if day is None:
                continue
            begins = date(1970, 1, 1) + timedelta(days=day + before)
            midnight = datetime.combine(begins, time.min, zone_of(zone))
            at = (midnight - EPOCH) // timedelta(microseconds=1)
            in_trace = [passes_or_not(row, asked, state, moment) for moment in (at - 1, at)]
            assert in_trace == [before, not before], (zone, day)


def passes_or_not(row: Rule, asked: CallRequest, state: SubjectState, at: int) -> bool:
    """True if the row is in the trace."""
    return passes(row, asked, state, at) is not None


hour_texts = st.integers(0, 24).map(lambda hour: f"{hour:02}:00")
half_hours = st.integers(0, 48).map(lambda half: f"{half // 2:02}:{30 * (half % 2):02}")


@st.composite
def some_hours(draw: Any) -> list[list[str]]:
    """No, one or two intervals of a day."""
    edges = sorted(draw(st.sets(half_hours, max_size=4)))
    return [[edges[n], edges[n + 1]] for n in range(0, len(edges) - 1, 2)]


zones = st.sampled_from(
    (
        "America/New_York",
        "America/Los_Angeles",
        "America/Phoenix",
        "America/St_Johns",
        "Europe/Paris",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Kiritimati",
        "Pacific/Pago_Pago",
    )
)
instants = st.integers(
    parse_instant("2026-10-20T00:00:00Z") // MINUTE, parse_instant("2027-04-10T00:00:00Z") // MINUTE
).map(lambda minute: minute * MINUTE)


@st.composite
def some_windows(draw: Any) -> dict[str, Any]:
    """Hours by weekday."""
    return {"days": {day: draw(some_hours()) for day in WEEKDAYS}}


def hours_row(params: dict[str, Any], **given: Any) -> dict[str, Any]:
    """A row with these hours."""
    on_fail = {"effect": "deny", "reason": "QUIET_HOURS", "next": "window"}
    return rule(check={"kind": "window", "params": params}, on_fail=on_fail, **given)


@settings(deadline=None, max_examples=200)
@given(some_windows(), st.lists(zones, min_size=1, max_size=3, unique=True), instants)
def test_windows_against_another_reading(
    params: dict[str, Any], candidates: list[str], at: int
) -> None:
    """The engine's fast reading of clocks agrees with the standard library's."""
    rulebook = book(hours_row(params))
    for moment in (at, at - 1, at + 1):
        asked = request(states=("US",), zones=tuple(candidates))
        decision = decide(asked, EMPTY, in_order(asked, rulebook, at), rulebook, moment)
        assert decision.allowed == is_open(params, moment, tuple(candidates))


moments = st.integers(0, 5 * 24 * 4).map(lambda step: NOW - step * 15 * MINUTE)


@st.composite
def some_attempts(draw: Any) -> SubjectState:
    """A few calls of the last days, and perhaps a refusal and a purchase."""
    made = [
        Attempt(at, f"a-{at}-{n}", f"c-{n}", None, None, "MARKETING", "LIVE", "MANUAL")
        for n, at in enumerate(draw(st.lists(moments, max_size=5)))
    ]
    refused = draw(st.none() | moments)
    bought = draw(st.none() | st.integers(NOW // DAY - 31, NOW // DAY - 28))
    return SubjectState(
        attempts={(SELLER, "offer-1"): newest_attempts(made)} if made else {},
        refusals={} if refused is None else {(SELLER, "offer-1"): Refusal(refused, "r", False)},
        relationships={}
        if bought is None
        else {(SELLER, "PURCHASE", ""): Relationship(0, "p", bought, "UNKNOWN", None, (), False)},
    )


def timing_rows(draw: Any) -> list[dict[str, Any]]:
    """Rows of every kind that passes with time, some of which change on a day near."""
    cap = {"max": draw(st.integers(1, 3)), "hours": draw(st.integers(1, 72)), "per": "seller"}
    silence = {"fact": "no_refusal_within", "days": draw(st.integers(1, 6)), "per": "seller"}
    clears = {"effect": "deny", "reason": "FREQ_CAP", "next": "cap_expiry"}
    opens = {"effect": "deny", "reason": "HOLIDAY_BAN", "next": "window"}
    purchase = {"relationship": {"kinds": ["purchase"], "days": 30}}
    unless = [{"code": "EBR", "when": purchase, "profiles": ["strict"]}]
    banned = draw(st.lists(st.sampled_from(WEEKDAYS), max_size=3, unique=True))
    changes = draw(st.integers(20, 28))
    found = [
        hours_row(
            draw(some_windows()), effective={"from": "2000-01-01", "to": f"2026-11-{changes}"}
        ),
        hours_row(
            draw(some_windows()), rev=2, effective={"from": f"2026-11-{changes + 1}", "to": None}
        ),
        rule(id="US-CAP", check={"kind": "cap", "params": cap}, on_fail=clears, unless=unless),
        rule(id="US-SILENCE", check={"kind": "fact", "params": silence}, on_fail=clears),
    ]
    if banned:
        check = {"kind": "day_ban", "params": {"days": banned}}
        found.append(rule(id="US-DAYS", check=check, on_fail=opens, unless=unless))
    return found


@st.composite
def timing_cases(draw: Any) -> tuple[list[dict[str, Any]], SubjectState, tuple[str, ...]]:
    """Rows, a state and candidate zones."""
    places = draw(st.lists(zones, min_size=1, max_size=2, unique=True))
    return timing_rows(draw), draw(some_attempts()), tuple(places)


HORIZON = 3 * DAY
STEP = 15 * MINUTE


@settings(deadline=None, max_examples=30)
@given(timing_cases())
def test_next_allowed_is_the_first_open_instant(
    case: tuple[list[dict[str, Any]], SubjectState, tuple[str, ...]],
) -> None:
    """Nothing earlier is allowed than the instant that a denial names, and that one is.

    All boundaries of the case lie on quarters of an hour, so that trying each of them is a
    complete search.
    """
    entries, state, candidates = case
    rulebook = book(*entries)
    asked = request(states=("US",), zones=candidates)
    around = in_order(asked, rulebook)

    def at(moment: int) -> Decision:
        return decide(asked, state, around, rulebook, moment)

    decision = at(NOW)
    if decision.allowed:
        until = allowed_until(decision, state, rulebook, NOW + HORIZON)
        steps = range(NOW, NOW + HORIZON, STEP)
        closed = next((step for step in steps if not at(step).allowed), NOW + HORIZON)
        assert until == closed
        return
    following = decision.next_allowed
    assert following is not None
    end = NOW + HORIZON if following.at is None else min(following.at, NOW + HORIZON)
    assert not any(at(step).allowed for step in range(NOW, end, STEP))
    if following.at is not None:
        assert at(following.at).allowed
        assert not at(following.at - 1).allowed
