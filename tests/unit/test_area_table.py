"""The packaged tables: complete, valid, and compared with a second opinion."""

import json
import re
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from pathlib import Path

import phonenumbers
import pytest
from phonenumbers.geodata import GEOCODE_DATA
from phonenumbers.tzdata import TIMEZONE_DATA

from consent.area_tables import AreaTables, Places, area_tables
from consent.call import CANDIDATES_MAX, is_jurisdiction
from consent.zones import zone, zone_names
from tests.decisions import packaged_rulebook

ROOT = Path(__file__).parents[2]
STATES = json.loads(
    """{"Alabama": "AL", "Alaska": "AK", "Arizona": "AZ", "Arkansas": "AR", "California": "CA",
    "Colorado": "CO", "Connecticut": "CT", "Delaware": "DE", "Washington D.C.": "DC",
    "Florida": "FL", "Georgia": "GA", "Hawaii": "HI", "Idaho": "ID", "Illinois": "IL",
    "Indiana": "IN", "Iowa": "IA", "Kansas": "KS", "Kentucky": "KY", "Louisiana": "LA",
    "Maine": "ME", "Maryland": "MD", "Massachusetts": "MA", "Michigan": "MI", "Minnesota": "MN",
    "Mississippi": "MS", "Missouri": "MO", "Montana": "MT", "Nebraska": "NE", "Nevada": "NV",
    "New Hampshire": "NH", "New Jersey": "NJ", "New Mexico": "NM", "New York": "NY",
    "North Carolina": "NC", "North Dakota": "ND", "Ohio": "OH", "Oklahoma": "OK", "Oregon": "OR",
    "Pennsylvania": "PA", "Rhode Island": "RI", "South Carolina": "SC", "South Dakota": "SD",
    "Tennessee": "TN", "Texas": "TX", "Utah": "UT", "Vermont": "VT", "Virginia": "VA",
    "Washington State": "WA", "West Virginia": "WV", "Wisconsin": "WI", "Wyoming": "WY"}"""
)
STATE_DIFFERENCES = {"201": "one exchange of the library is described as in New York"}
"""Codes for which the library's descriptions name another state."""

ZONE_DIFFERENCES = {
    **dict.fromkeys(("236", "250", "257", "672", "778"), "Peace River, Creston and the east of BC"),
    **dict.fromkeys(("306", "474", "639"), "Lloydminster; the library has 474 in Winnipeg"),
    **dict.fromkeys(("367", "418", "581"), "Lower North Shore, Magdalen Islands"),
    "364": "overlay of 270, mostly Central; the library has Eastern only",
    "402": "Cherry County's west",
    "531": "overlay of 402",
    "432": "Culberson and Hudspeth",
    "915": "edge of the Central zone",
    "448": "overlay of 850, mostly Central; the library has Eastern only",
    "458": "overlay of 541; Malheur County",
    "689": "overlay of 407, Eastern; the library has Central",
    "807": "Atikokan",
    "867": "the library has only some zones of the three territories",
    "879": "Labrador; the library has Puerto Rico, which has other codes",
    "907": "the library has Hawaii for the Aleutians, which have daylight saving time",
    "930": "overlay of 812, in part Central; the library has Eastern only",
    "931": "eastern edge",
}
"""Codes whose zones tell another time than the library's, and why."""

