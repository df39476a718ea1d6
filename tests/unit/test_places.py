"""Where a called party may be."""

import pytest

from consent.errors import Rejected
from consent.places import (
    NOWHERE,
    Places,
    Stated,
    candidates,
    places_of_number,
    places_of_postal_code,
    recorded_places,
    replaced,
    zones_of_state,
)
from consent.state import SubjectState
from consent.state_entries import Attribute

NEW_YORK, CHICAGO, DENVER = "America/New_York", "America/Chicago", "America/Denver"
LOS_ANGELES = "America/Los_Angeles"


@pytest.mark.parametrize(
    ("number", "states", "zones"),
    [
        ("+13055550101", ["US-FL"], [NEW_YORK]),
        ("+18505550135", ["US-FL"], [CHICAGO, NEW_YORK]),
        ("+16895550101", ["US-FL"], [NEW_YORK]),
        ("+13645550101", ["US-KY"], [CHICAGO, NEW_YORK]),
        ("+14585550101", ["US-OR"], ["America/Boise", LOS_ANGELES]),
        ("+15755550101", ["US-NM"], [DENVER]),
        ("+17875550101", ["US-PR"], ["America/Puerto_Rico"]),
        ("+12025550101", ["US-DC"], [NEW_YORK]),
        ("+19025550101", ["CA-NS", "CA-PE"], ["America/Halifax"]),
        ("+18765550101", ["JM"], ["America/Jamaica"]),
        ("+442079460018", ["GB"], ["Europe/London"]),
        ("+33655550139", ["FR"], ["Europe/Paris"]),
        ("+61255501234", ["AU"], ["Australia/Sydney"]),
        ("+34928123456", ["ES"], ["Atlantic/Canary"]),
        ("+34612345678", ["ES"], ["Atlantic/Canary", "Europe/Madrid"]),
        ("+919876543210", ["IN"], ["Asia/Kolkata"]),
    ],
)
def test_numbers_that_tell_a_place(number: str, states: list[str], zones: list[str]) -> None:
    """Area codes and country codes; a code over which a border runs has the zones of both sides."""
    assert places_of_number(number) == Places(tuple(states), tuple(zones))


@pytest.mark.parametrize(
    "number",
    [
        *("+18005550101", "+18335550101", "+19005550101", "+15005550101", "+15335550101"),
        *("+17005550101", "+16005550101", "+12115550101", "+19995550101", "+15555550123"),
        *("+80012345678", "+870773111632", "+1212555", "+12125550101999"),
    ],
)
def test_numbers_that_tell_no_place(number: str) -> None:
    """Toll-free, premium, personal, government, unassigned, of no country, not whole."""
    assert places_of_number(number) == NOWHERE


def test_a_mobile_of_a_wide_country_may_be_in_any_of_its_zones() -> None:
    """The strict reading: every clock of the country."""
    zones = places_of_number("+61491570156").zones
    assert {"Australia/Sydney", "Australia/Perth", "Australia/Adelaide"} <= set(zones)


@pytest.mark.parametrize(
    ("code", "states", "zones"),
    [
        ("78701", ["US-TX"], [CHICAGO]),
        ("79901-1234", ["US-TX"], [DENVER]),
        (" 799011234 ", ["US-TX"], [DENVER]),
        ("32401", ["US-FL"], [CHICAGO]),
        ("86503", ["US-AZ"], [DENVER, "America/Phoenix"]),
        ("89883", ["US-NV"], [DENVER, LOS_ANGELES]),
        ("00901", ["US-PR"], ["America/Puerto_Rico"]),
        ("06390", ["US-NY"], [NEW_YORK]),
        ("96799", ["US-AS"], ["Pacific/Pago_Pago"]),
        ("96960", ["MH"], ["Pacific/Majuro"]),
        ("m5v 2t6", ["CA-ON"], ["America/Toronto"]),
        ("V1C", ["CA-BC"], ["America/Edmonton"]),
        ("G4T1A1", ["CA-QC"], ["America/Halifax"]),
    ],
)
def test_postal_codes(code: str, states: list[str], zones: list[str]) -> None:
    """ZIPs with and without their last four digits, Canadian codes with and without three."""
    assert places_of_postal_code(code) == Places(tuple(states), tuple(zones))


@pytest.mark.parametrize("code", ["", "7870", "787011", "ABC", "D1A 1A1X", "SW1A 1AA", "1" * 99])
def test_what_is_no_postal_code_is_refused(code: str) -> None:
    """With what would be one, and without repeating what was given."""
    with pytest.raises(Rejected, match="POSTAL_CODE_INVALID") as refused:
        places_of_postal_code(code)
    assert "78701" in refused.value.remedy
    assert not code or code not in refused.value.value_shown


@pytest.mark.parametrize("code", ["00000", "09123", "96201", "D1A 1A1"])
def test_postal_codes_without_a_place_are_refused(code: str) -> None:
    """Unassigned ones, and military post offices, which may be anywhere."""
    with pytest.raises(Rejected, match="POSTAL_CODE_UNKNOWN"):
        places_of_postal_code(code)


