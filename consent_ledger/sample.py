"""A made-up ledger to try things on: a few thousand events of fictional people and companies.

Every number is one of the 555-01xx numbers that are kept for fiction. Equal seeds give equal
documents, byte by byte; nothing here reads a clock.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

Document = dict[str, Any]

SEED: Final = 20261122
PEOPLE: Final = 620
HERO_NUMBER: Final = "+14155550123"
HERO_SELLER: Final = "acme-solar"
HERO_CHECK: Final[Mapping[str, Any]] = {
    "number": HERO_NUMBER,
    "seller_id": HERO_SELLER,
    "purpose": "INFORMATIONAL",
    "call_mode": "PRERECORDED",
    "dial_mode": "PREDICTIVE",
    "party": "CONSUMER",
}
"""May a machine call HERO_NUMBER with a recorded message? Only with its agreement.

The message does not advertise, so that the answer does not depend on the time of day.
"""
HERO_ADVERTISING: Final[Mapping[str, Any]] = {**HERO_CHECK, "purpose": "MARKETING"}
"""The same with advertising, for which there are hours."""
BEGIN: Final = datetime(2026, 8, 24, 14, 0, tzinfo=UTC)
DAYS: Final = 84

# area code: state, zone, town
_PLACES: Final[Mapping[str, tuple[str, str, str]]] = {
    "206": ("US-WA", "America/Los_Angeles", "Seattle"),
    "212": ("US-NY", "America/New_York", "New York"),
    "303": ("US-CO", "America/Denver", "Denver"),
    "312": ("US-IL", "America/Chicago", "Chicago"),
    "404": ("US-GA", "America/New_York", "Atlanta"),
    "415": ("US-CA", "America/Los_Angeles", "San Francisco"),
    "512": ("US-TX", "America/Chicago", "Austin"),
    "617": ("US-MA", "America/New_York", "Boston"),
}
_SELLERS: Final[Mapping[str, tuple[str, str]]] = {
    "acme-solar": ("solar panels", "Acme Solar"),
    "borealis-insurance": ("home insurance", "Borealis Insurance"),
    "cedar-travel": ("package tours", "Cedar Travel"),
}
_FIRST: Final = ("Alex", "Bea", "Chris", "Dana", "Eli", "Fran", "Gus", "Hana", "Ivo", "Jo", "Kim")
_LAST: Final = ("Archer", "Baker", "Cook", "Dyer", "Fisher", "Glover", "Hunter", "Mason", "Potter")
_OUTCOMES: Final = ("ANSWERED_LIVE", "NO_ANSWER", "BUSY", "MACHINE", "VOICEMAIL_LEFT")


@dataclass(frozen=True, slots=True)
class Sample:
    """Documents in the order in which they are to be published, and what there is to see in them.

    `late` were moved behind newer events, `repeated` are there twice under one event id.
    """

    documents: tuple[Document, ...]
    late: int
    repeated: int


@dataclass(slots=True)
class _Maker:
    """Draws everything from one seeded generator, in one fixed order."""

    draw: random.Random
    documents: list[Document] = field(default_factory=list)

    def add(self, kind: str, at: datetime, seller_id: str, system: str, **own: Any) -> Document:
        document: Document = {
            "type": kind,
            "event_id": str(uuid.UUID(int=self.draw.getrandbits(128), version=4)),
            "occurred_at": _text(at),
            "seller_id": seller_id,
            "source": {"system": system},
            **own,
        }
        self.documents.append(document)
        return document

    def soon(self, at: datetime, hours: float) -> datetime:
        return at + timedelta(seconds=self.draw.randint(60, int(hours * 3600)))

    def chance(self, share: float) -> bool:
        return self.draw.random() < share


def make_sample(seed: int = SEED, people: int = PEOPLE) -> Sample:
    """Events of `people` people; the first is HERO_NUMBER, who agreed and was called twice."""
    maker = _Maker(random.Random(seed))  # noqa: S311 - it must repeat, and hides nothing
    _add_programme(maker)
    for number in _numbers(maker.draw, people):
        _add_person(maker, number)
    ordered = sorted(maker.documents, key=lambda document: str(document["occurred_at"]))
    late = _delay_some(maker.draw, ordered)
    repeated = _repeat_some(maker.draw, ordered)
    return Sample(tuple(ordered), late, repeated)


def hero_renewal(at: datetime, event_id: uuid.UUID) -> Document:
    """The event by which HERO_NUMBER agrees anew, whatever was said before."""
    return {
        "type": "ConsentGranted",
        "event_id": str(event_id),
        "occurred_at": _text(at),
        "seller_id": HERO_SELLER,
        "source": {"system": "web-forms", "channel": "WEB"},
        "number": HERO_NUMBER,
        "change": "RENEWED",
        **_grant(HERO_SELLER, at, "Alex Archer", "198.51.100.7"),
    }


def hero_withdrawal(at: datetime, event_id: uuid.UUID) -> Document:
    """The event by which HERO_NUMBER takes back what it agreed to."""
    return {
        "type": "ConsentWithdrawn",
        "event_id": str(event_id),
        "occurred_at": _text(at),
        "seller_id": HERO_SELLER,
        "source": {"system": "text-gateway", "channel": "SMS"},
        "number": HERO_NUMBER,
        "manner": "KEYWORD",
        "keyword": "STOP",
        "evidence": {"wording": "STOP"},
    }


def _numbers(draw: random.Random, people: int) -> Iterator[str]:
    every = [f"+1{area}55501{line:02d}" for area in _PLACES for line in range(100)]
    every.remove(HERO_NUMBER)
    yield HERO_NUMBER
    yield from draw.sample(every, people - 1)


def _add_programme(maker: _Maker) -> None:
    for seller_id, (goods, name) in _SELLERS.items():
        campaign_id = f"{seller_id}-autumn"
        maker.add(
            "ScriptPublished", BEGIN, seller_id, "campaign-desk",
            script_id=f"{campaign_id}-script", version="1", content_sha256="5c" * 32,
            modes=["LIVE"], language="en-US", identifies_caller=True, offers_opt_out=True,
        )  # fmt: skip
        maker.add(
            "CampaignDeclared", BEGIN + timedelta(hours=1), seller_id, "campaign-desk",
            campaign_id=campaign_id, starts_at=_text(BEGIN + timedelta(days=1)),
            purposes=["MARKETING"], modes=["LIVE", "PRERECORDED"], dial_modes=["PREVIEW"],
            script_id=f"{campaign_id}-script", script_version="1", good_or_service=goods,
            seller_name=name,
        )  # fmt: skip
    maker.add(
        "HolidayDeclared", BEGIN, "*", "calendar-desk",
        declaration_id="us-thanksgiving-2026", jurisdiction="US", date="2026-11-26",
        name="Thanksgiving Day",
    )  # fmt: skip


def _add_person(maker: _Maker, number: str) -> None:
    hero = number == HERO_NUMBER
    seller_id = HERO_SELLER if hero else maker.draw.choice(sorted(_SELLERS))
    joined = BEGIN + timedelta(minutes=maker.draw.randint(60, (DAYS - 14) * 24 * 60))
    if hero or maker.chance(0.6):
        _add_attributes(maker, number, seller_id, joined)
    if not hero and maker.chance(0.08):
        _add_inquiry(maker, number, seller_id, joined)
    _add_grant(maker, number, seller_id, joined)
    last = joined
    for attempt in range(2 if hero else maker.draw.choice((0, 0, 1, 1, 2, 3))):
        last = maker.soon(last + timedelta(hours=20), 48)
        if not _add_call(maker, (number, seller_id), last, attempt, hero):
            return
    if not hero:
        _add_change_of_mind(maker, number, seller_id, maker.soon(last, 72))


def _add_attributes(maker: _Maker, number: str, seller_id: str, at: datetime) -> None:
    state, zone, _ = _PLACES[number[2:5]]
    maker.add(
        "NumberAttributesRecorded", at + timedelta(seconds=30), seller_id, "number-intelligence",
        number=number, line_type=maker.draw.choice(("MOBILE", "MOBILE", "LANDLINE", "VOIP")),
        party="CONSUMER", states=[state], zones=[zone], place_source="AREA_CODE",
    )  # fmt: skip


def _add_inquiry(maker: _Maker, number: str, seller_id: str, at: datetime) -> None:
    maker.add(
        "RelationshipRecorded", at, seller_id, "crm",
        number=number, relationship_kind="INQUIRY", on=at.date().isoformat(), status="ACTIVE",
        good_or_service=_SELLERS[seller_id][0],
    )  # fmt: skip


def _add_grant(maker: _Maker, number: str, seller_id: str, at: datetime) -> None:
    name = f"{maker.draw.choice(_FIRST)} {maker.draw.choice(_LAST)}"
    ip = f"198.51.100.{maker.draw.randint(1, 254)}"
    own = _grant(seller_id, at, name, ip)
    maker.add("ConsentGranted", at, seller_id, "web-forms", number=number, change="GIVEN", **own)


def _grant(seller_id: str, at: datetime, name: str, ip: str) -> Document:
    """A written agreement to calls of any kind, with all the evidence that advertising needs."""
    goods, seller = _SELLERS[seller_id]
    site = f"https://{seller_id}.example"
    return {
        "consent_kind": "PEWC",
        "purposes": ["MARKETING", "INFORMATIONAL"],
        "modes": ["LIVE", "PRERECORDED", "ARTIFICIAL", "AI_VOICE"],
        "signed_at": _text(at),
        "party": "CONSUMER",
        "seller_named": True,
        "number_named": True,
        "authorises_automated": True,
        "not_a_condition": True,
        "positive_act": True,
        "lawful_basis": "CONSENT",
        "collection_method": "WEB_FORM",
        "good_or_service": goods,
        "language": "en-US",
        "request_copy_sha256": "a1" * 32,
        "consent_copy_sha256": "b2" * 32,
        "evidence": {
            "name": name,
            "email": name.lower().replace(" ", ".") + "@example.com",
            "ip": ip,
            "page_url": f"{site}/quote",
            "wording": (
                f"I agree that {seller} may call me about {goods} at the number above, also with "
                "an automatic dialer or a recorded or artificial voice. I need not agree to buy."
            ),
            "wording_language": "en-US",
            "request_copy_uri": f"{site}/copies/request",
            "consent_copy_uri": f"{site}/copies/consent",
            "signature_method": "CHECKBOX",
            "signature": name,
        },
    }


def _add_call(maker: _Maker, who: tuple[str, str], at: datetime, attempt: int, hero: bool) -> bool:
    """One call; False if the person opted out in it."""
    number, seller_id = who
    call_id = f"call-{maker.draw.getrandbits(48):012x}"
    same: Document = {
        "number": number,
        "call_id": call_id,
        "campaign_id": f"{seller_id}-autumn",
        "purpose": "MARKETING",
        "dial_mode": "PREVIEW",
        "call_mode": "LIVE",
    }
    outcome = maker.draw.choice(_OUTCOMES)
    opted_out = not hero and outcome == "ANSWERED_LIVE" and maker.chance(0.12)
    ended = at + timedelta(seconds=maker.draw.randint(15, 240))
    maker.add("CallPlaced", at, seller_id, "dialer", attempt_of_day=1, **same)
    more: Document = {"opted_out": True, "opted_out_at": _text(ended)} if opted_out else {}
    maker.add(
        "CallEnded", ended, seller_id, "dialer",
        outcome=outcome, placed_at=_text(at), ended_at=_text(ended),
        duration_seconds=int((ended - at).total_seconds()), **same, **more,
    )  # fmt: skip
    return not opted_out


def _add_change_of_mind(maker: _Maker, number: str, seller_id: str, at: datetime) -> None:
    drawn = maker.draw.random()
    if drawn < 0.10:
        maker.add(
            "ConsentWithdrawn", at, seller_id, "text-gateway",
            number=number, manner="KEYWORD", keyword="STOP", evidence={"wording": "STOP"},
        )  # fmt: skip
    elif drawn < 0.15:
        maker.add(
            "DncAdded", at, seller_id, "contact-centre",
            number=number, list_kind="INTERNAL", requested_at=_text(at),
        )  # fmt: skip
    elif drawn < 0.18:
        maker.add(
            "ConsentRefused", at, seller_id, "contact-centre", number=number,
            purposes=["MARKETING"], objection=True,
        )  # fmt: skip


def _delay_some(draw: random.Random, documents: list[Document]) -> int:
    """Move one in 25 behind events that are up to a few days newer, as slow systems do."""
    moved = draw.sample(range(len(documents)), len(documents) // 25)
    for position in moved:
        late = documents.pop(position)
        documents.insert(min(len(documents), position + draw.randint(20, 200)), late)
    return len(moved)


def _repeat_some(draw: random.Random, documents: list[Document]) -> int:
    """Send one in 40 a second time, as publishers do that did not hear our answer."""
    repeated = draw.sample(range(len(documents)), len(documents) // 40)
    for position in sorted(repeated, reverse=True):
        again = min(len(documents), position + draw.randint(1, 400))
        documents.insert(again, documents[position])
    return len(repeated)


def _text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