SPLIT_CODES = [
    "850",
    "448",
    "208",
    "986",
    "219",
    "574",
    "812",
    "930",
    "620",
    "785",
    "270",
    "364",
    "606",
    "906",
    "701",
    "308",
    "402",
    "531",
    "541",
    "458",
    "605",
    "423",
    "931",
    "915",
    "432",
    "250",
    "236",
    "778",
    "807",
    "418",
    "581",
    "709",
]
OVERLAYS = (
    "270 364|850 448|812 930|541 458|208 986|402 531|407 689|250 236 257 672 778|418 367 581|"
    "709 879|306 474 639|902 782|212 332 646|213 323 738|305 786 645|202 771|503 971|214 469 972 "
    "945|803 839|816 975|618 730|804 686|561 728|970 748|864 821|707 369|845 329|904 324"
)
NEW_CODES = [
    "329",
    "350",
    "369",
    "472",
    "557",
    "645",
    "686",
    "728",
    "730",
    "738",
    "821",
    "835",
    "975",
    "983",
]
ONE_ZONE_FOR = {
    "America/New_York": "America/Detroit America/Kentucky/Louisville America/Kentucky/Monticello "
    "America/Indiana/Indianapolis America/Indiana/Vincennes America/Indiana/Winamac "
    "America/Indiana/Marengo America/Indiana/Petersburg America/Indiana/Vevay",
    "America/Chicago": "America/Indiana/Tell_City America/Indiana/Knox America/Menominee "
    "America/North_Dakota/Center America/North_Dakota/New_Salem America/North_Dakota/Beulah",
    "America/Denver": "America/Boise",
    "America/Anchorage": "America/Juneau America/Sitka America/Metlakatla America/Yakutat "
    "America/Nome",
}
"""Zones of the United States that have told the same time since 2020: one may stand for others."""


@cache
def clock(name: str) -> tuple[timedelta | None, ...]:
    start = datetime(2021, 1, 1, 9, tzinfo=UTC)
    instants = (start + timedelta(days=step) for step in range(365 * 12))
    return tuple(at.astimezone(zone(name)).utcoffset() for at in instants)


@pytest.fixture(scope="module")
def tables() -> AreaTables:
    return area_tables()


def every_row(tables: AreaTables) -> list[tuple[str, Places]]:
    maps = (
        tables.area_codes,
        tables.us_zips,
        tables.ca_postal_codes,
        tables.countries,
        tables.number_prefixes,
        tables.subdivisions,
    )
    return [row for table in maps for row in table.items()]


def test_every_row_can_be_decided_about(tables: AreaTables) -> None:
    """States are jurisdictions, zones are known to tzdata, there are some of both, not too many."""
    for key, places in every_row(tables):
        assert places.states and all(is_jurisdiction(state) for state in places.states), key
        assert places.zones and set(places.zones) <= zone_names(), key
        assert max(len(places.states), len(places.zones)) <= CANDIDATES_MAX, key


def test_the_states_are_those_that_the_library_names(tables: AreaTables) -> None:
    """Made from ZIPs, seconded by the library's descriptions; every difference has its reason."""
    described: dict[str, set[str]] = defaultdict(set)
    for prefix, texts in GEOCODE_DATA.items():
        city = re.search(r", ([A-Z]{2})$", texts.get("en", ""))
        name = city[1] if city else STATES.get(texts.get("en", ""))
        if prefix.startswith("1") and name is not None:
            described[prefix[1:4]].add(f"US-{name}")
    american = {
        code: places.states
        for code, places in tables.area_codes.items()
        if places.states[0].startswith("US-")
    }
    differences = {code for code, states in american.items() if described[code] - {*states}}
    assert differences == set(STATE_DIFFERENCES)
    territories = {"340", "670", "671", "684", "787", "939"}
    assert {code for code in american if not described[code]} <= territories


def test_the_zones_differ_from_the_librarys_for_a_reason(tables: AreaTables) -> None:
    """Each code whose zones tell another time than the library's is known, with the cause."""
    library: dict[str, set[str]] = defaultdict(set)
    for prefix, names in TIMEZONE_DATA.items():
        if prefix.startswith("1") and len(prefix) >= 4:
            library[prefix[1:4]].update(names)
    differences = {
        code
        for code, places in tables.area_codes.items()
        if {clock(name) for name in places.zones} != {clock(name) for name in library[code]}
    }
    assert differences == set(ZONE_DIFFERENCES)


@pytest.mark.parametrize("code", SPLIT_CODES)
def test_split_codes_have_two_clocks(tables: AreaTables, code: str) -> None:
    """Codes over which a border between zones runs have the zones of both sides."""
    assert len({clock(name) for name in tables.area_codes[code].zones}) > 1


