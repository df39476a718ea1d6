"""What `up` gives its processes, whatever the environment is meant for."""

from __future__ import annotations

from pathlib import Path

import pytest

from consent_ledger.embedded import addresses, child_specs, embedded_settings, free_ports
from consent_ledger.settings import Settings, load_settings


def _child_environment(settings: Settings, name: str) -> dict[str, str]:
    return dict(next(spec for spec in child_specs(settings) if spec.name == name).environment)


def test_settings_of_another_deployment_do_not_reach_the_children(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Addresses, passwords and registries of production are not used by `up`."""
    monkeypatch.setenv("CONSENT_KAFKA_BOOTSTRAP", "production:9092")
    monkeypatch.setenv("CONSENT_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("CONSENT_CLICKHOUSE_PASSWORD", "hunter2")
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", "http://registry:8081")
    monkeypatch.setenv("CONSENT_VIEW_MAX_AGE_MS", "1234")
    settings = embedded_settings(load_settings(data_dir=tmp_path, **free_ports()))
    given = _child_environment(settings, "project")
    assert "hunter2" not in given.values() and "SCHEMA_REGISTRY_URL" not in given
    assert given["CONSENT_KAFKA_BOOTSTRAP"] == addresses(settings)["Kafka"]
    assert given["CONSENT_CLICKHOUSE_URL"] == addresses(settings)["ClickHouse"]
    assert given["CONSENT_KAFKA_SECURITY_PROTOCOL"] == "PLAINTEXT"
    assert given["CONSENT_VIEW_MAX_AGE_MS"] == "1234"


def test_children_read_the_settings_that_up_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A child's environment gives exactly the settings of the deployment."""
    settings = embedded_settings(load_settings(data_dir=tmp_path, **free_ports()))
    for name, value in _child_environment(settings, "serve").items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_the_broker_gets_none_of_our_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The broker's own variables, such as where it keeps its log, can't be set by accident."""
    monkeypatch.setenv("STORAGE_ENGINE", "s3://somewhere/")
    settings = embedded_settings(load_settings(data_dir=tmp_path, **free_ports()))
    assert "STORAGE_ENGINE" not in _child_environment(settings, "broker")


def test_free_ports_are_all_different() -> None:
    """Every process gets a port of its own."""
    ports = free_ports()
    assert len(set(ports.values())) == len(ports) == 6
