"""Certificates of erasure, what they say is kept, and until when copies last."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

from consent.certificates import (
    ExecutedPlace,
    canonical_bytes,
    certificate_of,
    certificate_text,
    entry_of,
)
from consent.codec import encode
from consent.contracts import contracts
from consent.retention_rules import reached_topics, retained, topics_horizon_ms
from tests.events import event

DAY_MS = 86_400_000
PLACE = ExecutedPlace(b"l" * 16, "privacy-requests", 1, 7, 1_795_000_000_000_000)
SUBJECT = b"s" * 16


def certificate(**given: Any) -> dict[str, Any]:
    """A certificate of an erasure that keeps what the law orders."""
    fields = event("ErasureExecuted", request_id="REQ-1", **given)
    return certificate_of(fields, PLACE, SUBJECT)


def test_it_is_a_function_of_the_event() -> None:
    """The same event gives the same bytes, whenever it is asked for, and names nobody."""
    given = {"retained": list(retained(False)), "certificate_id": "C-1", "event_id": "e"}
    assert canonical_bytes(certificate(**given)) == canonical_bytes(certificate(**given))
    text = certificate_text(certificate(**given))
    assert "+1415" not in text and SUBJECT.hex() in text
    assert all(item in text for item in retained(False))


def test_the_entry_that_seals_it_has_its_digest() -> None:
    """Its id is that of all that the certificate says; the record can be written."""
    made = certificate(certificate_id="C-1")
    entry = entry_of(made, PLACE.recorded_at)
    assert entry["content_sha256"] == hashlib.sha256(canonical_bytes(made)).digest()
    assert entry["entry_id"] == entry_of(made, PLACE.recorded_at)["entry_id"]
    assert entry["entry_id"] != entry_of(certificate(certificate_id="C-2"), 1)["entry_id"]
    assert encode("LogEntry", entry)


def test_two_events_with_one_certificate_id_are_sealed_each() -> None:
    """A publisher may send an erasure twice, or give the id of one to another: neither is lost."""
    made = certificate(certificate_id="C-1", event_id="one")
    other = certificate(certificate_id="C-1", event_id="another")
    place = ExecutedPlace(**{**asdict(PLACE), "offset": 8})
    again = certificate_of(
        event("ErasureExecuted", request_id="REQ-1", certificate_id="C-1", event_id="one"),
        place,
        SUBJECT,
    )
    ids = {entry_of(one, PLACE.recorded_at)["entry_id"] for one in (made, other, again)}
    assert len(ids) == 3


def test_an_instant_that_no_calendar_has_stops_nobody() -> None:
    """What a publisher sends must not stop the worker that seals it."""
    odd = certificate(cutoff_at=1 << 62, topics_until=-(1 << 62))
    assert certificate_text(odd)


def test_horizons_are_those_of_the_topics() -> None:
    """The longest is that of the dead letters: thirty days and the day of an open segment."""
    assert 31 * DAY_MS < topics_horizon_ms(contracts()) < 32 * DAY_MS


def test_a_kept_proof_is_said_and_left_out() -> None:
    """Evidence of consents is not reached then, and the certificate says why."""
    topics = contracts().keyed_source_topics
    assert set(reached_topics(topics, False)) == set(topics)
    assert set(topics) - set(reached_topics(topics, True)) == {"consent-events"}
    assert len(retained(True)) == len(retained(False)) + 1
