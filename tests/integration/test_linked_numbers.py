"""Numbers of one person: what is said on one counts when another is called, on both brokers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
import pytest_asyncio

from consent.area_tables import area_tables
from consent.codec import decode, decode_body
from consent.contracts import contracts, fact_schema
from consent.decision import decide
from consent.decision_record import request_of, verdict_fields
from consent.lift import Derived, Position, lift
from consent.privacy import subject_token
from consent.rulebook import Rulebook
from consent.state import EMPTY, SubjectState, merge
from consent_ledger.adapters.publisher import EventPublisher, Published, PublisherConfig, outgoing
from consent_ledger.api.opening import DoorsConfig
from consent_ledger.bootstrap_store import store_parameters
from projections.clickhouse import Store
from tests.api import ago, ask, doors_of, event, fresh_number, publish, question, served
from tests.decisions import packaged_files
from tests.events import event as valid_event
from tests.ledger import Ledger, ledger_on, settings_of
from tests.projection_harness import read_topic
from tests.stores import RunningFront

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

CANARY = "household of Canary Jane"
RULES = """
rules:
- id: POLICY-TEST-PARTY
  rev: 1
  title: A request for every number of a person reaches each of them
  citation: ["RCW 80.36.390"]
  jurisdiction: {country: US, subdivision: WA, match: [area_code]}
  effective: {from: 2000-01-01, to: null}
  known: {from: 2026-11-22, to: null}
  status: in_force
  applies_when: {}
  check: {kind: list_absent, params: {list_kinds: [internal], linked: whole_party}}
  on_fail: {effect: deny, reason: INTERNAL_DNC_PARTY, next: on_event}
  on_missing: deny
  needs: [dnc, linked]
  confidence: H
  source: [HOUSE]
- id: POLICY-TEST-CAP
  rev: 1
  title: Three attempts a day to a person
  citation: ["House policy"]
  jurisdiction: {country: US, subdivision: WA, match: [area_code]}
  effective: {from: 2000-01-01, to: null}
  known: {from: 2026-11-22, to: null}
  status: in_force
  applies_when: {}
  check: {kind: cap, params: {max: 3, hours: 24, per: subject_matter}}
  on_fail: {effect: deny, reason: FREQ_CAP, next: cap_expiry}
  on_missing: deny
  needs: [attempts, linked]
  confidence: H
  source: [HOUSE]
"""
WASHINGTON = {
    "states": ["US-WA"],
    "zones": ["America/Los_Angeles"],
    "subject_matter": "loans",
    "purpose": "MARKETING",
    "call_mode": "LIVE",
    "dial_mode": "MANUAL",
}


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
    folder = tmp_path_factory.mktemp("linked")
    with ledger_on(request.param, request, clickhouse_front.url, folder) as running:
        yield running


@pytest.fixture(scope="module")
def parts(ledger: Ledger) -> DoorsConfig:
    """Doors with two rules of Washington alone, so that everything else is allowed."""
    kept = ("reasons.yaml", "jurisdictions.yaml", "rulebook.yaml")
    files = {name: text for name, text in packaged_files().items() if name in kept}
    return doors_of(ledger, rulebook=Rulebook.load(files | {"linked.yaml": RULES}))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(parts: DoorsConfig) -> AsyncIterator[httpx.AsyncClient]:
    """The API as one machine would use it."""
    async with served(parts) as opened:
        yield opened


def linking(number: str, reference: str, **fields: Any) -> dict[str, Any]:
    """A number is said to be one of a person's."""
    given = {"occurred_at": ago(minutes=9), "evidence": {"party_reference": reference}, **fields}
    return event("NumberAttributesRecorded", number, **given)


def linked_for_all(number: str, reference: str) -> dict[str, Any]:
    """As far as every seller knows; only what restricts may be said for all of them."""
    said = {"seller_id": "*", "evidence": {"party_reference": reference}}
    return event("ConsentRefused", number, **said)


def number_elsewhere() -> str:
    """Not one of Washington's own, whose law would count wherever else the person is said to be."""
    while "US-WA" in area_tables().area_codes[(number := fresh_number())[2:5]].states:
        pass
    return number


