"""Erasing a person: request, legal holds, cut-offs, execution, certificate, in this order.

Everything that counts is an event, so a crash between two steps loses none: asking again with the
same request id goes on where it stopped, and gives the same certificate once there is one. Deleting
is the workers' part; the answer comes when history has done it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol
from uuid import uuid4

import structlog

from consent.certificates import ExecutedPlace, certificate_of
from consent.codec import decode_body
from consent.contracts import contracts, fact_schema
from consent.erasure import active_holds
from consent.errors import Retryable
from consent.partitioning import partition_of
from consent.privacy import SALT_BYTES, subject_token
from consent.retention_rules import reached_topics, retained, topics_horizon_ms
from consent_ledger.adapters.publisher import EventPublisher, Published, outgoing
from projections.clickhouse import Store
from projections.clickhouse_async import AsyncStore
from projections.erasures import Erasures

log = structlog.get_logger(__name__)

LEGAL_HOLD: Final = "legal hold: GDPR Art. 17(3)(e)"
_EVERY_SELLER: Final = "*"
_DAY_US: Final = 86_400_000_000

_EXECUTED: Final = """
SELECT hex(fact), hex(log_id), topic, partition, offset, toUnixTimestamp64Micro(recorded_at)
FROM facts
WHERE subject = unhex({subject:String}) AND event_name = 'ErasureExecuted' AND unreadable = ''
    AND NOT test AND request_id = {request:String}
    AND event_id IN (SELECT event_id FROM erasures WHERE subject = unhex({subject:String}))
