"""The sealer: takes `ledger-blocks` in order, and about every ten seconds signs what came.

Order of a checkpoint: bundles and tiles, the signed checkpoint on disk, witnesses' cosignatures,
the store, the topic, and only then the acknowledgement. Restarting at any point repeats or
completes what was begun. The folder is held for as long as the partition is, and nothing is signed
before it was compared with every checkpoint that the store and the topic know.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time, time_ns
from typing import Any, Final, Literal, TypeVar

import structlog
from aiokafka.structs import TopicPartition

from consent.checkpoints import Checkpoint, opened_checkpoint, parse_checkpoint
from consent.codec import decode, encode
from consent.errors import Retryable, Unreadable
from consent.merkle import Subtree
from consent.notes import Note, NoteInvalid, NoteSignature, SigningKey
from projections.clickhouse import Store
from projections.history_log import BLOCKS_TOPIC, HistoryProducer, LogConnection, LogReader
from projections.history_partition import Batch
from projections.ledger_log import Judgement, LedgerLog, NewEntry, Publication
from projections.log_folder import LogFolder
from projections.log_metrics import LogMetrics
from projections.log_store import LogStore, checkpoint_fields

log = structlog.get_logger(__name__)

CHECKPOINTS_TOPIC: Final = "ledger-checkpoints"
_CHECKPOINTS_READ_MAX: Final = 10_000_000

T = TypeVar("T")
Step = Literal["taken", "checkpoint", "cosigned", "positions", "stored", "published"]
Cosign = Callable[[Note, Checkpoint, Subtree], Awaitable[Sequence[NoteSignature]]]


class Abandoned(Exception):
    """The partition was given up meanwhile; nothing further was promised."""


async def nobody(note: Note, checkpoint: Checkpoint, subtree: Subtree) -> Sequence[NoteSignature]:
    """Default for `Cosign`: there are no witnesses."""
    return ()


def ignore_step(step: Step) -> None:
    """Default for who is told about steps."""


@dataclass(frozen=True, slots=True)
class SealerSettings:
    """How often a checkpoint is signed, and when the store is compared with the log.

    A checkpoint also comes when `entries_max` entries wait. While the store is away it is asked
    again after `backoff_first_ms`, then twice as long, up to `backoff_max_ms`.
    """

    checkpoint_interval_ms: int = 10_000
    entries_max: int = 4_096
    compare_interval_ms: int = 300_000
    tick_ms: int = 100
    backoff_first_ms: int = 100
    backoff_max_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class SealerLinks:
    """What the sealer is connected to.

    `cosign` asks witnesses and returns what they signed, within a time of its own; it raises
    nothing. `acknowledge` is called once for every batch, in order, when all of its entries are
    under a checkpoint that store and topic know.
    """

    store: Store
    connection: LogConnection
    folder: Path
    key: SigningKey = field(repr=False)
    acknowledge: Callable[[Any], object]
    cosign: Cosign = nobody
    step_done: Callable[[Step], None] = ignore_step


class LogSealer:
    """Seals one log. Used from one event loop."""

    def __init__(self, links: SealerLinks, settings: SealerSettings, metrics: LogMetrics) -> None:
        self._links = links
        self._settings = settings
        self._metrics = metrics
        self._producer = HistoryProducer(links.connection)
        self._store = LogStore(links.store)
        self._folder = LogFolder(links.folder)
        self._log = LedgerLog(self._folder, links.key)
        # One thread: the log is used by one at a time, also while a former assignment ends.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log")
        self._turn = asyncio.Lock()
        self._gone = threading.Event()
        self._held: contextlib.ExitStack | None = None
        self._open = False
        self._batches: deque[Batch] = deque()
        self._announced_at: list[float] = []
        self._published_at = 0.0
        self._compared_at = 0.0

    async def start(self) -> None:
        """Connect; KafkaConnectionError if no broker answers."""
        await self._producer.start()

    async def stop(self) -> None:
        """Give everything up; what a thread has begun is finished first."""
        await self.revoked()
        await self._in_thread(lambda: None)
        self._thread.shutdown(wait=True)
        await self._producer.stop()

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Take the log over, if its partition is among these, and complete what was left undone.

        Waits until no other process holds the folder. Raises LogContradicts or LogDamaged where
        the log is not the one that was signed. Cancelling it is harmless.
        """
        if TopicPartition(BLOCKS_TOPIC, 0) not in partitions:
            return
        self._gone = gone = threading.Event()
        try:
            await self._in_thread(lambda: self._hold(gone))
            await self._compare_checkpoints(gone)
            await self._complete(gone)
            await self._announce_unsealed(gone)
        except Abandoned:
            return
        except BaseException:
            await self.revoked()
            raise
        self._open = True
        log.info("log_opened", origin=self._links.key.name, entries=self._log.size)

    async def revoked(self) -> None:
        """Give the log up: nothing further of it is signed or acknowledged."""
        self._gone.set()
        self._open = False
        self._batches.clear()
        self._announced_at = []
        # The thread finishes what it does, then lets go of the folder.
        self._thread.submit(self._release)

    async def take(self, batch: Batch) -> None:
        """Take a batch of `ledger-blocks` over; it is acknowledged when it is under a checkpoint.

        One whose records are all known is acknowledged at once.
        """
        async with self._turn:
            if not self._open:
                return
            gone = self._gone
            judged = await self._in_thread(lambda: self._judged(batch, gone))
            if gone.is_set():
                return
            for record, judgement in zip(batch.records, judged, strict=True):
                self._metrics.records.labels(judgement.value).inc()
                if judgement is Judgement.APPENDED:
                    self._announced_at.append(record.timestamp / 1000)
                elif judgement.alarming:
                    self._alarm(judgement.value, offset=record.offset)
            self._batches.append(batch)
            self._metrics.pending.set(self._log.pending)
            self._links.step_done("taken")
            if not self._log.pending:
                self._acknowledge()

    async def run(self) -> None:
        """Sign and compare, each in its time, until cancelled; raises what makes sealing stop."""
        while True:
            await asyncio.sleep(self._settings.tick_ms / 1000)
            oldest = min(self._announced_at, default=time())
            self._metrics.merge_delay_now.set(max(0.0, time() - oldest))
            if not self._open:
                continue
            with contextlib.suppress(Abandoned):
                async with self._turn:
                    await self._publish_when_due()
                    await self._compare_when_due()

    async def _publish_when_due(self) -> None:
        waiting = self._log.pending if self._open else 0
        due = monotonic() - self._published_at >= self._settings.checkpoint_interval_ms / 1000
        if waiting and (due or waiting >= self._settings.entries_max):
            await self._publish(self._gone)

    async def _compare_when_due(self) -> None:
        waited = monotonic() - self._compared_at
        if self._open and waited >= self._settings.compare_interval_ms / 1000:
            await self._announce_unsealed(self._gone)

    async def _publish(self, gone: threading.Event) -> None:
        """Bring everything that waits under a checkpoint, and tell everybody."""
        publication = await self._in_thread(lambda: _unless(gone, self._log.publish))
        self._published_at = monotonic()
        self._metrics.size.set(publication.checkpoint.size)
        self._metrics.checkpoints.inc()
        self._links.step_done("checkpoint")
        note = await self._cosigned(publication, gone)
        await self._keep(publication, note, gone)
        now = time()
        for announced_at in self._announced_at:
            self._metrics.merge_delay.observe(max(0.0, now - announced_at))
        self._announced_at = []
        self._metrics.pending.set(0)
        self._acknowledge()

    async def _cosigned(self, publication: Publication, gone: threading.Event) -> Note:
        checkpoint = publication.checkpoint
        subtree = self._folder.subtree(checkpoint.size)
        signatures = await self._links.cosign(publication.note, checkpoint, subtree)
        note = await self._in_thread(lambda: _unless(gone, lambda: self._log.cosigned(signatures)))
        self._links.step_done("cosigned")
        return note

    async def _keep(self, publication: Publication, note: Note, gone: threading.Event) -> None:
        """Write a publication to the store and the topic."""
        checkpoint, at = publication.checkpoint, time_ns() // 1000
        await self._ask("positions", lambda: self._store.keep_positions(publication), gone)
        self._links.step_done("positions")
        await self._ask("checkpoint", lambda: self._store.keep(checkpoint, note, at), gone)
        self._links.step_done("stored")
        value = encode("CheckpointSigned", checkpoint_fields(checkpoint, note, at))
        if gone.is_set():
            raise Abandoned
        await self._producer.send(CHECKPOINTS_TOPIC, checkpoint.origin.encode(), value)
        self._links.step_done("published")

    async def _compare_checkpoints(self, gone: threading.Event) -> None:
        """Refuse to go on from anything but what was signed last, wherever that is known."""
        origin, verifier = self._links.key.name, self._links.key.verifier
        notes = await self._ask("checkpoints", lambda: self._store.newest_notes(origin), gone)
        async with LogReader(self._links.connection) as reader:
            records = await reader.entries(CHECKPOINTS_TOPIC, _CHECKPOINTS_READ_MAX)
        for record in records:
            with contextlib.suppress(Unreadable):
                fields = decode(record.value)[1]
                if fields["origin"] == origin:
                    notes.append(fields["note"])
        known = set()
        for note in notes:
            try:
                known.add(opened_checkpoint(note, [verifier]))
            except NoteInvalid as problem:
                self._alarm("checkpoint_invalid", problem=str(problem))
        for checkpoint in sorted(known, key=lambda one: -one.size):
            await self._in_thread(lambda known=checkpoint: self._log.agrees_with(known))  # type: ignore[misc]

    async def _complete(self, gone: threading.Event) -> None:
        """Do for the newest checkpoint what a crash may have left undone."""
        note = self._log.signed
        self._metrics.size.set(self._log.size)
        if note is None:
            return
        checkpoint = parse_checkpoint(note.text)
        start = await self._ask(
            "positions", lambda: self._store.positions_end(checkpoint.origin), gone
        )
        entries = await self._in_thread(lambda: self._entries(start, checkpoint.size))
        await self._keep(Publication(note, checkpoint, entries), note, gone)

    def _entries(self, start: int, size: int) -> tuple[NewEntry, ...]:
        further = enumerate(self._folder.entries(start, size), start)
        return tuple(NewEntry.of(entry, position) for position, entry in further)

    async def _announce_unsealed(self, gone: threading.Event) -> None:
        """Announce again what history holds and the log lacks, which its topic may have lost."""
        self._compared_at = monotonic()
        index = self._log.index
        missing = await self._ask("unsealed", lambda: self._store.unsealed(index), gone)
        for key, value in missing:
            if gone.is_set():
                raise Abandoned
            await self._producer.send(BLOCKS_TOPIC, key, value)
        if missing:
            self._metrics.announced_again.inc(len(missing))
            log.info("log_announced_again", entries=len(missing))

    def _judged(self, batch: Batch, gone: threading.Event) -> list[Judgement]:
        if gone.is_set():
            return [Judgement.REPEATED] * len(batch.records)
        return [self._log.take(record.value) for record in batch.records]

    def _acknowledge(self) -> None:
        while self._batches:
            self._links.acknowledge(self._batches.popleft())

    def _hold(self, gone: threading.Event) -> None:
        with contextlib.ExitStack() as stack:
            if not stack.enter_context(self._folder.locked(gone.is_set)):
                raise Abandoned
            stack.callback(self._log.close)
            self._log.open()
            self._held = stack.pop_all()

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.close()

    async def _ask(self, operation: str, call: Callable[[], T], gone: threading.Event) -> T:
        """Ask the store until it answers; Abandoned soon after `gone` is set."""
        return await self._in_thread(lambda: self._persist(operation, call, gone))

    def _persist(self, operation: str, call: Callable[[], T], gone: threading.Event) -> T:
        backoff_ms = self._settings.backoff_first_ms
        while True:
            if gone.is_set():
                raise Abandoned
            try:
                return call()
            except Retryable as problem:
                log.warning("store_unavailable", operation=operation, error=str(problem))
                self._metrics.store_retries.inc()
            gone.wait(backoff_ms / 1000)
            backoff_ms = min(backoff_ms * 2, self._settings.backoff_max_ms)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _alarm(self, kind: str, **where: object) -> None:
        self._metrics.alarms.labels(kind).inc()
        log.error("log_alarm", kind=kind, topic=BLOCKS_TOPIC, **where)


def _unless(gone: threading.Event, call: Callable[[], T]) -> T:
    """Call it in the thread that also lets go of the folder, unless that was asked for before."""
    if gone.is_set():
        raise Abandoned
    return call()
