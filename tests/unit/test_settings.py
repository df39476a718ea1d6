"""Settings: what is accepted, what is refused, and that secrets stay hidden."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from consent_ledger.settings import Settings, SettingsRejected, load_settings, variable_name


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable_name(name), raising=False)
    monkeypatch.delenv("SCHEMA_REGISTRY_URL", raising=False)


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable sets its setting; an argument wins over it."""
    monkeypatch.setenv("CONSENT_SERVE_PORT", "8080")
    monkeypatch.setenv("CONSENT_VIEW_MAX_AGE_MS", "7")
    settings = load_settings(serve_port=9090)
    assert (settings.serve_port, settings.view_max_age_ms) == (9090, 7)


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files pass variables that are not set as empty ones."""
    monkeypatch.setenv("CONSENT_SERVE_PORT", "")
    assert load_settings().serve_port == 18480


def test_a_misspelled_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that no setting has is refused, and the closest one is offered."""
    monkeypatch.setenv("CONSENT_KAFKA_BOOTSTRP", "broker:9092")
    with pytest.raises(SettingsRejected, match="Did you mean CONSENT_KAFKA_BOOTSTRAP"):
        load_settings()


def test_service_links_of_an_orchestrator_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that Kubernetes makes for a service are not taken for misspelled settings."""
    monkeypatch.setenv("CONSENT_API_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("CONSENT_API_PORT_80_TCP_ADDR", "10.0.0.1")
    load_settings()


def test_every_problem_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All wrong settings are told together, each by its variable."""
    monkeypatch.setenv("CONSENT_SERVE_PORT", "70000")
    monkeypatch.setenv("CONSENT_RULE_PROFILE", "lax")
    monkeypatch.setenv("CONSENT_NONSENSE", "1")
    with pytest.raises(SettingsRejected) as refused:
        load_settings()
    fields = {problem.field for problem in refused.value.problems}
    assert fields == {"CONSENT_SERVE_PORT", "CONSENT_RULE_PROFILE", "CONSENT_NONSENSE"}


@pytest.mark.parametrize("name", ["kafka_sasl_password", "clickhouse_password"])
def test_secrets_are_never_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password is in no text made of the settings, yet a child process gets it."""
    monkeypatch.setenv(variable_name(name), "hunter2")
    settings = load_settings()
    assert "hunter2" not in repr(settings) + str(settings) + str(settings.model_dump())
    assert settings.environment()[variable_name(name)] == "hunter2"


def test_settings_can_not_be_changed() -> None:
    """Settings are read once; nothing can change them afterwards."""
    with pytest.raises(ValidationError):
        load_settings().serve_port = 1  # type: ignore[misc]


def test_a_child_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variables made of settings give equal settings, whatever the types."""
    settings = load_settings(data_dir=tmp_path, serve_port=5, region_default="US")
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_the_registry_is_found_under_its_usual_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """SCHEMA_REGISTRY_URL works without our prefix."""
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", "http://registry:8081")
    assert load_settings().schema_registry_url == "http://registry:8081"
