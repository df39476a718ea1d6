"""What is made of a batch of records."""

import os
from dataclasses import replace

import pytest

from consent import codec
from consent.contracts import contracts
from consent.intake import FORWARDED_HEADER, BatchReading, Origin, read_batch
from consent.partitioning import partition_of
from consent.suspect import payload_end
from tests.events import NOW_US, RawEvent, event, raw

NONCE = os.urandom(16)
NUMBER = "+14155550123"
HOUR_US = 3_600_000_000


def home(number: str = NUMBER, topic: str = "consent-events") -> Origin:
    return Origin(topic, partition_of(number.encode(), 4), 4)


def read(*records: RawEvent, topic: str = "consent-events") -> BatchReading:
    return read_batch(records, home(topic=topic), NONCE)


def reasons(reading: BatchReading) -> list[str]:
    return [unreadable.reason for unreadable in reading.unreadable]


def test_records_in_order_are_grouped_by_kind() -> None:
    """Every record in order is in the group of its kind, at its position."""
    batch = [raw("ConsentGranted"), raw("ConsentWithdrawn"), raw("ConsentGranted")]
    reading = read(*batch)
    found = {group.record.name: group.indexes for group in reading.groups}
    assert found == {"ConsentGranted": [0, 2], "ConsentWithdrawn": [1]}
    assert not reading.unreadable
    assert not reading.forwards
    for group in reading.groups:
        assert group.effective_at == [NOW_US] * len(group.indexes)
        for end, body in zip(group.payload_ends, group.bodies, strict=True):
            assert end == payload_end(group.record, body)


def test_bad_records_do_not_disturb_their_neighbours() -> None:
    """One bad record of each kind between good ones leaves the good ones readable."""
    good = raw("ConsentGranted")
    assert good.value is not None
    bad = [
        replace(good, value=None),
        replace(good, value=b"{}"),
        replace(good, value=codec.frame(424242, b"abc")),
        replace(good, value=good.value[:-3]),
        replace(good, value=codec.encode("DncAdded", event("DncAdded"))),
    ]
    batch = [good]
    for each in bad:
        batch += [each, good]
    reading = read(*batch)
    assert [unreadable.index for unreadable in reading.unreadable] == [1, 3, 5, 7, 9]
    expected = ["NULL_VALUE", "NOT_FRAMED", "UNKNOWN_SCHEMA_ID", "UNDECODABLE", "WRONG_TOPIC"]
    assert reasons(reading) == expected
    assert [group.indexes for group in reading.groups] == [[0, 2, 4, 6, 8, 10]]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"occurred_at": NOW_US + HOUR_US}, "DATED_AHEAD"),
        ({"occurred_at": 0}, "OCCURRED_AT_MISSING"),
        ({"number": "415-555-0123"}, "NUMBER_INVALID"),
        ({"number": "+1 415 555 0123"}, "NUMBER_INVALID"),
        ({"seller_id": ""}, "SELLER_MISSING"),
        ({"seller_id": "*"}, "SELLER_MISSING"),
        ({"campaign_id": "for-4155550123"}, "NUMBER_IN_PAYLOAD"),
    ],
)
def test_a_grant_in_the_wrong_form_is_refused(given: dict, reason: str) -> None:
    """A permitting event with a wrong form is a dead letter with its reason, never applied."""
    record = replace(raw("ConsentGranted", **given), key=NUMBER.encode())
    reading = read(record)
    assert reasons(reading) == [reason]
    assert not reading.groups
    assert not reading.forwards
    assert not reading.unreadable[0].restricts


def test_a_little_ahead_is_in_order() -> None:
    """Up to five minutes ahead of the broker is a clock, not a claim."""
    reading = read(raw("ConsentGranted", occurred_at=NOW_US + 299_000_000))
    assert reading.groups[0].effective_at == [NOW_US + 299_000_000]


@pytest.mark.parametrize("occurred_at", [NOW_US + HOUR_US, 0])
def test_an_opt_out_with_a_wrong_date_counts_at_broker_time(occurred_at: int) -> None:
    """A restriction dated ahead, or not at all, counts from the broker's time, and alarms."""
    reading = read(raw("ConsentWithdrawn", occurred_at=occurred_at))
    assert reading.groups[0].effective_at == [NOW_US]
    assert sum(reading.alarms.values()) == 1


def test_an_opt_out_in_another_number_format_is_corrected() -> None:
    """It is produced again under the E.164 form, and the original kept as a dead letter."""
    record = raw("ConsentWithdrawn", number="+1 (415) 555-0123")
    reading = read(record)
    (forward,) = reading.forwards
    assert forward.key == NUMBER.encode()
    assert codec.decode(forward.value)[1]["number"] == NUMBER
    assert reasons(reading) == ["NUMBER_FORMAT"]
    assert not reading.groups


def test_an_opt_out_without_usable_number_goes_by_its_key() -> None:
    """Where only the key is a number, the opt-out is that number's."""
    record = replace(raw("ConsentWithdrawn", number="unknown"), key=NUMBER.encode())
    (forward,) = read(record).forwards
    assert codec.decode(forward.value)[1]["number"] == NUMBER


@pytest.mark.parametrize("key", [None, b"\xff\xfe", b"+442079460018"])
def test_a_wrong_key(key: bytes | None) -> None:
    """A grant under a wrong key is refused, an opt-out is forwarded to its number."""
    assert reasons(read(replace(raw("ConsentGranted"), key=key))) == ["KEY_MISMATCH"]
    reading = read(replace(raw("ConsentWithdrawn"), key=key))
    assert [forward.key for forward in reading.forwards] == [NUMBER.encode()]
    assert reading.groups[0].foreign == {0}


