"""What a fact keeps of an event, and what it must not."""

from __future__ import annotations

import random
from typing import Any

import pytest

from consent.codec import encode
from consent.contracts import RecordContract, contracts
from consent.evidence import EVIDENCE_FIELDS
from consent.fact_columns import NO_SUBJECT, columns_of_facts
from consent.facts import BatchFacts, FactContext, LogPartition, facts_of, needed_columns
from consent.intake import Origin, read_batch
from consent.privacy import subject_token
from tests.strategies import (
    BROKER_TIME_US,
    Fields,
    Raw,
    event_records,
    filled,
    random_event,
    raw_of,
)

KEY = b"k" * 32
NONCE = b"n" * 16
NUMBER = "+14155550123"


def facts(topic: str, raws: list[Raw], partitions: int = 1, key: bytes = KEY) -> BatchFacts:
    """Facts of records of partition 0."""
    reading = read_batch(raws, Origin(topic, 0, partitions), NONCE, needed_columns)
    context = FactContext(LogPartition(bytes(16), topic, 0), key)
    return facts_of(raws, [raw.timestamp * 1000 for raw in raws], reading, context)


def event(name: str, **changes: Any) -> Fields:
    """A random event with some fields set."""
    record = contracts().record(name)
    return {**random_event(record, random.Random(1)), **changes}


def fact_row(name: str, **changes: Any) -> dict[str, Any]:
    """Columns of the fact of one event."""
    record = contracts().record(name)
    made = facts(record.topic, [raw_of(record, event(name, **changes), 0)])
    return columns_of_facts(made.facts, NONCE).row(0, named=True)


def address(**changes: str) -> dict[str, Any]:
    """Evidence that holds nothing but an address."""
    empty = dict.fromkeys(EVIDENCE_FIELDS)
    lists: dict[str, Any] = {"certificate_urls": [], "extra": []}
    parts = ("lines", "city", "county", "postal_code", "subdivision", "country")
    return {**empty, **lists, "address": {**dict.fromkeys(parts), **changes}}


@pytest.mark.parametrize("record", event_records(), ids=lambda record: record.name)
def test_no_evidence_reaches_a_fact(record: RecordContract) -> None:
    """Text in any field of evidence, the number and the salt are nowhere in the fact."""
    canary = "Canary Jane"

    def text(path: tuple[str, ...]) -> str:
        return f"{canary} {path[-1]}" if path[0] == "evidence" else "plain"

    fields = filled(record, text, NUMBER) | {"salt": b"SALTSALTSALTSALT"}
    made = facts(record.topic, [raw_of(record, fields, 0)])
    [fact] = made.facts
    assert made.evidence.offset == [0]
    row = columns_of_facts(made.facts, NONCE).row(0)
    for personal in (canary, NUMBER[1:], "SALTSALT"):
        assert personal.encode() not in fact
        assert personal not in repr(row)
    if record.has_number:
        assert made.evidence.number == [NUMBER]


def test_an_iso_address_gives_a_state_and_nothing_else() -> None:
    """The state of an address is derived; street, city and code are not kept."""
    evidence = address(
        lines="1 Elm Street", city="Austin", postal_code="73301", subdivision="tx", country="US"
    )
    row = fact_row("ConsentGranted", evidence=evidence)
    assert row["states"] == ["US-TX"]
    assert b"Elm" not in row["fact"] and b"73301" not in row["fact"]


@pytest.mark.parametrize(
    ("subdivision", "country"), [("Jane Doe", "US"), ("TX", "Jane"), ("TX\nJane", "US"), ("", "US")]
)
def test_free_text_in_an_address_gives_no_state(subdivision: str, country: str) -> None:
    """What is not a code is not derived from, for it could be anything."""
    evidence = address(subdivision=subdivision, country=country)
    assert fact_row("ConsentGranted", evidence=evidence)["states"] == []


