"""The view on real brokers: what a dialer sees, how fresh it says that it is."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.state import EMPTY, merge
from consent.state_codec import encode_state
from projections.view import Freshness
from tests.brokers import Broker, unique
from tests.projection_harness import (
    PARTITIONS,
    SUPPRESSION,
    Stage,
    append,
    following,
    grant,
    make_ledger_topics,
    publish,
    until,
    withdrawal,
)

NUMBER = "+14155550101"


@pytest.fixture
def stage(broker: Broker, tmp_path: Path) -> Iterator[Stage]:
    """Empty topics on each broker."""
    make_ledger_topics(broker)
    stage = Stage(broker, tmp_path)
    yield stage
    stage.end()


async def test_a_withdrawal_is_seen_once_projected(stage: Stage) -> None:
    """A look-up after `wait_until` includes the event; nothing known of a number is EMPTY."""
    stage.worker()
    async with following(stage.broker) as view:
        (granted,) = await publish(stage.broker, [("ConsentGranted", grant(NUMBER))])
        await asyncio.wait_for(
            view.wait_until(granted.topic, granted.partition, granted.offset), 60
        )
        assert ("acme", "MARKETING", "LIVE", "EXPRESS") in view.look_up(NUMBER).state.grants
        (withdrawn,) = await publish(stage.broker, [("ConsentWithdrawn", withdrawal(NUMBER))])
        await asyncio.wait_for(
            view.wait_until(withdrawn.topic, withdrawn.partition, withdrawn.offset), 30
        )
        answer = await until(
            lambda: view.look_up(NUMBER) if not view.look_up(NUMBER).freshness.stale else None
        )
        assert ("acme", "*", "*", "*") in answer.state.withdrawals
        assert answer.freshness is Freshness.FRESH
        assert view.look_up("+14155550199").state == EMPTY


async def test_a_view_is_stale_after_the_worker_stops(stage: Stage) -> None:
    """Idle partitions stay fresh while the worker runs, and go stale without it, for every one."""
    worker = stage.worker()
    async with following(stage.broker, view_max_age_ms=1_500) as view:
        assert view.look_up(NUMBER).freshness is Freshness.UNLOADED

        def all_are(freshness: Freshness) -> bool:
            return [one.freshness for one in view.status()] == [freshness] * PARTITIONS

        await until(lambda: all_are(Freshness.FRESH), 60)
        seen = [one.true_at or 0 for one in view.status()]
        await until(
            lambda: all(
                (one.true_at or 0) > before for one, before in zip(view.status(), seen, strict=True)
            )
        )
        worker.signal(signal.SIGSTOP)
        await until(lambda: all_are(Freshness.STALE))
        worker.signal(signal.SIGCONT)
        await until(lambda: all_are(Freshness.FRESH), 60)
        assert worker.stop() == 0
        await until(lambda: all_are(Freshness.STALE))


async def test_a_topic_made_anew_is_loaded_anew(stage: Stage) -> None:
    """What the former incarnation said is gone, and nothing is answered while it loads."""
    worker = stage.worker()
    async with following(stage.broker, log_check_ms=200) as view:
        (granted,) = await publish(stage.broker, [("ConsentGranted", grant(NUMBER))])
        await asyncio.wait_for(
            view.wait_until(granted.topic, granted.partition, granted.offset), 60
        )
        worker.kill()
        make_ledger_topics(stage.broker)
        await until(lambda: view.look_up(NUMBER).state == EMPTY, 60)
        other = "+14155550177"
        stage.worker("b", group=unique("project"))
        (withdrawn,) = await publish(stage.broker, [("ConsentWithdrawn", withdrawal(other))])
        await asyncio.wait_for(
            view.wait_until(withdrawn.topic, withdrawn.partition, withdrawn.offset), 60
        )
        assert ("acme", "*", "*", "*") in view.look_up(other).state.withdrawals
        assert view.look_up(NUMBER).state == EMPTY


async def test_a_late_older_record_takes_nothing_away(stage: Stage) -> None:
    """A look-up never shows less than an earlier one did, while a former owner writes."""
    worker = stage.worker()
    key = NUMBER.encode()
    async with following(stage.broker) as view:
        sent = await publish(stage.broker, [("ConsentGranted", grant(NUMBER))])
        old = (await stage.until_projected(sent, worker)).last[key]
        assert old is not None
        (withdrawn,) = await publish(stage.broker, [("ConsentWithdrawn", withdrawal(NUMBER))])
        await asyncio.wait_for(
            view.wait_until(withdrawn.topic, withdrawn.partition, withdrawn.offset), 60
        )
        seen = view.look_up(NUMBER).state
        worker.signal(signal.SIGSTOP)
        partition = view.look_up(NUMBER).partition
        await append(stage.broker, SUPPRESSION, [(key, encode_state(old))], partition)
        other = await publish(stage.broker, [("ConsentWithdrawn", withdrawal("+14155550188"))])
        worker.signal(signal.SIGCONT)
        await asyncio.wait_for(
            view.wait_until(other[0].topic, other[0].partition, other[0].offset), 60
        )
        assert view.look_up(NUMBER).state == merge(seen, old) == seen


async def test_a_record_that_can_not_be_read_unloads_the_view(stage: Stage) -> None:
    """Nothing is answered from a view that would have to skip something."""
    async with following(stage.broker) as view:
        await asyncio.wait_for(view.wait_until_loaded(), 30)
        partition = view.look_up(NUMBER).partition
        await append(stage.broker, SUPPRESSION, [(NUMBER.encode(), b"no state")], partition)
        await until(lambda: view.look_up(NUMBER).freshness is Freshness.UNLOADED)
        assert not view.loaded
