"""A log of any size, made by a seed, and the history of it; with decisions as `serve` makes them.

The history comes from the product's own steps, from records to columns. Decisions are made by the
projection's own fold of the raw records, at the place in the log where they stand.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from consent.codec import encode
from consent.contracts import contracts
from consent.fact_columns import columns_of_facts
from consent.facts import FactContext, LogPartition, facts_of
from consent.facts import needed_columns as fact_columns
from consent.intake import Origin, read_batch
from consent.partitioning import partition_of
from projections.clickhouse import Store
from tests.reconstruction.draws import (
    DAY_MS,
    EVIDENCE,
    MADE,
    NAMES,
    NAMES_OF_PARTIES,
    TEMPLATES,
    US,
    WEIGHTS,
)
from tests.reconstruction.oracle import Raw

HISTORY_KEY: Final = b"h" * 32
SUPPRESSION_KEY: Final = b"s" * 32
PARTITIONS: Final = 4
BEGIN_MS: Final = 1_793_000_000_000
DAYS: Final = 30
NONCE: Final = b"reconstruction-1"
SELLERS: Final = ("acme", "acme", "globex")
_BATCH: Final = 20_000
_HOUSEHOLD: Final = 3

LOG_IDS: Final = {
    topic: uuid.uuid5(uuid.NAMESPACE_OID, topic).bytes for topic in contracts().keyed_source_topics
}


@dataclass(frozen=True, slots=True)
class Published:
    """A record in a partition of the log."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_type: int = 1


def number_of(index: int) -> str:
    """A fictional number: its last digits count, whatever office they are in."""
    return f"+1{212 + index // 8_000_000}{2_000_000 + index % 8_000_000:07d}"


def household(index: int) -> list[int]:
    """Numbers that may be of one person."""
    first = index - index % _HOUSEHOLD
    return [*range(first, first + _HOUSEHOLD)]


Decide = Callable[[int, int, "World"], dict[str, Any] | None]
"""From a number's index and an instant (ms): the fields of a decision's event."""