def test_stated_states_go_before_an_address() -> None:
    """An event that names states is not overruled by an address in its evidence."""
    evidence = address(subdivision="TX", country="US")
    named = fact_row("NumberAttributesRecorded", evidence=evidence, states=["US-CA"])
    unnamed = fact_row("NumberAttributesRecorded", evidence=evidence, states=None)
    assert (named["states"], unnamed["states"]) == (["US-CA"], ["US-TX"])


def test_a_restriction_dated_ahead_counts_from_broker_time() -> None:
    """`effective_at` is the broker's time where the event's own is not believed."""
    ahead = BROKER_TIME_US + 3_600_000_000
    row = fact_row("ConsentWithdrawn", occurred_at=ahead)
    assert row["effective_at"] == row["recorded_at"] < row["occurred_at"]


def test_an_opt_out_of_which_only_the_key_can_be_read_has_its_subject() -> None:
    """An unreadable opt-out is found under its person, as its own kind, without a payload."""
    value = encode("ConsentWithdrawn", event("ConsentWithdrawn", number=NUMBER))[:-3]
    made = facts("consent-events", [Raw(0, BROKER_TIME_US // 1000, NUMBER.encode(), value)])
    row = columns_of_facts(made.facts, NONCE).row(0, named=True)
    assert (row["event_name"], row["unreadable"]) == ("ConsentWithdrawn", "UNDECODABLE")
    assert row["subject"] == subject_token(KEY, NUMBER)
    assert made.evidence.offset == []


def test_unreadable_records_commit_to_key_and_value() -> None:
    """Two unreadable records that differ anywhere have different facts, keyed ones at that."""
    at = BROKER_TIME_US // 1000
    versions = [
        facts("consent-events", [Raw(0, at, key, value)], key=secret).facts[0]
        for key, value, secret in (
            (b"a", b"bc", KEY),
            (b"ab", b"c", KEY),
            (None, b"bc", KEY),
            (b"a", None, KEY),
            (b"a", b"bc", b"x" * 32),
        )
    ]
    assert len(set(versions)) == len(versions)


def test_program_events_have_no_subject() -> None:
    """An event that is about no number stands under the empty subject."""
    assert fact_row("CampaignDeclared")["subject"] == NO_SUBJECT


def test_spellings_of_avro_lengths_do_not_matter() -> None:
    """Lengths written with needless bytes, as Avro allows, are split at the right place."""
    record = contracts().record("ConsentWithdrawn")
    fields = event("ConsentWithdrawn", number=NUMBER, evidence=address(city="Austin"))
    plain = raw_of(record, fields, 0)
    assert plain.value is not None
    at = plain.value.index(NUMBER.encode()) - 1
    length = plain.value[at : at + 1]
    long_length = bytes([length[0] | 0x80, 0])
    branch = at + 1 + len(NUMBER) + 16
    value = (
        plain.value[:at]
        + long_length
        + plain.value[at + 1 : branch]
        + bytes([plain.value[branch] | 0x80, 0])
        + plain.value[branch + 1 :]
    )
    odd = facts(record.topic, [Raw(0, plain.timestamp, plain.key, value)])
    straight = facts(record.topic, [plain])
    assert odd == straight


def test_a_reading_that_leaves_a_record_out_is_refused() -> None:
    """There is no offset without a fact."""
    record = contracts().record("DncAdded")
    raws = [raw_of(record, event("DncAdded"), offset) for offset in range(2)]
    reading = read_batch(raws[:1], Origin(record.topic, 0, 1), NONCE, needed_columns)
    context = FactContext(LogPartition(bytes(16), record.topic, 0), KEY)
    with pytest.raises(ValueError, match="cover"):
        facts_of(raws, [BROKER_TIME_US] * 2, reading, context)


def test_the_purpose_of_a_call_goes_before_the_scope_of_its_opt_out() -> None:
    """CallEnded has both: the columns tell about the call."""
    row = fact_row(
        "CallEnded",
        purpose="SURVEY",
        purposes=["MARKETING", "DEBT"],
        call_mode="AI_VOICE",
        modes=["LIVE"],
    )
    assert (row["purposes"], row["modes"]) == (["SURVEY"], ["AI_VOICE"])
