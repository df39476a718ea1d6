"""What is asked about a call, and what surrounds it beside the number's own state.

The request holds no number: a decision needs none, and what is recorded of it must not have one.
Everything here is plain data; deriving candidates from a number, or reading a registry, is done
at the edge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from consent.errors import Rejected
from consent.state_entries import ANY, TEST_PREFIX
from consent.zones import zone_names

UNKNOWN: Final = "UNKNOWN"
PURPOSES: Final = ("MARKETING", "INFORMATIONAL", "TRANSACTIONAL", "SURVEY", "DEBT")
CALL_MODES: Final = ("LIVE", "PRERECORDED", "ARTIFICIAL", "AI_VOICE")
DIAL_MODES: Final = ("MANUAL", "PREVIEW", "PROGRESSIVE", "PREDICTIVE", "ATDS")
PARTIES: Final = ("CONSUMER", "BUSINESS")
PROFILES: Final = ("STRICT", "STATUTORY")
SECTORS: Final = (
    "ENERGY_RENOVATION",
    "HOME_ADAPTATION",
    "CLAIMS_MANAGEMENT",
    "PENSIONS",
    "NEWSPAPER",
    "OFFICE_SUPPLIES",
    "CHARITY",
    "POLITICAL",
    "OTHER",
)
MESSAGE_CLASSES: Final = (
    "ADVERTISING",
    "NON_COMMERCIAL",
    "COMMERCIAL_WITHOUT_ADVERTISING",
    "NONPROFIT",
    "HEALTH_CARE",
    "PACKAGE_NOTICE",
)

CANDIDATES_MAX: Final = 64
"""At most so many candidate states, zones or counties in one request."""

_JURISDICTION: Final = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A call that somebody wants to make. Words are those of the event schemas.

    UNKNOWN, for a purpose or a mode, is read in the strictest way: every rule for any of them
    applies, and no consent covers it. `states` are the candidate jurisdictions, with the country
    (`US-TX`, `GB`), `zones` the candidate IANA zones; what the number's own state adds to them is
    added when deciding. `caller_id_number` is the seller's number to be shown. A `test` request
    is decided by rehearsed events only. Raises Rejected for what can't be decided about.
    """

    seller_id: str
    purpose: str
    call_mode: str
    dial_mode: str = UNKNOWN
    party: str = UNKNOWN
    profile: str = "STRICT"
    states: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    counties: tuple[str, ...] = ()
    campaign_id: str | None = None
    subject_matter: str | None = None
    request_id: str | None = None
    telemarketer_id: str | None = None
    good_or_service: str | None = None
    sector: str = UNKNOWN
    message_class: str = UNKNOWN
    emergency_purpose: bool | None = None
    caller_id_number: str | None = None
    script_id: str | None = None
    script_version: str | None = None
    message_id: str | None = None
    shipment_id: str | None = None
    failed_signature_attempts: int | None = None
    test: bool = False

    def __post_init__(self) -> None:
        if not self.seller_id or self.seller_id == ANY or self.seller_id.startswith(TEST_PREFIX):
            remedy = "give the id of the one seller on whose behalf the call is made"
            raise Rejected("RESERVED", "seller_id", self.seller_id, remedy)
        for field, value, words in (
            ("purpose", self.purpose, PURPOSES),
            ("call_mode", self.call_mode, CALL_MODES),
            ("dial_mode", self.dial_mode, DIAL_MODES),
            ("party", self.party, PARTIES),
            ("profile", self.profile, PROFILES),
            ("sector", self.sector, SECTORS),
            ("message_class", self.message_class, MESSAGE_CLASSES),
        ):
            if value not in words and value != UNKNOWN:
                remedy = f"use one of {', '.join(words)}"
                raise Rejected("UNKNOWN_VALUE", field, value[:40], remedy)
        _check_places("states", self.states, is_jurisdiction)
        _check_places("zones", self.zones, zone_names().__contains__)
        if len(self.counties) > CANDIDATES_MAX:
            raise _too_many("counties")


@dataclass(frozen=True, slots=True)
class ListMembership:
    """Whether one registry holds the number. `member` is None if the list was not loaded.

    Dates are days since 1970-01-01; `version_date` is the date of the list, not of the look-up.
    """

    list_id: str
    area: str | None = None
    version: str | None = None
    version_date: int | None = None
    member: bool | None = None
    listed_on: int | None = None


@dataclass(frozen=True, slots=True)
class Registries:
    """The lists that were looked up for the number."""

    lists: tuple[ListMembership, ...] = ()

    def membership(self, list_id: str) -> ListMembership | None:
        """The answer of one list; None if it was not looked up."""
        return next((one for one in self.lists if one.list_id == list_id), None)


@dataclass(frozen=True, slots=True)
class Holiday:
    """A declared day. `date` in days since 1970-01-01; no counties means all of them."""

    jurisdiction: str
    date: int
    name: str
    counties: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Emergency:
    """A declared emergency; `until_at` is None while no end is announced."""

    declaration_id: str
    jurisdiction: str
    from_at: int
    until_at: int | None = None
    counties: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Calendar:
    """Declared holidays and emergencies of the candidate jurisdictions."""

    holidays: tuple[Holiday, ...] = ()
    emergencies: tuple[Emergency, ...] = ()


@dataclass(frozen=True, slots=True)
class Campaign:
    """Counts of the campaign's current period; None where they are not known."""

    live_answered: int | None = None
    abandoned: int | None = None
    period_start_at: int | None = None


NO_REGISTRIES: Final = Registries()
NO_CALENDAR: Final = Calendar()
NO_CAMPAIGN: Final = Campaign()


def is_jurisdiction(text: str) -> bool:
    """True for `US`, `US-TX`, `GB`: a country, or a country and its subdivision."""
    return _JURISDICTION.fullmatch(text) is not None


def candidate_states(places: Iterable[str], aliases: Mapping[str, str]) -> tuple[str, ...]:
    """The jurisdictions among these, sorted, by one name each.

    A country alone adds nothing to a subdivision of it.
    """
    found = {aliases.get(place, place) for place in places if is_jurisdiction(place)}
    narrowed = {state[:2] for state in found if len(state) > 2}
    return tuple(sorted(found - narrowed))


def candidate_zones(names: Iterable[str]) -> tuple[str, ...]:
    """The IANA zones among these, sorted."""
    return tuple(sorted(zone_names().intersection(names)))


def _check_places(field: str, values: tuple[str, ...], known: Callable[[str], bool]) -> None:
    if len(values) > CANDIDATES_MAX:
        raise _too_many(field)
    for value in values:
        if not known(value):
            remedy = "use US, US-TX or GB" if field == "states" else "use the name of an IANA zone"
            raise Rejected("UNKNOWN_VALUE", field, value[:40], remedy)


def _too_many(field: str) -> Rejected:
    remedy = f"give at most {CANDIDATES_MAX}"
    return Rejected("TOO_MANY", field, f"more than {CANDIDATES_MAX}", remedy)
