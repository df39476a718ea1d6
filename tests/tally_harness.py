"""Calls of campaigns for tests: events, declarations, and what their counts must be."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaProducer

from consent.codec import encode
from consent.contracts import contracts
from consent.errors import Unreadable
from consent.partitioning import partition_of
from consent.tallies import (
    DAY_US,
    NO_CALLS,
    Call,
    CampaignId,
    Counts,
    Period,
    merge_calls,
    periods_of,
)
from consent.tally_events import call_of
from consent.tally_records import MARK, Tally, decode_tally
from tests.brokers import Broker
from tests.events import event
from tests.projection_harness import PARTITIONS, TALLIES, eventually, make_event, now_us, read_topic

CAMPAIGN = CampaignId("acme", "autumn-26")

Event = tuple[str, dict[str, Any]]
Counted = dict[tuple[CampaignId, int, Period], Counts]
"""Counts by campaign, partition and period; periods without a call are left out."""


def numbers(count: int) -> list[str]:
    """Fictional numbers, spread over the partitions."""
    return [f"+1415555{line:04d}" for line in range(100, 100 + count)]


def call(number: str, at: int, *, answered: bool = True, abandoned: bool = False) -> list[Event]:
    """Both events of one call, by an id of its own."""
    own: dict[str, Any] = {
        "seller_id": CAMPAIGN.seller_id,
        "campaign_id": CAMPAIGN.campaign_id,
        "call_id": f"call-{uuid4().hex}",
        "contact_kind": "CALL",
    }
    outcome = "ANSWERED_LIVE" if answered else "NO_ANSWER"
    ended = {"outcome": outcome, "answered_live": None, "abandoned": abandoned}
    return [
        ("CallPlaced", make_event("CallPlaced", number, occurred_at=at, **own)),
        ("CallEnded", make_event("CallEnded", number, occurred_at=at + 9_000_000, **own, **ended)),
    ]


def calls(people: Sequence[str], seed: int, count: int = 60) -> list[Event]:
    """Calls of the last weeks, some answered, some abandoned, some published twice."""
    draw = random.Random(seed)
    events: list[Event] = []
    for _ in range(count):
        at = now_us() - draw.randrange(28 * DAY_US) - 60_000_000
        made = call(
            draw.choice(people),
            at,
            answered=draw.random() < 0.6,
            abandoned=draw.random() < 0.2,
        )
        if draw.random() < 0.2:
            made += [made[-1], (made[-1][0], made[-1][1] | {"event_id": str(uuid4())})]
        events += made
    draw.shuffle(events)
    return events


def declaration(starts_at: int, campaign: CampaignId = CAMPAIGN) -> dict[str, Any]:
    """A campaign is declared now."""
    seller_id, campaign_id = campaign
    return event(
        "CampaignDeclared",
        seller_id=seller_id,
        campaign_id=campaign_id,
        starts_at=starts_at,
        occurred_at=now_us(),
    )


async def publish_unkeyed(broker: Broker, name: str, fields: dict[str, Any], key: str) -> None:
    """Appends an event to a topic of one partition."""
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")
    await producer.start()
    try:
        topic = contracts().record(name).topic
        await producer.send_and_wait(topic, encode(name, fields), key.encode(), partition=0)
    finally:
        await producer.stop()


def expected(events: Iterable[Event], starts_at: int | None = None) -> Counted:
    """Counts by their definition, from the events themselves."""
    known: dict[tuple[CampaignId, int, str], Call] = {}
    for name, fields in events:
        said = call_of(name, fields, fields["occurred_at"], 0)
        if said is not None:
            partition = partition_of(fields["number"].encode(), PARTITIONS)
            key = (said.campaign, partition, said.call_id)
            known[key] = merge_calls(known.get(key), said.call)
    if starts_at is None and known:
        starts_at = min(call.at for call in known.values())
    counted: Counted = {}
    for (campaign, partition, _call_id), one in known.items():
        for period in periods_of(one.at, starts_at or 0):
            there = counted.get((campaign, partition, period), NO_CALLS)
            counted[campaign, partition, period] = Counts(
                there.live_answered + (one.live or one.abandoned),
                there.abandoned + one.abandoned,
                there.attempts + 1,
            )
    return counted


async def read_tallies(broker: Broker) -> list[tuple[bytes, Tally | None]]:
    """Every record of the topic, each partition in its order; None for what is no tally."""

    def read(value: bytes | None) -> Tally | None:
        with contextlib.suppress(Unreadable):
            return None if value is None else decode_tally(value)
        return None

    return [(record.key, read(record.value)) for record in await read_topic(broker, TALLIES)]


async def last_tallies(broker: Broker) -> Counted:
    """The topic's last words, as compaction would leave them; periods without a call left out."""
    last = dict(await read_tallies(broker))
    return {
        (tally.campaign, tally.partition, tally.period): tally.counts
        for tally in last.values()
        if tally is not None and tally.period.kind != MARK and tally.counts != NO_CALLS
    }


async def until_counted(broker: Broker, counted: Counted, timeout_s: float = 60.0) -> None:
    """Waits until the topic's last words are these counts."""

    async def there() -> bool:
        return await last_tallies(broker) == counted

    try:
        await eventually(there, timeout_s)
    except AssertionError:
        found = await last_tallies(broker)
        differ = {k: (found.get(k), counted.get(k)) for k in found.keys() | counted.keys()}
        differ = {k: v for k, v in differ.items() if v[0] != v[1]}
        raise AssertionError(f"found, wanted: {differ}") from None
