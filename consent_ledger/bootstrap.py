"""Wiring of the workers: turns the settings into the plain values and objects that the other
layers take. What commands need of it too is in `bootstrap_store`, `_brokers`, `_log` and `_api`.

Nothing below this package sees a `Settings`, and nothing here does work of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from consent.blocks import CutterLimits
from consent.errors import Retryable
from consent.tally_events import SOURCE_TOPIC
from consent_ledger.adapters.topic_administration import AdminConnection, topic_ids
from consent_ledger.adapters.witnesses import asking_witnesses
from consent_ledger.bootstrap_brokers import admin_connection, broker_security, keyed_partitions
from consent_ledger.bootstrap_log import log_policy, log_signing_key
from consent_ledger.bootstrap_store import log_folder, store_parameters
from consent_ledger.keys import load_keys
from consent_ledger.settings import Settings
from projections.clickhouse import Store
from projections.history import HistorySettings
from projections.history_partition import TailLimits
from projections.known_events import known_events
from projections.log_metrics import LogMetrics
from projections.log_sealer import Cosign, SealerSettings
from projections.rebuild import RebuildConfig, RebuildReport, rebuild
from projections.replay import HistoryReplay
from projections.suppression_log import LogConnection
from projections.surroundings import KnownEvent, KnownEvents
from projections.tally_rebuild import TallyRebuild, rebuild_tallies
from streams.batching import BatchLimits
from streams.config import (
    EMBEDDED_TIMEOUTS,
    AppConfig,
    FetchLimits,
    GroupTimeouts,
    StallLimits,
)
from streams.project import TALLIES_FOLDER, ProjectConfig
from streams.record import RecordConfig, record_stall_limits
from streams.seal import SealConfig
from streams.worker import WorkerOptions

log = structlog.get_logger(__name__)

_RETRY_S: Final = 1.0
_EMBEDDED_BUCKET_MS: Final = 1_000
# One clock for all: nothing to wait for before a bucket is over.
_EMBEDDED_TAIL: Final = TailLimits(grace_ms=20, open_min_ms=100)
_NONCE_BYTES: Final = 16
_PROJECT_FOLDER: Final = "project"


async def rebuild_suppression(settings: Settings) -> RebuildReport:
    """Fold all of the history into the suppression topic."""
    keys = load_keys(settings)
    store = Store.connect(store_parameters(settings))
    try:
        replay = HistoryReplay(store, keys.dead_letters)
        config = RebuildConfig(
            bootstrap=settings.kafka_bootstrap,
            partitions=keyed_partitions(settings),
            suppression_key=keys.suppression,
            nonce=os.urandom(_NONCE_BYTES),
            options=broker_security(settings).aiokafka_options(),
        )
        return await rebuild(replay, config)
    finally:
        store.close()


async def rebuild_counts(settings: Settings, folder: Path | None) -> int:
    """Count campaigns' calls from the history; the caches go to `folder`, or nowhere."""
    store = Store.connect(store_parameters(settings))
    try:
        with tempfile.TemporaryDirectory() as nowhere:
            config = TallyRebuild(
                connection=LogConnection(
                    bootstrap=settings.kafka_bootstrap,
                    client_id="consent-ledger-rebuild-tallies",
                    idempotent=not settings.embedded,
                    options=broker_security(settings).aiokafka_options(),
                ),
                folder=Path(nowhere) / TALLIES_FOLDER if folder is None else folder,
                partitions=keyed_partitions(settings),
                log_ids=await LogIds(admin_connection(settings)).of([SOURCE_TOPIC]),
            )
            return await rebuild_tallies(store, config)
    finally:
        store.close()


def tallies_folder(settings: Settings) -> Path:
    """Where the project worker remembers the calls that it counted."""
    return settings.data_dir / _PROJECT_FOLDER / TALLIES_FOLDER


def known_from_history(settings: Settings) -> KnownEvents | None:
    """What programs and calendars said before the log began, where the broker forgets it.

    The store is waited for.
    """
    if not settings.embedded:
        return None

    def read() -> list[KnownEvent]:
        store = Store.connect(store_parameters(settings))
        try:
            return known_events(store)
        finally:
            store.close()

    async def known() -> list[KnownEvent]:
        while True:
            try:
                return await asyncio.to_thread(read)
            except Retryable as away:
                log.warning("history_unreachable", error=str(away))
            await asyncio.sleep(_RETRY_S)

    return known


