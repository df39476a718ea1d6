"""Which calls the events of a batch tell of."""

from __future__ import annotations

from typing import Any

import pytest

from consent.folding import needed_columns
from consent.intake import Origin, read_batch
from consent.partitioning import partition_of
from consent.tallies import Call, CampaignId
from consent.tally_events import CallSaid, call_of, calls_of, tally_columns
from tests.events import NOW_US, event, raw

NONCE = bytes(range(16))
NUMBER = "+14155550123"
HOME = partition_of(NUMBER.encode(), 4)
CAMPAIGN: dict[str, Any] = {"campaign_id": "autumn-26", "call_id": "call-1"}
ANSWERED: dict[str, Any] = {
    "outcome": "ANSWERED_LIVE",
    "answered_live": None,
    "abandoned": None,
    "greeting_ended_at": None,
    "agent_connected_at": None,
}


def said(name: str, **given: Any) -> CallSaid | None:
    fields = event(name, number=NUMBER, **({"contact_kind": "CALL"} | CAMPAIGN | given))
    return call_of(name, fields, NOW_US, 7)


def answered(**given: Any) -> tuple[bool, bool]:
    found = said("CallEnded", **(ANSWERED | given))
    assert found is not None
    return found.call.live, found.call.abandoned


def test_a_placed_call_is_an_attempt() -> None:
    """Whether it was answered is told by its end."""
    found = said("CallPlaced")
    assert found == CallSaid(
        7, CampaignId("acme", "autumn-26"), "call-1", Call(NOW_US, False, False)
    )


@pytest.mark.parametrize(
    "given",
    [{"campaign_id": None}, {"contact_kind": "TEXT"}, {"contact_kind": "RINGLESS_VOICEMAIL"}],
)
def test_what_is_no_call_of_a_campaign_is_not_counted(given: dict[str, Any]) -> None:
    """Neither as an attempt nor as anything else."""
    assert said("CallPlaced", **given) is None
    assert said("CallEnded", **(ANSWERED | given)) is None


def test_other_events_say_nothing() -> None:
    """Of calls."""
    assert call_of("ConsentGranted", event("ConsentGranted"), NOW_US, 0) is None


def test_a_contact_of_unknown_kind_counts_as_a_call() -> None:
    """In doubt it is counted."""
    assert said("CallPlaced", contact_kind="UNKNOWN") is not None


@pytest.mark.parametrize(
    ("given", "live", "abandoned"),
    [
        ({}, True, False),
        ({"outcome": "NO_ANSWER"}, False, False),
        ({"outcome": "MACHINE"}, False, False),
        ({"outcome": "TRANSFERRED"}, True, False),
        ({"outcome": "REFUSED"}, True, False),
        ({"outcome": "ABANDONED"}, True, True),
        ({"abandoned": True}, True, True),
        ({"outcome": "NO_ANSWER", "abandoned": True}, True, True),
        ({"outcome": "UNKNOWN", "answered_live": True}, True, False),
        ({"answered_live": False}, False, False),
        ({"answered_live": False, "outcome": "ABANDONED"}, True, True),
        ({"greeting_ended_at": 0, "agent_connected_at": 2_000_000}, True, False),
        ({"greeting_ended_at": 0, "agent_connected_at": 2_000_001}, True, True),
        ({"greeting_ended_at": 0, "agent_connected_at": 2_000_001, "abandoned": False}, True, True),
        ({"greeting_ended_at": 0, "agent_connected_at": None}, True, False),
        (
            {"outcome": "MACHINE", "greeting_ended_at": 0, "agent_connected_at": 9_000_000},
            False,
            False,
        ),
    ],
)
def test_who_answered_and_who_was_left(given: dict[str, Any], live: bool, abandoned: bool) -> None:
    """In doubt the stricter: fewer answered, more abandoned."""
    assert answered(**given) == (live, abandoned)


def test_a_rehearsal_counts_for_itself() -> None:
    """Under the seller's name with the prefix of rehearsals."""
    found = said("CallPlaced", test=True)
    assert found is not None
    assert found.campaign.seller_id == "test:acme"


def test_a_batch_says_what_its_events_say() -> None:
    """Columns and fields give the same; what belongs elsewhere is left out."""
    given = {"number": NUMBER, "contact_kind": "CALL", **CAMPAIGN}
    ended = ANSWERED | {"outcome": "ABANDONED", "agent_connected_at": 5, "greeting_ended_at": 1}
    records = [
        raw("CallPlaced", 10, **given),
        raw("CallEnded", 11, **given, **ended),
        raw("CallPlaced", 12, **(given | {"campaign_id": None})),
        raw("CallPlaced", 13, **(given | {"test": True})),
        raw("CallEnded", 14, **(given | ANSWERED | {"contact_kind": "TEXT"})),
    ]

    def columns(record: Any) -> list[str]:
        return [*needed_columns(record), *tally_columns(record)]

    for partition, offsets in ((HOME, [10, 11, 13]), ((HOME + 1) % 4, [])):
        origin = Origin("call-events", partition, 4)
        reading = read_batch(records, origin, NONCE, columns)
        found = sorted(calls_of(reading, records))
        assert [one.offset for one in found] == offsets
        for one in found:
            name = "CallEnded" if one.offset == 11 else "CallPlaced"
            fields = event(
                name, **given, test=one.offset == 13, **(ended if one.offset == 11 else {})
            )
            assert one == call_of(name, fields, NOW_US, one.offset)
