"""Compares the suppression topic, and caches made of it, with a fold of the log from zero."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from consent.codec import unframe
from consent.partitioning import partition_of
from consent.state import SubjectState
from consent.state_bytes import merge_bodies
from consent.state_codec import decode_state, decode_state_body
from projections.suppression_fold import token_key_of
from projections.suppression_store import StoreFolder, StoreLimits
from tests.fault.findings import Findings
from tests.fault.reference import ends_of

SUPPRESSION: Final = "suppression"
_WATERMARK: Final = b"!"

States = Mapping[bytes, SubjectState]


@dataclass
class ColdReading:
    """The suppression topic from its beginning: all records merged, and the last of each key.

    Keys are (partition, key). `last` None is a tombstone.
    """

    merged: dict[tuple[int, bytes], bytes] = field(default_factory=dict)
    last: dict[tuple[int, bytes], bytes | None] = field(default_factory=dict)
    records: int = 0

    def take(self, partition: int, key: bytes, value: bytes | None) -> None:
        """The next record of a partition, unless it is a watermark."""
        if key.startswith(_WATERMARK):
            return
        self.records += 1
        place = (partition, key)
        self.last[place] = value
        if value is not None:
            body = unframe(value)[1]
            held = self.merged.get(place)
            self.merged[place] = body if held is None else merge_bodies(held, body)


class Expected:
    """The states that a fold of the log gives, under the keys and partitions they belong to."""

    def __init__(self, states: States, partitions: int, suppression_key: bytes) -> None:
        token_key = token_key_of(suppression_key)
        self.tombstones: set[tuple[int, bytes]] = set()
        self.states: dict[tuple[int, bytes], SubjectState] = {}
        for number, state in states.items():
            place = (partition_of(number, partitions), number)
            if state.erased is None:
                self.states[place] = state
            else:
                self.tombstones.add(place)
                self.states[place[0], token_key(number)] = state


class ProjectionCheck:
    """Counts every key whose state differs. `what` names what was compared."""

    def __init__(self, expected: Expected, findings: Findings) -> None:
        self._expected = expected
        self._findings = findings

    def merged(self, what: str, reading: ColdReading) -> None:
        """All records of a key, merged: a reader that followed the topic.

        A number whose state has moved under its token is shown by that state, whatever is left.
        """
        found = {place: decode_state_body(body) for place, body in reading.merged.items()}
        self._compare(what, found, self._expected.tombstones)

    def last(self, what: str, reading: ColdReading) -> None:
        """The last record of a key: all that is left after compaction."""
        found = {
            place: decode_state(value) for place, value in reading.last.items() if value is not None
        }
        self._compare(what, found, set())

    def cached(self, what: str, caches: Mapping[int, Mapping[bytes, bytes]]) -> None:
        """The local caches of an owner, by partition."""
        found = {
            (partition, key): decode_state_body(body)
            for partition, bodies in caches.items()
            for key, body in bodies.items()
        }
        self._compare(what, found, set())

    def looked_up(self, what: str, states: States, ask: Callable[[str], SubjectState]) -> None:
        """What a view shows."""
        for number, state in states.items():
            if ask(number.decode()) != state:
                self._add(what, "a look-up differs", 0, number)

    def _compare(
        self,
        what: str,
        found: Mapping[tuple[int, bytes], SubjectState],
        ignored: set[tuple[int, bytes]],
    ) -> None:
        expected = self._expected.states
        for place in expected.keys() | (found.keys() - ignored):
            wanted, held = expected.get(place), found.get(place)
            if wanted == held:
                continue
            if wanted is None:
                detail = "a state that the log does not give"
            elif held is None:
                detail = "no state"
            else:
                detail = f"another state: {', '.join(_differing(wanted, held))}"
            self._add(what, detail, *place)

    def _add(self, what: str, detail: str, partition: int, key: bytes) -> None:
        subject = hashlib.sha256(key).hexdigest()[:12]
        self._findings.add(
            "projection_differs", f"{what}: {detail}", partition=partition, subject=subject
        )


def _differing(a: SubjectState, b: SubjectState) -> Iterable[str]:
    return [
        name for name in SubjectState.__dataclass_fields__ if getattr(a, name) != getattr(b, name)
    ]


async def read_cold(bootstrap: str, partitions: int) -> ColdReading:
    """Read the suppression topic from its beginning to where it ended when asked."""
    reading = ColdReading()
    async for record in _records(bootstrap, SUPPRESSION, partitions):
        reading.take(record.partition, record.key, record.value)
    return reading


async def read_values(bootstrap: str, topic: str, partitions: int) -> list[bytes]:
    """Every value of a topic."""
    return [record.value async for record in _records(bootstrap, topic, partitions)]


async def _records(bootstrap: str, topic: str, partitions: int) -> Any:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    try:
        targets = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(targets)
        ends = await ends_of(consumer, targets)
        await consumer.seek_to_beginning(*targets)
        while [target for target in targets if await consumer.position(target) < ends[target]]:
            found = await consumer.getmany(timeout_ms=200, max_records=5_000)
            for records in found.values():
                for record in records:
                    yield record
            await asyncio.sleep(0)
    finally:
        await consumer.stop()


def read_caches(folder: Path, partitions: int) -> dict[int, dict[bytes, bytes]]:
    """The local caches of a worker that has ended, by partition."""
    stores = StoreFolder(folder, StoreLimits())
    caches: dict[int, dict[bytes, bytes]] = {}
    for partition in range(partitions):
        store = stores.open(partition)
        caches[partition] = dict(store.items())
        store.close()
    return caches


def compacted(reading: ColdReading) -> bool:
    """True if the topic holds one record per key, watermarks aside."""
    return reading.records == len(reading.last)