def record_config(settings: Settings) -> RecordConfig:
    """What `worker record` is made of."""
    embedded = settings.embedded
    bucket_ms = settings.block_bucket_ms
    if bucket_ms is None:
        bucket_ms = _EMBEDDED_BUCKET_MS if embedded else CutterLimits().bucket_ms
    cutter = CutterLimits(
        records_max=settings.block_records_max,
        bytes_max=settings.block_bytes_max,
        bucket_ms=bucket_ms,
    )
    tail = _EMBEDDED_TAIL if embedded else TailLimits()
    return RecordConfig(
        app=app_config(settings, "record", record_stall_limits()),
        store=store_parameters(settings),
        keys=load_keys(settings),
        log_ids=LogIds(admin_connection(settings)).of,
        keyed_partitions=keyed_partitions(settings),
        history=HistorySettings(cutter=cutter, tail=tail),
    )


def project_config(settings: Settings) -> ProjectConfig:
    """What `worker project` is made of."""
    return ProjectConfig(
        app=app_config(settings, "project", stall_limits(settings)),
        keys=load_keys(settings),
        log_ids=LogIds(admin_connection(settings)).of,
        keyed_partitions=keyed_partitions(settings),
        data_dir=settings.data_dir / _PROJECT_FOLDER,
        embedded_broker=settings.embedded,
        known=known_from_history(settings),
    )


def seal_config(settings: Settings) -> SealConfig:
    """What `worker seal` is made of."""
    witnesses, timeout_s = log_policy(settings).witnesses, settings.witness_timeout_ms / 1000

    def asked(metrics: LogMetrics) -> contextlib.AbstractAsyncContextManager[Cosign]:
        return asking_witnesses(witnesses, timeout_s, metrics)

    return SealConfig(
        # It sits out an outage of the store, as `record` does.
        app=app_config(settings, "seal", record_stall_limits()),
        store=store_parameters(settings),
        folder=log_folder(settings),
        key=log_signing_key(settings),
        sealer=SealerSettings(checkpoint_interval_ms=settings.log_checkpoint_interval_ms),
        witnesses=asked,
    )


def app_config(settings: Settings, name: str, stall: StallLimits) -> AppConfig:
    """What the Faust app of a worker is made of; `name` is the worker's."""
    return AppConfig(
        group_id=f"consent-ledger-{name}",
        client_id=f"consent-ledger-{name}",
        bootstrap_servers=settings.kafka_bootstrap,
        batch=BatchLimits(settings.batch_records_max, settings.batch_bytes_max),
        fetch=FetchLimits(buffer_batches=settings.buffer_batches),
        timeouts=_timeouts(settings),
        stall=stall,
        security=broker_security(settings),
        commit_interval_s=settings.commit_interval_ms / 1000,
    )


def stall_limits(settings: Settings) -> StallLimits:
    """How long a worker may show no progress while records wait."""
    return StallLimits(progress_s=max(1, settings.stalled_after_ms // 1000))


def worker_options(settings: Settings, port: int) -> WorkerOptions:
    """How a worker's process presents itself."""
    return WorkerOptions(health_host=settings.worker_host, health_port=port)


class LogIds:
    """Asks the brokers which incarnation of a topic is there; waits while none answers."""

    def __init__(self, connection: AdminConnection) -> None:
        self._connection = connection

    async def of(self, topics: Sequence[str]) -> Mapping[str, bytes]:
        """The UUID, 16 bytes, of each topic; TopicsDiffer if one is missing."""
        while True:
            try:
                return await asyncio.to_thread(topic_ids, self._connection, topics)
            except Retryable as away:
                log.warning("brokers_unreachable", error=str(away))
            await asyncio.sleep(_RETRY_S)


def _timeouts(settings: Settings) -> GroupTimeouts:
    chosen = EMBEDDED_TIMEOUTS if settings.embedded else GroupTimeouts()
    if settings.session_timeout_ms is not None:
        chosen = replace(chosen, session_s=settings.session_timeout_ms / 1000)
    if settings.rebalance_timeout_ms is not None:
        chosen = replace(chosen, rebalance_s=settings.rebalance_timeout_ms / 1000)
    return chosen
