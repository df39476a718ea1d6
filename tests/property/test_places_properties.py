"""Candidates are sets: united in any order, never fewer by knowing more."""

from hypothesis import given
from hypothesis import strategies as st

from consent.area_tables import area_tables
from consent.call import is_jurisdiction
from consent.places import (
    NOWHERE,
    Places,
    Stated,
    candidates,
    places_of_number,
    places_of_postal_code,
    union,
)
from consent.zones import zone_names

CODES = sorted(area_tables().area_codes)
STATES = sorted(area_tables().states)
ZONES = sorted(zone_names())

assigned = st.builds("+1{}55501{:02}".format, st.sampled_from(CODES), st.integers(0, 99))
numbers = assigned | st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True)
zips = st.from_regex(r"[0-9]{5}", fullmatch=True)
some_places = st.builds(
    lambda states, zones: union(Places(tuple(states), tuple(zones)), NOWHERE),
    st.lists(st.sampled_from(STATES), max_size=4, unique=True).map(sorted),
    st.lists(st.sampled_from(ZONES), max_size=4, unique=True).map(sorted),
)
stated = st.builds(
    Stated,
    st.lists(st.sampled_from(STATES), max_size=3).map(tuple),
    st.lists(st.sampled_from(ZONES), max_size=3).map(tuple),
)


@given(assigned)
def test_an_assigned_code_is_somewhere(number: str) -> None:
    """At least one jurisdiction and one zone, all of them valid."""
    places = places_of_number(number)
    assert places.states and all(is_jurisdiction(state) for state in places.states)
    assert places.zones and set(places.zones) <= zone_names()


@given(numbers)
def test_any_number_has_an_answer(number: str) -> None:
    """Sorted, without repeats, and both or neither."""
    places = places_of_number(number)
    assert places == Places(tuple(sorted(set(places.states))), tuple(sorted(set(places.zones))))
    assert bool(places.states) == bool(places.zones)


@given(st.lists(some_places, max_size=4))
def test_union_does_not_depend_on_order(places: list[Places]) -> None:
    """Nor on how it is bracketed, nor on repeats."""
    forwards = union(*places)
    assert union(*reversed(places)) == forwards == union(*places, *places)
    assert union(union(*places[:2]), union(*places[2:])) == forwards


@given(numbers, st.lists(stated, max_size=3))
def test_knowing_more_never_takes_a_candidate_away(number: str, sources: list[Stated]) -> None:
    """Whatever is stated, in whatever order, all candidates of the number stay."""
    own, found = places_of_number(number), candidates(number, sources)
    assert set(own.states) <= set(found.states) and set(own.zones) <= set(found.zones)
    for source in sources:
        assert set(source.states) <= set(found.states) and set(source.zones) <= set(found.zones)
    assert candidates(number, reversed(sources)) == found


@given(zips)
def test_any_zip_is_somewhere_or_refused(code: str) -> None:
    """What has a row has places; the longest prefix never says more than a shorter one."""
    table = area_tables().us_zips
    rows = [table[code[:end]] for end in (3, 4, 5) if code[:end] in table]
    if rows:
        assert places_of_postal_code(code) == rows[-1]
        assert set(rows[-1].states) <= set(rows[0].states)
