"""Facts and the columns beside them, against plain readings one by one."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import fastavro
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent.contracts import RecordContract, fact_schema, parse_schema
from consent.evidence import element_bits
from consent.fact_columns import COLUMNS, NO_SUBJECT, TYPED, columns_of_facts
from consent.facts import BatchFacts, FactContext, LogPartition, facts_of, longs, needed_columns
from consent.intake import Origin, read_batch
from consent.privacy import party_token, subject_token
from tests.strategies import BROKER_TIME_US, Fields, Raw, event_records, events, raw_of

KEY = b"k" * 32
NONCE = b"n" * 16
LOG_ID = bytes(range(16))

TypedEvents = tuple[RecordContract, list[Fields]]


def batches() -> st.SearchStrategy[TypedEvents]:
    """A few events of one type."""
    return st.sampled_from(event_records()).flatmap(
        lambda record: st.tuples(st.just(record), st.lists(events(record), min_size=1, max_size=4))
    )


def made(record: RecordContract, fields: list[Fields], log_id: bytes = LOG_ID) -> BatchFacts:
    """Facts of events at offsets 5, 6, ..."""
    raws = [raw_of(record, event, 5 + index) for index, event in enumerate(fields)]
    return made_of(record.topic, raws, log_id)


def made_of(topic: str, raws: list[Raw], log_id: bytes = LOG_ID) -> BatchFacts:
    """Facts of raw records of partition 0 of 1."""
    recorded_at = [raw.timestamp * 1000 for raw in raws]
    reading = read_batch(raws, Origin(topic, 0, 1), NONCE, needed_columns, recorded_at)
    return facts_of(raws, recorded_at, reading, FactContext(LogPartition(log_id, topic, 0), KEY))


def fact_fields(fact: bytes) -> Fields:
    """The fact's envelope, decoded by the reference library, which must use every byte."""
    return read_whole(fact, fact_schema("Fact"))


def read_whole(data: bytes, schema: Any) -> Fields:
    source = io.BytesIO(data)
    fields = fastavro.schemaless_reader(source, schema, None)
    assert source.tell() == len(data)
    assert isinstance(fields, dict)
    return fields


@settings(deadline=None)
@given(batches())
def test_a_fact_is_what_its_schema_says(batch: TypedEvents) -> None:
    """Envelope, payload, tokens, elements and derived fields are those of the event."""
    record, fields = batch
    for index, (event, fact) in enumerate(zip(fields, made(record, fields).facts, strict=True)):
        envelope = fact_fields(fact)
        evidence = event["evidence"] or {}
        reference = evidence.get("party_reference")
        number = event.get("number")
        assert envelope["offset"] == 5 + index
        assert envelope["recorded_at"] == BROKER_TIME_US
        assert (envelope["log_id"], envelope["topic"], envelope["partition"]) == (
            LOG_ID,
            record.topic,
            0,
        )
        assert envelope["subject"] == (subject_token(KEY, number) if number else None)
        assert (envelope["event_name"], envelope["event_version"]) == (record.name, record.version)
        assert envelope["elements"] == element_bits(event)
        assert envelope["party"] == (
            None if reference is None else party_token(KEY, event["seller_id"], reference)
        )
        assert envelope["unreadable"] is None
        kept = {
            name: value
            for name, value in event.items()
            if name not in ("number", "salt", "evidence")
        }
        assert read_whole(envelope["payload"], fact_schema(record.name)) == kept


