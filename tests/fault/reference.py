"""What history and projection must hold: the source topics, read from their beginning.

Reads every record with a consumer of its own, decodes and lifts the events one by one, and merges
plain states, none of which the workers do. What is a bad record, only `read_batch` says.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError

from consent.codec import decode
from consent.contracts import contracts
from consent.erasure import mentions
from consent.intake import FORWARDED_HEADER, BatchReading, EventGroup, Origin, read_batch
from consent.lift import Position, lift, lift_unreadable
from consent.state import EMPTY, SubjectState, merge

_ENDS_ATTEMPTS_MAX: Final = 5
UNREADABLE: Final = 0
"""In the place of an event's fingerprint."""

Place = tuple[str, int]
"""Topic and partition."""


def fingerprint(*parts: bytes | str | None) -> int:
    """A number of 64 bits, never UNREADABLE, that stands for some bytes."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"-" if data is None else len(data).to_bytes(4, "big") + data)
    return int.from_bytes(digest.digest(), "big") or 1


def layout(keyed_partitions: int) -> dict[Place, int]:
    """Every partition of every source topic, with the count of its topic's partitions."""
    topics = (contracts().topics[name] for name in contracts().source_topics)
    counts = {topic.name: topic.partitions or keyed_partitions for topic in topics}
    return {
        (name, partition): count for name, count in counts.items() for partition in range(count)
    }


Contents = Mapping[Place, "array[int]"]
"""Fingerprints of key and value of every record, by partition."""


@dataclass
class Accepted:
    """What the brokers acknowledged, kept apart from everything that is tested.

    `placed` has offsets and fingerprints that were not looked for in the log yet, `unplaced`
    fingerprints of which a repeated send has hidden the offset.
    """

    count: int = 0
    placed: dict[Place, list[tuple[int, int]]] = field(default_factory=dict)
    unplaced: dict[Place, set[int]] = field(default_factory=dict)

    def add(self, place: Place, offset: int | None, content: int) -> None:
        """Note an acknowledged record."""
        self.count += 1
        if offset is None:
            self.unplaced.setdefault(place, set()).add(content)
        else:
            self.placed.setdefault(place, []).append((offset, content))

    def missing(self, contents: Contents) -> list[tuple[Place, int]]:
        """Accepted records that are not in their places, as far as the log was read.

        Each is told once.
        """
        found: list[tuple[Place, int]] = []
        for place, records in self.placed.items():
            known = contents[place]
            found += (
                (place, offset)
                for offset, content in records
                if offset < len(known) and known[offset] != content
            )
            self.placed[place] = [record for record in records if record[0] >= len(known)]
        return found

    def missing_at_the_end(self, contents: Contents) -> list[tuple[Place, int]]:
        """As `missing`, of a log that was read to its end; offset -1 where none is known."""
        found = self.missing(contents)
        for place, records in self.placed.items():
            found += ((place, offset) for offset, _content in records)
        for place, hidden in self.unplaced.items():
            found += ((place, -1) for _content in hidden - set(contents[place]))
        return found