def test_a_wrong_partition_is_forwarded_once() -> None:
    """A record of another partition is not folded here; the second time it is a dead letter."""
    origin = Origin("consent-events", (partition_of(NUMBER.encode(), 4) + 1) % 4, 4)
    record = raw("ConsentGranted")
    reading = read_batch([record], origin, NONCE)
    assert [forward.reason for forward in reading.forwards] == ["WRONG_PARTITION"]
    assert reading.forwards[0].value == record.value
    assert reading.groups[0].foreign == {0}
    again = replace(record, headers=((FORWARDED_HEADER, b"1"),))
    assert reasons(read_batch([again], origin, NONCE)) == ["FORWARDED_TWICE"]


@pytest.mark.parametrize("name", ["ConsentWithdrawn", "ConsentRefused", "ConsentInvalidated"])
def test_an_opt_out_of_which_only_kind_and_key_can_be_read_restricts(name: str) -> None:
    """It must be applied as a withdrawal of everything, and a person must hear of it."""
    record = raw(name)
    assert record.value is not None
    reading = read(replace(record, value=record.value[:-4]))
    (unreadable,) = reading.unreadable
    assert (unreadable.restricts, unreadable.number) == (True, NUMBER)
    assert sum(reading.alarms.values()) == 1


def test_a_truncated_grant_does_not_restrict() -> None:
    """A permission that can't be read is nothing."""
    record = raw("ConsentGranted")
    assert record.value is not None
    (unreadable,) = read(replace(record, value=record.value[:-4])).unreadable
    assert not unreadable.restricts


def test_only_the_needed_columns_are_decoded() -> None:
    """The caller names its columns; the frames hold them beside those that the checks use."""
    batch = [raw("ConsentGranted")]
    reading = read_batch(batch, home(), NONCE, needed=lambda record: ["purposes"])
    columns = set(reading.groups[0].frame.columns)
    assert columns == {"purposes", "occurred_at", "seller_id", "salt", "number"}


def test_evidence_may_repeat_the_number() -> None:
    """A form that quotes the number is evidence; the payload still ends where it should."""
    record = contracts().record("ConsentWithdrawn")
    fields = event("ConsentWithdrawn")
    schema = next(f for f in record.parsed["fields"] if f["name"] == "evidence")["type"][1]
    evidence = {field["name"]: field["default"] for field in schema["fields"]}
    evidence["note"] = f"call me at {NUMBER}"
    value = codec.encode("ConsentWithdrawn", {**fields, "evidence": evidence})
    (group,) = read(RawEvent(0, NOW_US // 1000, NUMBER.encode(), value)).groups
    assert group.payload_ends == [payload_end(record, group.bodies[0])]
    assert b"4155550123" not in group.bodies[0][: group.payload_ends[0]]


def test_every_kind_of_record_can_be_read() -> None:
    """Each event type of each source topic is readable in its own topic."""
    for topic, contract in contracts().topics.items():
        if contract.source:
            batch = [raw(name) for name in contract.records]
            partitions = 4 if contract.keyed else 1
            partition = partition_of(NUMBER.encode(), 4) if contract.keyed else 0
            reading = read_batch(batch, Origin(topic, partition, partitions), NONCE)
            assert not reading.unreadable, topic
            assert len(reading.groups) == len(batch)


@pytest.mark.parametrize(
    ("name", "topic", "withdrawn", "refused"),
    [
        ("RegistrationFiled", "program-events", False, True),
        ("RegistrationFiled", "program-events", True, False),
        ("CallerIdAuthorised", "program-events", False, True),
        ("CallerIdAuthorised", "program-events", True, False),
        ("HolidayDeclared", "calendar-events", False, False),
        ("HolidayDeclared", "calendar-events", True, True),
    ],
)
def test_what_takes_back_does_the_opposite(
    name: str, topic: str, withdrawn: bool, refused: bool
) -> None:
    """Dated ahead, what permits in effect is refused, what restricts counts at broker time."""
    batch = [raw(name, occurred_at=NOW_US + HOUR_US, withdrawn=withdrawn)]
    reading = read_batch(batch, Origin(topic, 0, 1), NONCE)
    assert reasons(reading) == (["DATED_AHEAD"] if refused else [])
    assert [group.effective_at for group in reading.groups] == ([] if refused else [[NOW_US]])


def test_what_concerns_no_seller_may_name_none() -> None:
    """Attributes of a number are in order for every seller; only permissions need one."""
    reading = read(raw("NumberAttributesRecorded", seller_id="*"))
    assert not reading.unreadable
    assert reading.groups[0].indexes == [0]


def test_an_unreadable_opt_out_is_sent_to_its_number() -> None:
    """Only in its number's partition does an opt-out count that can't be read: anywhere else it is
    forwarded there, as it is, and only once.
    """
    cut_off = raw("ConsentWithdrawn")
    assert cut_off.value is not None
    cut_off = replace(cut_off, value=cut_off.value[:-3])
    elsewhere = replace(home(), partition=(home().partition + 1) % 4)
    reading = read_batch([cut_off], elsewhere, NONCE)
    assert [unreadable.restricts for unreadable in reading.unreadable] == [False]
    assert reading.alarms == {"opt_out_unreadable": 1}
    (forward,) = reading.forwards
    assert (forward.key, forward.value) == (cut_off.key, cut_off.value)
    arrived = replace(cut_off, headers=((FORWARDED_HEADER, b"1"),))
    assert read_batch([arrived], home(), NONCE).unreadable[0].restricts
    assert not read_batch([arrived], elsewhere, NONCE).forwards
