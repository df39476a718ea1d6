"""Every row of docs/bad-input.md, sent through its door, and what a dialer is told afterwards."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka.errors import MessageSizeTooLargeError

from consent import codec
from consent.contracts import contracts
from consent.documents import DocumentRules, read_document
from consent.instants import parse_instant
from consent.partitioning import partition_of
from consent_ledger.bootstrap_store import store_parameters
from projections.clickhouse import Store
from projections.clickhouse_async import AsyncStore
from tests.api import ago, ahead, doors_of, event, fresh_number, grant, publish, served
from tests.bad_input_doors import LIVE, Doors
from tests.ledger import PARTITIONS, Ledger, ledger_on, settings_of
from tests.stores import RunningFront

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

SALT = bytes(16)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("embedded", marks=pytest.mark.embedded),
        pytest.param("kafka", marks=pytest.mark.kafka),
    ],
)
def ledger(
    request: pytest.FixtureRequest,
    clickhouse_front: RunningFront,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ledger]:
    """Both workers around each broker."""
    folder = tmp_path_factory.mktemp("bad-input")
    with ledger_on(request.param, request, clickhouse_front.url, folder) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def doors(ledger: Ledger) -> AsyncIterator[Doors]:
    """Both doors of each ledger."""
    store = AsyncStore(Store.connect(store_parameters(settings_of(ledger))))
    async with served(doors_of(ledger)) as client:
        opened = Doors(client, ledger, store)
        await opened.open()
        yield opened
        await opened.close()
    await store.close()


def encoded(document: dict[str, Any], **fields: Any) -> bytes:
    """The record of a document, with fields put in that no document could have."""
    draft = read_document(document, DocumentRules(parse_instant(ago(seconds=0))), SALT)
    return codec.encode(draft.record.name, {**draft.fields, **fields})


def with_schema_id(value: bytes, name: str | int) -> bytes:
    """The same body under another schema id."""
    schema_id = name if isinstance(name, int) else contracts().record(name).schema_id
    return codec.frame(schema_id, codec.unframe(value)[1])


def cut(value: bytes) -> bytes:
    """A record that lost its end."""
    return value[:-3]


async def test_row_1_unknown_field(doors: Doors) -> None:
    """A grant with an unknown field is rejected, an opt-out with one counts in its widest scope."""
    number = fresh_number()
    result = await doors.http(grant(number, purpsoes=["MARKETING"]))
    assert (result["status"], result["reason"]) == ("rejected", "UNKNOWN_FIELD")
    assert 'did you mean "purposes"?' in result["remedy"]
    assert await doors.verdict(number) == "CONSENT_PEC_MISSING"
    result = await doors.http(event("ConsentWithdrawn", number, purpsoes=["SURVEY"]))
    assert (result["status"], result["notices"][0]["reason"]) == ("accepted", "UNKNOWN_FIELD")
    assert await doors.until_denied(number) == "CONSENT_REVOKED"


async def test_row_2_bad_number(doors: Doors) -> None:
    """A bad number is rejected over HTTP; in the log an opt-out counts for its key."""
    for document in (grant("12"), event("ConsentWithdrawn", "not a number")):
        result = await doors.http(document)
        assert (result["status"], result["reason"]) == ("rejected", "NUMBER_INVALID")
    number = fresh_number()
    place = await doors.raw(number.encode(), encoded(grant(number), number="12"))
    assert await doors.dead_letter(place) == "NUMBER_INVALID"
    await doors.settled(number)
    assert await doors.verdict(number) == "CONSENT_PEC_MISSING"
    stop = event("ConsentWithdrawn", number)
    await doors.raw(number.encode(), encoded(stop, number="12"))
    assert await doors.until_denied(number) == "CONSENT_REVOKED"


async def test_row_3_no_occurred_at(doors: Doors) -> None:
    """Without a time nothing is accepted over HTTP; in the log an opt-out counts."""
    number = fresh_number()
    for document in (grant(number), event("ConsentWithdrawn", number)):
        del document["occurred_at"]
        result = await doors.http(document)
        assert (result["reason"], result["field"]) == ("MISSING_FIELD", "occurred_at")
    place = await doors.raw(number.encode(), encoded(grant(number), occurred_at=0))
    assert await doors.dead_letter(place) == "OCCURRED_AT_MISSING"
    await doors.settled(number)
    assert await doors.verdict(number) == "CONSENT_PEC_MISSING"
    await doors.raw(number.encode(), encoded(event("ConsentWithdrawn", number), occurred_at=0))
    assert await doors.until_denied(number) == "CONSENT_REVOKED"


async def test_rows_4_and_14_a_grant_dated_ahead(doors: Doors) -> None:
    """A grant dated ahead grants nothing by either door."""
    number = fresh_number()
    result = await doors.http(grant(number, occurred_at=ahead(minutes=10)))
    assert (result["status"], result["reason"]) == ("rejected", "DATED_AHEAD")
    in_two_seconds = parse_instant(ahead(minutes=5, seconds=2))
    place = await doors.raw(number.encode(), encoded(grant(number), occurred_at=in_two_seconds))
    assert await doors.dead_letter(place) == "DATED_AHEAD"
    assert await doors.fact(place) == "DATED_AHEAD"
    await doors.settled(number)
    assert await doors.verdict(number) == "CONSENT_PEC_MISSING"


async def test_rows_4_and_15_an_opt_out_dated_ahead(doors: Doors) -> None:
    """An opt-out dated ahead stops the call at once, by either door, until a newer grant."""
    by_http, by_log = fresh_number(), fresh_number()
    for number in (by_http, by_log):
        await publish(doors.client, grant(number))
        assert await doors.verdict(number) == "allow"
    result = await doors.http(event("ConsentWithdrawn", by_http, occurred_at=ahead(days=400)))
    assert (result["status"], result["notices"][0]["reason"]) == ("accepted", "DATED_AHEAD")
    assert await doors.verdict(by_http) == "CONSENT_REVOKED"
    stop = encoded(event("ConsentWithdrawn", by_log), occurred_at=parse_instant(ahead(days=400)))
    await doors.raw(by_log.encode(), stop)
    assert await doors.until_denied(by_log) == "CONSENT_REVOKED"
    await asyncio.sleep(0.01)
    await publish(doors.client, grant(by_http, occurred_at=ahead(seconds=0)))
    assert await doors.verdict(by_http) == "allow"


async def test_row_5_unknown_enum_value(doors: Doors) -> None:
    """An unknown value refuses a grant, and widens an opt-out to everything."""
    number = fresh_number()
    result = await doors.http(grant(number, consent_kind="PEWK"))
    assert (result["status"], result["reason"]) == ("rejected", "UNKNOWN_VALUE")
    assert 'did you mean "PEWC"?' in result["remedy"]
    result = await doors.http(event("ConsentWithdrawn", number, purposes=["MARKETNG"]))
    assert (result["status"], result["notices"][0]["reason"]) == ("accepted", "UNKNOWN_VALUE")
    assert await doors.until_denied(number) == "CONSENT_REVOKED"


def with_unknown_enum(document: dict[str, Any], field: str, *known: str) -> bytes:
    """The record of a document with a value of an enum that no schema has."""
    one, other = (encoded(document, **{field: value}) for value in known)
    at = next(place for place in range(len(one)) if one[place] != other[place])
    return one[:at] + b"\x7e" + one[at + 1 :]


async def test_row_6_wrong_schema_id(doors: Doors) -> None:
    """An unknown id, or one of another topic, is a dead letter; an opt-out counts."""
    number = fresh_number()
    place = await doors.raw(number.encode(), with_schema_id(encoded(grant(number)), 99_999))
    assert await doors.dead_letter(place) == "UNKNOWN_SCHEMA_ID"
    place = await doors.raw(number.encode(), encoded(grant(number)), topic="dnc-updates")
    assert await doors.dead_letter(place) == "WRONG_TOPIC"
    await doors.settled(number)
    assert await doors.verdict(number) == "CONSENT_PEC_MISSING"
    stop = encoded(event("ConsentWithdrawn", number))
    await doors.raw(number.encode(), stop, topic="dnc-updates")
    assert await doors.until_denied(number) == "CONSENT_REVOKED"


async def test_row_7_truncated_avro(doors: Doors) -> None:
    """A cut-off grant is a dead letter; a cut-off opt-out counts as one from everything."""
    number = fresh_number()
    place = await doors.raw(number.encode(), cut(encoded(grant(number))))
    assert await doors.dead_letter(place) == "UNDECODABLE"
    assert await doors.fact(place) == "UNDECODABLE"
    await doors.settled(number)
    assert await doors.verdict(number) == "CONSENT_PEC_MISSING"
    await doors.raw(number.encode(), cut(encoded(event("ConsentWithdrawn", number))))
    assert await doors.until_denied(number) == "CONSENT_REVOKED"
    assert await doors.verdict(number, seller_id="other", **LIVE) == "CONSENT_REVOKED"


async def test_row_8_two_megabytes(doors: Doors) -> None:
    """2 MB are refused by the HTTP door and by Apache Kafka; the other one reads it."""
    number = fresh_number()
    big = grant(number)
    big["evidence"]["extra"] = [{"name": "page", "value": "x" * 60_000}] * 34
    answer = await doors.client.post("/v1/events", json=big)
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")
    value = encoded(big)
    assert len(value) > 2_000_000
    if doors.broker_kind == "kafka":
        with pytest.raises(MessageSizeTooLargeError):
            await doors.raw(number.encode(), value)
        await doors.settled(number)
        assert await doors.verdict(number) == "CONSENT_PEC_MISSING"
    else:
        place = await doors.raw(number.encode(), value)
        assert await doors.fact(place) == ""
        await doors.settled(number)
        assert await doors.verdict(number) == "allow"


async def test_row_9_a_key_that_is_no_text(doors: Doors) -> None:
    """Under a key that is no UTF-8 a grant is a dead letter and an opt-out finds its number."""
    number = fresh_number()
    place = await doors.raw(b"\xff\xfe", encoded(grant(number)))
    assert await doors.dead_letter(place) == "KEY_MISMATCH"
    await doors.settled(number)
    assert await doors.verdict(number) == "CONSENT_PEC_MISSING"
    await doors.raw(b"\xff\xfe", encoded(event("ConsentWithdrawn", number)))
    assert await doors.until_denied(number) == "CONSENT_REVOKED"


async def test_row_10_null_value(doors: Doors) -> None:
    """A null value deletes nothing and is a dead letter."""
    number = fresh_number()
    await publish(doors.client, grant(number))
    place = await doors.raw(number.encode(), None)
    assert await doors.dead_letter(place) == "NULL_VALUE"
    await doors.settled(number)
    assert await doors.verdict(number) == "allow"


async def test_row_11_wrong_partition(doors: Doors) -> None:
    """A record in the wrong partition is forwarded to the right one and counts there."""
    granted, stopped = fresh_number(), fresh_number()
    away = {
        number: (partition_of(number.encode(), PARTITIONS) + 1) % PARTITIONS
        for number in (granted, stopped)
    }
    place = await doors.raw(granted.encode(), encoded(grant(granted)), partition=away[granted])
    async with asyncio.timeout(30):
        while await doors.verdict(granted) != "allow":
            await asyncio.sleep(0.05)
    assert await doors.fact(place) == ""
    stop = encoded(event("ConsentWithdrawn", stopped))
    await doors.raw(stopped.encode(), stop, partition=away[stopped])
    assert await doors.until_denied(stopped) == "CONSENT_REVOKED"


async def test_row_12_a_number_in_another_format(doors: Doors) -> None:
    """Other forms are completed where that is sure; in the log only opt-outs count."""
    number = fresh_number()
    national = f"({number[2:5]}) {number[5:8]}-{number[8:]}"
    result = await doors.http(grant(national))
    assert (result["status"], result["notices"][0]["reason"]) == ("accepted", "NUMBER_FORMAT")
    assert await doors.verdict(number) == "allow"
    other = fresh_number()
    written = f"+1 ({other[2:5]}) {other[5:8]}-{other[8:]}"
    place = await doors.raw(written.encode(), encoded(grant(other), number=written))
    assert await doors.dead_letter(place) == "NUMBER_INVALID"
    await doors.settled(other)
    assert await doors.verdict(other) == "CONSENT_PEC_MISSING"
    stop = encoded(event("ConsentWithdrawn", other), number=written)
    await doors.raw(written.encode(), stop)
    assert await doors.until_denied(other) == "CONSENT_REVOKED"


async def test_row_13_an_id_used_twice(doors: Doors) -> None:
    """Of two events with one id the stricter counts, whichever came first, by either door."""
    for by_http in (True, False):
        for strict_first in (True, False):
            number = fresh_number()
            permissive = grant(number)
            strict = grant(number, modes=["LIVE"], event_id=permissive["event_id"])
            stop = event("ConsentWithdrawn", number, event_id=permissive["event_id"])
            stop["occurred_at"] = permissive["occurred_at"]
            pair = [stop, permissive] if strict_first else [permissive, stop]
            for document in (*pair, strict):
                if by_http:
                    result = await doors.http(document)
                    assert result["status"] == "accepted"
                else:
                    await doors.raw(number.encode(), encoded(document))
            if by_http:
                assert result["notices"][0]["reason"] == "EVENT_ID_REUSED"
            await doors.settled(number)
            assert await doors.verdict(number) == "CONSENT_REVOKED"


async def test_row_16_a_person_in_an_identifier(doors: Doors) -> None:
    """A number in an identifier refuses a grant; of an opt-out it is kept as evidence only."""
    number = fresh_number()
    result = await doors.http(grant(number, campaign_id=f"c{number[1:]}"))
    assert (result["status"], result["reason"]) == ("rejected", "PERSON_IN_PAYLOAD")
    place = await doors.raw(number.encode(), encoded(grant(number), campaign_id=f"c{number[1:]}"))
    assert await doors.dead_letter(place) == "NUMBER_IN_PAYLOAD"
    await doors.settled(number)
    assert await doors.verdict(number) == "CONSENT_PEC_MISSING"
    result = await doors.http(event("ConsentWithdrawn", number, call_id=number[1:]))
    assert (result["status"], result["notices"][0]["reason"]) == ("accepted", "PERSON_IN_PAYLOAD")
    assert await doors.until_denied(number) == "CONSENT_REVOKED"
    other = fresh_number()
    await doors.raw(other.encode(), encoded(event("ConsentWithdrawn", other), call_id=other[1:]))
    assert await doors.until_denied(other) == "CONSENT_REVOKED"


async def test_row_17_no_json_and_no_frame(doors: Doors) -> None:
    """What is no JSON is a problem, what has no frame a dead letter."""
    headers = {"content-type": "application/json"}
    answer = await doors.client.post("/v1/events", content=b"\x00\x01", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")
    answer = await doors.client.post("/v1/events", json=[])
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")
    number = fresh_number()
    for value in (b"", b"{}", b'{"type": "ConsentGranted"}', b"\x00\x00\x00\x00\x01"):
        place = await doors.raw(number.encode(), value)
        assert await doors.dead_letter(place) == "NOT_FRAMED"


async def test_row_5_unknown_enum_value_in_the_log(doors: Doors) -> None:
    """In the log a grant with an unknown value is a dead letter, an opt-out means everything."""
    number = fresh_number()
    value = with_unknown_enum(grant(number), "consent_kind", "PEWC", "EXPRESS")
    place = await doors.raw(number.encode(), value)
    assert await doors.dead_letter(place) == "UNDECODABLE"
    await doors.settled(number)
    assert await doors.verdict(number) == "CONSENT_PEC_MISSING"
    other = fresh_number()
    stop = event("ConsentWithdrawn", other)
    await doors.raw(other.encode(), with_unknown_enum(stop, "manner", "SPOKEN", "LETTER"))
    assert await doors.until_denied(other) == "CONSENT_REVOKED"


async def test_every_row_of_the_page_has_a_test() -> None:
    """The page and this module number the same rows."""
    page = (Path(__file__).parents[2] / "docs" / "bad-input.md").read_text()
    rows = {int(number) for number in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    names = " ".join(name for name in globals() if name.startswith("test_row"))
    tested = {int(number) for number in re.findall(r"(?<=_)\d+(?=_)", names)}
    assert rows == tested
