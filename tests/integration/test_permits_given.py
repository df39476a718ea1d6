"""Permits end to end: given with an allow that is in the log, counted, cited, and verifiable."""

from __future__ import annotations

import asyncio
import time
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import KeySet

from consent import codec
from consent.instants import MICROSECONDS, instant_text, parse_instant
from consent.permits import PermitTerms, public_keys_of, read_permit
from consent.privacy import subject_token
from consent.state import counted_attempts
from consent.state_entries import Attempt
from consent_ledger.api.opening import DoorsConfig
from consent_ledger.decision_log import DecisionLogLimits
from consent_ledger.keys import load_keys
from consent_ledger.permit_keys import permit_keys_folder, read_permit_keys, retire_permit_key
from projections.view import SuppressionView
from tests.api import ago, ahead, ask, doors_of, event, fresh_number, grant, publish, served
from tests.decisions import book, rule
from tests.events import event as decision_fields
from tests.ledger import PARTITIONS, Ledger, ledger_on, settings_of
from tests.stores import RunningFront

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

TOPIC = "dial-decisions"
CAP = book(
    rule(
        check={"kind": "cap", "params": {"max": 2, "hours": 24, "per": "seller"}},
        on_fail={"effect": "deny", "reason": "FREQ_CAP", "next": "cap_expiry"},
    ),
    rule(id="US-TEST-DEBT", applies_when={"purpose": ["debt"]}),
)
"""Two attempts in 24 hours, no calls about debts, and no other law."""


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
    folder = tmp_path_factory.mktemp("permits")
    with ledger_on(request.param, request, clickhouse_front.url, folder) as running:
        yield running


async def decisions(ledger: Ledger) -> dict[str, dict[str, Any]]:
    """Every decision in the log by its id."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=ledger.broker.bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    found = {}
    try:
        targets = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
        consumer.assign(targets)
        ends = await consumer.end_offsets(targets)
        while any([await consumer.position(one) < ends[one] for one in targets]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    fields = codec.decode(record.value)[1]
                    found[fields["event_id"]] = fields
    finally:
        await consumer.stop()
    return found


@asynccontextmanager
async def following(config: DoorsConfig) -> AsyncIterator[SuppressionView]:
    """A view of the test's own."""
    view = SuppressionView(config.view)
    await view.start()
    try:
        async with asyncio.timeout(60):
            await view.wait_until_loaded()
        yield view
    finally:
        await view.stop()


async def until_folded(view: SuppressionView, number: str, permit_id: str) -> None:
    """Return once the number's state holds a permit."""
    async with asyncio.timeout(60):
        while permit_id not in [one.permit_id for one in attempts(view, number)]:
            await asyncio.sleep(0.02)


async def until_served(client: httpx.AsyncClient, number: str) -> None:
    """Return once the server's view, too, holds what the number's state holds in the log."""
    await publish(client, event("NumberAttributesRecorded", number, line_type="MOBILE"))


def attempts(view: SuppressionView, number: str) -> list[Attempt]:
    """What counts against a cap now."""
    now = time.time_ns() // 1_000
    lists = view.look_up(number).state.attempts.values()
    return [one for each in lists for one in counted_attempts(each, now)]


async def read(client: httpx.AsyncClient, token: str) -> PermitTerms:
    """What a permit says, by the published keys."""
    keys = (await client.get("/.well-known/jwks.json")).json()
    return read_permit(token, public_keys_of(keys))


async def test_an_allow_comes_with_a_permit_that_its_record_names(ledger: Ledger) -> None:
    """Answer, token and record say the same, and a denial has no permit."""
    number = fresh_number()
    async with served(doors_of(ledger, rulebook=CAP)) as client:
        answer = await ask(client, number, campaign_id="spring")
        denied = await ask(client, number, purpose="DEBT")
        terms = await read(client, answer["permit"]["token"])
        key_set = await client.get("/.well-known/jwks.json")
    assert (denied["verdict"], denied["permit"]) == ("deny", None)
    recorded = (await decisions(ledger))[answer["decision_id"]]
    assert recorded["permit_id"] == terms.permit_id == answer["permit"]["id"]
    assert recorded["permit_expires_at"] == terms.expires_at
    assert instant_text(terms.expires_at) == answer["permit"]["expires_at"]
    assert recorded["at"] == terms.issued_at
    assert terms.expires_at == terms.issued_at + 60 * MICROSECONDS
    assert terms.decision_id == answer["decision_id"]
    assert terms.rulebook_digest == recorded["rulebook_digest"]
    assert (terms.seller_id, terms.campaign_id) == ("acme", "spring")
    suppression = load_keys(settings_of(ledger)).suppression
    assert terms.number_token == subject_token(suppression, number)
    assert terms.applied == {
        (one["topic"], one["log_id"]): one["offset_last"] for one in recorded["applied"]
    }
    assert [key["kid"] for key in key_set.json()["keys"]] == [recorded["permit_key_id"]]
    assert key_set.headers["cache-control"] == "public, max-age=300"


