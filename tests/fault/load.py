"""The steady load of a campaign: events of every type, good, late, repeated, misplaced, broken.

Wholly given by a seed but for the times. Keeps what was acknowledged, outside the system.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from consent.codec import decode, encode
from consent.contracts import RecordContract, contracts
from consent.lift import Position, lift, lift_unreadable
from consent.partitioning import partition_of
from consent.state import EMPTY, SubjectState
from consent.suspect import effect_of
from tests.fault.reference import Accepted, fingerprint
from tests.strategies import random_event

_LOG_APPEND_TIME: Final = 1
_TICK_S: Final = 0.05
_IN_FLIGHT_MAX: Final = 5_000
_DAY_US: Final = 86_400_000_000
_HOUR_US: Final = 3_600_000_000
_NUMBERS: Final = 20_000
_HOT_NUMBERS: Final = 100
_SELLERS: Final = ("acme", "globex")
_KINDS: Final = {
    "good": 80,
    "late": 6,
    "repeated": 4,
    "contradicting": 1,
    "elsewhere": 2,
    "other_form": 1,
    "other_key": 1,
    "ahead": 2,
    "broken": 3,
}
_DRAWN_MAX: Final = 50
"""Events of each type that are drawn field by field; later ones vary them, which is cheaper."""
_WATCHED: Final = 0.4
"""Share of the plain restrictions that the view is watched for."""
_ERASURES: Final = 0.1
"""How much seldomer erasures are than other types: each of them looks through all of history."""
_SELDOM: Final = 0.03
"""Share of the events that are about no number."""

_CHOICES: Final[Mapping[str, tuple[Any, ...]]] = {
    "purposes": ([], ["MARKETING"], ["SURVEY"]),
    "modes": ([], ["LIVE"], ["PRERECORDED"]),
    "purpose": ("MARKETING", "SURVEY"),
    "subject_matter": (None, "loans"),
    "subject_matters": ([], [], ["loans"]),
    "list_id": ("internal", "us_national_dnc"),
    "relationship_id": (None, "contract-one"),
    "hold_id": ("hold-one", "hold-two"),
}

AcceptedRestriction = Callable[[str, int, SubjectState], None]


@dataclass(frozen=True, slots=True)
class Draft:
    """A record to be sent. `partition` None is that of its key.

    `says` is the event if it restricts and counts as it is, with whether it is dated ahead; an
    event without fields is an opt-out that can't be read.
    """

    topic: str
    key: bytes
    value: bytes | None
    partition: int | None = None
    says: tuple[str, Mapping[str, Any] | None, bool] | None = None


class EventMaker:
    """Drafts of records, by chance."""

    def __init__(self, seed: int, partitions: int) -> None:
        self._chance = random.Random(seed)
        self._partitions = partitions
        keyed = contracts().keyed_source_topics
        events = [record for record in contracts().records if record.event]
        self._about_numbers = [record for record in events if record.topic in keyed]
        self._about_none = [record for record in events if record.topic not in keyed]
        self._sent: deque[tuple[RecordContract, dict[str, Any], Draft]] = deque(maxlen=2_000)
        chosen: set[str] = set()
        while len(chosen) < _NUMBERS:
            area, line = self._chance.randrange(201, 990), self._chance.randrange(100, 200)
            chosen.add(f"+1{area}555{line:04d}")
        self._drawn: dict[str, list[dict[str, Any]]] = {}
        self._numbers = sorted(chosen)
        self._chance.shuffle(self._numbers)

    @property
    def numbers(self) -> list[str]:
        """All numbers that events may be about."""
        return self._numbers

    def draft(self) -> Draft:
        """The next record."""
        chance = self._chance
        if chance.random() < _SELDOM:
            record = chance.choice(self._about_none)
            fields = self._fields(record)
            return Draft(record.topic, fields["seller_id"].encode(), encode(record.name, fields), 0)
        (kind,) = chance.choices(list(_KINDS), list(_KINDS.values()))
        made: Draft = getattr(self, f"_{kind}")()
        return made

    def _fields(self, record: RecordContract) -> dict[str, Any]:
        chance = self._chance
        drawn = self._drawn.setdefault(record.name, [])
        if len(drawn) < _DRAWN_MAX:
            drawn.append(random_event(record, chance))
        fields = chance.choice(drawn) | {
            "event_id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            "salt": chance.randbytes(16),
            "occurred_at": time.time_ns() // 1000 - chance.randrange(1_000, 60_000_000),
            "seller_id": chance.choice(_SELLERS),
            "test": chance.random() < 0.03,
        }
        for name in _CHOICES.keys() & fields.keys():
            fields[name] = chance.choice(_CHOICES[name])
        if record.has_number:
            fields["number"] = self._number(record)
        return fields

    def _number(self, record: RecordContract) -> str:
        hot = self._chance.random() < 0.1
        index = self._chance.randrange(_HOT_NUMBERS if hot else _NUMBERS)
        if record.name == "ErasureExecuted":
            # An erased number has little left to tell: only every tenth may become one.
            index -= index % 10
        return self._numbers[index]

    def _good(self) -> Draft:
        record = self._about_a_number()
        return self._kept(record, self._fields(record))

    def _about_a_number(self) -> RecordContract:
        record = self._chance.choice(self._about_numbers)
        while record.name == "ErasureExecuted" and self._chance.random() > _ERASURES:
            record = self._chance.choice(self._about_numbers)
        return record

    def _late(self) -> Draft:
        record = self._about_a_number()
        fields = self._fields(record)
        fields["occurred_at"] -= self._chance.randrange(_HOUR_US, 30 * _DAY_US)
        return self._kept(record, fields)

    def _kept(self, record: RecordContract, fields: dict[str, Any]) -> Draft:
        value = encode(record.name, fields)
        says = None
        restricts = effect_of(record, fields) == "restricts"
        if restricts and self._chance.random() < _WATCHED:
            says = (record.name, decode(value)[1], False)
        draft = Draft(record.topic, fields["number"].encode(), value, says=says)
        self._sent.append((record, fields, draft))
        return draft

    def _repeated(self) -> Draft:
        return self._chance.choice(self._sent)[2] if self._sent else self._good()

    def _contradicting(self) -> Draft:
        if not self._sent:
            return self._good()
        record, fields, _draft = self._chance.choice(self._sent)
        kept = {name: fields[name] for name in ("event_id", "number", "seller_id")}
        return self._kept(record, self._fields(record) | kept)

    def _elsewhere(self) -> Draft:
        """In the wrong partition; it is to be forwarded, or refused if it is broken."""
        draft = self._broken() if self._chance.random() < 0.3 else self._good()
        partition = self._chance.randrange(self._partitions)
        says = draft.says if partition == partition_of(draft.key, self._partitions) else None
        return replace(draft, partition=partition, says=says)

    def _restriction(self) -> tuple[RecordContract, dict[str, Any]]:
        names = ("ConsentWithdrawn", "ConsentRefused", "DncAdded", "CallPlaced")
        record = contracts().record(self._chance.choice(names))
        return record, self._fields(record)

    def _other_form(self) -> Draft:
        record, fields = self._restriction()
        number = fields["number"]
        fields["number"] = f"+1 ({number[2:5]}) {number[5:8]}-{number[8:]}"
        key = self._chance.choice((number, fields["number"]))
        return Draft(record.topic, key.encode(), encode(record.name, fields))

    def _other_key(self) -> Draft:
        record, fields = self._restriction()
        key = self._chance.choice(self._numbers)
        return Draft(record.topic, key.encode(), encode(record.name, fields))

    def _ahead(self) -> Draft:
        if self._chance.random() < 0.25:
            record = contracts().record("ConsentGranted")
            fields = self._fields(record)
            fields["occurred_at"] += _DAY_US
            return Draft(record.topic, fields["number"].encode(), encode(record.name, fields))
        record, fields = self._restriction()
        fields["occurred_at"] += self._chance.randrange(_HOUR_US, 400 * _DAY_US)
        value = encode(record.name, fields)
        says = (record.name, decode(value)[1], True)
        return Draft(record.topic, fields["number"].encode(), value, says=says)

    def _broken(self) -> Draft:
        chance = self._chance
        record, fields = self._restriction()
        value, key = encode(record.name, fields), fields["number"].encode()
        how = chance.randrange(5)
        if how == 0:
            return Draft(record.topic, key, None)
        if how == 1:
            return Draft(record.topic, key, b"\x00\x7f\x00\x00\x01" + value[5:])
        if how == 2:
            return Draft(record.topic, b"\xff" + chance.randbytes(4), chance.randbytes(20))
        cut = value[: chance.randrange(6, len(value) - 1)]
        opts_out = record.name != "CallPlaced"
        return Draft(record.topic, key, cut, says=(record.name, None, False) if opts_out else None)


class Load:
    """Sends drafts at a rate, acknowledged by all replicas, until it is stopped.

    `restriction` is told of acknowledged restrictions that count as they are; `recent` holds the
    numbers of the newest ones. `refused` counts what was not acknowledged.
    """

    def __init__(
        self,
        maker: EventMaker,
        accepted: Accepted,
        log_ids: Mapping[str, bytes],
        journal: Path,
        restriction: AcceptedRestriction,
        party_key: bytes,
    ) -> None:
        self.recent: deque[str] = deque(maxlen=300)
        self.refused = 0
        self._maker = maker
        self._accepted = accepted
        self._log_ids = log_ids
        self._party_key = party_key
        self._journal_path = journal
        self._restriction = restriction
        self._stopping = False
        self._pending = 0

    async def run(self, bootstrap: str, partitions: int, rate: float) -> None:
        """Send until stopped; returns when everything that was sent is acknowledged."""
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5
        )
        await producer.start()
        owed, before = 0.0, time.monotonic()
        async with contextlib.AsyncExitStack() as stack:
            journal = stack.enter_context(self._journal_path.open("a"))
            stack.push_async_callback(producer.stop)
            while not self._stopping:
                now = time.monotonic()
                # What was not sent in time is not made up for by bursts.
                owed, before = min(owed + (now - before) * rate, 0.2 * rate), now
                while owed >= 1.0 and self._pending < _IN_FLIGHT_MAX:
                    owed -= 1.0
                    draft = self._maker.draft()
                    partition = draft.partition
                    if partition is None:
                        partition = partition_of(draft.key, partitions)
                    sent = await producer.send(
                        draft.topic, key=draft.key, value=draft.value, partition=partition
                    )
                    self._pending += 1
                    sent.add_done_callback(
                        lambda future, draft=draft: self._done(future, draft, journal)
                    )
                await asyncio.sleep(_TICK_S)

    def stop(self) -> None:
        """Send nothing further."""
        self._stopping = True

    def _done(self, future: asyncio.Future[RecordMetadata], draft: Draft, journal: Any) -> None:
        acknowledged_at = time.time_ns() // 1000
        self._pending -= 1
        problem = future.exception()
        if problem is not None:
            # Not accepted, as far as anybody was told; if it is in the log, the log counts.
            self.refused += 1
            if not isinstance(problem, KafkaError):
                raise problem
            return
        done = future.result()
        # Where a repeated send was recognised as such, the client knows no offset and makes one up.
        offset = done.offset if done.timestamp_type == _LOG_APPEND_TIME else None
        content = fingerprint(draft.key, draft.value)
        self._accepted.add((done.topic, done.partition), offset, content)
        journal.write(json.dumps([done.topic, done.partition, offset, content]) + "\n")
        if draft.says is not None and offset is not None:
            self._note_restriction(draft, done, offset, acknowledged_at)

    def _note_restriction(
        self, draft: Draft, done: RecordMetadata, offset: int, acknowledged_at: int
    ) -> None:
        assert draft.says is not None
        name, fields, ahead = draft.says
        at = done.timestamp * 1000
        position = Position(done.topic, self._log_ids[done.topic], done.partition, offset, at)
        if fields is None:
            says = lift_unreadable(position)
        else:
            at = at if ahead else fields["occurred_at"]
            says = lift(name, fields, at, position, party_key=self._party_key)
        if says is not EMPTY:
            number = draft.key.decode()
            self._restriction(number, acknowledged_at, says)
            self.recent.append(number)
