"""Appending to the suppression topic and reading it in bulk, on real brokers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from consent.state import LegalHold, SubjectState, Withdrawal, merge
from consent.state_codec import decode_state_body, encode_state, encode_state_body
from projections.suppression_fold import framed_state, token_key_of
from projections.suppression_log import (
    LogConnection,
    LogLimits,
    Stretch,
    SuppressionLog,
)
from projections.suppression_metrics import SuppressionMetrics
from projections.suppression_partition import OwnedPartition, gaps, recover
from projections.suppression_store import ChangelogPlace, StoreFolder, StoreLimits
from projections.watermark import TrueAt
from tests.brokers import Broker
from tests.projection_harness import SUPPRESSION, append, make_ledger_topics, read_topic


@pytest.fixture
def topics(broker: Broker) -> Iterator[Broker]:
    """Empty topics on each broker."""
    make_ledger_topics(broker)
    return broker


@pytest.fixture
async def log(topics: Broker) -> AsyncIterator[SuppressionLog]:
    """A log whose appends are cut into small batches, and whose reads come in small chunks."""
    connection = LogConnection(
        topics.bootstrap,
        "test",
        idempotent=topics.kind == "kafka",
        limits=LogLimits(append_bytes_max=4_096, read_records_max=7),
    )
    log = SuppressionLog(connection)
    await log.start()
    yield log
    await log.stop()


def rows(count: int) -> list[tuple[bytes, bytes | None]]:
    """Rows of a kilobyte, and a tombstone at the end."""
    return [(b"+%d" % number, b"%04d" % number * 250) for number in range(count)] + [(b"+0", None)]


async def test_a_large_append_keeps_its_order(topics: Broker, log: SuppressionLog) -> None:
    """Cut into several batches, it is one stretch, and the last row is the last."""
    written = rows(30)
    stretches = await log.append(2, written)
    assert len(stretches) > 1
    assert gaps(stretches, stretches[0].offset_first, len(written)) == []
    found = [record for record in await read_topic(topics, SUPPRESSION) if record.partition == 2]
    assert [(record.key, record.value) for record in found] == written


async def test_what_another_writer_put_between_is_a_gap(
    topics: Broker, log: SuppressionLog
) -> None:
    """The offsets of our own appends say exactly where somebody else wrote."""
    (first,) = await log.append(1, [(b"+1", b"ours")])
    await append(topics, SUPPRESSION, [(b"+1", b"theirs"), (b"+2", b"theirs")], 1)
    (second,) = await log.append(1, [(b"+1", b"ours")])
    ((start, end),) = gaps([second], first.offset_next, 1)
    assert end is not None
    between = [record async for chunk in log.read(1, start, end) for record in chunk.records]
    assert [record.value for record in between] == [b"theirs", b"theirs"]
    assert Stretch(start, end) == Stretch(first.offset_next, second.offset_first)


async def test_a_partition_is_read_to_its_end(topics: Broker, log: SuppressionLog) -> None:
    """From the beginning, from the middle, from the end, and where there is nothing."""
    written = rows(30)
    await log.append(3, written)

    async def read(start: int) -> tuple[list[bytes], int]:
        keys, end = [], -1
        async for chunk in log.read(3, start):
            keys += [record.key for record in chunk.records]
            end = chunk.offset_next
        return keys, end

    every_key = [key for key, _value in written]
    assert await read(0) == (every_key, 31)
    assert await read(20) == (every_key[20:], 31)
    assert await read(31) == ([], 31)
    assert [chunk async for chunk in log.read(0, 0)][-1].offset_next == 0


async def test_a_log_shorter_than_expected_is_read_from_its_beginning(
    topics: Broker, log: SuppressionLog
) -> None:
    """Whoever knows more than the log holds finds out by where the reading ends."""
    await log.append(3, rows(3))
    chunks = [chunk async for chunk in log.read(3, 500)]
    assert chunks[-1].offset_next == 4
    assert sum(len(chunk.records) for chunk in chunks) == 4


async def test_states_that_the_topic_lost_are_written_again(
    topics: Broker, log: SuppressionLog, tmp_path: Path
) -> None:
    """A cache that is ahead of its topic holds what only it knows: all of it is appended."""
    kept = encode_state_body(
        SubjectState(withdrawals={("acme", "*", "*", "*"): Withdrawal(5, "e", "WITHDRAWN")})
    )
    newer = SubjectState(legal_holds={"h": LegalHold(9, True)})
    await append(topics, SUPPRESSION, [(b"+2", encode_state(newer))], 0)
    store = StoreFolder(tmp_path, StoreLimits()).open(0)
    store.write({b"+1": kept, b"+2": kept}, ChangelogPlace(b"l" * 16, 500))
    owned = OwnedPartition(0, store, b"l" * 16, token_key_of(b"s" * 32), TrueAt(["a"]))
    await recover(owned, log, SuppressionMetrics())
    last = {record.key: record.value for record in await read_topic(topics, SUPPRESSION)}
    merged = encode_state(merge(decode_state_body(kept), newer))
    assert last == {b"+1": framed_state(kept), b"+2": merged}
    assert store.place == ChangelogPlace(b"l" * 16, 3)
    store.close()