def test_what_is_stated_adds_and_never_removes() -> None:
    """A Florida number of a person in California is in both, in the zones of both."""
    stated = Stated(("US-CA",), (LOS_ANGELES,))
    both = candidates("+13055550103", [stated])
    assert both == Places(("US-CA", "US-FL"), (LOS_ANGELES, NEW_YORK))
    assert candidates("+13055550103", [Stated(("US-CA",))]) == both
    assert candidates("+13055550103", [], "90210") == both


def test_a_state_without_a_zone_has_all_zones_of_the_state() -> None:
    """Unless number or postal code have placed it already: then it says nothing new."""
    texas = Stated(("US-TX",))
    assert candidates("+18005550103", [texas]) == Places(("US-TX",), (CHICAGO, DENVER))
    assert candidates("+15125550103", [texas]) == Places(("US-TX",), (CHICAGO,))
    assert candidates("+18005550103", [texas], "79901") == Places(("US-TX",), (DENVER,))


def test_a_country_adds_nothing_to_a_subdivision_of_it() -> None:
    """`US` beside a Florida number does not make Guam a candidate."""
    assert candidates("+13055550103", [Stated(("US",))]).zones == (NEW_YORK,)
    assert len(candidates("+18005550103", [Stated(("US",))]).zones) > 8


def test_each_source_is_judged_for_itself() -> None:
    """A recorded address without a zone has the state's zones, though the request gives one."""
    asked, recorded = Stated((), (NEW_YORK,)), Stated(("US-TX",))
    assert candidates("+12125550103", [asked, recorded]).zones == (CHICAGO, DENVER, NEW_YORK)


def test_a_number_of_nowhere_stays_nowhere_without_a_statement() -> None:
    """So that it is not called."""
    assert candidates("+18005550103") == NOWHERE
    assert candidates("+18005550103", [Stated((), (CHICAGO,))]) == Places((), (CHICAGO,))


def test_recorded_places_are_kept_apart_by_their_source() -> None:
    """Only valid names, and of rehearsals only in rehearsals."""
    attributes = {
        "states:ADDRESS": ("US-TX",),
        "states:STATED_ZONE": ("US-NY", "somewhere"),
        "zones:STATED_ZONE": (NEW_YORK, "Nowhere/Town"),
        "zones": (DENVER,),
        "line_type": ("MOBILE",),
        "test:states:ADDRESS": ("US-CA",),
    }
    state = SubjectState(attributes={key: Attribute(1, one) for key, one in attributes.items()})
    assert sorted(recorded_places(state, test=False)) == [
        Stated((), (DENVER,)),
        Stated(("US-NY",), (NEW_YORK,)),
        Stated(("US-TX",), ()),
    ]
    assert recorded_places(state, test=True) == [Stated(("US-CA",), ())]
    assert recorded_places(SubjectState(), test=False) == []


def test_scenario_files_replace_what_the_number_says() -> None:
    """An explicit empty list means that nothing could be resolved; what is left out is derived."""
    number = "+13055550103"
    assert replaced(number, ("US-CA",), (LOS_ANGELES,)) == Places(("US-CA",), (LOS_ANGELES,))
    assert replaced(number, (), ()) == NOWHERE
    assert replaced(number, None, None) == Places(("US-FL",), (NEW_YORK,))
    assert replaced(number, None, ()) == Places(("US-FL",), ())
    assert replaced(number, (), None) == Places((), (NEW_YORK,))


@pytest.mark.parametrize(
    ("number", "states", "zones"),
    [
        ("+13055550103", ("US-FL",), (NEW_YORK,)),
        ("+18505550103", ("US-FL",), (CHICAGO, NEW_YORK)),
        ("+13055550103", ("US-TX",), (CHICAGO, DENVER)),
        ("+13055550103", ("US-CA", "US-FL"), (LOS_ANGELES, NEW_YORK)),
        ("+13055550103", ("US",), (NEW_YORK,)),
        ("+18005550103", ("US-TX",), (CHICAGO, DENVER)),
        ("+33655550139", ("FR",), ("Europe/Paris",)),
    ],
)
def test_scenario_files_may_repeat_the_state_only(
    number: str, states: tuple[str, ...], zones: tuple[str, ...]
) -> None:
    """Then the number's zones stay where it is of that state; other states have all of theirs."""
    assert replaced(number, states, None) == Places(states, zones)


def test_zones_of_jurisdictions() -> None:
    """States, countries; a subdivision that no table knows may be anywhere in its country."""
    assert zones_of_state("US-FL") == (CHICAGO, NEW_YORK)
    assert zones_of_state("GB") == ("Europe/London",)
    assert zones_of_state("CA-YT") == ("America/Whitehorse",)
    assert zones_of_state("FR-974") == ("Indian/Reunion",)
    assert zones_of_state("DE-BY") == zones_of_state("DE") == ("Europe/Berlin",)
    assert zones_of_state("XX") == ()
