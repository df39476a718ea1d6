"""Fixtures of the integration tests: the embedded ClickHouse front and stores on it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from projections.clickhouse import Store, StoreParameters
from tests.stores import RunningFront, start_front

_databases = itertools.count(1)


@pytest.fixture(scope="session")
def clickhouse_front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFront]:
    """One front, shared by the whole run: use a database of your own, as `store` does."""
    folder = tmp_path_factory.mktemp("clickhouse")
    front = start_front(folder / "data", folder / "front.log")
    yield front
    front.stop()


@pytest.fixture
def store(clickhouse_front: RunningFront) -> Iterator[Store]:
    """A connected store with an empty database of its own."""
    database = f"test_{next(_databases)}"
    connected = Store.connect(StoreParameters(url=clickhouse_front.url, database=database))
    connected.command(f"CREATE DATABASE {database}", use_database=False)
    yield connected
    connected.command(f"DROP DATABASE {database} SYNC", use_database=False)
    connected.close()
