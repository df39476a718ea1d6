"""Make `rules/areas/{area_codes,us_zips,countries}.tsv` again from public packages.

`python examples/area_table/regenerate.py` writes them, `--check` only compares. Needs the package
`zipcodes` beside what the ledger itself needs. What the packages get wrong or don't have is in
`rules/areas/corrections.tsv`, by hand, one source a line; that file wins over all of them.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib import metadata, resources
from math import cos, hypot, radians
from pathlib import Path

import phonenumbers
import zipcodes
from phonenumbers.geodata import GEOCODE_DATA
from phonenumbers.tzdata import TIMEZONE_DATA

from consent.zones import tzdata_version, zone, zone_names

ROOM = Path(__file__).parents[2] / "rules" / "areas"
ZIP_SHARE_MIN = 0.05
"""A zone that fewer of a code's ZIPs have is taken for noise, unless the library has it too."""
BORDER_KM = 8
"""So close to a ZIP of the same state that has another clock, a ZIP gets both zones."""
TERRITORIES = {"PR", "VI", "GU", "MP", "AS"}
MILITARY = {"AA", "AE", "AP"}
PROVINCES = {
    "Alberta": "AB",
    "British Columbia": "BC",
    "British Colombia": "BC",  # so spelt by the library
    "Manitoba": "MB",
    "New Brunswick": "NB",
    "Newfoundland and Labrador": "NL",
    "Nova Scotia/Prince Edward Island": "NS,PE",
    "Northwest Territories/Nunavut/Yukon": "NT,NU,YT",
    "Ontario": "ON",
    "Quebec": "QC",
    "Saskatchewan": "SK",
}


@dataclass
class Places:
    """What is known of one key of a table. Zones are in the order of their weight."""

    states: set[str] = field(default_factory=set)
    zones: list[str] = field(default_factory=list)


@cache
def clock(name: str) -> bytes:
    """A digest of what a zone's clocks show from 2020 to 2036; equal for zones that agree."""
    start = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
    instants = range(start, start + 17 * 366 * 86_400, 6 * 3_600)
    shown = (datetime.fromtimestamp(at, zone(name)).utcoffset() for at in instants)
    return sha256(",".join(map(str, shown)).encode()).digest()


def told_apart(names: Iterable[str]) -> list[str]:
    """The first zone of each clock, sorted by name."""
    kept: dict[bytes, str] = {}
    distinct = dict.fromkeys(names)
    if len(distinct) == 1:
        return list(distinct)
    for name in distinct:
        kept.setdefault(clock(name), name)
    return sorted(kept.values())


@dataclass(frozen=True)
class Zip:
    """One ZIP of the package, with its jurisdiction in the ledger's words."""

    code: str
    state: str
    county: str
    zone: str
    area_codes: tuple[str, ...]
    latitude: float
    longitude: float


def read_zips() -> list[Zip]:
    """Every ZIP that has a place; military post offices may be anywhere and are left out."""
    found = []
    for entry in zipcodes.list_all():
        state, name = entry["state"], entry["timezone"]
        if state in MILITARY or entry["zip_code"].startswith("099"):
            continue
        country = state in ("FM", "MH", "PW")
        found.append(
            Zip(
                code=entry["zip_code"],
                state=state if country else f"US-{state}",
                county=entry["county"],
                zone=name if name in zone_names() else "",
                area_codes=tuple(entry["area_codes"]),
                latitude=float(entry["lat"] or 0),
                longitude=float(entry["long"] or 0),
            )
        )
    return found


def nanp_regions() -> dict[str, str]:
    """Country of every geographic area code that the library knows."""
    kinds = phonenumbers.PhoneNumberType
    telephone = {kinds.FIXED_LINE, kinds.MOBILE, kinds.FIXED_LINE_OR_MOBILE}
    regions = {}
    for code in sorted(library_zones()):
        for exchange in range(200, 1000):
            number = phonenumbers.PhoneNumber(1, int(f"{code}{exchange}4567"))
            if phonenumbers.number_type(number) in telephone:
                regions[code] = str(phonenumbers.region_code_for_number(number))
                break
    return regions


def library_zones() -> dict[str, list[str]]:
    """Zones of the library by area code, those of its seven-digit rows too."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for prefix, names in TIMEZONE_DATA.items():
        if prefix.startswith("1") and len(prefix) >= 4:
            found[prefix[1:4]].update(names)
    return {code: [name for name, _ in names.most_common()] for code, names in found.items()}


def provinces_of(code: str) -> set[str]:
    """Canadian jurisdictions of a code, by the library's descriptions."""
    found: set[str] = set()
    for text in _descriptions().get(code, ()):
        known = PROVINCES.get(text) or text.rpartition(", ")[2]
        found |= {f"CA-{one}" for one in known.split(",") if one in _PROVINCE_CODES}
    return found