@dataclass
class World:
    """A log of `facts` records; raw events are kept of the first `studied` numbers only.

    `decide` is asked in the last day, with probability `decided`, for decisions about these.
    """

    facts: int
    numbers: int
    studied: int
    seed: int
    decide: Decide | None = None
    decided: float = 0.0
    late_share: float = 0.01
    odd_share: float = 0.0045
    days: int = DAYS
    parties: bool = True
    raws: dict[int, list[Raw]] = field(default_factory=dict)
    records: dict[int, list[tuple[str, Published]]] = field(default_factory=dict)
    decisions: list[str] = field(default_factory=list)
    late: int = 0

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._offsets: dict[tuple[str, int], int] = {}
        self._sent: list[tuple[int, str, dict[str, Any]]] = []
        self.raws = {index: [] for index in range(self.studied)}
        self.records = {index: [] for index in range(self.studied)}

    @property
    def end_us(self) -> int:
        """The end of the log's time."""
        return (BEGIN_MS + self.days * DAY_MS) * US

    def build(self, store: Store, told: Callable[[int], None] = lambda done: None) -> None:
        """Make the log, and the facts of it, in a database that has the ledger's tables."""
        waiting: dict[tuple[str, int], list[Published]] = {}
        made = 0
        for topic, partition, record in self.log():
            waiting.setdefault((topic, partition), []).append(record)
            made += 1
            if made % (_BATCH * 5) == 0:
                self._insert(store, waiting)
                told(made)
        self._insert(store, waiting)
        told(made)

    def _insert(self, store: Store, waiting: dict[tuple[str, int], list[Published]]) -> None:
        for (topic, partition), records in waiting.items():
            for start in range(0, len(records), _BATCH):
                part = records[start : start + _BATCH]
                rows = rows_of(topic, partition, part)
                first = part[0].offset
                store.insert_arrow("facts", rows, f"{topic}-{partition}-{first}")
        waiting.clear()

    def log(self) -> Iterator[tuple[str, int, Published]]:
        """Topic, partition and record of everything, in the order of the log; only once."""
        step = self.days * DAY_MS / self.facts
        draw = self._draw
        for place in range(self.facts):
            at_ms = BEGIN_MS + int(place * step)
            index = draw.randrange(self.numbers)
            if self.decide is not None and place * step > (self.days - 1) * DAY_MS:
                studied = draw.randrange(self.studied)
                fields = None
                if draw.random() < self.decided:
                    fields = self.decide(studied, at_ms, self)
                if fields is not None:
                    self.decisions.append(fields["event_id"])
                    yield self._placed("DialDecision", fields, studied, at_ms + 1)
                    continue
            if draw.random() < 0.3:
                index = draw.randrange(self.studied)
            yield self._event(index, at_ms)

    def _event(self, index: int, at_ms: int) -> tuple[str, int, Published]:
        draw = self._draw
        luck = draw.random()
        if luck < 0.003 and self._sent:
            index, name, fields = draw.choice(self._sent[-200:])
            if luck < 0.001 and "occurred_at" in fields:
                # The same id with another content: both count.
                fields = fields | {"occurred_at": fields["occurred_at"] - draw.randrange(10**6)}
            return self._placed(name, fields, index, at_ms)
        if luck < 0.0035:
            return self._placed("ConsentWithdrawn", None, index, at_ms)
        name = draw.choices(NAMES, WEIGHTS)[0]
        fields = TEMPLATES[name] | MADE[name](draw, at_ms)
        fields |= self._head(name, index, at_ms)
        if draw.random() < 0.05 and name != "ErasureExecuted":
            self._sent.append((index, name, fields))
            del self._sent[:-400]
        return self._placed(name, fields, index, at_ms)

    def _head(self, name: str, index: int, at_ms: int) -> dict[str, Any]:
        draw = self._draw
        seller = draw.choice(SELLERS)
        head: dict[str, Any] = {
            "event_id": str(uuid.UUID(int=draw.getrandbits(128), version=4)),
            "occurred_at": self._occurred_at(name, at_ms),
            "seller_id": seller,
            "number": number_of(index),
            "salt": draw.randbytes(16),
            "test": draw.random() < 0.02,
            "source": {
                "system": draw.choice(("crm", "web-forms", "dialer")),
                "channel": "WEB",
                "actor": "CONSUMER",
            },
        }
        if self.parties and name in NAMES_OF_PARTIES and index % 7 < 4 and draw.random() < 0.5:
            party = f"household-{index // _HOUSEHOLD}"
            if draw.random() < 0.05:
                party = f"household-{index // _HOUSEHOLD + 1}"
            evidence = dict(EVIDENCE) | {"party_reference": party}
            head["evidence"] = evidence
        return head

    def _occurred_at(self, name: str, at_ms: int) -> int:
        draw, at = self._draw, at_ms * US
        if draw.random() < self.late_share:
            self.late += 1
            return at - draw.randrange(60 * 10**6, 10 * DAY_MS * US)
        luck = draw.random() * 0.0045 / self.odd_share
        if luck < 0.003:
            return at + draw.randrange(1, 5 * 60 * 10**6)
        if luck < 0.004 and name in ("ConsentGranted", "ConsentWithdrawn", "DncAdded"):
            return at + draw.randrange(6 * 60 * 10**6, DAY_MS * US)
        if luck < 0.0045 and name in ("ConsentGranted", "ConsentWithdrawn", "DncAdded"):
            return draw.randrange(10**9)
        return at - draw.randrange(2 * 10**6)

    def _placed(
        self, name: str, fields: dict[str, Any] | None, index: int, at_ms: int
    ) -> tuple[str, int, Published]:
        record = contracts().record(name)
        topic, number = record.topic, number_of(index)
        key = number.encode()
        partition = partition_of(key, PARTITIONS)
        offset = self._offsets.get((topic, partition), 0)
        self._offsets[topic, partition] = offset + 1
        value = encode(name, fields) if fields is not None else encode_broken(record.schema_id)
        published = Published(offset, at_ms, key, value)
        if index < self.studied:
            at = at_ms * US
            odd = fields is not None and not (
                946_684_800_000_000 <= fields["occurred_at"] <= at + 5 * 60 * 10**6
            )
            counts = not (odd and name == "ConsentGranted")
            place = (topic, partition, offset, LOG_IDS[topic])
            self.raws[index].append(Raw(name, fields, at, *place, counts))
            self.records[index].append((topic, published))
        return topic, partition, published


def facts_by_number(world: World) -> dict[int, list[bytes]]:
    """Facts of the studied numbers, made in memory; the world must not have been built yet."""
    places: dict[tuple[str, int], list[Published]] = {}
    for topic, partition, record in world.log():
        places.setdefault((topic, partition), []).append(record)
    owners = {
        (raw.topic, raw.partition, raw.offset): index
        for index, raws in world.raws.items()
        for raw in raws
    }
    found: dict[int, list[bytes]] = {index: [] for index in world.raws}
    for (topic, partition), records in places.items():
        for record, fact in zip(records, facts_in(topic, partition, records), strict=True):
            index = owners.get((topic, partition, record.offset))
            if index is not None:
                found[index].append(fact)
    return found


def encode_broken(schema_id: int) -> bytes:
    """A value of which only the kind can be read."""
    return b"\x00" + schema_id.to_bytes(4, "big") + b"\xff\xff"


def facts_in(topic: str, partition: int, records: Sequence[Published]) -> list[bytes]:
    """Facts of records of one partition, in order."""
    times = [record.timestamp * 1_000 for record in records]
    origin = Origin(topic, partition, PARTITIONS)
    reading = read_batch(records, origin, NONCE, fact_columns, times)
    context = FactContext(LogPartition(LOG_IDS[topic], topic, partition), HISTORY_KEY)
    return facts_of(records, times, reading, context).facts


def rows_of(topic: str, partition: int, records: Sequence[Published]) -> pa.Table:
    """Rows of the table `facts` for records of one partition."""
    return columns_of_facts(facts_in(topic, partition, records), NONCE).to_arrow()