ORDER BY recorded_at, topic, partition, offset LIMIT 1
"""
_OLDER: Final = """
SELECT hex(log_id), topic, partition, max(offset) FROM facts
WHERE subject = unhex({subject:String}) GROUP BY log_id, topic, partition
"""

Place = tuple[str, int]
LogEnds = Callable[[Sequence[Place]], Awaitable[Mapping[Place, int]]]


class ErasureUnfinished(Retryable):
    """It was not done in time; nothing is lost by asking again with the same request id."""


class Confirmations(Protocol):
    """Tells when what was published has arrived behind the log."""

    async def projected(self, places: Sequence[Published], timeout_s: float) -> bool: ...

    async def recorded(
        self, places: Sequence[Published], timeout_s: float
    ) -> dict[tuple[str, int, int], int] | None: ...


@dataclass(frozen=True, slots=True)
class ErasingSettings:
    """`backups_days`: for how long backups of the store are kept, None where it is not known.

    `keeps_consent_proof`: evidence of consent stays, as proof, until another erasure without this.
    """

    history_key: bytes = field(repr=False)
    partitions: int
    keeps_consent_proof: bool = False
    backups_days: int | None = None
    system: str = "consent-ledger"
    publish_timeout_ms: int = 10_000
    step_timeout_ms: int = 25_000


@dataclass(frozen=True, slots=True)
class ErasureOrder:
    """Whom to erase, and by which request. `regulation` is the law that the person invoked."""

    number: str = field(repr=False)
    request_id: str
    regulation: str | None = None


@dataclass(frozen=True, slots=True)
class ErasureOutcome:
    """`erased` with a certificate, or `refused` because of these holds."""

    status: Literal["erased", "refused"]
    certificate: dict[str, Any] | None = None
    ground: str = ""
    hold_ids: tuple[str, ...] = ()


class Erasing:
    """Erases people, each request for itself. For one event loop."""

    def __init__(
        self,
        publisher: EventPublisher,
        confirmations: Confirmations,
        store: AsyncStore,
        log_ids: Mapping[str, bytes],
        log_ends: LogEnds,
        settings: ErasingSettings,
    ) -> None:
        self._publisher = publisher
        self._confirmations = confirmations
        self._store = store
        self._log_ids = log_ids
        self._log_ends = log_ends
        self._settings = settings

    def subject_of(self, number: str) -> bytes:
        """The token of a number in history."""
        return subject_token(self._settings.history_key, number)

    async def erase(self, order: ErasureOrder) -> ErasureOutcome:
        """Erase a person, or say why not.

        On return no query finds their evidence, and dialers are told to refuse. Retryable if a
        step could not be finished: ask again with the same request id.
        """
        subject = self.subject_of(order.number)
        # Its place in the partition is behind every hold, and every earlier try, that counts.
        requested = await self._say(
            "ErasureRequested",
            order,
            regulation=order.regulation,
            stage="RECEIVED",
        )
        await self._recorded(requested)
        certificate = await self._certificate(order, subject)
        if certificate is not None:
            return ErasureOutcome("erased", certificate)
        holds = await self._holds(subject)
        if not holds:
            await self._execute(order, subject)
            certificate = await self._certificate(order, subject)
            if certificate is not None:
                log.info("erasure_executed", certificate_id=certificate["certificate_id"])
                return ErasureOutcome("erased", certificate)
            # A hold came in between; the worker let it win.
            holds = await self._holds(subject)
        named: list[str | None] = [*holds] or [None]
        for hold_id in named:
            refused = await self._say("ErasureRefused", order, ground=LEGAL_HOLD, hold_id=hold_id)
        await self._recorded(refused)
        return ErasureOutcome("refused", None, LEGAL_HOLD, tuple(holds))

    async def _execute(self, order: ErasureOrder, subject: bytes) -> None:
        settings = self._settings
        cutoff_at = time.time_ns() // 1_000
        cutoffs = await self._cutoffs(order.number, subject)
        backups_us = None if settings.backups_days is None else settings.backups_days * _DAY_US
        executed = await self._say(
            "ErasureExecuted",
            order,
            cutoff_at=cutoff_at,
            cutoffs=cutoffs,
            certificate_id=str(uuid4()),
            retained=list(retained(settings.keeps_consent_proof)),
            topics_until=cutoff_at + topics_horizon_ms(contracts()) * 1_000,
            backups_until=None if backups_us is None else cutoff_at + backups_us,
        )
        timeout_s = settings.step_timeout_ms / 1_000
        projected = asyncio.create_task(self._confirmations.projected([executed], timeout_s))
        await self._recorded(executed)
        if not await projected:
            raise ErasureUnfinished("dialers are not told yet")

    async def _cutoffs(self, number: str, subject: bytes) -> list[dict[str, Any]]:
        """Where the number's partition ends now, and its last places in every log before."""
        home = partition_of(number.encode(), self._settings.partitions)
        keeps = self._settings.keeps_consent_proof
        topics = reached_topics(contracts().keyed_source_topics, keeps)
        found: dict[tuple[str, bytes, int], int] = {}
        for log_id, topic, partition, last in await self._store.query_rows(
            _OLDER, {"subject": subject.hex()}
        ):
            if topic in reached_topics([topic], keeps):
                found[topic, bytes.fromhex(log_id), int(partition)] = int(last)
        ends = await self._log_ends([(topic, home) for topic in topics])
        for (topic, partition), end in ends.items():
            place = (topic, self._log_ids[topic], partition)
            # Also where the log is empty: the topic must be named, for what comes later.
            found[place] = max(end - 1, found.get(place, -1))
        return [
            {"topic": topic, "log_id": log_id, "partition": partition, "offset_last": last}
            for (topic, log_id, partition), last in sorted(found.items())
        ]

    async def _holds(self, subject: bytes) -> list[str]:
        def read(store: Store) -> list[str]:
            return active_holds(Erasures(store).holds(subject), time.time_ns() // 1_000)

        return await self._store.run(read)

    async def _certificate(self, order: ErasureOrder, subject: bytes) -> dict[str, Any] | None:
        """The certificate of this request's erasure, None if there was none."""
        rows = await self._store.query_rows(
            _EXECUTED, {"subject": subject.hex(), "request": order.request_id}
        )
        for fact, log_id, topic, partition, offset, recorded_at in rows:
            envelope = decode_body(fact_schema("Fact"), bytes.fromhex(fact))
            name, version = envelope["event_name"], envelope["event_version"]
            fields = decode_body(fact_schema(name, version), envelope["payload"])
            place = ExecutedPlace(bytes.fromhex(log_id), topic, partition, offset, recorded_at)
            return certificate_of(fields, place, subject)
        return None

    async def _say(self, name: str, order: ErasureOrder, **given: Any) -> Published:
        """Publish an event of this request, and return its place once the broker has it."""
        record = contracts().record(name)
        fields = event_fields(name, self._settings.system, order.number, order.request_id)
        fields |= given
        sent = outgoing(record, fields, order.number.encode())
        (outcome,) = await self._publisher.publish([sent], self._settings.publish_timeout_ms)
        if isinstance(outcome, Published):
            return outcome
        raise outcome

    async def _recorded(self, place: Published) -> None:
        timeout_s = self._settings.step_timeout_ms / 1_000
        if await self._confirmations.recorded([place], timeout_s) is None:
            raise ErasureUnfinished("history has not recorded it yet")


def event_fields(name: str, system: str, number: str, request_id: str) -> dict[str, Any]:
    """Fields of an event of the privacy office that happens now; others have their defaults."""
    fields: dict[str, Any] = {
        field["name"]: field.get("default") for field in contracts().record(name).schema["fields"]
    }
    return fields | {
        "event_id": str(uuid4()),
        "occurred_at": time.time_ns() // 1_000,
        "seller_id": _EVERY_SELLER,
        "source": {"system": system, "channel": "API", "actor": "SYSTEM"},
        "number": number,
        "salt": uuid4().bytes[:SALT_BYTES],
        "request_id": request_id,
    }
