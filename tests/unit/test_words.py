"""Events in plain words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from consent.contracts import RecordContract, contracts
from consent_ledger.words import summary_of
from tests.events import event
from tests.strategies import any_events

KEYED = [
    name for topic in contracts().keyed_source_topics for name in contracts().topics[topic].records
]


@given(any_events())
def test_every_event_can_be_told(drawn: tuple[RecordContract, dict[str, Any]]) -> None:
    """Whatever its fields, an event has one sentence, and never the person's number."""
    record, fields = drawn
    told = summary_of(record.name, fields)
    assert told
    assert "\n" not in told
    if record.has_number:
        assert fields["number"][1:] not in told


@pytest.mark.parametrize("name", KEYED)
def test_events_about_a_number_have_words_of_their_own(name: str) -> None:
    """No event of a number is told by the name of its schema."""
    assert summary_of(name, event(name)) != name


@pytest.mark.parametrize(
    ("name", "fields", "told"),
    [
        (
            "ConsentGranted",
            {"consent_kind": "PEWC", "purposes": ["MARKETING"], "modes": ["LIVE", "AI_VOICE"]},
            "Gave prior express written consent to marketing calls by a live caller or with an "
            "AI voice",
        ),
        (
            "ConsentGranted",
            {"consent_kind": "EXPRESS", "purposes": ["UNKNOWN"], "modes": ["LIVE"]},
            "A grant that grants nothing: kind, purposes or modes are missing",
        ),
        ("ConsentWithdrawn", {}, "Took back consent to all calls from this seller"),
        (
            "ConsentWithdrawn",
            {"purposes": ["MARKETING", "UNKNOWN"], "all_sellers": True},
            "Took back consent to all calls from every seller",
        ),
        ("ConsentRefused", {"objection": True}, "Objected to all calls"),
        ("DncAdded", {}, "Asked this seller not to call"),
        (
            "DialDecision",
            {"purpose": "MARKETING", "call_mode": "LIVE", "verdict": "DENY", "reason": "X"},
            "Asked whether a marketing call by a live caller may be placed: denied (X)",
        ),
        (
            "DialDecision",
            {"purpose": "INFORMATIONAL", "call_mode": "LIVE", "verdict": "ALLOW"},
            "Asked whether an informational call by a live caller may be placed: allowed",
        ),
    ],
)
def test_sentences(name: str, fields: dict[str, Any], told: str) -> None:
    """A sentence says what its fields mean; an unknown scope is told as all."""
    assert summary_of(name, event(name, **fields)) == told


def test_whose_number_it_is_is_told_without_naming_the_person() -> None:
    """The reference itself is evidence."""
    told = summary_of("NumberAttributesRecorded", event("NumberAttributesRecorded"), True)
    assert told.endswith("; it is one of a person's numbers")
