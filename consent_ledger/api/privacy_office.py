"""The privacy office: what the doors of data subjects work with, and how it is put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.structs import TopicPartition

from consent_ledger.adapters.publisher import EventPublisher, PublisherConfig
from consent_ledger.api.confirmations import LogConfirmations
from consent_ledger.api.problems import Problem
from consent_ledger.disclosing import DisclosureKeys, disclosure
from consent_ledger.erasing import Erasing, ErasingSettings, LogEnds
from projections.clickhouse_async import AsyncStore
from projections.history_log import LogConnection, LogReader
from projections.view import SuppressionView


@dataclass(frozen=True, slots=True)
class PrivacyConfig:
    """What only the privacy office needs. Without `dead_letter_key` it tells of no dead letters.

    `keeps_consent_proof` and `backups_days` as in `ErasingSettings`.
    """

    dead_letter_key: bytes = field(default=b"", repr=False)
    keeps_consent_proof: bool = False
    backups_days: int | None = None


@dataclass(frozen=True, slots=True)
class OfficeLinks:
    """What it is connected to; all of it is the API's."""

    publisher: EventPublisher
    confirmations: LogConfirmations
    store: AsyncStore
    view: SuppressionView
    log_ids: Mapping[str, bytes]


class PrivacyOffice:
    """Erases people, and tells what is held on one."""

    def __init__(self, links: OfficeLinks, erasing: Erasing, keys: DisclosureKeys) -> None:
        self.erasing = erasing
        self._links = links
        self._keys = keys

    async def disclosed(self, number: str) -> dict[str, Any]:
        """All that is held on a canonical number."""
        answer = self._links.view.look_up(number)
        if answer.freshness.unloaded:
            raise Problem("unavailable", "what callers are shown is not loaded", retry_after_s=1)
        return await self._links.store.run(disclosure, self._keys, number, answer.state)


def open_office(
    config: PrivacyConfig,
    links: OfficeLinks,
    publisher: PublisherConfig,
    history_key: bytes,
    partitions: int,
) -> PrivacyOffice:
    """The office of an API; `partitions` is the count of every number-keyed topic."""
    settings = ErasingSettings(
        history_key=history_key,
        partitions=partitions,
        keeps_consent_proof=config.keeps_consent_proof,
        backups_days=config.backups_days,
    )
    erasing = Erasing(
        links.publisher,
        links.confirmations,
        links.store,
        links.log_ids,
        log_ends(publisher),
        settings,
    )
    return PrivacyOffice(links, erasing, DisclosureKeys(history_key, config.dead_letter_key))


def log_ends(config: PublisherConfig) -> LogEnds:
    """Asks brokers, each time with a connection of its own, where partitions end."""
    connection = LogConnection(
        config.bootstrap, client_id="consent-ledger-privacy", options=config.security
    )

    async def ends(places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        partitions = [TopicPartition(topic, partition) for topic, partition in places]
        async with LogReader(connection) as reader:
            found = await reader.ends(partitions)
        return {(one.topic, one.partition): end for one, end in found.items()}

    return ends
