"""How many calls one core decides with every rule of the release, all facts at hand.

Calls go to every state of the US, by every mode, at all hours of a week, to numbers with consents,
withdrawals, attempts and listings, so that about half are denied. Request, state and registries are
prepared. The clock is that of the processor: others on the machine don't count.
"""

from __future__ import annotations

import random
import statistics
import time
from typing import Any, Final

from consent.call import (
    CALL_MODES,
    DIAL_MODES,
    PERIODS,
    CallerId,
    CallRequest,
    Campaign,
    ListMembership,
    Program,
    Registration,
    Registries,
    Surroundings,
    Tally,
)
from consent.contracts import data_path
from consent.decision import decide
from consent.evidence import ELEMENTS, bits_of
from consent.instants import MICROSECONDS, parse_instant
from consent.rulebook import Rulebook
from consent.state import EMPTY, SubjectState, merge, newest_attempts
from consent.state_entries import Attempt, Attribute, DncEntry, Grant, Withdrawal

CALLS: Final = 4_000
RUNS: Final = 7
SELLER: Final = "acme"
MONDAY: Final = parse_instant("2026-11-23T14:00:00Z")
CALLER_ID: Final = "+12025550100"
_HOUR_US: Final = 3600 * MICROSECONDS
_DAY_US: Final = 24 * _HOUR_US
_EVIDENCE: Final = bits_of(ELEMENTS)

Case = tuple[CallRequest, SubjectState, Surroundings, Rulebook, int]


def measure(seed: int) -> dict[str, Any]:
    """The row of the bench: the median of several runs, and what was decided."""
    rulebook = Rulebook.load(
        {path.name: path.read_text() for path in data_path("rules").glob("*.yaml")}
    )
    cases = [_case(random.Random(f"{seed}/{number}"), rulebook) for number in range(CALLS)]
    verdicts = [decide(*case) for case in cases]
    return {
        "name": "decide",
        "unit": "decisions/s",
        "ours": round(statistics.median(_rate(cases) for _ in range(RUNS))),
        "peers": {},
        "ratios": {},
        "rules": len(rulebook.rules),
        "allowed": round(sum(one.allowed for one in verdicts) / CALLS, 2),
        "unavailable": sum(one.verdict == "UNAVAILABLE" for one in verdicts),
        "rules_per_decision": round(sum(len(one.outcomes) for one in verdicts) / CALLS, 1),
    }


def _rate(cases: list[Case]) -> float:
    begun = time.process_time()
    for case in cases:
        decide(*case)
    return len(cases) / (time.process_time() - begun)


def _case(draw: random.Random, rulebook: Rulebook) -> Case:
    subdivisions = sorted(
        rule.subdivision for rule in rulebook.rules if rule.country == "US" and rule.subdivision
    )
    state = f"US-{draw.choice(subdivisions)}"
    zones = rulebook.zones_of((state,))
    at = MONDAY + draw.randrange(7) * _DAY_US + draw.randrange(14 * 3600) * MICROSECONDS
    request = CallRequest(
        seller_id=SELLER,
        purpose=draw.choice(("MARKETING", "MARKETING", "MARKETING", "INFORMATIONAL")),
        call_mode=draw.choice(("LIVE", "LIVE", "LIVE", "LIVE", *CALL_MODES)),
        dial_mode=draw.choice(DIAL_MODES),
        party="CONSUMER",
        states=(state,),
        zones=zones if draw.random() < 0.2 else (draw.choice(zones),),
        campaign_id="spring",
        subject_matter="offer-1",
        sector="OTHER",
        message_class="ADVERTISING",
        caller_id_number=CALLER_ID,
    )
    return request, _state(draw, at), _surroundings(state, rulebook, at), rulebook, at


def _state(draw: random.Random, at: int) -> SubjectState:
    state = EMPTY
    if draw.random() < 0.7:
        signed_at = at - draw.randrange(1, 300) * _DAY_US
        grant = Grant(signed_at, "g", None, None, _EVIDENCE, (), "CONSUMER")
        kind = draw.choice(("PEWC", "PEWC", "EXPRESS"))
        keys = [(SELLER, "MARKETING", mode, kind) for mode in CALL_MODES]
        state = merge(state, SubjectState(grants=dict.fromkeys(keys, grant)))
    if draw.random() < 0.6:
        line = Attribute(1, (draw.choice(("MOBILE", "LANDLINE")),))
        state = merge(state, SubjectState(attributes={"line_type": line}))
    if draw.random() < 0.4:
        ago = [draw.randrange(40 * 24) * _HOUR_US for _ in range(draw.randrange(1, 6))]
        attempts = [
            Attempt(at - past, f"a{n}", f"c{n}", None, None, "MARKETING", "LIVE", "MANUAL")
            for n, past in enumerate(ago)
        ]
        kept = newest_attempts(attempts)
        state = merge(state, SubjectState(attempts={(SELLER, "offer-1"): kept}))
    if draw.random() < 0.1:
        everything = (SELLER, "*", "*", "*")
        ended = Withdrawal(at - 3 * _DAY_US, "w", "WITHDRAWN")
        state = merge(state, SubjectState(withdrawals={everything: ended}))
    if draw.random() < 0.05:
        entry = DncEntry(at - 5 * _DAY_US, "d", True, at - 5 * _DAY_US, False)
        state = merge(state, SubjectState(dnc={(SELLER, "INTERNAL", "internal"): entry}))
    return state


def _surroundings(state: str, rulebook: Rulebook, at: int) -> Surroundings:
    lists = tuple(
        ListMembership(one.id, "*", "v1", at // _DAY_US - 5, False)
        for one in rulebook.registries_of((state,))
    )
    filed = tuple(
        Registration(f"{place}/{kind}", place, kind, 0)
        for place in (state, "US")
        for kind in ("TELEMARKETER", "BOND", "DNC_SUBSCRIPTION")
    )
    return Surroundings(
        registries=Registries(lists),
        campaign=Campaign(tuple(Tally(period, 500, 5, at - _DAY_US) for period in PERIODS)),
        program=Program(
            registrations=filed,
            caller_ids=(CallerId("a", CALLER_ID, 0, None, "geographic", True),),
            ring_seconds_min=20,
            recording_notice_available=True,
        ),
    )