@cache
def _descriptions() -> dict[str, list[str]]:
    """What the library says of places, by area code."""
    found: dict[str, list[str]] = defaultdict(list)
    for prefix, texts in GEOCODE_DATA.items():
        if prefix.startswith("1") and len(prefix) >= 4:
            found[prefix[1:4]].append(texts["en"])
    return found


_PROVINCE_CODES = {one for codes in PROVINCES.values() for one in codes.split(",")}


def area_codes(zips: list[Zip]) -> dict[str, Places]:
    """Every area code, before corrections."""
    by_code: dict[str, list[Zip]] = defaultdict(list)
    for entry in zips:
        for code in entry.area_codes:
            by_code[code].append(entry)
    library = library_zones()
    table = {}
    for code, region in nanp_regions().items():
        if region == "US":
            table[code] = _united_states(by_code[code], library.get(code, []))
        elif region == "CA":
            table[code] = Places(provinces_of(code), library.get(code, []))
        else:
            state = f"US-{region}" if region in TERRITORIES else region
            table[code] = Places({state}, library[code])
    return table


def _united_states(near: list[Zip], library: list[str]) -> Places:
    """The state that most ZIPs near the code are in, and the zones of those ZIPs of that state.

    The package ties ZIPs to codes by distance, so neighbours across a border must not count.
    """
    if not near:
        return Places(set(), list(library))
    state = Counter(entry.state for entry in near).most_common(1)[0][0]
    names = Counter(entry.zone for entry in near if entry.state == state and entry.zone)
    clocks: Counter[bytes] = Counter()
    for name, count in names.items():
        clocks[clock(name)] += count
    seconded = {clock(name) for name in library}
    likely = {
        one
        for one, count in clocks.items()
        if count >= ZIP_SHARE_MIN * names.total() or one in seconded
    }
    return Places({state}, [name for name, _ in names.most_common() if clock(name) in likely])


def zip_places(zips: list[Zip], changed: dict[str, list[str]]) -> dict[str, Places]:
    """Every ZIP: where a county, or the ground around it, has two clocks, it gets both."""
    zones = {entry.code: changed.get(entry.code, [entry.zone]) for entry in zips}
    counties: dict[tuple[str, str], set[str]] = defaultdict(set)
    grid: dict[tuple[int, int], list[Zip]] = defaultdict(list)
    for entry in zips:
        counties[entry.state, entry.county].update(zones[entry.code])
        if entry.latitude:
            grid[int(entry.latitude * 4), int(entry.longitude * 4)].append(entry)
    table = {}
    for entry in zips:
        names = list(zones[entry.code])
        if entry.code not in changed:
            names += sorted(counties[entry.state, entry.county])
            for other in _around(entry, grid):
                names += zones[other.code]
        table[entry.code] = Places({entry.state}, told_apart(name for name in names if name))
    return table


def _around(entry: Zip, grid: dict[tuple[int, int], list[Zip]]) -> Iterator[Zip]:
    if not entry.latitude:
        return
    row, column = int(entry.latitude * 4), int(entry.longitude * 4)
    squeeze = cos(radians(entry.latitude))
    cells = [(row + up, column + right) for up in (-1, 0, 1) for right in (-1, 0, 1)]
    for other in (one for cell in cells for one in grid[cell]):
        north = (entry.latitude - other.latitude) * 111
        east = (entry.longitude - other.longitude) * 111 * squeeze
        if other.state == entry.state and hypot(north, east) <= BORDER_KM:
            yield other


def shortened(table: dict[str, Places]) -> dict[str, Places]:
    """The same by the shortest prefixes: a prefix stands for the union of all that begin with it.

    A longer row is only there where it says less than the prefix before it.
    """
    short: dict[str, Places] = {}

    def add(prefix: str, entries: dict[str, Places]) -> None:
        states = {state for one in entries.values() for state in one.states}
        names = Counter(name for one in entries.values() for name in one.zones)
        short[prefix] = Places(states, told_apart(name for name, _ in names.most_common()))
        if all(
            one.states == states and _clocks(one) == _clocks(short[prefix])
            for one in entries.values()
        ):
            return
        for digit in "0123456789":
            longer = {key: one for key, one in entries.items() if key.startswith(prefix + digit)}
            if longer:
                add(prefix + digit, longer)

    by_first: dict[str, dict[str, Places]] = defaultdict(dict)
    for code, one in table.items():
        by_first[code[:3]][code] = one
    for first, entries in sorted(by_first.items()):
        add(first, entries)
    return {
        prefix: one
        for prefix, one in short.items()
        if len(prefix) == 3 or one != short.get(_parent(prefix, short))
    }


