"""Decisions that an engine version must give for ever; `python -m tests.golden` writes them anew.

Rows, states and surroundings are made here, so that they don't move with the rules of a release.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from consent.call import Calendar, Emergency, Holiday, Surroundings
from consent.decision import ENGINE_VERSION, Decision, decide
from consent.decision_record import verdict_fields
from consent.rulebook import Rulebook
from consent.state import EMPTY, SubjectState, merge, newest_attempts
from consent.state_entries import Attempt, LastOutcome, Reassignment, Relationship
from tests.decisions import (
    DAY,
    NOW,
    SELLER,
    attributes,
    grants,
    in_order,
    listing,
    refusal,
    request,
    rule,
    withdrawal,
)

FILE: Final = (
    Path(__file__).parent / "contract" / "data" / f"decisions-engine-{ENGINE_VERSION}.json"
)
_HOUR: Final = 3_600_000_000

_BOOK: Final = {
    "rulebook": {"version": "golden", "title": "Rows that never change"},
    "sources": {"HOUSE": "Nobody"},
    "zones": {"US": ["America/New_York", "America/Chicago"]},
    "registries": [{"id": "a_list", "jurisdiction": "US", "level": "national", "title": "A list"}],
    "calendars": {
        "US-XX": {
            "title": "Days",
            "shift": {"sat": -1, "sun": 1},
            "days": [
                {"name": "Thanksgiving", "nth": 4, "weekday": "thu", "month": 11},
                {"name": "Good Friday", "easter": -2},
                {"name": "New Year", "on": "01-01"},
            ],
        }
    },
    "reasons": [
        {"code": code, "group": group, "text": "t"}
        for code, group in (
            ("DATA_MISSING", "data"),
            ("VIEW_STALE", "unavailable"),
            ("VIEW_UNLOADED", "unavailable"),
            ("PARTY_TOO_LARGE", "unavailable"),
            ("REGISTRY_UNLOADED", "unavailable"),
            ("CONSENT_REVOKED", "consent"),
            ("INTERNAL_DNC", "list"),
            ("INTERNAL_DNC_PARTY", "list"),
            ("SCRUB_STALE", "list"),
            ("NATIONAL_DNC", "list"),
            ("EMERGENCY_BAN", "ban"),
            ("CONSENT_PEWC_MISSING", "consent"),
            ("CONSENT_EVIDENCE_INCOMPLETE", "consent"),
            ("CONSENT_SCOPE", "consent"),
            ("CONSENT_EXPIRED", "consent"),
            ("RND_REASSIGNED", "identity"),
            ("RND_STALE", "identity"),
            ("RND_NO_DATA", "identity"),
            ("RND_QUERY_MISSING", "identity"),
            ("FREQ_CAP", "timing"),
            ("REFUSAL_COOLDOWN", "timing"),
            ("ABANDON_COOLDOWN_72H", "timing"),
            ("ABANDON_CAP", "campaign"),
            ("HOLIDAY_BAN", "timing"),
            ("DAY_BANNED", "timing"),
            ("QUIET_HOURS", "timing"),
        )
    ],
    "obligations": [{"code": "ANNOUNCE_ID", "text": "t"}],
}


def _row(
    name: str, kind: str, params: dict[str, Any], reason: str, following: str, **given: Any
) -> dict[str, Any]:
    on_fail = {"effect": "deny", "reason": reason, "next": following}
    return rule(id=f"US-{name}", check={"kind": kind, "params": params}, on_fail=on_fail, **given)


def rulebook() -> Rulebook:
    """A row of every kind."""
    hours = {"mon-sat": [["09:00", "19:00"]], "sun": []}
    pewc = {"kinds": ["pewc"], "evidence_required": ["signature", "seller_named"]}
    recorded = {"mode": ["prerecorded", "artificial", "ai_voice"]}
    rate = {
        "numerator": "abandoned",
        "denominator": "live_answered",
        "max_ppm": 30_000,
        "min_denominator": 100,
        "period": "thirty_days",
    }
    purchase = {"relationship": {"kinds": ["purchase"], "months": 18, "days": 540}}
    unless = [{"code": "EBR", "when": purchase, "profiles": ["strict", "statutory"]}]
    withdrawn = {"fact": "not_withdrawn", "lifted_by": ["express", "pewc"]}
    refused = {"fact": "no_refusal_within", "days": 30, "per": "subject_matter"}
    abandoned = {"fact": "no_outcome_within", "outcome": "abandoned", "hours": 72}
    reassigned = {
        "fact": "not_reassigned",
        "max_age_days": 31,
        "certain_modes": ["prerecorded", "artificial", "ai_voice"],
        "if_relied_on": {"profile": ["statutory"]},
    }
    party = {"list_kinds": ["internal"], "linked": "all"}
    fresh = {"registries": ["a_list"], "max_age_days": 31}
    cap = {"max": 3, "hours": 24, "per": "subject_matter"}
    closed = {"calendars": ["US-XX"], "declared": True}
    rows = (
        _row(
            "HOURS",
            "window",
            {"days": hours, "closed_reason": "DAY_BANNED"},
            "QUIET_HOURS",
            "window",
            on_missing="strictest",
        ),
        _row("HOLIDAY", "holiday", closed, "HOLIDAY_BAN", "window"),
        _row("DAYS", "day_ban", {"days": ["sun"]}, "DAY_BANNED", "window"),
        _row("IDNC", "list_absent", {"list_kinds": ["internal"]}, "INTERNAL_DNC", "on_event"),
        _row("PARTY", "list_absent", party, "INTERNAL_DNC_PARTY", "on_event"),
        _row(
            "LISTED",
            "list_absent",
            {"registries": ["a_list"]},
            "NATIONAL_DNC",
            "on_event",
            unless=unless,
        ),
        _row("FRESH", "freshness", fresh, "SCRUB_STALE", "on_event"),
        _row("PEWC", "consent", pewc, "CONSENT_PEWC_MISSING", "on_event", applies_when=recorded),
        _row("CAP", "cap", cap, "FREQ_CAP", "cap_expiry"),
        _row(
            "RATE", "rate", rate, "ABANDON_CAP", "period_end", applies_when={"dial": ["predictive"]}
        ),
        _row("PLACE", "fact", {"fact": "place_known"}, "DATA_MISSING", "on_event"),
        _row("REVOKED", "fact", withdrawn, "CONSENT_REVOKED", "on_event"),
        _row(
            "REVOKED",
            "fact",
            withdrawn | {"scope": "any_call"},
            "CONSENT_REVOKED",
            "on_event",
            rev=2,
            status="pending",
        ),
        _row("REFUSED", "fact", refused, "REFUSAL_COOLDOWN", "cap_expiry"),
        _row("ABANDONED", "fact", abandoned, "ABANDON_COOLDOWN_72H", "cap_expiry"),
        _row("RND", "fact", reassigned, "RND_REASSIGNED", "on_event"),
        _row("EMERGENCY", "fact", {"fact": "no_emergency"}, "EMERGENCY_BAN", "on_event"),
        rule(id="US-ID", on_fail={"effect": "oblige", "reason": "ANNOUNCE_ID"}),
    )
    files = {"book.yaml": json.dumps(_BOOK), "rows.yaml": json.dumps({"rules": rows})}
    return Rulebook.load(files)


def _attempts(*ago: int) -> SubjectState:
    made = [
        Attempt(NOW - past, f"a-{past}", f"c-{past}", None, None, "MARKETING", "LIVE", "MANUAL")
        for past in ago
    ]
    return SubjectState(attempts={(SELLER, "offer-1"): newest_attempts(made)})


def _states() -> dict[str, SubjectState]:
    purchase = Relationship(NOW - DAY, "p", NOW // DAY - 300, "UNKNOWN", None, (), False)
    answer = Reassignment(NOW - DAY, "rnd", "YES", NOW // DAY - 100)
    return {
        "nothing": EMPTY,
        "consent": grants("PEWC"),
        "incomplete": grants("PEWC", evidence=("signature",)),
        "expired": grants("PEWC", expires_at=NOW),
        "withdrawn": merge(grants("PEWC"), withdrawal()),
        "agreed again": merge(withdrawal(), grants("EXPRESS", NOW - 1)),
        "other call withdrawn": withdrawal(purpose="DEBT"),
        "listed": listing(),
        "purchase": SubjectState(relationships={(SELLER, "PURCHASE", ""): purchase}),
        "refused": refusal(),
        "capped": _attempts(5 * _HOUR, 4 * _HOUR, 3 * _HOUR),
        "abandoned": SubjectState(outcomes={(SELLER, "ABANDONED"): LastOutcome(NOW - DAY, "x")}),
        "reassigned": merge(grants("PEWC"), SubjectState(reassignments={SELLER: answer})),
        "business": attributes(party=("BUSINESS",), line_type=("LANDLINE",), tags=("LITIGATOR",)),
    }


_REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "live": {},
    "voice": {"call_mode": "AI_VOICE", "profile": "STATUTORY"},
    "predictive": {"dial_mode": "PREDICTIVE"},
    "two zones": {
        "zones": ("America/Los_Angeles", "America/New_York"),
        "states": ("US-CA", "US-NY"),
    },
    "nowhere": {"states": ("US",), "zones": ()},
}
_TIMES: Final = {"noon": NOW + 2 * _HOUR, "night": NOW + 14 * _HOUR, "thanksgiving": NOW + 3 * DAY}


def cases() -> Iterator[tuple[str, Decision]]:
    """Every case by name, with its decision."""
    book = rulebook()
    emergency = Emergency("e-1", "US-NY", NOW, None)
    calendar = Calendar((Holiday("US-TX", NOW // DAY, "Storm"),), (emergency,))
    for asked_name, given in _REQUESTS.items():
        asked = request(**given)
        for state_name, state in _states().items():
            for time_name, at in _TIMES.items():
                around = in_order(asked, book, at)
                name = f"{asked_name}, {state_name}, {time_name}"
                yield name, decide(asked, state, around, book, at)
        around = in_order(asked, book)
        bare = Surroundings(calendar=calendar, linked=(listing(), _attempts(_HOUR)))
        yield f"{asked_name}, bare", decide(asked, _attempts(2 * _HOUR), bare, book, NOW)
        yield f"{asked_name}, calendar", decide(asked, EMPTY, _with(around, calendar), book, NOW)


def _with(around: Surroundings, calendar: Calendar) -> Surroundings:
    return Surroundings(around.registries, calendar, around.campaign, around.program)


def found() -> dict[str, Any]:
    """What this engine decides: in short, and a digest of all that would be recorded."""
    return {
        "rulebook": rulebook().digest.hex(),
        "decisions": {name: _shortened(decision) for name, decision in cases()},
    }


def _shortened(decision: Decision) -> dict[str, Any]:
    fields = verdict_fields(decision)
    record = json.dumps(fields, sort_keys=True).encode()
    shown = ("verdict", "reasons", "rule", "next_allowed", "next_allowed_at")
    return {name: fields[name] for name in shown} | {"sha256": hashlib.sha256(record).hexdigest()}


if __name__ == "__main__":
    FILE.write_text(json.dumps(found(), indent=0, sort_keys=True) + "\n")
