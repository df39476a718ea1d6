"""The project worker on real brokers: what is in the suppression topic, and when."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consent.codec import decode, encode
from consent.partitioning import partition_of
from consent.privacy import SealedLetter, open_dead_letter, position_bytes, subject_token
from consent.state import LegalHold, merge
from consent.state_codec import encode_state
from tests.brokers import Broker, unique
from tests.projection_harness import (
    PARTITIONS,
    SUPPRESSION,
    Stage,
    append,
    eventually,
    fold_of_log,
    following,
    grant,
    is_stopped,
    make_event,
    make_ledger_topics,
    now_us,
    publish,
    read_projected,
    read_topic,
    until,
    withdrawal,
)
from tests.projection_worker import KEYS


@pytest.fixture
def stage(broker: Broker, tmp_path: Path) -> Iterator[Stage]:
    """Empty topics on each broker."""
    make_ledger_topics(broker)
    stage = Stage(broker, tmp_path)
    yield stage
    stage.end()


def numbers(count: int) -> list[str]:
    """Fictional numbers, spread over the partitions."""
    return [f"+1415555{line:04d}" for line in range(100, 100 + count)]


async def test_the_topic_holds_the_fold_of_the_log(stage: Stage) -> None:
    """Every event published before and while the worker runs is in the state of its number."""
    people = numbers(50)
    before = await publish(stage.broker, [("ConsentGranted", grant(one)) for one in people])
    worker = stage.worker()
    events = [("CallPlaced", make_event("CallPlaced", one)) for one in people[:20]]
    events += [("DncAdded", make_event("DncAdded", one)) for one in people[10:30]]
    events += [("ConsentWithdrawn", withdrawal(one)) for one in people[20:40]]
    while_running = await publish(stage.broker, events)
    projected = await stage.until_projected([*before, *while_running], worker)
    assert projected.last == projected.states == await fold_of_log(stage.broker)
    assert worker.stop() == 0


async def test_a_kill_between_steps_loses_and_doubles_nothing(stage: Stage) -> None:
    """Killed before the cache is written, or before the acknowledgement, the next run repeats."""
    people = numbers(40)
    sent = await publish(
        stage.broker, [("CallPlaced", make_event("CallPlaced", one)) for one in people]
    )
    for step, count in (("states_appended", 1), ("states_stored", 2), ("states_appended", 3)):
        killed = stage.worker(step=step, step_count=count, records_max=4)
        assert killed.exit_code() == -signal.SIGKILL
    worker = stage.worker()
    projected = await stage.until_projected(sent, worker)
    assert projected.last == projected.states == await fold_of_log(stage.broker)
    assert all(len(a) == 1 for s in projected.states.values() for a in s.attempts.values())


async def test_recovery_from_an_empty_folder_and_from_a_stale_one(stage: Stage) -> None:
    """An owner with nothing on disk, or with an old cache, continues from what the topic holds."""
    people = numbers(30)
    first = await publish(stage.broker, [("ConsentGranted", grant(n)) for n in people])
    one = stage.worker("one")
    await stage.until_projected(first, one)
    assert one.stop() == 0
    second = await publish(stage.broker, [("DncAdded", make_event("DncAdded", n)) for n in people])
    two = stage.worker("two")
    await stage.until_projected(second, two)
    assert two.stop() == 0
    third = await publish(
        stage.broker, [("CallPlaced", make_event("CallPlaced", n)) for n in people]
    )
    again = stage.worker("one")
    projected = await stage.until_projected(third, again)
    assert projected.last == projected.states == await fold_of_log(stage.broker)


async def test_a_state_that_a_former_owner_writes_late_is_repaired(stage: Stage) -> None:
    """An older state appended after a newer one does not stay the topic's last word."""
    (number,) = numbers(1)
    key = number.encode()
    partition = partition_of(key, PARTITIONS)
    worker = stage.worker()
    granted = await publish(stage.broker, [("ConsentGranted", grant(number))])
    old = (await stage.until_projected(granted, worker)).last[key]
    assert old is not None
    withdrawn = await publish(stage.broker, [("ConsentWithdrawn", withdrawal(number))])
    new = (await stage.until_projected(withdrawn, worker)).last[key]
    await append(stage.broker, SUPPRESSION, [(key, encode_state(old))], partition)

    async def repaired() -> bool:
        return (await read_projected(stage.broker)).last[key] == new

    await eventually(repaired)
    # Also where the late record is ahead of what the owner knows, nothing of it is lost.
    foreign = replace(old, legal_holds={"hold-9": LegalHold(now_us(), True)})
    await append(stage.broker, SUPPRESSION, [(key, encode_state(foreign))], partition)

    async def merged() -> bool:
        return (await read_projected(stage.broker)).last[key] == merge(new, foreign)

    await eventually(merged)
    assert worker.stop() == 0
    assert b"states_repaired" in worker.output.read_bytes()


async def test_a_paused_owner_does_no_harm_when_it_goes_on(stage: Stage) -> None:
    """Stopped inside a batch past the session time-out, it writes late; the end is the fold."""
    people = numbers(40)
    sent = await publish(stage.broker, [("ConsentGranted", grant(n)) for n in people])
    paused = stage.worker("a", step="states_appended", step_count=2, signal=int(signal.SIGSTOP))
    await until(lambda: is_stopped(paused), 60)
    other = stage.worker("b")
    sent += await publish(stage.broker, [("DncAdded", make_event("DncAdded", n)) for n in people])
    await stage.until_projected(sent, other)
    paused.signal(signal.SIGCONT)
    sent += await publish(
        stage.broker, [("CallPlaced", make_event("CallPlaced", n)) for n in people]
    )
    await stage.until_projected(sent)

    async def settled() -> bool:
        projected = await read_projected(stage.broker)
        return projected.last == projected.states == await fold_of_log(stage.broker)

    await eventually(settled)