@settings(deadline=None)
@given(batches())
def test_columns_are_those_of_the_event(batch: TypedEvents) -> None:
    """Every column recomputed in bulk equals a plain reading of the event."""
    record, fields = batch
    facts = made(record, fields).facts
    frame = columns_of_facts(facts, NONCE)
    assert list(frame.columns) == list(COLUMNS)
    for event, fact, row in zip(fields, facts, frame.iter_rows(named=True), strict=True):
        assert row["fact"] == fact
        assert row["event_id"] == event["event_id"]
        assert row["test"] == event["test"]
        assert row["source_channel"] == event["source"]["channel"]
        assert _micros(row["occurred_at"]) == event["occurred_at"]
        assert _micros(row["effective_at"]) == event["occurred_at"]
        assert _micros(row["recorded_at"]) == BROKER_TIME_US
        assert row["states"] == (event.get("states") or fact_fields(fact)["derived_states"])
        for column in TYPED:
            name = next((name for name in column.fields if name in event), None)
            value = None if name is None else event[name]
            assert row[column.name] == _expected(value, column.many)


@settings(deadline=None)
@given(batches())
def test_evidence_binds_to_the_fact(batch: TypedEvents) -> None:
    """Salt, number and evidence bytes, kept apart, hash to the commitment in the fact."""
    record, fields = batch
    result = made(record, fields)
    evidence = result.evidence
    assert evidence.offset == [5 + index for index in range(len(fields))]
    declared = next(field for field in record.schema["fields"] if field["name"] == "evidence")
    schema = parse_schema(declared["type"][1])
    for index, event in enumerate(fields):
        salt, number = evidence.salt[index], evidence.number[index]
        bare = evidence.evidence[index]
        assert (salt, number) == (event["salt"], event.get("number"))
        commitment = hashlib.sha256(salt + (number or "").encode() + (bare or b"")).digest()
        assert fact_fields(result.facts[index])["commitment"] == commitment
        if bare is None:
            assert event["evidence"] is None
        else:
            assert read_whole(bare, schema) == event["evidence"]


@settings(deadline=None)
@given(batches(), st.binary(min_size=16, max_size=16))
def test_facts_do_not_depend_on_the_batch(batch: TypedEvents, nonce: bytes) -> None:
    """Alone or together, a record gives the same bytes; the nonce does not show."""
    record, fields = batch
    together = made(record, fields).facts
    for index, event in enumerate(fields):
        raw = raw_of(record, event, 5 + index)
        reading = read_batch([raw], Origin(record.topic, 0, 1), nonce, needed_columns)
        context = FactContext(LogPartition(LOG_ID, record.topic, 0), KEY)
        alone = facts_of([raw], [raw.timestamp * 1000], reading, context)
        assert alone.facts == [together[index]]


@given(st.lists(st.integers(0, 2**62)))
def test_longs_are_avro_longs(values: list[int]) -> None:
    """Vectorised encoding equals the reference library's."""
    expected = []
    for value in values:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema("long"), value)
        expected.append(out.getvalue())
    assert longs(values) == expected


@settings(deadline=None)
@given(st.binary(max_size=40), st.one_of(st.none(), st.binary(max_size=20)))
def test_any_bytes_become_a_fact(value: bytes, key: bytes | None) -> None:
    """What can't be read is a fact with its place and a reason, and with none of its bytes."""
    raws = [Raw(7, BROKER_TIME_US // 1000, key, value), Raw(8, BROKER_TIME_US // 1000, key, None)]
    result = made_of("consent-events", raws)
    frame = columns_of_facts(result.facts, NONCE)
    assert frame.get_column("offset").to_list() == [7, 8]
    assert all(frame.get_column("unreadable").to_list())
    assert result.evidence.offset == []
    assert set(frame.get_column("subject")) == {NO_SUBJECT}


@pytest.mark.parametrize("values", [[-1], [5, -(2**40)]])
def test_negative_longs_are_encoded_too(values: list[int]) -> None:
    """A broker time before 1970 does not break the encoding."""
    assert longs(values) != []
    for value, data in zip(values, longs(values), strict=True):
        assert fastavro.schemaless_reader(io.BytesIO(data), "long", None) == value


def _micros(value: Any) -> int:
    return int(polars.Series([value]).cast(polars.Int64).item())


def _expected(value: Any, many: bool) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if not many:
        return "" if value is None else value
    if isinstance(value, list):
        return value
    return [] if value is None else [value]
