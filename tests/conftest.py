"""Fixtures that every kind of test may ask for: the brokers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

import pytest
from hypothesis import HealthCheck, settings

from tests.batching_harness import Stage, staged
from tests.brokers import Broker, EngineMissing
from tests.brokers import embedded_broker as start_embedded_broker
from tests.brokers import kafka_broker as start_kafka_broker

# How long an example takes says more about the machine than about what is tested.
settings.register_profile("ledger", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ledger")

_missing_engine: list[str] = []
_LAST: Final = ("property", "docs", "packaging", "unit")
_LEFT_OUT: Final = "Apache Kafka is left out"


@pytest.fixture(scope="session")
def embedded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The embedded broker, shared by the whole run: name topics and groups with `unique`."""
    log_path: Path = tmp_path_factory.mktemp("embedded-broker") / "broker.log"
    with start_embedded_broker(log_path) as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[Broker]:
    """Apache Kafka in a container, shared by the whole run.

    Without a container engine the test is skipped, or fails where REQUIRE_KAFKA=1.
    """
    if not _missing_engine:
        try:
            with start_kafka_broker() as broker:
                yield broker
                return
        except EngineMissing as error:
            _missing_engine.append(str(error))
    _leave_out(_missing_engine[0])


def _leave_out(reason: str) -> NoReturn:
    if os.environ.get("REQUIRE_KAFKA") == "1":
        pytest.fail(f"REQUIRE_KAFKA=1, but {reason}", pytrace=False)
    pytest.skip(f"{_LEFT_OUT}: {reason}")


@pytest.fixture(
    params=[
        pytest.param("embedded", marks=pytest.mark.embedded),
        pytest.param("kafka", marks=pytest.mark.kafka),
    ]
)
def broker(request: pytest.FixtureRequest) -> Broker:
    """Runs the test twice, on the embedded broker and on Apache Kafka."""
    started: Broker = request.getfixturevalue(f"{request.param}_broker")
    return started


@pytest.fixture
def stage(broker: Broker, tmp_path: Path) -> Iterator[Stage]:
    """Workers under test on each broker, with a journal of what they did."""
    with staged(broker, tmp_path) as one:
        yield one


@pytest.fixture
def kafka_stage(kafka_broker: Broker, tmp_path: Path) -> Iterator[Stage]:
    """As `stage`, for what only Apache Kafka has."""
    with staged(kafka_broker, tmp_path) as one:
        yield one


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow kinds of tests first, so that a run in several processes does not wait for one file."""
    items.sort(key=lambda item: _LAST.index(part) if (part := _part(item)) in _LAST else -1)


def _part(item: pytest.Item) -> str:
    return item.path.relative_to(Path(__file__).parent).parts[0]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says at the end that half of the run was left out, so that nobody reads it as green.

    Looks at what was skipped, since with several processes this one started no broker.
    """
    for report in terminalreporter.stats.get("skipped", ()):
        reason = str(report.longrepr[-1]) if isinstance(report.longrepr, tuple) else ""
        if _LEFT_OUT in reason:
            terminalreporter.write_sep("=", "Apache Kafka was left out", yellow=True, bold=True)
            terminalreporter.write_line(reason)
            return
