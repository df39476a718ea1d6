"""The packaged tables of area codes, postal codes and countries, read once.

They are part of the release, as the contracts are, so two processes of one version can't disagree
about them; every decision records their digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from consent.contracts import data_path

TABLES: Final = (
    "area_codes",
    "ca_postal_codes",
    "countries",
    "number_prefixes",
    "subdivisions",
    "us_zips",
)
"""Names of the files, in the order in which they are digested."""


class Places(NamedTuple):
    """Candidate jurisdictions (`US-TX`, `GB`) and IANA zones, each sorted and without repeats."""

    states: tuple[str, ...]
    zones: tuple[str, ...]


NOWHERE: Final = Places((), ())
"""Nothing could be resolved: such a call is denied unless places are given."""


@dataclass(frozen=True, slots=True, eq=False)
class AreaTables:
    """Each table by its key. `states` holds the zones of every jurisdiction in any of them."""

    digest: bytes
    area_codes: Mapping[str, Places]
    ca_postal_codes: Mapping[str, Places]
    countries: Mapping[str, Places]
    number_prefixes: Mapping[str, Places]
    subdivisions: Mapping[str, Places]
    us_zips: Mapping[str, Places]
    states: Mapping[str, tuple[str, ...]]


@cache
def area_tables() -> AreaTables:
    """The tables of this release; the same object on every call."""
    folder = data_path("rules") / "areas"
    contents = {name: (folder / f"{name}.tsv").read_bytes() for name in TABLES}
    tables = {name: _parse(folder / f"{name}.tsv", contents[name]) for name in TABLES}
    digest = hashlib.sha256()
    for name in TABLES:
        digest.update(f"{name} {len(contents[name])}\n".encode())
        digest.update(contents[name])
    return AreaTables(digest=digest.digest(), states=_states(tables), **tables)


def sorted_places(states: Iterable[str], zones: Iterable[str]) -> Places:
    """The places of these names."""
    return Places(tuple(sorted(set(states))), tuple(sorted(set(zones))))


def _parse(path: Path, content: bytes) -> dict[str, Places]:
    lines = [line for line in content.decode().splitlines() if not line.startswith("#")]
    table: dict[str, Places] = {}
    for line in lines[1:]:
        key, states, zones = line.split("\t")
        if key in table:
            raise ValueError(f"{path.name}: {key} is there twice")
        table[key] = sorted_places(states.split(","), zones.split(","))
    return table


def _states(tables: Mapping[str, Mapping[str, Places]]) -> dict[str, tuple[str, ...]]:
    """Zones of each jurisdiction: of a subdivision those of the rows that name no other one.

    Of a country, its own and those of everything below it.
    """
    found: dict[str, set[str]] = {}
    for places in tables["countries"].values():
        found.setdefault(places.states[0], set()).update(places.zones)
    for name in ("area_codes", "ca_postal_codes", "subdivisions"):
        for places in tables[name].values():
            if len(places.states) == 1:
                (state,) = places.states
                found.setdefault(state, set()).update(places.zones)
                found.setdefault(state[:2], set()).update(places.zones)
    return {state: tuple(sorted(zones)) for state, zones in found.items()}
