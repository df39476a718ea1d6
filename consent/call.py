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
from consent.state import ANY, TEST_PREFIX, SubjectState
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

PERIODS: Final = ("THIRTY_DAYS", "CALENDAR_MONTH", "TWENTY_FOUR_HOURS")
CONTACT_KINDS: Final = ("CALL", "TEXT", "RINGLESS_VOICEMAIL")
REGISTRATION_KINDS: Final = (
    "TELEMARKETER",
    "BOND",
    "LICENCE",
    "ADAD_PERMIT",
    "DNC_SUBSCRIPTION",
    "HEADER",
    "CALLER_PREFIX",
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
class Tally:
    """Counts of one of the campaign's current periods; None where they are not known."""

    period: str
    live_answered: int | None = None
    abandoned: int | None = None
    period_start_at: int | None = None


@dataclass(frozen=True, slots=True)
class Campaign:
    """Counts of the campaign's calls, at most one tally for each kind of period."""

    tallies: tuple[Tally, ...] = ()

    def tally(self, period: str) -> Tally | None:
        """The counts of the current period of this kind; None if they are not known."""
        return next((one for one in self.tallies if one.period == period), None)


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration, bond, licence or subscription on file. Dates in days since 1970-01-01."""

    registration_id: str
    jurisdiction: str
    kind: str
    valid_from: int
    valid_until: int | None = None
    campaign_id: str | None = None
    area: str | None = None


@dataclass(frozen=True, slots=True)
class CallerId:
    """The right to show a number; `valid_until_at` is exclusive."""

    authorisation_id: str
    number: str
    valid_from_at: int
    valid_until_at: int | None = None
    number_kind: str | None = None
    answers_opt_outs: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """What the seller filed and declared: registrations, caller ids, the campaign.

    Only what bears on the call need be here: it is all recorded. `registrations` and `caller_ids`
    are None if nobody looked, and empty if there are none. 0 and None are not stated.
    """

    registrations: tuple[Registration, ...] | None = None
    caller_ids: tuple[CallerId, ...] | None = None
    seller_type: str | None = None
    sectors: tuple[str, ...] = ()
    message_class: str = UNKNOWN
    ring_seconds_min: int = 0
    ring_count_min: int = 0
    recording_notice_available: bool | None = None
    free_to_recipient: bool | None = None
    answering_machine_detection: bool | None = None
    machine_detection_false_positives_ppm: int | None = None


NO_REGISTRIES: Final = Registries()
NO_CALENDAR: Final = Calendar()
NO_CAMPAIGN: Final = Campaign()
NO_PROGRAM: Final = Program()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that a decision looks at beside the request and the number's own state.

    `linked` are the states of the other numbers of the same person, in any order.
    """

    registries: Registries = NO_REGISTRIES
    calendar: Calendar = NO_CALENDAR
    campaign: Campaign = NO_CAMPAIGN
    program: Program = NO_PROGRAM
    linked: tuple[SubjectState, ...] = ()


NO_SURROUNDINGS: Final = Surroundings()


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
