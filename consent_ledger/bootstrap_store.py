"""Wiring of what holds history and proofs: the store, the folder of the log, and who looks.

Apart from the workers' wiring, so that a command that only asks the store starts at once.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from pydantic import SecretStr

from consent_ledger.settings import Settings
from projections.clickhouse import Store, StoreParameters
from projections.migration import Migration, load_migrations, migrate


def secret(value: SecretStr | None, file: Path | None) -> str | None:
    """A password from its file if there is one, else as given; None if there is neither."""
    if file is not None:
        return file.read_text().strip()
    return value.get_secret_value() if value is not None else None


def store_parameters(settings: Settings) -> StoreParameters:
    """Where history is."""
    password = secret(settings.clickhouse_password, settings.clickhouse_password_file)
    return StoreParameters(
        url=settings.clickhouse_url,
        database=settings.clickhouse_database,
        username=settings.clickhouse_username,
        password=password or "",
        connect_timeout_ms=settings.clickhouse_connect_timeout_ms,
        query_timeout_ms=settings.clickhouse_query_timeout_ms,
        insert_timeout_ms=settings.clickhouse_query_timeout_ms,
    )


def prepare_store(settings: Settings) -> tuple[Migration, ...]:
    """Bring the store's tables to this release and check that it keeps what it acknowledges.

    Returns the migrations that were applied now; safe to repeat and to run twice at once.
    """
    store = Store.connect(store_parameters(settings))
    try:
        applied = migrate(store, load_migrations(files("projections") / "migrations"))
        store.check_server(("facts", "evidence", "blocks"))
    finally:
        store.close()
    return applied


def access_reason_required(settings: Settings) -> bool:
    """Whether nobody may look without a reason: where keys tell who looks."""
    return settings.api_keys_file is not None


def log_folder(settings: Settings) -> Path:
    """Where the proof log lies."""
    return settings.log_dir or settings.data_dir / "log"
