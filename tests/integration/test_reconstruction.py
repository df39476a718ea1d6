"""Past moments from a real store: random cases, a replayed day, and a ledger that runs."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from importlib.resources import files
from typing import Any

import httpx
import pytest
import pytest_asyncio

from consent.contracts import contracts
from consent.partitioning import partition_of
from consent.privacy import subject_token
from consent.rulebook import Rulebook
from consent_ledger.api.parts import ApiConfig
from consent_ledger.backtest import Backtest
from projections.clickhouse import Store
from projections.migration import load_migrations, migrate
from projections.past import Past
from tests.api import ago, doors_of, event, fresh_number, grant, keys_of, publish, question, served
from tests.decisions import packaged_files, packaged_rulebook, rule
from tests.events import raw
from tests.ledger import Ledger, ledger_on
from tests.reconstruction.deciding import Decider
from tests.reconstruction.run import Outcome, compare, reconstructor, replay_all
from tests.reconstruction.world import HISTORY_KEY, PARTITIONS, World, number_of, rows_of
from tests.stores import RunningFront

pytestmark = pytest.mark.timeout(300)


def test_random_moments_and_a_replayed_day(store: Store) -> None:
    """The oracle's states and decisions; and every recorded decision, bit for bit."""
    migrate(store, load_migrations(files("projections") / "migrations"))
    rulebook = packaged_rulebook()
    world = World(
        facts=3_000,
        numbers=200,
        studied=40,
        seed=5,
        decide=Decider(rulebook, random.Random(5)),
        decided=0.4,
        odd_share=0.03,
    )
    world.build(store)
    outcome = Outcome()
    made = reconstructor(store, rulebook)
    compare(world, made, 60, 5, lambda *_: None, outcome)
    replay_all(world, made, lambda *_: None, outcome)
    assert not outcome.examples
    assert outcome.cases == 60
    assert outcome.late_seen
    assert outcome.replayed == len(world.decisions) > 20
    backtest(store, rulebook, rulebook, len(world.decisions), flipped=False)
    backtest(store, rulebook, stricter(), len(world.decisions), flipped=True)


def backtest(
    store: Store, own: Rulebook, other: Rulebook, decisions: int, *, flipped: bool
) -> None:
    """Every decision is in exactly one of the counts; the same rules flip none."""
    testing = Backtest(Past(store), other, {own.digest: own}.get)
    flips = list(testing.run(0, 4_000_000_000_000_000))
    report = testing.report
    assert report.decisions == decisions
    assert report.not_reproduced == 0
    assert len(flips) == report.flipped == sum(report.by_change.values())
    assert report.same + report.flipped + report.unknown + report.no_answer == decisions
    assert bool(flips) == flipped
    assert bool(report.by_change) == flipped


def stricter() -> Rulebook:
    """The same rows, and one more that denies every call to the US."""
    return Rulebook.load(
        {**packaged_files(), "more.yaml": json.dumps({"rules": [rule(id="US-NEW")]})}
    )


def test_a_token_that_ends_with_zero_is_found_among_others(store: Store) -> None:
    """The store cuts zeros off where it takes a text for a token of fixed length."""
    migrate(store, load_migrations(files("projections") / "migrations"))
    numbers = (number_of(index) for index in range(10_000))
    wanted = [one for one in numbers if subject_token(HISTORY_KEY, one).endswith(b"\0")][:20]
    topic = contracts().record("ConsentWithdrawn").topic
    records: defaultdict[tuple[str, int], list[Any]] = defaultdict(list)
    told = [*wanted, *(number_of(index) for index in range(2_000))]
    for offset, number in enumerate(told):
        record = raw("ConsentWithdrawn", offset=offset, number=number)
        partition = partition_of(number.encode(), PARTITIONS)
        records[topic, partition].append(record)
    for (name, partition), found in records.items():
        store.insert_arrow("facts", rows_of(name, partition, found), f"{name}-{partition}")
    tokens = [subject_token(HISTORY_KEY, number) for number in wanted]
    past = Past(store)
    found_together = past.facts_of_many(tokens)
    assert all(found_together[token] == past.facts_of(token) != [] for token in tokens)


@pytest.fixture(scope="module")
def ledger(
    request: pytest.FixtureRequest,
    clickhouse_front: RunningFront,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ledger]:
    """Both workers around an embedded broker."""
    folder = tmp_path_factory.mktemp("ledger")
    with ledger_on("embedded", request, clickhouse_front.url, folder) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(ledger: Ledger) -> AsyncIterator[httpx.AsyncClient]:
    """The API as one machine would use it, without keys."""
    async with served(doors_of(ledger)) as opened:
        yield opened


