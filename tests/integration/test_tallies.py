"""Campaigns' calls counted by the project worker on real brokers: each once, whatever happens."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from consent.tally_records import encode_tally
from tests.brokers import Broker
from tests.projection_harness import (
    PARTITIONS,
    TALLIES,
    Stage,
    append,
    is_stopped,
    make_ledger_topics,
    now_us,
    publish,
    until,
)
from tests.tally_harness import (
    CAMPAIGN,
    DAY_US,
    call,
    calls,
    declaration,
    expected,
    numbers,
    publish_unkeyed,
    read_tallies,
    until_counted,
)

PEOPLE = numbers(24)


@pytest.fixture
def stage(broker: Broker, tmp_path: Path) -> Iterator[Stage]:
    """Empty topics on each broker."""
    make_ledger_topics(broker)
    stage = Stage(broker, tmp_path)
    yield stage
    stage.end()


async def test_calls_are_counted_once_from_the_first_one(stage: Stage) -> None:
    """Both events of a call, repeated and in any order, over all partitions."""
    events = calls(PEOPLE, seed=1)
    await publish(stage.broker, events[: len(events) // 2])
    worker = stage.worker()
    await publish(stage.broker, events[len(events) // 2 :])
    await until_counted(stage.broker, expected(events))
    assert worker.stop() == 0


async def test_a_late_declaration_moves_the_periods(stage: Stage) -> None:
    """Thirty days count from the declared start, also for calls that were counted before."""
    events = calls(PEOPLE, seed=2)
    worker = stage.worker()
    await publish(stage.broker, events)
    await until_counted(stage.broker, expected(events))
    starts_at = now_us() - 11 * DAY_US
    await publish_unkeyed(stage.broker, "CampaignDeclared", declaration(starts_at), "acme")
    await until_counted(stage.broker, expected(events, starts_at))
    more = calls(PEOPLE, seed=3, count=10)
    await publish(stage.broker, more)
    await until_counted(stage.broker, expected([*events, *more], starts_at))
    assert worker.stop() == 0


async def test_a_kill_between_steps_counts_nothing_twice(stage: Stage) -> None:
    """Killed after the counts are on disk, in the topic, or before the acknowledgement."""
    events = calls(PEOPLE, seed=4)
    await publish(stage.broker, events)
    for step, count in (
        ("tallies_stored", 1),
        ("tallies_appended", 2),
        ("states_appended", 3),
        ("tallies_stored", 4),
    ):
        killed = stage.worker(step=step, step_count=count, records_max=7)
        assert killed.exit_code() == -signal.SIGKILL
    worker = stage.worker()
    await until_counted(stage.broker, expected(events))
    assert worker.stop() == 0


@pytest.mark.parametrize("folder", ["a", "b"])
async def test_an_owner_with_an_old_cache_or_none_goes_on(stage: Stage, folder: str) -> None:
    """It knows every call by its id, also those that another owner counted."""
    events = calls(PEOPLE, seed=5)
    third = len(events) // 3
    for name, part in (("a", events[:third]), ("other", events[third : 2 * third])):
        await publish(stage.broker, part)
        worker = stage.worker(name)
        done = events[: third if name == "a" else 2 * third]
        await until_counted(stage.broker, expected(done))
        assert worker.stop() == 0
    # What was published before comes again: nothing of it counts.
    await publish(stage.broker, events[2 * third :] + events[:third])
    worker = stage.worker(folder)
    await until_counted(stage.broker, expected(events))
    starts_at = now_us() - 9 * DAY_US
    await publish_unkeyed(stage.broker, "CampaignDeclared", declaration(starts_at), "acme")
    await until_counted(stage.broker, expected(events, starts_at))
    assert worker.stop() == 0


async def test_a_former_owner_that_goes_on_late_lowers_nothing(stage: Stage) -> None:
    """Stopped inside a batch past the session time-out; the end is what the log says."""
    events = calls(PEOPLE, seed=6)
    half = len(events) // 2
    await publish(stage.broker, events[:half])
    paused = stage.worker(
        "a", step="tallies_stored", step_count=2, signal=int(signal.SIGSTOP), records_max=7
    )
    await until(lambda: is_stopped(paused), 60)
    stage.worker("b")
    await publish(stage.broker, events[half:])
    await until_counted(stage.broker, expected(events))
    paused.signal(signal.SIGCONT)
    more = calls(PEOPLE, seed=7, count=20)
    await publish(stage.broker, more)
    await until_counted(stage.broker, expected([*events, *more]))


async def test_a_late_record_of_another_writer_is_repaired(stage: Stage) -> None:
    """A lower count, a tombstone and garbage don't stay the topic's last words."""
    events = [one for person in PEOPLE for one in call(person, now_us() - 3 * DAY_US)]
    worker = stage.worker()
    await publish(stage.broker, events)
    await until_counted(stage.broker, expected(events))
    kept = [tally for _key, tally in await read_tallies(stage.broker) if tally is not None]
    partition = kept[0].partition
    late = [
        tally._replace(counts=tally.counts._replace(attempts=1), offset_last=0)
        for tally in kept
        if tally.partition == partition
    ]
    await append(stage.broker, TALLIES, [(one.key, encode_tally(one)) for one in late], partition)
    await append(
        stage.broker,
        TALLIES,
        [(late[-1].key, None), (late[0].key, b"?"), (late[1].key, None)],
        partition,
    )
    await until_counted(stage.broker, expected(events))
    assert worker.stop() == 0


async def test_what_the_log_has_forgotten_stays_counted(stage: Stage) -> None:
    """Where log and cache are gone, the topic's counts are taken over, and new calls added."""
    events = calls(PEOPLE, seed=8)
    worker = stage.worker("a")
    await publish(stage.broker, events)
    await until_counted(stage.broker, expected(events))
    assert worker.stop() == 0
    tallies = [
        (k, None if t is None else encode_tally(t)) for k, t in await read_tallies(stage.broker)
    ]
    make_ledger_topics(stage.broker)
    for partition in range(PARTITIONS):
        mine = [(k, v) for k, v in tallies if k.endswith(b"/%d" % partition)]
        await append(stage.broker, TALLIES, mine, partition)
    more = call(PEOPLE[0], now_us() - DAY_US)
    await publish(stage.broker, more)
    again = stage.worker("b", group="another")
    await until_counted(stage.broker, expected([*events, *more]))
    assert again.stop() == 0
    assert CAMPAIGN.campaign_id.encode() not in again.output.read_bytes()