@pytest.mark.parametrize("codes", OVERLAYS.split("|"))
def test_overlays_share_the_ground_of_their_code(tables: AreaTables, codes: str) -> None:
    """A newer code for the same ground says the same as the older one."""
    assert len({tables.area_codes[code] for code in codes.split()}) == 1


def test_new_codes_are_there(tables: AreaTables) -> None:
    """Codes that older tables lack."""
    assert set(NEW_CODES) <= set(tables.area_codes)


def test_every_state_and_every_clock_of_it_is_reachable(tables: AreaTables) -> None:
    """All states, DC and territories have a code, and each zone of the country a row."""
    states = {state for places in tables.area_codes.values() for state in places.states}
    wanted = {*STATES.values(), "PR", "VI", "GU", "MP", "AS"}
    assert {state for state in states if state.startswith("US-")} == {f"US-{one}" for one in wanted}
    zip_states = {state for places in tables.us_zips.values() for state in places.states}
    assert {state for state in zip_states if "-" in state} == {f"US-{one}" for one in wanted}
    provinces = {"AB", "BC", "MB", "NB", "NL", "NS", "NT", "NU", "ON", "PE", "QC", "SK", "YT"}
    for table in (tables.area_codes, tables.ca_postal_codes):
        found = {state for places in table.values() for state in places.states}
        assert {state[3:] for state in found if state.startswith("CA-")} == provinces
    listed = (resources.files("tzdata") / "zoneinfo" / "zone.tab").read_text().splitlines()
    american = {line.split("\t")[2] for line in listed if line.startswith("US\t")}
    codes = {clock(name) for places in tables.area_codes.values() for name in places.zones}
    zips = {clock(name) for places in tables.us_zips.values() for name in places.zones}
    assert len(american) > 25
    assert all(clock(name) in codes and clock(name) in zips for name in american)


@pytest.mark.parametrize("kept", ONE_ZONE_FOR)
def test_zones_that_one_stands_for_still_tell_its_time(kept: str) -> None:
    """If a release of the time-zone data parts two of them, the tables must be made again."""
    assert {clock(name) for name in ONE_ZONE_FOR[kept].split()} == {clock(kept)}


def test_every_assigned_code_has_a_row_and_no_other(tables: AreaTables) -> None:
    """Codes by which the library knows a geographic number, and none of the rest."""
    kinds = phonenumbers.PhoneNumberType
    telephone = {kinds.FIXED_LINE, kinds.MOBILE, kinds.FIXED_LINE_OR_MOBILE}

    def assigned(code: str, exchanges: range) -> bool:
        numbers = (phonenumbers.PhoneNumber(1, int(f"{code}{one}4567")) for one in exchanges)
        return any(phonenumbers.number_type(number) in telephone for number in numbers)

    for code in map(str, range(200, 1000)):
        step = 1 if code in tables.area_codes else 41
        assert assigned(code, range(200, 1000, step)) == (code in tables.area_codes), code


def test_the_rulebook_gives_each_state_the_same_clocks(tables: AreaTables) -> None:
    """Its own list, written apart from these tables, for every place that both tell of."""
    differences = set()
    for state, names in packaged_rulebook().zones.items():
        if {clock(name) for name in names} != {clock(name) for name in tables.states[state]}:
            differences.add(state)
    # The rulebook names the zones in which a French day begins first and last; Mayotte is between.
    assert differences == {"FR"}


def test_every_country_has_zones(tables: AreaTables) -> None:
    """Every region that a number can be of is in the table of countries."""
    assert set(phonenumbers.SUPPORTED_REGIONS) <= set(tables.countries)


def test_the_digest_is_over_every_table() -> None:
    """32 bytes, the same in another process."""
    program = "from consent.area_tables import area_tables; print(area_tables().digest.hex())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == area_tables().digest.hex()
    assert len(area_tables().digest) == 32


@pytest.mark.slow
def test_the_files_are_what_the_script_makes() -> None:
    """With the packages of this environment and the reviewed corrections."""
    script = ROOT / "examples" / "area_table" / "regenerate.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