async def person(client: httpx.AsyncClient, count: int = 2, wait: str = "projected") -> list[str]:
    """Fresh numbers of one person, a reference of their own: the whole number, in letters."""
    numbers = [number_elsewhere() for _ in range(count)]
    reference = f"{CANARY} {''.join('abcdefghij'[int(digit)] for digit in numbers[0][1:])}"
    await publish(client, *(linking(number, reference) for number in numbers), wait=wait)
    return numbers


async def asked(client: httpx.AsyncClient, number: str, **fields: Any) -> tuple[str, list[str]]:
    """Verdict and reasons of a call in Washington."""
    answer = await ask(client, number, **{**WASHINGTON, **fields})
    return answer["verdict"], [reason["code"] for reason in answer["reasons"]]


async def decision_of(ledger: Ledger, decision_id: str) -> dict[str, Any]:
    """Fields of a decision, as they are in the log."""
    async with asyncio.timeout(30):
        while True:
            for record in await read_topic(ledger.broker, "dial-decisions"):
                _contract, fields = decode(record.value)
                if fields["event_id"] == decision_id:
                    return fields


async def test_an_opt_out_for_the_person_reaches_the_other_number(
    client: httpx.AsyncClient,
) -> None:
    """Not that of a stranger, not what another seller knows, and not from a plain request."""
    landline, mobile = await person(client)
    stranger, plain = (await person(client))[0], (await person(client))[0]
    assert await asked(client, mobile) == ("allow", [])
    await publish(client, event("DncAdded", plain, list_kind="INTERNAL", list_id="internal"))
    assert await asked(client, mobile) == ("allow", [])
    asked_for_all = event(
        "DncAdded", landline, list_kind="INTERNAL", list_id="internal", whole_party=True
    )
    await publish(client, asked_for_all)
    assert await asked(client, mobile) == ("deny", ["INTERNAL_DNC_PARTY"])
    assert await asked(client, stranger) == ("allow", [])
    assert await asked(client, mobile, seller_id="globex") == ("allow", [])
    checks = [question(number, **WASHINGTON) for number in (stranger, mobile)]
    batch = (await client.post("/v1/calls/check-batch", json={"checks": checks})).json()
    assert [one["answer"]["verdict"] for one in batch["results"]] == ["allow", "deny"]


async def test_washington_protects_every_number_of_the_person(ledger: Ledger) -> None:
    """By this release's rules any opt-out reaches them there, elsewhere one for all of them."""
    oregon = {"states": ["US-OR"], "zones": ["America/Los_Angeles"]}
    async with served(doors_of(ledger)) as client:
        landline, mobile = await person(client)
        stranger = (await person(client))[0]
        opt_out = {"list_kind": "INTERNAL", "list_id": "internal"}
        await publish(client, event("DncAdded", landline, **opt_out))
        assert "INTERNAL_DNC_PARTY" in (await asked(client, mobile))[1]
        assert "INTERNAL_DNC_PARTY" not in (await asked(client, stranger))[1]
        assert "INTERNAL_DNC_PARTY" not in (await asked(client, mobile, **oregon))[1]
        await publish(client, event("DncAdded", landline, **opt_out, whole_party=True))
        assert "INTERNAL_DNC_PARTY" in (await asked(client, mobile, **oregon))[1]
        assert "INTERNAL_DNC_PARTY" not in (await asked(client, stranger, **oregon))[1]


async def test_an_opt_out_spoken_in_a_call_reaches_it_too(client: httpx.AsyncClient) -> None:
    """And a rehearsed one reaches rehearsals only."""
    landline, mobile = await person(client)
    spoken = {"call_id": "call-1", "opted_out": True, "opt_out_whole_party": True}
    await publish(client, event("CallEnded", landline, test=True, **spoken))
    assert await asked(client, mobile) == await asked(client, mobile, test=True) == ("allow", [])
    rehearsed = [linking(number, "r", test=True) for number in (landline, mobile)]
    await publish(client, *rehearsed)
    assert await asked(client, mobile, test=True) == ("deny", ["INTERNAL_DNC_PARTY"])
    assert await asked(client, mobile) == ("allow", [])
    await publish(client, event("CallEnded", landline, **spoken))
    assert await asked(client, mobile) == ("deny", ["INTERNAL_DNC_PARTY"])


