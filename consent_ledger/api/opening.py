"""Opens the parts behind the doors in their order, and closes them in the other.

Takes plain values; turning settings into them is `consent_ledger.bootstrap`'s work.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from consent.contracts import contracts
from consent.decision import ENGINE_VERSION
from consent.rulebook import Rulebook
from consent.zones import tzdata_version
from consent_ledger.activation import ActivationSettings, RulebookActivation
from consent_ledger.adapters.decision_journal import DecisionJournal, JournalLimits
from consent_ledger.adapters.publisher import EventPublisher, PublisherConfig
from consent_ledger.api.acceptance import AcceptanceLimits, EventAcceptor
from consent_ledger.api.accesses import AccessRecorder
from consent_ledger.api.checking import CallChecker, CheckSettings
from consent_ledger.api.cited_permits import CitedPermits
from consent_ledger.api.confirmations import HistorySource, LogConfirmations
from consent_ledger.api.metrics import ApiMetrics
from consent_ledger.api.parts import ApiParts, OpenParts
from consent_ledger.api.privacy_office import (
    OfficeLinks,
    PrivacyConfig,
    PrivacyOffice,
    open_office,
)
from consent_ledger.api.reconstructions import Reconstructions
from consent_ledger.api.scrubbing import Scrubber, ScrubLimits
from consent_ledger.api.surrounding import CallSurroundings
from consent_ledger.api.timeline import TimelineReader
from consent_ledger.decision_log import DecisionLog, DecisionLogLimits
from consent_ledger.permit_issuing import PermitIssuer, PermitKeyWatch, PermitSettings
from projections.clickhouse import Store, StoreParameters
from projections.clickhouse_async import AsyncStore
from projections.rulebook_store import RulebookUse
from projections.surroundings import KnownEvents, SurroundingsConfig, SurroundingsView
from projections.view import SuppressionView, ViewConfig


@dataclass(frozen=True, slots=True)
class DoorsConfig:
    """All that the parts need. `journal_folder` None: decisions are not journaled on disk.

    `known` gives what was published before the log began, where brokers forget.
    """

    publisher: PublisherConfig
    view: ViewConfig
    surroundings: SurroundingsConfig
    store: StoreParameters
    rulebook: Rulebook
    permits: PermitSettings
    history_key: bytes = field(repr=False)
    known: KnownEvents | None = None
    check: CheckSettings = field(default_factory=CheckSettings)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    journal_folder: Path | None = None
    journal: JournalLimits = field(default_factory=JournalLimits)
    decisions: DecisionLogLimits = field(default_factory=DecisionLogLimits)
    acceptance: AcceptanceLimits = field(default_factory=AcceptanceLimits)
    scrub: ScrubLimits = field(default_factory=ScrubLimits)
    access_reason_required: bool = False


def doors(config: DoorsConfig) -> OpenParts:
    """What `create_app` opens: connects to brokers and store, follows the view, replays decisions.

    Opening raises Retryable if the brokers are away; the store may be. The view loads while
    requests are answered already; checks are `unavailable` until it has.
    """

    @asynccontextmanager
    async def open_parts(metrics: ApiMetrics) -> AsyncIterator[ApiParts]:
        async with AsyncExitStack() as stack:
            yield await _opened(config, metrics, stack)

    return open_parts


async def _opened(config: DoorsConfig, metrics: ApiMetrics, stack: AsyncExitStack) -> ApiParts:
    # Checks do not need history: they are answered while the store is away.
    store = AsyncStore(partial(Store.connect, config.store))
    stack.push_async_callback(store.close)
    publisher = EventPublisher(config.publisher)
    stack.push_async_callback(publisher.stop)
    await publisher.start()
    view = SuppressionView(config.view)
    stack.push_async_callback(view.stop)
    await view.start()
    surroundings = SurroundingsView(config.surroundings, config.known)
    stack.push_async_callback(surroundings.stop)
    await surroundings.start()
    log_ids = await config.view.log_ids(contracts().source_topics)
    history = HistorySource(store, config.store.database, log_ids)
    confirmations = LogConfirmations(view, history)
    journal = _journal(config)
    if journal is not None:
        stack.push_async_callback(journal.close)
    decisions = DecisionLog(publisher, metrics, journal, confirmations, config.decisions)
    stack.push_async_callback(decisions.stop)
    await decisions.start()
    activation = _activation(config, surroundings, publisher, store)
    stack.push_async_callback(activation.stop)
    activation.start()
    permits = _permits(config, store, stack)
    checker = _checker(config, view, surroundings, decisions, metrics, permits)
    accesses = AccessRecorder(store, config.access_reason_required)
    return ApiParts(
        acceptor=_acceptor(config, publisher, confirmations, metrics, CitedPermits(permits, view)),
        checker=checker,
        scrubber=Scrubber(checker, accesses, config.scrub),
        permits=permits,
        timelines=TimelineReader(
            store, config.store.database, config.history_key, config.rulebook.reasons
        ),
        accesses=accesses,
        store=store,
        reconstructions=_reconstructions(config, store),
        privacy=_office(config, OfficeLinks(publisher, confirmations, store, view, log_ids)),
        unready=lambda: _unready(view, surroundings, decisions),
        region_default=config.check.region_default,
    )


def _acceptor(
    config: DoorsConfig,
    publisher: EventPublisher,
    confirmations: LogConfirmations,
    metrics: ApiMetrics,
    cited: CitedPermits,
) -> EventAcceptor:
    region_default = config.check.region_default
    return EventAcceptor(
        publisher, confirmations, metrics, region_default, config.acceptance, cited
    )


def _permits(config: DoorsConfig, store: AsyncStore, stack: AsyncExitStack) -> PermitIssuer:
    permits = PermitIssuer(config.permits, config.rulebook)
    watch = PermitKeyWatch(permits, config.permits.folder, store)
    stack.push_async_callback(watch.stop)
    watch.start()
    return permits


def _checker(
    config: DoorsConfig,
    view: SuppressionView,
    surroundings: SurroundingsView,
    decisions: DecisionLog,
    metrics: ApiMetrics,
    permits: PermitIssuer,
) -> CallChecker:
    return CallChecker(
        view,
        CallSurroundings(view, surroundings, config.surroundings.max_age_ms),
        config.rulebook,
        decisions,
        metrics,
        config.check,
        config.history_key,
        permits,
    )


def _office(config: DoorsConfig, links: OfficeLinks) -> PrivacyOffice:
    partitions = config.view.partitions
    return open_office(config.privacy, links, config.publisher, config.history_key, partitions)


def _reconstructions(config: DoorsConfig, store: AsyncStore) -> Reconstructions:
    return Reconstructions(
        store,
        config.history_key,
        config.rulebook,
        config.check.profile,
        config.view.party_numbers_max,
    )


def _journal(config: DoorsConfig) -> DecisionJournal | None:
    if config.journal_folder is None:
        return None
    journal = DecisionJournal(config.journal_folder, config.journal)
    journal.open()
    return journal


def _activation(
    config: DoorsConfig,
    surroundings: SurroundingsView,
    publisher: EventPublisher,
    store: AsyncStore,
) -> RulebookActivation:
    use = RulebookUse(config.rulebook, ENGINE_VERSION, tzdata_version() or "")
    settings = ActivationSettings(config.check.profile, config.check.system)
    return RulebookActivation(use, surroundings, publisher, store, settings)


def _unready(
    view: SuppressionView, surroundings: SurroundingsView, decisions: DecisionLog
) -> list[str]:
    unready = [
        f"partition {status.partition} is {status.freshness.value}"
        for status in view.status()
        if status.freshness.stale or status.freshness.unloaded
    ]
    if not surroundings.loaded:
        unready.append("campaigns, programs and calendars are not loaded")
    return [*unready, "decisions are not being published"] if decisions.failed else unready