def _parent(prefix: str, short: dict[str, Places]) -> str:
    return next(prefix[:end] for end in range(len(prefix) - 1, 2, -1) if prefix[:end] in short)


def _clocks(one: Places) -> set[bytes]:
    return {clock(name) for name in one.zones}


def country_zones() -> dict[str, Places]:
    """Zones of every country, those that tell the same time once, by the list of tzdata."""
    listed: dict[str, list[str]] = defaultdict(list)
    table = resources.files("tzdata").joinpath("zoneinfo", "zone.tab").read_text()
    for line in table.splitlines():
        if not line.startswith("#"):
            country, _place, name, *_note = line.split("\t")
            listed[country].append(name)
    return {country: Places({country}, told_apart(names)) for country, names in listed.items()}


@dataclass(frozen=True)
class Correction:
    """One line of the reviewed file."""

    table: str
    key: str
    change: str
    value: str


def read_corrections() -> list[Correction]:
    """The reviewed file; every line must say why."""
    lines = (ROOM / "corrections.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")][1:]
    if any(len(row) != 5 or not row[4].strip() for row in rows):
        raise SystemExit("corrections.tsv: five columns, the last one says why")
    return [Correction(*row[:4]) for row in rows]


def correct(table: dict[str, Places], corrections: list[Correction]) -> None:
    """Apply the reviewed changes, `same_as` after all others."""
    for one in sorted(corrections, key=lambda one: one.change == "same_as"):
        places = table.setdefault(one.key, Places())
        values = one.value.split(",")
        if one.change == "same_as":
            table[one.key] = Places(set(table[one.value].states), list(table[one.value].zones))
        elif one.change == "zones":
            places.zones = values
        elif one.change == "add_zones":
            places.zones = [*places.zones, *values]
        elif one.change == "remove_zones":
            clocks = {clock(name) for name in values}
            places.zones = [name for name in places.zones if clock(name) not in clocks]
        elif one.change == "states":
            places.states = set(values)
        else:
            raise SystemExit(f"corrections.tsv: unknown change {one.change!r}")


def text_of(title: str, sources: str, table: dict[str, Places], key: str) -> str:
    """A table as it is stored."""
    lines = [
        f"# {title}",
        f"# {sources}",
        "# Made by examples/area_table/regenerate.py; mend corrections.tsv instead.",
    ]
    lines.append(f"{key}\tstates\tzones")
    for code in sorted(table):
        places = table[code]
        if not places.states or not places.zones:
            raise SystemExit(f"{key} {code}: no state or no zone; add a correction")
        lines.append(f"{code}\t{','.join(sorted(places.states))}\t{','.join(places.zones)}")
    return "\n".join(lines) + "\n"


def make() -> dict[str, str]:
    """The text of every generated file by its name."""
    corrections: dict[str, list[Correction]] = defaultdict(list)
    for one in read_corrections():
        corrections[one.table].append(one)
    phones = f"phonenumbers {metadata.version('phonenumbers')} (Apache-2.0)"
    postal = f"zipcodes {metadata.version('zipcodes')} (MIT)"
    clocks = f"tzdata {tzdata_version()} (Apache-2.0; the data is in the public domain)"
    zips = read_zips()
    codes = area_codes(zips)
    correct(codes, corrections["area_codes"])
    for places in codes.values():
        places.zones = told_apart(places.zones)
    changed = {one.key: one.value.split(",") for one in corrections["us_zips"]}
    countries = country_zones()
    correct(countries, corrections["countries"])
    return {
        "area_codes.tsv": text_of(
            "Area codes of the North American Numbering Plan: jurisdictions, zones that may apply.",
            f"Sources: {postal}, {phones}, {clocks}, corrections.tsv.",
            codes,
            "code",
        ),
        "us_zips.tsv": text_of(
            "ZIP prefixes: the longest one that fits holds; jurisdictions, zones that may apply.",
            f"Sources: {postal}, {clocks}, corrections.tsv.",
            shortened(zip_places(zips, changed)),
            "prefix",
        ),
        "countries.tsv": text_of(
            "Zones of each country (ISO 3166-1 alpha-2); those that tell the same time once.",
            f"Sources: {clocks}, corrections.tsv.",
            countries,
            "country",
        ),
    }


def main() -> None:
    """Write the files, or exit 1 if one would change."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="compare, write nothing")
    check = arguments.parse_args().check
    for name, text in make().items():
        path = ROOM / name
        if check and path.read_text() != text:
            sys.exit(f"{path.name} is not what the packages and corrections.tsv give")
        if not check:
            path.write_text(text)


if __name__ == "__main__":
    main()