async def test_unusable_records_are_dead_letters_and_opt_outs_are_applied(stage: Stage) -> None:
    """A record that can't be read is kept, encrypted; if it is an opt-out, all is withdrawn."""
    granting, opting_out = numbers(2)
    worker = stage.worker()
    broken_grant = encode("ConsentGranted", grant(granting))[:-3]
    broken_opt_out = encode("ConsentWithdrawn", withdrawal(opting_out))[:-3]
    for number, value in ((granting, broken_grant), (opting_out, broken_opt_out)):
        partition = partition_of(number.encode(), PARTITIONS)
        await append(stage.broker, "consent-events", [(number.encode(), value)], partition)

    async def applied() -> bool:
        state = (await read_projected(stage.broker)).states.get(opting_out.encode())
        return state is not None and ("*", "*", "*", "*") in state.withdrawals

    async def buried() -> bool:
        return len(await read_topic(stage.broker, "dead-letters")) >= 2

    await eventually(applied)
    await eventually(buried)
    letters = [decode(record.value)[1] for record in await read_topic(stage.broker, "dead-letters")]
    assert sorted(letter["event_name"] for letter in letters) == [
        "ConsentGranted",
        "ConsentWithdrawn",
    ]
    opened = [_opened(letter) for letter in letters]
    assert {tuple(parts[:2]) for parts in opened} == {
        (granting.encode(), broken_grant),
        (opting_out.encode(), broken_opt_out),
    }
    assert granting.encode() not in (await read_projected(stage.broker)).states
    for text in (granting, opting_out):
        assert text.encode() not in worker.output.read_bytes()


def _opened(letter: dict[str, Any]) -> list[bytes | None]:
    place = position_bytes(letter["log_id"], letter["topic"], letter["partition"], letter["offset"])
    return open_dead_letter(
        KEYS.dead_letters, place, SealedLetter(letter["nonce"], letter["original"])
    )


async def test_a_record_in_the_wrong_partition_is_forwarded_once(stage: Stage) -> None:
    """It is folded where its number belongs, and nowhere else."""
    (number,) = numbers(1)
    key = number.encode()
    right = partition_of(key, PARTITIONS)
    stage.worker()
    await publish(
        stage.broker, [("ConsentWithdrawn", withdrawal(number))], (right + 1) % PARTITIONS
    )

    async def projected() -> bool:
        return key in (await read_projected(stage.broker)).states

    await eventually(projected)
    records = await read_topic(stage.broker, SUPPRESSION)
    assert {record.partition for record in records if record.key == key} == {right}
    sources = await read_topic(stage.broker, "consent-events")
    assert [record.partition for record in sources].count(right) == 1
    assert len(sources) == 2


async def test_an_erased_subject_is_kept_under_a_token(stage: Stage) -> None:
    """After an erasure the number is a tombstone, and later events still find the state."""
    (number,) = numbers(1)
    key = number.encode()
    token = b"#" + subject_token(KEYS.suppression, number).hex().encode()
    worker = stage.worker()
    cutoff_at = now_us()
    granted = [("ConsentGranted", grant(number, occurred_at=cutoff_at - 1_000_000))]
    before = await stage.until_projected(await publish(stage.broker, granted), worker)
    erasure = make_event("ErasureExecuted", number, cutoff_at=cutoff_at)
    await stage.until_projected(await publish(stage.broker, [("ErasureExecuted", erasure)]), worker)
    late = [("ConsentGranted", grant(number, occurred_at=cutoff_at - 2_000_000))]
    projected = await stage.until_projected(await publish(stage.broker, late), worker)
    assert projected.last[key] is None
    state = projected.last[token]
    assert state is not None
    assert state.erased is not None
    assert state.grants == {}
    async with following(stage.broker) as view:
        await asyncio.wait_for(view.wait_until_loaded(), 30)
        assert view.look_up(number).state == state
    # The former owner's late word on the number does not bring it back.
    partition = partition_of(key, PARTITIONS)
    old = before.states[key]
    await append(stage.broker, SUPPRESSION, [(key, encode_state(old))], partition)

    async def forgotten() -> bool:
        last = (await read_projected(stage.broker)).last
        return last[key] is None and last[token] == state

    await eventually(forgotten)


async def test_a_topic_made_anew_is_not_resumed(stage: Stage) -> None:
    """With another incarnation of the topics, the old cache counts for nothing."""
    people = numbers(10)
    worker = stage.worker()
    await stage.until_projected(
        await publish(stage.broker, [("ConsentGranted", grant(n)) for n in people]), worker
    )
    assert worker.stop() == 0
    make_ledger_topics(stage.broker)
    sent = await publish(stage.broker, [("ConsentGranted", grant(n)) for n in people[:3]])
    again = stage.worker(group=unique("project"))
    projected = await stage.until_projected(sent, again)
    assert projected.last == projected.states == await fold_of_log(stage.broker)
    assert b"suppression_topic_is_another" in again.output.read_bytes()
