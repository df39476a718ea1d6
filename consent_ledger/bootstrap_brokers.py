"""Wiring of what reaches the brokers: security, topics, partitions, and the schema registry."""

from __future__ import annotations

from pathlib import Path

from consent.contracts import adopt_schema_ids, contracts
from consent_ledger.adapters.schema_registry import RegistryConnection, SchemaIds, SchemaRegistry
from consent_ledger.adapters.topic_administration import AdminConnection, TopicLayout
from consent_ledger.bootstrap_store import secret
from consent_ledger.settings import Settings
from streams.config import BrokerSecurity


def broker_security(settings: Settings) -> BrokerSecurity:
    """How every Kafka client of this process proves who it is."""
    return BrokerSecurity(
        protocol=settings.kafka_security_protocol,
        mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_sasl_username,
        password=secret(settings.kafka_sasl_password, settings.kafka_sasl_password_file),
        ca_file=_text(settings.kafka_ssl_ca_file),
        certificate_file=_text(settings.kafka_ssl_certificate_file),
        key_file=_text(settings.kafka_ssl_key_file),
    )


def admin_connection(settings: Settings) -> AdminConnection:
    """How topics are administered."""
    security = broker_security(settings)
    sasl = security.protocol.startswith("SASL")
    return AdminConnection(
        bootstrap=settings.kafka_bootstrap,
        security_protocol=security.protocol,
        sasl_mechanism=security.mechanism if sasl else None,
        sasl_username=security.username,
        sasl_password=security.password,
        ssl_ca_file=security.ca_file,
        ssl_certificate_file=security.certificate_file,
        ssl_key_file=security.key_file,
    )


def topic_layout(settings: Settings) -> TopicLayout:
    """What this deployment asks of its topics."""
    return TopicLayout(
        deployment=settings.deployment,
        replication=settings.kafka_replication,
        keyed_partitions=settings.kafka_partitions_keyed,
    )


def keyed_partitions(settings: Settings) -> int:
    """Partitions of every number-keyed topic of this deployment."""
    packaged = contracts().keyed_partitions[settings.deployment]
    return settings.kafka_partitions_keyed or packaged


def registry_connection(settings: Settings) -> RegistryConnection | None:
    """The schema registry, where one is set."""
    if settings.schema_registry_url is None:
        return None
    return RegistryConnection(
        url=settings.schema_registry_url,
        username=settings.schema_registry_username,
        password=secret(settings.schema_registry_password, None),
    )


async def register_schemas(connection: RegistryConnection) -> SchemaIds:
    """Make every packaged schema known to the registry."""
    async with SchemaRegistry(connection) as registry:
        return await registry.register_all(contracts().records)


async def adopt_registry_ids(settings: Settings) -> None:
    """Use the registry's schema ids, where one is set; called once, before any record is read."""
    connection = registry_connection(settings)
    if connection is not None:
        async with SchemaRegistry(connection) as registry:
            adopt_schema_ids(await registry.resolve_ids(contracts().records))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
