"""Where a called party may be: candidate jurisdictions and zones as sets.

A number's area code, a postal code, and what is stated or recorded each name candidates. They are
united and nothing takes one away: a call must be legal in every one of them, since people take
their numbers along when they move. Who is nowhere is not called.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from consent.area_tables import NOWHERE, Places, area_tables, sorted_places
from consent.call import candidate_zones, is_jurisdiction
from consent.errors import Rejected
from consent.numbers import region_of
from consent.state import TEST_PREFIX, SubjectState

__all__ = [
    "NOWHERE",
    "Places",
    "Stated",
    "area_table_digest",
    "candidates",
    "places_of_number",
    "places_of_postal_code",
    "recorded_places",
    "replaced",
    "union",
    "zones_of_state",
]

_NANP_LENGTH: Final = len("+12125550123")
_ZIP: Final = re.compile(r"([0-9]{5})(?:-?[0-9]{4})?", re.ASCII)
_CANADIAN: Final = re.compile(r"([A-Z][0-9][A-Z]) ?(?:[0-9][A-Z][0-9])?", re.ASCII)
_POSTAL_CODE_LENGTH_MAX: Final = 16


@dataclass(frozen=True, slots=True, order=True)
class Stated:
    """Places that one source states of a person: the request, or facts recorded of the number."""

    states: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()


def area_table_digest() -> bytes:
    """SHA-256 over the tables in use."""
    return area_tables().digest


def union(*places: Places) -> Places:
    """All candidates of all of them."""
    some = [one for one in places if one != NOWHERE]
    if len(some) == 1:
        return some[0]
    return sorted_places(
        (state for one in some for state in one.states),
        (name for one in some for name in one.zones),
    )


def places_of_number(number: str) -> Places:
    """Candidates by a canonical number alone; NOWHERE if it tells no place.

    That is so for toll-free, premium and personal numbers, for codes that are not assigned, and
    for numbers that no one country has.
    """
    tables = area_tables()
    if number.startswith("+1"):
        if len(number) != _NANP_LENGTH:
            return NOWHERE
        return tables.area_codes.get(number[2:5], NOWHERE)
    region = region_of(number)
    if region is None:
        return NOWHERE
    country = tables.countries.get(region)
    if country is None:
        return Places((region,), ())
    finer = _longest(tables.number_prefixes, number[1:], 3)
    return finer if finer is not None and finer.states == country.states else country


def places_of_postal_code(text: str) -> Places:
    """Candidates by a ZIP (`78701`, `78701-1234`) or a Canadian postal code (`M5V 2T6`, `M5V`).

    Rejected for anything else, for codes that are not in use, and for military post offices,
    which may be anywhere; the code itself is never repeated.
    """
    tables = area_tables()
    code = text.strip().upper() if len(text) <= _POSTAL_CODE_LENGTH_MAX else ""
    if match := _ZIP.fullmatch(code):
        found = _longest(tables.us_zips, match[1], 3)
    elif match := _CANADIAN.fullmatch(code):
        found = _longest(tables.ca_postal_codes, match[1], 1)
    else:
        remedy = "give a ZIP, as 78701, or a Canadian postal code, as M5V 2T6; else states, zones"
        raise Rejected("POSTAL_CODE_INVALID", "postal_code", f"{len(text)} characters", remedy)
    if found is None:
        remedy = "no place has this code, or a military post office: give states and zones instead"
        raise Rejected("POSTAL_CODE_UNKNOWN", "postal_code", "(not shown)", remedy)
    return found


def zones_of_state(state: str) -> tuple[str, ...]:
    """Zones that a jurisdiction may have, those of its country where no table tells more."""
    states = area_tables().states
    return states.get(state) or states.get(state[:2], ())


def candidates(
    number: str, stated: Iterable[Stated] = (), postal_code: str | None = None
) -> Places:
    """Every candidate of a number, a postal code and what is stated; nothing removes one.

    A source that states jurisdictions and no zone adds the zones of those that neither number nor
    postal code have placed already; a country adds nothing to a subdivision of it.
    """
    found = places_of_number(number)
    if postal_code is not None:
        found = union(found, places_of_postal_code(postal_code))
    placed = found.states
    for source in stated:
        if source.states or source.zones:
            zones = source.zones or _zones_beside(source.states, placed)
            found = sorted_places((*found.states, *source.states), (*found.zones, *zones))
    return found


def recorded_places(state: SubjectState, *, test: bool) -> list[Stated]:
    """What is recorded of a number about its places, each source for itself.

    Only what can be decided about: no other names. Rehearsals see what rehearsals recorded.
    """
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for key, attribute in state.attributes.items():
        if key.startswith(TEST_PREFIX) == test:
            name, _colon, source = key.removeprefix(TEST_PREFIX).partition(":")
            if name in ("states", "zones"):
                found.setdefault(source, {})[name] = attribute.values
    return [
        Stated(
            tuple(filter(is_jurisdiction, one.get("states", ()))),
            candidate_zones(one.get("zones", ())),
        )
        for one in found.values()
    ]


def replaced(number: str, states: tuple[str, ...] | None, zones: tuple[str, ...] | None) -> Places:
    """Candidates where what is given stands instead of what the number says; None is not given.

    For scenario files. Given states without zones have the number's zones where the number is of
    one of them, and all zones of the others.
    """
    own = places_of_number(number)
    if zones is not None:
        return sorted_places(own.states if states is None else states, zones)
    if not states:
        return own if states is None else Places((), own.zones)
    meets = any(state in states or state[:2] in states for state in own.states)
    beside = _zones_beside(states, own.states)
    return sorted_places(states, beside.union(own.zones) if meets else beside)


def _zones_beside(states: tuple[str, ...], placed: tuple[str, ...]) -> set[str]:
    """Zones of jurisdictions that are not placed, nor narrowed by one that is given or placed."""
    narrowed = {state[:2] for state in (*states, *placed) if len(state) > 2}
    return {
        name
        for state in states
        if state not in placed and state not in narrowed
        for name in zones_of_state(state)
    }


def _longest(table: Mapping[str, Places], text: str, length_min: int) -> Places | None:
    """The entry of the longest prefix of a text."""
    for end in range(min(len(text), 8), length_min - 1, -1):
        found = table.get(text[:end])
        if found is not None:
            return found
    return None