async def test_a_cap_counts_the_calls_to_a_person(client: httpx.AsyncClient) -> None:
    """Two on one number and one on the other use up three."""
    landline, mobile = await person(client)

    def call(number: str, minutes: float) -> dict[str, Any]:
        given = {"purpose": "MARKETING", "call_mode": "LIVE", "dial_mode": "MANUAL"}
        return event(
            "CallPlaced",
            number,
            call_id=f"call {minutes}",
            subject_matter="loans",
            occurred_at=ago(minutes=minutes),
            **given,
        )

    await publish(client, call(landline, 50), call(landline, 40))
    assert (await ask(client, mobile, **WASHINGTON))["verdict"] == "allow"
    await publish(client, call(mobile, 30))
    for number in (landline, mobile):
        answer = await ask(client, number, **WASHINGTON)
        # The permits of the decisions above are attempts too; so it is not said when it clears.
        assert (answer["verdict"], answer["reason"]["code"]) == ("deny", "FREQ_CAP")
    assert await asked(client, (await person(client))[0]) == ("allow", [])


async def test_a_decision_says_which_numbers_counted_and_how_fresh_all_was(
    client: httpx.AsyncClient, ledger: Ledger, parts: DoorsConfig
) -> None:
    """Tokens of the history, offsets, watermarks; the answer's own is the oldest of them."""
    numbers = await person(client, 3)
    answer = await ask(client, numbers[0], **WASHINGTON)
    fields = await decision_of(ledger, answer["decision_id"])
    linked = fields["linked"]
    tokens = [subject_token(parts.history_key, number) for number in numbers[1:]]
    assert [one["token"] for one in linked] == sorted(tokens)
    seen = [one["watermark"] for one in linked]
    assert fields["watermark"]["lag_ms"] >= max(one["lag_ms"] for one in seen)
    assert fields["watermark"]["true_at"] <= min(one["true_at"] for one in seen)
    assert answer["freshness"]["age_ms"] == fields["watermark"]["lag_ms"]
    alone = await ask(client, fresh_number(), **WASHINGTON)
    assert (await decision_of(ledger, alone["decision_id"]))["linked"] == []


async def test_too_many_numbers_of_one_person_are_not_decided_about(parts: DoorsConfig) -> None:
    """A wrong reference is answered as such, until it is put right."""
    few = replace(parts, view=replace(parts.view, party_numbers_max=3))
    async with served(few) as client:
        numbers = await person(client, 4)
        assert await asked(client, numbers[0]) == ("unavailable", ["PARTY_TOO_LARGE"])
        await publish(client, linking(numbers[3], "somebody else", occurred_at=ago(minutes=1)))
        assert await asked(client, numbers[0]) == ("allow", [])


async def test_an_erasure_ends_the_link(client: httpx.AsyncClient, ledger: Ledger) -> None:
    """What the erased number asked for no longer reaches the other one."""
    landline, mobile = await person(client)
    asked_for_all = event(
        "DncAdded", landline, list_kind="INTERNAL", list_id="internal", whole_party=True
    )
    await publish(client, asked_for_all)
    assert (await asked(client, mobile))[0] == "deny"
    now = int(time.time() * 1_000_000)
    erased = valid_event(
        "ErasureExecuted", number=landline, cutoff_at=now, cutoffs=[], occurred_at=now
    )
    record = contracts().record("ErasureExecuted")
    bootstrap = ledger.broker.bootstrap
    publisher = EventPublisher(PublisherConfig(bootstrap, idempotent=ledger.broker.kind == "kafka"))
    await publisher.start()
    (sent,) = await publisher.publish([outgoing(record, erased, landline.encode())])
    await publisher.stop()
    assert isinstance(sent, Published)
    async with asyncio.timeout(30):
        while (await asked(client, mobile))[0] == "deny":
            await asyncio.sleep(0.05)
    answer = await ask(client, mobile, **WASHINGTON)
    assert (await decision_of(ledger, answer["decision_id"]))["linked"] == []


async def test_nobody_is_named_where_nothing_is_erased(
    client: httpx.AsyncClient, ledger: Ledger, store: Store, parts: DoorsConfig
) -> None:
    """The reference is in evidence alone; numbers are keys of states, and no token of history."""
    numbers = await person(client, wait="recorded")
    answer = await ask(client, numbers[0], **WASHINGTON)
    async with asyncio.timeout(60):
        while not (facts := facts_with(store, answer["decision_id"])):
            await asyncio.sleep(0.1)
    states = [record.value or b"" for record in await read_topic(ledger.broker, "suppression")]
    facts += [row[0] for row in rows_of(store, "SELECT fact FROM facts", {})]
    reference = CANARY.encode()
    assert [one for one in (*states, *facts) if reference in one] == []
    for number in numbers:
        assert [one for one in (*states, *facts) if number[1:].encode() in one] == []
        token = subject_token(parts.history_key, number)
        assert [one for one in states if token in one or token.hex().encode() in one] == []
    evidence = rows_of(store, "SELECT evidence FROM evidence WHERE evidence IS NOT NULL", {})
    assert any(reference in said for (said,) in evidence)