async def test_a_dialer_verifies_a_permit_with_any_library(ledger: Ledger) -> None:
    """joserfc, given the published keys, takes the permit as a token that is good now."""
    async with served(doors_of(ledger, rulebook=CAP)) as client:
        token = (await ask(client, fresh_number()))["permit"]["token"]
        keys = KeySet.import_key_set((await client.get("/.well-known/jwks.json")).json())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        claims = jwt.decode(token, keys, algorithms=["EdDSA"])
    jwt.JWTClaimsRegistry(
        exp={"essential": True}, iss={"value": "consent-ledger.local/log"}
    ).validate(claims.claims)


async def test_an_unexpired_permit_counts_as_an_attempt(ledger: Ledger) -> None:
    """Under a cap of two, two permits deny the third; a call that cites one takes its place."""
    number, doors = fresh_number(), doors_of(ledger, rulebook=CAP)
    async with following(doors) as view, served(doors) as client:
        first = await ask(client, number)
        await until_folded(view, number, first["permit"]["id"])
        await until_served(client, number)
        assert len(attempts(view, number)) == 1
        second = await ask(client, number)
        await until_folded(view, number, second["permit"]["id"])
        await until_served(client, number)
        third = await ask(client, number)
        assert (third["verdict"], third["reason"]["code"]) == ("deny", "FREQ_CAP")
        for cited in (first, second):
            (result,) = await publish(client, call(number, cited["permit"]["id"]))
            assert "notices" not in result
        used = {first["permit"]["id"], second["permit"]["id"]}
        async with asyncio.timeout(30):
            while used & {one.permit_id for one in attempts(view, number) if is_permit(one)}:
                await asyncio.sleep(0.02)
        calls = [one for one in attempts(view, number) if not is_permit(one)]
        assert {one.permit_id for one in calls} == used
        assert len(attempts(view, number)) == 2
        assert (await ask(client, number))["reason"]["code"] == "FREQ_CAP"


def is_permit(attempt: Attempt) -> bool:
    """True for a permit, False for a call."""
    return attempt.permit_expires_at is not None


def call(number: str, permit_id: str | None, **fields: Any) -> dict[str, Any]:
    """A call that was just made."""
    given = {
        "occurred_at": ago(seconds=0),
        "call_id": str(uuid.uuid4()),
        "permit_id": permit_id,
        "purpose": "INFORMATIONAL",
        "call_mode": "PRERECORDED",
        "dial_mode": "PREDICTIVE",
    }
    return event("CallPlaced", number, **{**given, **fields})


async def test_a_permit_that_ran_out_counts_no_more(ledger: Ledger) -> None:
    """Two permits that end in a moment deny, and then they don't."""
    number, doors = fresh_number(), doors_of(ledger, rulebook=CAP)
    async with following(doors) as view, served(doors) as client:
        ends = time.time_ns() // 1_000 + 8 * MICROSECONDS
        ids = [str(uuid.uuid4()) for _ in range(2)]
        await give(ledger, number, ids, ends)
        for permit_id in ids:
            await until_folded(view, number, permit_id)
        await until_served(client, number)
        async with asyncio.timeout(60):
            while (answer := await ask(client, number))["verdict"] != "allow":
                assert answer["reason"]["code"] == "FREQ_CAP"
                decided_at, again = parse_instant(answer["decided_at"]), answer["next_allowed"]
                assert decided_at < ends == parse_instant(again)
                await asyncio.sleep(0.1)
        assert parse_instant(answer["decided_at"]) >= ends


async def give(ledger: Ledger, number: str, permit_ids: list[str], ends: int) -> None:
    """Decisions in the log as another `serve` would have made them."""
    producer = AIOKafkaProducer(bootstrap_servers=ledger.broker.bootstrap, acks="all")
    await producer.start()
    try:
        for permit_id in permit_ids:
            fields = decision_fields(
                "DialDecision",
                number=number,
                occurred_at=time.time_ns() // 1_000,
                verdict="ALLOW",
                permit_id=permit_id,
                permit_expires_at=ends,
            )
            value = codec.encode("DialDecision", fields)
            await producer.send_and_wait(TOPIC, value=value, key=number.encode())
    finally:
        await producer.stop()


