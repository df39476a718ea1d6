"""The followers of campaigns, programs and calendars on real brokers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from consent.call import Campaign, Program, Tally
from consent.programs import PROGRAM_TOPIC, ProgramQuestion
from consent.tallies import DAY_US, THIRTY_DAYS, CampaignId, Counts, Period
from consent.tally_records import MARK, encode_tally
from consent.tally_records import Tally as Written
from projections.surroundings import (
    TALLIES_TOPIC,
    KnownEvent,
    SurroundingsConfig,
    SurroundingsView,
)
from tests.brokers import Broker
from tests.events import event
from tests.projection_harness import PARTITIONS, append, make_ledger_topics, now_us, until
from tests.projection_worker import log_ids_from
from tests.tally_harness import CAMPAIGN, declaration, publish_unkeyed

LOG = b"f" * 16
SECOND_US = 1_000_000


@pytest.fixture
def topics(broker: Broker) -> Broker:
    """Empty topics on each broker."""
    make_ledger_topics(broker)
    return broker


def config(broker: Broker, **given: Any) -> SurroundingsConfig:
    return SurroundingsConfig(
        **{
            "bootstrap": broker.bootstrap,
            "keyed_partitions": PARTITIONS,
            "log_ids": log_ids_from(broker.bootstrap),
            "nonce": bytes(range(16)),
        }
        | given
    )


@contextlib.asynccontextmanager
async def following(
    broker: Broker, known: list[KnownEvent] | None = None, **given: Any
) -> AsyncIterator[SurroundingsView]:
    """A view that has loaded."""

    async def earlier() -> list[KnownEvent]:
        return known or []

    view = SurroundingsView(config(broker, **given), earlier)
    assert not view.loaded
    assert view.stale(now_us())
    await view.start()
    try:
        await asyncio.wait_for(view.wait_until_loaded(), 30)
        yield view
    finally:
        await view.stop()


async def write_tally(broker: Broker, partition: int, start: int, live: int) -> None:
    counts = Counts(live, 1, live)
    tallies = [
        Written(CAMPAIGN, Period(MARK, start), partition, LOG, live),
        Written(CAMPAIGN, Period(THIRTY_DAYS, start), partition, LOG, live, counts),
    ]
    rows = [(tally.key, encode_tally(tally)) for tally in tallies]
    await append(broker, TALLIES_TOPIC, rows, partition)


def live_answered(campaign: Campaign) -> int | None:
    tally = campaign.tally(THIRTY_DAYS)
    return None if tally is None else tally.live_answered


def question(**given: Any) -> ProgramQuestion:
    asked: dict[str, Any] = {
        "seller_id": CAMPAIGN.seller_id,
        "campaign_id": CAMPAIGN.campaign_id,
        "states": ("US-NY",),
        "caller_id_number": None,
    }
    return ProgramQuestion(**(asked | given))


async def test_counts_are_summed_and_followed(topics: Broker) -> None:
    """Over all partitions; what comes later is seen, what a former owner writes late is not."""
    start = now_us() - 5 * DAY_US
    await write_tally(topics, 0, start, 40)
    async with following(topics) as view:
        assert view.campaign(CAMPAIGN, now_us()).tally(THIRTY_DAYS) == Tally(
            THIRTY_DAYS, live_answered=40, abandoned=1, period_start_at=start
        )
        await write_tally(topics, 3, start, 7)
        await until(lambda: live_answered(view.campaign(CAMPAIGN, now_us())) == 47)
        await write_tally(topics, 0, start, 39)
        await write_tally(topics, 3, start, 8)
        await until(lambda: live_answered(view.campaign(CAMPAIGN, now_us())) == 48)
        never_called = view.campaign(CampaignId("acme", "winter-26"), now_us())
        assert live_answered(never_called) == 0
        assert view.campaign(None, now_us()) == Campaign()
        assert live_answered(view.campaign(CAMPAIGN, start + 31 * DAY_US)) == 0


async def test_programs_and_calendars_are_followed(topics: Broker) -> None:
    """Events count once they are in their topics, also those from before the log began."""
    emergency = event(
        "EmergencyDeclared",
        declaration_id="e-1",
        jurisdiction="US-NY",
        from_at=now_us() - DAY_US,
        until_at=None,
    )
    known = KnownEvent("calendar-events", "EmergencyDeclared", emergency, now_us() - DAY_US)
    await publish_unkeyed(
        topics, "CampaignDeclared", declaration(5) | {"seller_type": "bank"}, "acme"
    )
    async with following(topics, [known]) as view:
        assert view.program(question()).seller_type == "bank"
        assert view.program(question(seller_id="other")) == Program((), ())
        (standing,) = view.calendar(["US-NY"], now_us(), test=False).emergencies
        assert standing.declaration_id == "e-1"
        lifted = event(
            "EmergencyLifted",
            declaration_id="e-1",
            jurisdiction="US-NY",
            lifted_at=now_us() - SECOND_US,
            occurred_at=now_us(),
        )
        await publish_unkeyed(topics, "EmergencyLifted", lifted, "US-NY")
        await until(lambda: not view.calendar(["US-NY"], now_us(), test=False).emergencies)


async def test_in_doubt_the_restricting_event_counts(topics: Broker) -> None:
    """Dated ahead, what permits is refused, what restricts holds at once; bad records hurt none."""
    ahead = now_us() + 3_600 * SECOND_US

    def filed(name: str, **given: Any) -> dict[str, Any]:
        terms = {"registration_id": name, "jurisdiction": "US-NY", "occurred_at": now_us()}
        return event("RegistrationFiled", **(terms | {"valid_from": 1} | given))

    await publish_unkeyed(topics, "RegistrationFiled", filed("r-1"), "acme")
    await publish_unkeyed(topics, "RegistrationFiled", filed("r-2", occurred_at=ahead), "acme")
    await append(topics, PROGRAM_TOPIC, [(b"acme", b"garbage"), (b"acme", None)], 0)
    async with following(topics) as view:
        assert [one.registration_id for one in view.program(question()).registrations or ()] == [
            "r-1"
        ]
        gone = filed("r-1", occurred_at=ahead, withdrawn=True)
        await publish_unkeyed(topics, "RegistrationFiled", gone, "acme")
        await until(lambda: view.program(question()).registrations == ())
        day = now_us() // DAY_US
        closed = {"declaration_id": "h-1", "jurisdiction": "US-NY", "date": day}
        holiday = event("HolidayDeclared", **closed, occurred_at=ahead)
        await publish_unkeyed(topics, "HolidayDeclared", holiday, "US-NY")
        await until(lambda: view.calendar(["US-NY"], now_us(), test=False).holidays)


async def test_what_is_old_is_stale_and_what_is_unreadable_hides_nothing(topics: Broker) -> None:
    """While the broker answers it stays fresh; a record that nobody can read changes no count."""
    start = now_us() - DAY_US
    await write_tally(topics, 0, start, 40)
    async with following(topics, max_age_ms=5_000) as view:
        assert not view.stale(now_us())
        assert view.stale(now_us() + 60 * SECOND_US)
        key = Written(CAMPAIGN, Period(THIRTY_DAYS, start), 0, LOG, 0).key
        await append(topics, TALLIES_TOPIC, [(key, b"garbage"), (None, b"garbage")], 0)
        await write_tally(topics, 1, start, 2)
        await until(lambda: live_answered(view.campaign(CAMPAIGN, now_us())) == 42)


async def test_topics_made_anew_are_read_anew(topics: Broker) -> None:
    """Nothing of what the former ones said is left."""
    await write_tally(topics, 0, now_us() - DAY_US, 40)
    async with following(topics) as view:
        assert live_answered(view.campaign(CAMPAIGN, now_us())) == 40
        make_ledger_topics(topics)
        await until(lambda: view.loaded and not live_answered(view.campaign(CAMPAIGN, now_us())))
