"""Columnar decoding against decoding one by one."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent import codec
from consent.columns import ColumnsUnreadable, decode_columns, field_symbols
from consent.contracts import contracts, named_types, parse_schema
from consent.evidence import BITS, element_bits, element_column
from tests.events import event

NONCE = os.urandom(16)
GRANT = contracts().record("ConsentGranted")

grants = st.fixed_dictionaries(
    {
        "seller_id": st.text(max_size=20),
        "consent_kind": st.sampled_from(["UNKNOWN", "EXPRESS", "PEWC"]),
        "purposes": st.lists(st.sampled_from(["MARKETING", "SURVEY", "DEBT"]), max_size=3),
        "modes": st.lists(st.sampled_from(["LIVE", "AI_VOICE"]), max_size=2),
        "expires_at": st.none() | st.integers(0, 2**52),
        "seller_named": st.booleans(),
        "signed_at": st.none() | st.integers(0, 2**52),
        "notice_sha256": st.none() | st.binary(max_size=32),
        "salt": st.binary(min_size=16, max_size=16),
    }
)
evidences = st.none() | st.fixed_dictionaries(
    {
        "name": st.none() | st.text(max_size=9),
        "certificate_urls": st.lists(st.text(max_size=9), max_size=2),
        "signature_method": st.none() | st.sampled_from(["CHECKBOX", "KEY_PRESS"]),
        "address": st.none() | st.just({"country": "US"}),
        "extra": st.lists(st.just({"name": "a", "value": "b"}), max_size=2),
    }
)


def body_of(given_fields: dict, evidence: dict | None) -> bytes:
    fields = event("ConsentGranted", **given_fields)
    return codec.encode_body(GRANT.parsed, {**fields, "evidence": _whole(evidence)})


def _whole(evidence: dict | None) -> dict | None:
    if evidence is None:
        return None
    schema = next(f for f in GRANT.parsed["fields"] if f["name"] == "evidence")["type"][1]
    whole = {f["name"]: evidence.get(f["name"], f["default"]) for f in schema["fields"]}
    if whole["address"] is not None:
        names = ("lines", "city", "county", "postal_code", "subdivision", "country")
        whole["address"] = {name: whole["address"].get(name) for name in names}
    return whole


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(grants, evidences), min_size=1, max_size=8))
def test_columns_hold_what_decoding_one_by_one_gives(drawn: list) -> None:
    """Every column equals the field decoded alone, enums as the index of their symbol."""
    bodies = [body_of(*each) for each in drawn]
    frame = decode_columns(GRANT, bodies, NONCE)
    symbols = field_symbols(GRANT)["consent_kind"]
    modes = field_symbols(GRANT)["modes"]
    for row, body in zip(frame.iter_rows(named=True), bodies, strict=True):
        fields = codec.decode_body(GRANT.parsed, body)
        assert symbols[row["consent_kind"]] == fields["consent_kind"]
        assert [modes[index] for index in row["modes"]] == fields["modes"]
        for name in ("seller_id", "expires_at", "salt", "number", "seller_named", "event_id"):
            assert row[name] == fields[name]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(grants, evidences), min_size=1, max_size=6))
def test_element_bits_are_the_same_by_row_and_by_column(drawn: list) -> None:
    """The vectorised bit set equals the plain one."""
    bodies = [body_of(*each) for each in drawn]
    frame = decode_columns(GRANT, bodies, NONCE)
    plain = [element_bits(codec.decode_body(GRANT.parsed, body)) for body in bodies]
    assert element_column(frame).to_list() == plain


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(grants, evidences), min_size=2, max_size=5),
    st.data(),
)
def test_a_damaged_body_is_never_read_as_something_else(drawn: list, data: st.DataObject) -> None:
    """Cutting, growing or moving bytes between neighbours is refused, whatever they decode to."""
    bodies = [body_of(*each) for each in drawn]
    victim = data.draw(st.integers(0, len(bodies) - 2))
    cut = data.draw(st.integers(1, len(bodies[victim]) - 1))
    moved = bodies[victim][-cut:]
    bodies[victim] = bodies[victim][:-cut]
    if data.draw(st.booleans()):
        bodies[victim + 1] = moved + bodies[victim + 1]
    with pytest.raises(ColumnsUnreadable):
        decode_columns(GRANT, bodies, NONCE)


def test_an_enum_index_without_symbol_is_refused() -> None:
    """An index beyond the enum is an undecodable body, not a silent number."""
    body = codec.encode_body(GRANT.parsed, event("ConsentGranted", consent_kind="PEWC"))
    place = body.index(b"\x0a", 40)
    with pytest.raises(ColumnsUnreadable):
        decode_columns(GRANT, [body[:place] + b"\x7e" + body[place + 1 :]], NONCE)


@pytest.mark.parametrize("name", ["source", "modes", "evidence", "other_channels"])
def test_an_enum_that_nobody_asked_for_is_checked(name: str) -> None:
    """Wherever an enum stands, its index must have a symbol, whatever columns are wanted."""
    symbols = {
        "source": {"source": {"system": "crm", "channel": "BAD", "actor": "CONSUMER"}},
        "modes": {"modes": ["LIVE", "BAD"]},
        "evidence": {"evidence": _whole({"signature_method": "BAD"})},
        "other_channels": {"other_channels": ["BAD"]},
    }[name]
    widened = json.loads(json.dumps(GRANT.parsed))
    for named in named_types(widened).values():
        if named["type"] == "enum":
            named["symbols"].append("BAD")
    body = codec.encode_body(parse_schema(widened), event("ConsentGranted", **symbols))
    good = codec.encode_body(GRANT.parsed, event("ConsentGranted"))
    with pytest.raises(ColumnsUnreadable, match=name):
        decode_columns(GRANT, [good, body], NONCE, ["event_id"])


def test_every_field_of_evidence_has_a_bit() -> None:
    """A new evidence field needs a bit number, or its presence is lost to history."""
    for record in contracts().records:
        for field in record.parsed["fields"]:
            if field["name"] == "evidence":
                names = {inner["name"] for inner in field["type"][1]["fields"]}
                assert names <= set(BITS)
    assert len(set(BITS.values())) == len(BITS)
    assert max(BITS.values()) < 63


def test_columns_of_every_record_can_be_decoded() -> None:
    """Every event record of the ledger can be read as columns."""
    for topic in contracts().source_topics:
        for name in contracts().topics[topic].records:
            record = contracts().record(name)
            body = codec.encode_body(record.parsed, event(name))
            assert decode_columns(record, [body, body], NONCE).height == 2