async def test_a_decision_is_repeated_from_history_alone(
    client: httpx.AsyncClient, ledger: Ledger, store: Store, parts: DoorsConfig
) -> None:
    """States folded from facts up to the recorded offsets give every field of the verdict again.

    Whose facts they are follows from the offsets: no number and no key is needed.
    """
    landline, mobile = await person(client, 2)
    third = fresh_number()
    await publish(
        client,
        *(linked_for_all(number, "for every seller") for number in (third, mobile)),
        event("CallPlaced", third, call_id="c", purpose="MARKETING", call_mode="LIVE"),
        event("DncAdded", landline, list_kind="INTERNAL", list_id="internal", whole_party=True),
    )
    answers = [await ask(client, number, **WASHINGTON) for number in (mobile, landline, third)]
    # What happens afterwards must not change what is repeated.
    await publish(client, event("DncAdded", third, list_kind="INTERNAL", list_id="internal"))
    assert [answer["verdict"] for answer in answers] == ["deny", "allow", "allow"]
    for answer, linked in zip(answers, (2, 1, 1), strict=True):
        fields = await decision_of(ledger, answer["decision_id"])
        call = request_of(fields)
        assert len(call.linked) == linked
        rested_on = [*fields["applied"], *(last for one in call.linked for last in one.applied)]
        async with asyncio.timeout(60):
            while not all(rows_of(store, _SUBJECT_AT, place_of(last)) for last in rested_on):
                await asyncio.sleep(0.1)
        states = tuple(state_from_facts(store, one.applied) for one in call.linked)
        surroundings = replace(call.surroundings, linked=states)
        state = state_from_facts(store, fields["applied"])
        again = decide(call.request, state, surroundings, parts.rulebook, call.at)
        told = verdict_fields(again)
        assert told == {name: fields[name] for name in told}


@pytest.fixture
def store(ledger: Ledger) -> Iterator[Store]:
    """The ledger's own history."""
    connected = Store.connect(store_parameters(settings_of(ledger)))
    yield connected
    connected.close()


def rows_of(store: Store, sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Rows of a query, texts as bytes."""
    table = store.query_arrow(sql, parameters, strings_as_bytes=True)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def facts_with(store: Store, event_id: str) -> list[bytes]:
    """Facts of an event."""
    sql = "SELECT fact FROM facts WHERE event_id = {event_id:String}"
    return [fact for (fact,) in rows_of(store, sql, {"event_id": event_id})]


def state_from_facts(store: Store, applied: Sequence[Mapping[str, Any]]) -> SubjectState:
    """The state whose last records stand at these offsets, folded from facts alone."""
    state = EMPTY
    for last in applied:
        for (data,) in rows_of(store, _FACTS_UP_TO, place_of(last)):
            fact = decode_body(fact_schema("Fact"), data)
            name = fact["event_name"]
            fields = decode_body(fact_schema(name, fact["event_version"]), fact["payload"])
            place = Position(
                *(fact[part] for part in ("topic", "log_id", "partition", "offset", "recorded_at"))
            )
            known = Derived(fact["elements"], tuple(fact["derived_states"]), fact["party"])
            state = merge(state, lift(name, fields, fields["occurred_at"], place, known))
    return state


def place_of(last: Mapping[str, Any]) -> dict[str, Any]:
    """An offset of a decision, as parameters of a query."""
    return {**last, "log_id": last["log_id"].hex()}


_SUBJECT_AT = """
SELECT subject FROM facts
WHERE log_id = unhex({log_id:String}) AND topic = {topic:String}
    AND partition = {partition:Int32} AND offset = {offset_last:Int64}
"""
_FACTS_UP_TO = f"""
SELECT fact FROM facts
WHERE log_id = unhex({{log_id:String}}) AND topic = {{topic:String}}
    AND offset <= {{offset_last:Int64}} AND subject = ({_SUBJECT_AT})
"""
