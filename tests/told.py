"""A history for tests, told in plain words: which event happened when, and when it was recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from consent.blocks import CutterLimits
from consent.codec import encode
from consent.contracts import contracts
from consent.facts import LogPartition
from consent.privacy import subject_token
from projections.clickhouse import Store
from projections.migration import load_migrations, migrate
from tests.events import event
from tests.made_ledger import KEYS, MadeLedger, MadeRecord

ANNA, BEN, CLEO = "+14155550101", "+12125550102", "+13125550103"
"""Fictional people in California, New York and Illinois."""

# What is told is mostly hours apart, and a block for each event makes most of a test's time.
_LIMITS = CutterLimits(records_max=2_000, bucket_ms=86_400_000)


def utc(text: str) -> datetime:
    """An instant, as `2026-11-25 17:30` in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def micros(at: datetime) -> int:
    """An instant as events have it."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def token(number: str) -> str:
    """The token of a number, as the views take it."""
    return subject_token(KEYS.history, number).hex()


@dataclass
class Told:
    """Events go to one partition of their topic; `record` writes all that was told."""

    store: Store
    folder: Path
    _waiting: dict[str, list[tuple[int, bytes | None, bytes]]] = field(default_factory=dict)
    _ends: dict[str, int] = field(default_factory=dict)
    _said: int = 0

    def __post_init__(self) -> None:
        migrate(self.store, load_migrations(files("projections") / "migrations"))
        self.ledger = MadeLedger(self.store, self.folder, partitions=1, limits=_LIMITS)

    def say(
        self, name: str, at: str | datetime, recorded: str | datetime | None = None, **fields: Any
    ) -> str:
        """An event that happened at one time and was recorded at another; its id."""
        happened = utc(at) if isinstance(at, str) else at
        known = happened if recorded is None else recorded
        known = utc(known) if isinstance(known, str) else known
        self._said += 1
        given = {"event_id": str(uuid5(NAMESPACE_URL, f"told:{self._said}")), **fields}
        made = event(name, occurred_at=micros(happened), **given)
        topic = contracts().record(name).topic
        key = made.get("number", made["seller_id"]).encode()
        self._waiting.setdefault(topic, []).append((micros(known) // 1000, key, encode(name, made)))
        return str(made["event_id"])

    def raw(self, topic: str, recorded: str, key: bytes, value: bytes) -> None:
        """A record as it is, readable or not."""
        at = micros(utc(recorded)) // 1000
        self._waiting.setdefault(topic, []).append((at, key, value))

    def record(self) -> None:
        """Write what was told since the last time, and seal it."""
        for topic, said in sorted(self._waiting.items()):
            first = self._ends.get(topic, 0)
            records = [
                MadeRecord(first + index, at, key, value)
                for index, (at, key, value) in enumerate(sorted(said, key=lambda one: one[0]))
            ]
            self._ends[topic] = first + len(records)
            log_id = topic.encode()[:16].ljust(16, b".")
            self.ledger.record(LogPartition(log_id, topic, 0), records)
        self._waiting.clear()
        self.ledger.checkpoint()
