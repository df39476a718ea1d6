"""What the US rows cover as a whole, and what a scenario file has no words for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consent.call import Campaign, Tally
from consent.decision import NextAllowed
from consent.state import EMPTY
from consent.zones import zone_names
from tests.decisions import NOW, decided, packaged_rulebook, request

STATES = [
    "AL",
    "AK",
    "AZ",
    "AR",
    "CA",
    "CO",
    "CT",
    "DE",
    "DC",
    "FL",
    "GA",
    "HI",
    "ID",
    "IL",
    "IN",
    "IA",
    "KS",
    "KY",
    "LA",
    "ME",
    "MD",
    "MA",
    "MI",
    "MN",
    "MS",
    "MO",
    "MT",
    "NE",
    "NV",
    "NH",
    "NJ",
    "NM",
    "NY",
    "NC",
    "ND",
    "OH",
    "OK",
    "OR",
    "PA",
    "RI",
    "SC",
    "SD",
    "TN",
    "TX",
    "UT",
    "VT",
    "VA",
    "WA",
    "WV",
    "WI",
    "WY",
    "PR",
]

FEDERAL_HOURS = [
    "AK",
    "AZ",
    "AR",
    "CA",
    "CO",
    "DE",
    "GA",
    "ID",
    "IN",
    "IA",
    "KS",
    "ME",
    "NE",
    "NH",
    "OH",
    "VT",
]
"""Where no window of the state's own was found for live calls."""

SEPARATE_LISTS = ["CO", "FL", "IN", "LA", "MA", "MO", "OK", "PA", "TN", "TX", "WY"]


def ids_of(family: str) -> set[str]:
    """Ids of the rows of one family, `US-xx-FAMILY`."""
    return {
        rule.id
        for rule in packaged_rulebook().rules
        if rule.country == "US" and rule.subdivision and rule.id.split("-", 2)[2] == family
    }


def test_every_state_has_hours_or_the_federal_ones() -> None:
    """Fifty states, the District and Puerto Rico: 36 with hours of their own, 16 without."""
    assert len(STATES) == 52
    assert ids_of("HOURS") == {f"US-{state}-HOURS" for state in set(STATES) - set(FEDERAL_HOURS)}


@pytest.mark.parametrize(
    ("family", "states"),
    [
        ("HOLIDAY", "AL LA MS PA RI UT"),
        ("CAP", "FL MD OK OR"),
        ("PEWC", "CT FL MD OK"),
        ("MOBILE", "AZ NJ"),
        ("EMERGENCY", "LA NY"),
        ("ADAD-HOURS", "CA GA IL IN ME NE"),
        ("PURPOSE", "FL KY NJ NY WA"),
        ("RECORDING", "CA CT DE FL HI IL MA MD MI MT NH NV OR PA PR WA"),
        ("REG", "AK AZ CO DC FL GA ID MS NJ OH OK OR PA RI TN TX UT VT WA WI"),
        ("SDNC", " ".join([*SEPARATE_LISTS, "MS"])),
    ],
)
def test_families_are_complete(family: str, states: str) -> None:
    """Every family has the states that the research names, and no other."""
    assert ids_of(family) == {f"US-{state}-{family}" for state in states.split()}


def test_separate_lists_are_described() -> None:
    """Eleven lists of states stand beside the national one."""
    lists = {one.id: one for one in packaged_rulebook().registries if one.id[:3] == "us_"}
    assert set(lists) == {"us_national_dnc", *(f"us_{one.lower()}_dnc" for one in SEPARATE_LISTS)}
    assert lists["us_tx_dnc"].jurisdiction == "US-TX"
    assert lists["us_tx_dnc"].level == "state"
    assert lists["us_national_dnc"].level == "national"


def test_every_state_has_its_zones() -> None:
    """So that a revision begins at the state's own midnight where no zone is known."""
    zones: dict[str, Any] = json.loads(packaged_rulebook().content)["zones"]
    for state in STATES:
        assert zones[f"US-{state}"], state
        assert zone_names().issuperset(zones[f"US-{state}"])
    assert zones["US-TN"] == ["America/New_York", "America/Chicago"]
    assert zones["US-AZ"][0] == "America/Phoenix"


@pytest.mark.parametrize(
    ("period", "reason"),
    [
        ("THIRTY_DAYS", "ABANDON_CAP"),
        ("CALENDAR_MONTH", "DATA_MISSING"),
        ("TWENTY_FOUR_HOURS", "DATA_MISSING"),
    ],
)
def test_abandoned_calls_are_counted_by_thirty_days(period: str, reason: str) -> None:
    """Other periods say nothing about the federal rule."""
    campaign = Campaign((Tally(period, 1000, 31, NOW),))
    decision = decided(request(dial_mode="PREDICTIVE"), EMPTY, campaign=campaign)
    assert decision.reason == reason
    waits = "campaign_period_end" if reason == "ABANDON_CAP" else "on_event"
    assert decision.next_allowed == NextAllowed(waits)


def test_rows_say_how_sure_they_are() -> None:
    """A row from memory or in conflict has a note; every row a citation and a source."""
    content = json.loads(packaged_rulebook().content)
    for row in content["rules"]:
        if row["jurisdiction"]["country"] == "US":
            assert row["citation"], row["id"]
            assert row["source"], row["id"]
            assert row["confidence"] in "PSK", row["id"]
            assert row["confidence"] == "P" or row.get("note"), row["id"]