async def test_what_is_wrong_with_a_cited_permit_is_noticed(ledger: Ledger) -> None:
    """A call that happened is taken whatever it cites, and its publisher told."""
    number, other = fresh_number(), fresh_number()
    doors = doors_of(ledger, rulebook=CAP)
    async with following(doors) as view, served(doors) as client:
        permit = (await ask(client, number))["permit"]
        unknown = str(uuid.uuid4())
        elsewhere = str(uuid.uuid4())
        await give(ledger, other, [elsewhere], time.time_ns() // 1_000 - 1)
        async with asyncio.timeout(60):
            while not view.look_up(other).state.attempts:
                await asyncio.sleep(0.02)

        await until_served(client, other)

        async def reasons(*documents: dict[str, Any]) -> list[list[str]]:
            results = await publish(client, *documents)
            return [[one["reason"] for one in each.get("notices", ())] for each in results]

        assert await reasons(
            call(number, permit["id"]),
            call(number, unknown),
            call(number, None),
            call(other, permit["id"]),
            call(number, permit["id"], occurred_at=ahead(seconds=61)),
            call(number, permit["id"], seller_id="borealis"),
            call(other, elsewhere),
        ) == [
            [],
            ["PERMIT_UNKNOWN"],
            [],
            ["PERMIT_OTHER_NUMBER"],
            ["PERMIT_EXPIRED"],
            ["PERMIT_OTHER_SELLER"],
            ["PERMIT_EXPIRED"],
        ]


async def test_what_could_not_be_recorded_has_no_permit(ledger: Ledger) -> None:
    """The answer is `unavailable`, and so is the decision in the log that it names."""
    hasty = DecisionLogLimits(publish_timeout_ms=1)
    number = fresh_number()
    async with served(doors_of(ledger, rulebook=CAP, decisions=hasty)) as client:
        async with asyncio.timeout(60):
            while (answer := await ask(client, number))["verdict"] != "unavailable":
                number = fresh_number()
        assert (answer["permit"], answer["reason"]["code"]) == (None, "DECISION_UNRECORDED")
        async with asyncio.timeout(60):
            while answer["decision_id"] not in (recorded := await decisions(ledger)):
                await asyncio.sleep(0.1)
    corrected = recorded[answer["decision_id"]]
    assert (corrected["verdict"], corrected["permit_id"]) == ("UNAVAILABLE", None)
    assert corrected["reason"] == "DECISION_UNRECORDED"


async def test_keys_are_changed_without_a_restart(ledger: Ledger) -> None:
    """A new key signs and the old one is still published; both changes wait to be sealed."""
    folder = permit_keys_folder(settings_of(ledger))
    (old,) = [key.key_id for key in read_permit_keys(folder).keys if key.seed is not None]
    async with served(doors_of(ledger, rulebook=CAP)) as client:
        before = (await ask(client, fresh_number()))["permit"]["token"]
        done = await asyncio.to_thread(ledger.run, "keys", "permit", "new", "--at-once")
        assert done.returncode == 0, done.stderr
        now = time.time_ns() // 1_000
        await asyncio.to_thread(retire_permit_key, folder, old, now, 600 * MICROSECONDS)
        async with asyncio.timeout(60):
            while True:
                permit = (await ask(client, fresh_number()))["permit"]
                if key_id_of(permit["token"]) != old:
                    break
                await asyncio.sleep(0.2)
        assert (await read(client, before)).expires_at > now
        assert (await read(client, permit["token"])).permit_id == permit["id"]
        assert len((await client.get("/.well-known/jwks.json")).json()["keys"]) == 2
        async with asyncio.timeout(60):
            while (sealed := key_entries(ledger)).count("made") < 2 or "retired" not in sealed:
                await asyncio.sleep(0.2)
    assert sorted(sealed) == ["made", "made", "retired"]


def key_id_of(token: str) -> str:
    """Which key signed."""
    from joserfc.jws import extract_compact

    return str(extract_compact(token.encode()).headers()["kid"])


def key_entries(ledger: Ledger) -> list[str]:
    """What of keys waits to be sealed, or is."""
    from consent_ledger.bootstrap_store import store_parameters
    from projections.clickhouse import Store

    store = Store.connect(store_parameters(settings_of(ledger)))
    try:
        query = "SELECT content['what'] FROM log_entries WHERE entry_kind = 'KEY'"
        return [str(row[0]) for row in store.query_rows(query)]
    finally:
        store.close()


async def test_nothing_is_answered_that_a_kill_takes_away(ledger: Ledger) -> None:
    """`serve` killed under load: every permit that got out stands in the log as it was answered."""
    ledger.start("serve", "serve")
    answers: list[dict[str, Any]] = []
    enough = asyncio.Event()
    numbers = cycle([fresh_number() for _ in range(200)])

    async def dial(client: httpx.AsyncClient) -> None:
        while True:
            try:
                answers.append(await ask(client, next(numbers)))
            except httpx.TransportError:
                return
            if len(answers) >= 60:
                enough.set()

    async with httpx.AsyncClient(base_url=ledger.api_url, timeout=30) as client:
        await publish(client, *(grant(next(numbers)) for _ in range(200)))
        dialing = [asyncio.create_task(dial(client)) for _ in range(8)]
        try:
            async with asyncio.timeout(60):
                await enough.wait()
        finally:
            ledger.stop("serve", kill=True)
        await asyncio.gather(*dialing)
    allowed = [answer for answer in answers if answer["permit"] is not None]
    assert len(allowed) > 20
    recorded = await decisions(ledger)
    keys = read_permit_keys(permit_keys_folder(settings_of(ledger)))
    known = public_keys_of(keys.key_set(time.time_ns() // 1_000))
    for answer in allowed:
        fields = recorded[answer["decision_id"]]
        terms = read_permit(answer["permit"]["token"], known)
        assert (fields["verdict"], fields["permit_id"]) == ("ALLOW", answer["permit"]["id"])
        assert (fields["permit_expires_at"], fields["at"]) == (terms.expires_at, terms.issued_at)
        assert terms.decision_id == answer["decision_id"]