class Reference:
    """Everything that follows from the log alone, up to where it was read."""

    def __init__(
        self, keyed_partitions: int, log_ids: Mapping[str, bytes], party_key: bytes
    ) -> None:
        self.log_ids = log_ids
        self._party_key = party_key
        self.states: dict[bytes, SubjectState] = {}
        self.events: dict[Place, array[int]] = {}
        self.contents: dict[Place, array[int]] = {}
        self.unreadable = 0
        self.forwarded = 0
        self._counts = layout(keyed_partitions)
        self._due: dict[tuple[str, int], tuple[str, int, int, str]] = {}
        self._arrived: set[tuple[str, int]] = set()
        self._erased: set[str] = set()
        self._letters: dict[tuple[Place, int], tuple[bytes | None, ...]] = {}
        self._nonce = os.urandom(16)
        for place in self._counts:
            self.events[place] = array("Q")
            self.contents[place] = array("Q")

    @property
    def ends(self) -> dict[Place, int]:
        """Up to where each partition was read."""
        return {place: len(events) for place, events in self.events.items()}

    async def advance(self, bootstrap: str) -> None:
        """Read on to where every partition ends now."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, enable_auto_commit=False, fetch_max_wait_ms=100
        )
        await consumer.start()
        try:
            targets = [TopicPartition(*place) for place in self._counts]
            consumer.assign(targets)
            for target in targets:
                consumer.seek(target, len(self.events[target.topic, target.partition]))
            ends = await ends_of(consumer, targets)
            while any(len(self.events[target]) < end for target, end in ends.items()):
                found = await consumer.getmany(timeout_ms=200, max_records=2_000)
                for target, records in found.items():
                    # In a thread, so that look-ups go on meanwhile.
                    place = (target.topic, target.partition)
                    await asyncio.to_thread(self.take, place, records)
        finally:
            await consumer.stop()

    def take(self, place: Place, records: Sequence[Any]) -> None:
        """Fold the next records of a partition."""
        topic, partition = place
        for expected, record in enumerate(records, len(self.events[place])):
            if record.offset != expected:
                raise RuntimeError(f"{topic}-{partition} jumps from {expected} to {record.offset}")
        reading = read_batch(records, Origin(topic, partition, self._counts[place]), self._nonce)
        events = [UNREADABLE] * len(records)
        for group in reading.groups:
            self._fold_group(place, records, group, events)
        self.unreadable += len(reading.unreadable)
        self._fold_unreadable(place, records, reading)
        self._follow_forwards(place, records, reading)
        self.contents[place].extend(fingerprint(record.key, record.value) for record in records)
        self.events[place].extend(events)

    def unforwarded(self) -> list[tuple[str, int, int, str]]:
        """Records that ought to have been forwarded and were not: topic, partition, offset, why."""
        return [due for sent, due in self._due.items() if sent not in self._arrived]

    def letter_may_be_erased(self, place: Place, offset: int) -> bool:
        """True for an unreadable record that mentions a number of which an erasure is in the log.

        What an erasure finds of such letters it deletes; those that come later stay.
        """
        parts = self._letters.get((place, offset), ())
        return any(mentions(parts, number) for number in self._erased)

    def _fold_group(
        self, place: Place, records: Sequence[Any], group: EventGroup, events: list[int]
    ) -> None:
        for row, index in enumerate(group.indexes):
            contract, fields = decode(records[index].value)
            events[index] = fingerprint(fields["event_id"])
            if contract.name == "ErasureExecuted":
                self._erased.add(fields["number"])
            if row not in group.foreign and contract.has_number:
                position = self._position(place, records[index])
                at = group.effective_at[row]
                said = lift(contract.name, fields, at, position, party_key=self._party_key)
                self._merge(fields["number"].encode(), said)

    def _fold_unreadable(self, place: Place, records: Sequence[Any], reading: BatchReading) -> None:
        for problem in reading.unreadable:
            record = records[problem.index]
            headers = (part for _name, part in record.headers)
            self._letters[place, record.offset] = (record.key, record.value, *headers)
            if problem.restricts and problem.number is not None:
                position = self._position(place, records[problem.index])
                self._merge(problem.number.encode(), lift_unreadable(position))

    def _follow_forwards(self, place: Place, records: Sequence[Any], reading: BatchReading) -> None:
        topic, partition = place
        for forward in reading.forwards:
            sent = (topic, fingerprint(forward.key, forward.value))
            offset = records[forward.index].offset
            self._due[sent] = (topic, partition, offset, forward.reason)
        for record in records:
            if any(name == FORWARDED_HEADER for name, _value in record.headers):
                self.forwarded += 1
                self._arrived.add((topic, fingerprint(record.key, record.value)))

    def _position(self, place: Place, record: Any) -> Position:
        topic, partition = place
        at = record.timestamp * 1000
        return Position(topic, self.log_ids[topic], partition, record.offset, at)

    def _merge(self, key: bytes, said: SubjectState) -> None:
        if said is not EMPTY:
            self.states[key] = merge(self.states.get(key, EMPTY), said)


async def ends_of(
    consumer: AIOKafkaConsumer, targets: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """Where partitions end; asked again while brokers come and go. Assign the consumer first."""
    for _attempt in range(_ENDS_ATTEMPTS_MAX):
        try:
            return dict(await consumer.end_offsets(targets))
        except KafkaTimeoutError:
            await asyncio.sleep(1.0)
    raise TimeoutError("no broker says where the partitions end")