async def reconstruct(client: httpx.AsyncClient, status: int = 200, **asked: Any) -> Any:
    """The answer of the door."""
    answer = await client.post("/v1/audit/reconstruct", json=asked)
    assert answer.status_code == status, answer.text
    return answer.json()


async def decided(client: httpx.AsyncClient, number: str, **asked: Any) -> dict[str, Any]:
    """A check whose decision history has."""
    answer = await client.post("/v1/calls/check", json=question(number, **asked))
    assert answer.status_code == 200, answer.text
    checked: dict[str, Any] = answer.json()
    async with asyncio.timeout(60):
        while (
            await client.post("/v1/audit/reconstruct", json={"decision_id": checked["decision_id"]})
        ).status_code != 200:
            await asyncio.sleep(0.2)
    return checked


def linked_grant(number: str, party: str) -> dict[str, Any]:
    """Consent of one of a person's numbers."""
    given = grant(number)
    given["evidence"]["party_reference"] = party
    return given


@pytest.mark.embedded
@pytest.mark.asyncio(loop_scope="module")
async def test_decisions_over_http_are_made_again(
    client: httpx.AsyncClient, ledger: Ledger
) -> None:
    """An allow, denials for several reasons, and one that another number of the person decided."""
    one, other, third = fresh_number(), fresh_number(), fresh_number()
    party = f"person-{uuid.uuid4().hex[:8]}"
    await publish(client, linked_grant(one, party), linked_grant(other, party), grant(third))
    decisions = [await decided(client, one), await decided(client, third, campaign_id="spring")]
    await publish(
        client,
        event("DncAdded", other, list_kind="INTERNAL", list_id="internal", whole_party=True),
        event("ConsentWithdrawn", third),
    )
    marketing = {"purpose": "MARKETING", "call_mode": "LIVE", "dial_mode": "MANUAL"}
    decisions += [
        await decided(client, one),
        await decided(client, third),
        await decided(client, one, **marketing),
        await decided(client, fresh_number()),
    ]
    for decision in decisions:
        again = await reconstruct(client, decision_id=decision["decision_id"])
        assert again["same"], again
        assert again["verdict"] == decision["verdict"]
        assert again["difference"] is None
        assert again["made_by"] == []
    assert [one["verdict"] for one in decisions[:2]] == ["allow", "allow"]
    assert (await reconstruct(client, decision_id=decisions[0]["decision_id"]))[
        "linked_numbers"
    ] == 1
    done = ledger.run("reconstruct", "--decision", decisions[2]["decision_id"], "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["same"] is True
    period = ("--from", ago(days=1), "--to", ago(days=-1))
    tried = ledger.run("rules", "backtest", *period, "--rulebook", "packaged", "--json")
    assert tried.returncode == 0, tried.stderr
    summary = json.loads(tried.stdout.splitlines()[-1])
    assert summary["decisions"] >= len(decisions)
    assert (summary["flipped"], summary["not_reproduced"]) == (0, 0)


@pytest.mark.embedded
@pytest.mark.asyncio(loop_scope="module")
async def test_an_erased_number_that_counts_as_linked_is_found(
    client: httpx.AsyncClient, ledger: Ledger
) -> None:
    """Who agrees again after an erasure is kept under a token, and still speaks for the person."""
    one, erased = fresh_number(), fresh_number()
    party = f"person-{uuid.uuid4().hex[:8]}"
    await publish(client, linked_grant(one, party), grant(erased))
    asked = {"number": erased, "request_id": f"REQ-{party}"}
    done = await client.post("/v1/privacy/erasures", json=asked)
    assert done.status_code == 200, done.text
    await publish(
        client,
        {**linked_grant(erased, party), "occurred_at": ago(minutes=0)},
        event("DncAdded", erased, list_kind="INTERNAL", list_id="internal", whole_party=True),
    )
    marketing = {"purpose": "MARKETING", "call_mode": "LIVE", "dial_mode": "MANUAL"}
    decision = await decided(client, one, **marketing)
    assert decision["verdict"] == "deny" and "INTERNAL_DNC_PARTY" in json.dumps(decision)
    again = await reconstruct(client, decision_id=decision["decision_id"])
    assert (again["same"], again["linked_numbers"]) == (True, 1), again
    period = ("--from", ago(minutes=5), "--to", ago(minutes=-5))
    tried = ledger.run("rules", "backtest", *period, "--rulebook", "packaged", "--json")
    assert json.loads(tried.stdout.splitlines()[-1])["not_reproduced"] == 0


@pytest.mark.embedded
@pytest.mark.asyncio(loop_scope="module")
async def test_a_moment_has_two_times(client: httpx.AsyncClient, ledger: Ledger) -> None:
    """A withdrawal of before a call that arrives after it: allowed then, denied as known now."""
    number = fresh_number()
    await publish(client, grant(number), wait="recorded")
    checked = await decided(client, number)
    assert checked["verdict"] == "allow"
    at = checked["decided_at"]
    await publish(
        client, event("ConsentWithdrawn", number, occurred_at=ago(minutes=2)), wait="recorded"
    )
    asked = {name: value for name, value in question(number).items() if name != "number"}
    known = ago(seconds=-60)
    answer = await reconstruct(client, number=number, at=at, call=asked, difference=known)
    assert answer["decision"]["verdict"] == "allow"
    assert answer["decision"]["states"] == checked["states"]
    assert answer["late"] == []
    assert answer["rulebook"]["digest"] == checked["rulebook"]
    later = answer["later"]
    assert later["verdict_changed"]
    assert later["decision"]["reason"]["code"] == "CONSENT_REVOKED"
    assert [(one["type"], one["source_system"]) for one in later["arrived"]] == [
        ("ConsentWithdrawn", "tests")
    ]
    assert {change["section"] for change in later["changes"]} == {"withdrawals"}
    late = await reconstruct(client, number=number, at=at, known_at=known)
    assert [one["type"] for one in late["late"]] == ["ConsentWithdrawn"]
    assert late["late_changes"][0]["before"] is None
    shown = ledger.run(
        "reconstruct",
        "--number",
        "-",
        "--at",
        at,
        "--seller",
        "acme",
        "--purpose",
        "informational",
        "--mode",
        "prerecorded",
        "--dial",
        "predictive",
        "--difference",
        known,
        stdin=number,
    )
    assert shown.returncode == 0, shown.stderr
    assert "ALLOW" in shown.stdout
    assert "CONSENT_REVOKED" in shown.stdout
    assert number not in shown.stdout


@pytest.mark.embedded
@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_no_question_is_refused(client: httpx.AsyncClient, ledger: Ledger) -> None:
    """Each problem names its field."""
    number = fresh_number()
    for asked, field in (
        ({}, "number"),
        ({"number": number}, "at"),
        ({"number": number, "at": "yesterday"}, "at"),
        ({"number": number, "at": ago(), "decision_id": "x"}, "decision_id"),
        ({"number": number, "at": ago(), "difference": ago(days=1)}, "difference"),
        ({"decision_id": str(uuid.uuid4())}, "decision"),
    ):
        problem = await reconstruct(client, status=422, **asked)
        assert problem["errors"][0]["field"] == field, problem
    done = ledger.run("reconstruct", "--decision", str(uuid.uuid4()))
    assert done.returncode == 2
    assert "NO_DECISION" in done.stderr


@pytest.mark.embedded
@pytest.mark.asyncio(loop_scope="module")
async def test_a_seller_sees_its_own(ledger: Ledger) -> None:
    """Entries of others are left out, their decisions unknown, and dialers may not ask."""
    keys, headers = keys_of(
        ("all", ["admin"], None),
        ("globex", ["auditor"], ["globex"]),
        ("dialer", ["dialer"], None),
    )
    number = fresh_number()
    async with served(doors_of(ledger), ApiConfig(keys=keys)) as client:
        client.headers["Authorization"] = headers["all"]
        await publish(client, grant(number), wait="recorded")
        checked = await decided(client, number)
        everything = await reconstruct(client, number=number, at=ago(), known_at=ago())
        assert everything["state"]["grants"]
        client.headers["Authorization"] = headers["globex"]
        theirs = await reconstruct(client, number=number, at=ago(), known_at=ago())
        assert "grants" not in theirs["state"]
        await reconstruct(client, status=422, decision_id=checked["decision_id"])
        call = {name: value for name, value in question(number).items() if name != "number"}
        await reconstruct(client, status=422, number=number, at=ago(), call=call)
        client.headers["Authorization"] = headers["dialer"]
        await reconstruct(client, status=403, number=number, at=ago())
