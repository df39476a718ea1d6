"""What sellers filed and declared, looked up for a call."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from consent.programs import ProgramBook, ProgramQuestion
from consent.tallies import CampaignId
from tests.events import NOW_US, event

SHOWN = "+18005550199"
HOUR_US = 3_600_000_000


def book(*events: tuple[str, dict[str, Any]]) -> ProgramBook:
    made = ProgramBook()
    for name, fields in events:
        made.take(name, fields, fields["occurred_at"])
    return made


def question(**given: Any) -> ProgramQuestion:
    asked: dict[str, Any] = {
        "seller_id": "acme",
        "campaign_id": "autumn-26",
        "states": ("US-TX",),
        "caller_id_number": SHOWN,
    }
    return ProgramQuestion(**(asked | given))


def registration(**given: Any) -> tuple[str, dict[str, Any]]:
    filed: dict[str, Any] = {
        "registration_id": "r-1",
        "jurisdiction": "US-TX",
        "registration_kind": "TELEMARKETER",
        "valid_from": 20_000,
    }
    return "RegistrationFiled", event("RegistrationFiled", **(filed | given))


def caller_id(**given: Any) -> tuple[str, dict[str, Any]]:
    shown: dict[str, Any] = {"authorisation_id": "a-1", "caller_id_number": SHOWN, "valid_from": 5}
    return "CallerIdAuthorised", event("CallerIdAuthorised", **(shown | given))


def campaign(**given: Any) -> tuple[str, dict[str, Any]]:
    declared: dict[str, Any] = {"campaign_id": "autumn-26", "starts_at": NOW_US}
    return "CampaignDeclared", event("CampaignDeclared", **(declared | given))


def test_nothing_filed_is_known_to_be_nothing() -> None:
    """Empty, which is not the same as not looked up; an undeclared campaign states nothing."""
    program = book().program(question())
    assert (program.registrations, program.caller_ids) == ((), ())
    assert program.recording_notice_available is None
    assert book().declared_start(CampaignId("acme", "autumn-26")) is None


def test_what_bears_on_the_call_is_found() -> None:
    """Of this seller, for the call's jurisdictions and their country, for the number shown."""
    events = [
        registration(),
        registration(registration_id="r-2", jurisdiction="US"),
        registration(registration_id="r-3", jurisdiction="US-FL"),
        registration(registration_id="r-4", seller_id="other"),
        registration(registration_id="r-5", test=True),
        caller_id(number_kind="mobile"),
        caller_id(authorisation_id="a-2", caller_id_number="+18005550198"),
        campaign(seller_type="nonprofit", ring_seconds_min=15, sectors=["CHARITY"]),
    ]
    program = book(*events).program(question())
    assert [one.registration_id for one in program.registrations or ()] == ["r-2", "r-1"]
    assert [one.number_kind for one in program.caller_ids or ()] == ["mobile"]
    assert (program.seller_type, program.ring_seconds_min) == ("nonprofit", 15)
    assert program.sectors == ("CHARITY",)
    anywhere = book(*events).program(question(states=("US",)))
    assert len(anywhere.registrations or ()) == 3
    rehearsed = book(*events).program(question(seller_id="test:acme"))
    assert [one.registration_id for one in rehearsed.registrations or ()] == ["r-5"]
    nothing_shown = book(*events).program(question(caller_id_number=None, campaign_id=None))
    assert (nothing_shown.caller_ids, nothing_shown.seller_type) == ((), None)


def test_the_newest_word_counts_in_any_order() -> None:
    """What is taken back is gone, also if that is known first; what is filed later stands."""
    filed = registration()
    taken_back = registration(occurred_at=NOW_US + 1, withdrawn=True)
    again = registration(occurred_at=NOW_US + 2, valid_until=20_100)
    for events in permutations((filed, taken_back)):
        assert book(*events).program(question()).registrations == ()
    for events in permutations((filed, taken_back, again)):
        (found,) = book(*events).program(question()).registrations or ()
        assert found.valid_until == 20_100
    at_once = registration(withdrawn=True)
    for events in permutations((filed, at_once)):
        assert book(*events).program(question()).registrations == ()


def test_the_same_event_twice_is_one() -> None:
    """Its first record counts, unless a later one takes back."""
    name, first = campaign(starts_at=NOW_US)
    later = first | {"starts_at": NOW_US + HOUR_US, "occurred_at": NOW_US + 1}
    made = book((name, first), (name, later))
    assert made.declared_start(CampaignId("acme", "autumn-26")) == NOW_US
    name, filed = registration()
    made = book((name, filed), (name, filed | {"withdrawn": True, "occurred_at": NOW_US + 1}))
    assert made.program(question()).registrations == ()


def test_a_moved_start_is_noticed() -> None:
    """The version changes with the start, and with nothing else."""
    made = book(campaign(starts_at=NOW_US))
    before = made.version
    name, same = campaign(starts_at=NOW_US, occurred_at=NOW_US + 1, seller_type="bank")
    made.take(name, same, same["occurred_at"])
    assert made.version == before
    name, moved = campaign(starts_at=NOW_US - HOUR_US, occurred_at=NOW_US + 2)
    made.take(name, moved, moved["occurred_at"])
    assert made.version > before
    assert made.declared_start(CampaignId("acme", "autumn-26")) == NOW_US - HOUR_US


def test_the_last_activation_is_known() -> None:
    """In the order of the log, rehearsals left out."""
    digests = [bytes([n]) * 32 for n in range(3)]
    events = [
        ("RulebookActivated", event("RulebookActivated", rulebook_digest=digest, test=n == 2))
        for n, digest in enumerate(digests)
    ]
    activation = book(*events).activation
    assert activation is not None
    assert activation.rulebook_digest == digests[1]
    assert activation.event_id == events[1][1]["event_id"]
