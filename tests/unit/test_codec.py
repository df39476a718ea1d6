"""One record on the wire."""

import os
from uuid import uuid4

import pytest

from consent import codec
from consent.contracts import contracts
from consent.errors import Unreadable
from tests.events import event


def test_what_is_encoded_is_decoded_again() -> None:
    """Encoding a record and decoding it gives the record and its fields back."""
    granted = event("ConsentGranted", purposes=["MARKETING"], expires_at=7)
    record, fields = codec.decode(codec.encode("ConsentGranted", granted))
    assert record.name == "ConsentGranted"
    assert fields == granted


def test_every_event_type_encodes() -> None:
    """Every event of every source topic has an encodable minimal form."""
    for topic in contracts().source_topics:
        for name in contracts().topics[topic].records:
            fields = event(name)
            assert codec.decode(codec.encode(name, fields))[1] == fields


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "NULL_VALUE"),
        (b"", "NOT_FRAMED"),
        (b"\x00\x00\x00\x00\x01", "NOT_FRAMED"),
        (b'{"number": 1}', "NOT_FRAMED"),
        (codec.frame(999_999, b"x"), "UNKNOWN_SCHEMA_ID"),
        (codec.encode("DncAdded", event("DncAdded"))[:-1], "UNDECODABLE"),
        (codec.encode("DncAdded", event("DncAdded")) + b"x", "UNDECODABLE"),
    ],
)
def test_a_value_that_is_no_record_says_why(value: bytes | None, reason: str) -> None:
    """An unusable value raises Unreadable with the code of its kind."""
    with pytest.raises(Unreadable) as raised:
        codec.decode(value)
    assert raised.value.reason == reason


def test_random_bytes_never_raise_anything_else() -> None:
    """Whatever bytes follow a known schema id, decoding answers or raises Unreadable."""
    for record in contracts().records:
        for size in (1, 7, 40, 400):
            for _ in range(10):
                try:
                    codec.decode(codec.frame(record.schema_id, os.urandom(size)))
                except Unreadable as unreadable:
                    assert unreadable.reason == "UNDECODABLE"


def test_an_unknown_field_is_refused() -> None:
    """A publisher's typing error must not vanish silently."""
    with pytest.raises(ValueError, match="purpose_s"):
        codec.encode("ConsentGranted", {**event("ConsentGranted"), "purpose_s": ["MARKETING"]})


def test_cloudevents_headers_name_the_event_and_no_number() -> None:
    """Headers are those of CloudEvents 1.0 binary mode, and hold nothing personal."""
    granted = event("ConsentGranted", event_id=str(uuid4()), occurred_at=1_790_000_000_123_456)
    headers = dict(codec.cloudevents_headers(contracts().record("ConsentGranted"), granted))
    assert headers["ce_id"] == granted["event_id"].encode()
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_type"] == b"ledger.consent.ConsentGranted.v1"
    assert headers["ce_time"] == b"2026-09-21T14:13:20.123456Z"
    assert not any(granted["number"].encode() in value for value in headers.values())
