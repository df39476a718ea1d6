"""Every setting of the product: name, unit, default and meaning, read from the environment once.

Lower layers never see this class; `consent_ledger.bootstrap` gives them plain values.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from consent.retention_entries import MONTHS_MIN
from consent_ledger.settings_problems import (
    PREFIX,
    SettingsRejected,
    problem_of,
    unknown_variables,
    variable_name,
)

__all__ = [
    "LOOPBACK",
    "PREFIX",
    "Settings",
    "SettingsRejected",
    "group_of",
    "load_settings",
    "unit_of",
    "variable_name",
]

LOOPBACK = "127.0.0.1"

Port = Annotated[int, Field(ge=1, le=65_535)]
Positive = Annotated[int, Field(ge=1)]


def _setting(default: Any, group: str, meaning: str, unit: str = "") -> Any:
    """One setting: its default, the group it is listed in, what it does and its unit."""
    return Field(default, description=meaning, json_schema_extra={"group": group, "unit": unit})


class Settings(BaseSettings):
    """The whole configuration of one process. Frozen; equal environments give equal settings."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        populate_by_name=True,
        case_sensitive=False,
    )

    deployment: Literal["production", "embedded"] = _setting(
        "production",
        "General",
        "`embedded` is set by `up` for its own processes: a broker in memory, one machine.",
    )
    data_dir: Path = _setting(
        Path("consent-data"), "General", "Folder for keys, local caches, logs and embedded data."
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "General", "Least severe log line that is written."
    )
    log_format: Literal["json", "console"] = _setting(
        "json", "General", "`json` for machines, `console` for people."
    )

    kafka_bootstrap: str = _setting(
        f"{LOOPBACK}:19092", "Kafka", "Brokers to ask first, `host:port`, separated by commas."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = _setting(
        "PLAINTEXT", "Kafka", "How connections to the brokers are secured."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = _setting(
        "SCRAM-SHA-512", "Kafka", "How we prove who we are, with a SASL protocol."
    )
    kafka_sasl_username: str | None = _setting(None, "Kafka", "User name, with a SASL protocol.")
    kafka_sasl_password: SecretStr | None = _setting(
        None, "Kafka", "Password, with a SASL protocol. Prefer the file."
    )
    kafka_sasl_password_file: Path | None = _setting(
        None, "Kafka", "File that holds the password; wins over `CONSENT_KAFKA_SASL_PASSWORD`."
    )
    kafka_ssl_ca_file: Path | None = _setting(
        None, "Kafka", "Certificates that we trust, PEM. None: those of the system."
    )
    kafka_ssl_certificate_file: Path | None = _setting(
        None, "Kafka", "Our client certificate, PEM, where the brokers ask for one."
    )
    kafka_ssl_key_file: Path | None = _setting(None, "Kafka", "Key of our certificate, PEM.")
    kafka_replication: Positive = _setting(
        3, "Kafka", "Copies of each partition that `topics apply` asks for.", "brokers"
    )
    kafka_partitions_keyed: Positive | None = _setting(
        None,
        "Kafka",
        "Partitions of every number-keyed topic, fixed for life. None: 12, embedded 4.",
        "partitions",
    )
    schema_registry_url: str | None = Field(
        None,
        validation_alias=AliasChoices("CONSENT_SCHEMA_REGISTRY_URL", "SCHEMA_REGISTRY_URL"),
        description="Registry to take schema ids from (`SCHEMA_REGISTRY_URL` works as well). "
        "None: the ids in `schemas/ids.json`.",
        json_schema_extra={"group": "Schema registry", "unit": ""},
    )
    schema_registry_username: str | None = _setting(
        None, "Schema registry", "User name for basic authentication."
    )
    schema_registry_password: SecretStr | None = _setting(
        None, "Schema registry", "Password for basic authentication."
    )

    clickhouse_url: str = _setting(
        f"http://{LOOPBACK}:18123", "ClickHouse", "HTTP address of the history's store."
    )
    clickhouse_username: str = _setting("default", "ClickHouse", "User name.")
    clickhouse_password: SecretStr | None = _setting(
        None, "ClickHouse", "Password. Prefer the file."
    )
    clickhouse_password_file: Path | None = _setting(
        None, "ClickHouse", "File that holds the password; wins over `CONSENT_CLICKHOUSE_PASSWORD`."
    )
    clickhouse_database: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")] = _setting(
        "ledger", "ClickHouse", "Database of the ledger."
    )
    clickhouse_connect_timeout_ms: Positive = _setting(
        5_000, "ClickHouse", "How long to wait for a connection.", "ms"
    )
    clickhouse_query_timeout_ms: Positive = _setting(
        30_000, "ClickHouse", "How long to wait for a query or an insert.", "ms"
    )

    history_key_file: Path | None = _setting(
        None,
        "Keys",
        "Key that turns numbers into the history's subject tokens. None: `keys/history.key` "
        "in the data folder.",
    )
    suppression_key_file: Path | None = _setting(
        None,
        "Keys",
        "Key of the tokens of erased subjects in the suppression topic. None: "
        "`keys/suppression.key` in the data folder.",
    )
    dead_letter_key_file: Path | None = _setting(
        None,
        "Keys",
        "Key that dead letters are encrypted with. None: `keys/dead-letter.key` in the data "
        "folder.",
    )

    log_key_file: Path | None = _setting(
        None,
        "Keys",
        "Key that signs checkpoints of the proof log. None: `keys/log.key` in the data folder.",
    )
    permit_keys_dir: Path | None = _setting(
        None,
        "Keys",
        "Folder of the keys that sign permits. None: `keys/permit` in the data folder.",
    )
    permit_key_overlap_ms: Positive = _setting(
        600_000,
        "Keys",
        "How long a new permit key is published before it signs, and a retired one after the last "
        "permit of it.",
        "ms",
    )

    worker_host: str = _setting(
        LOOPBACK, "Workers", "Address that the workers' health and metrics are served on."
    )
    project_port: Port = _setting(18481, "Workers", "Port of `worker project`: health, metrics.")
    record_port: Port = _setting(18482, "Workers", "Port of `worker record`: health, metrics.")
    seal_port: Port = _setting(18483, "Workers", "Port of `worker seal`: health, metrics.")
    batch_records_max: Positive = _setting(
        5_000, "Workers", "Most records handled as one batch of a partition.", "records"
    )
    batch_bytes_max: Positive = _setting(
        4 * 1024 * 1024, "Workers", "Most bytes handled as one batch of a partition.", "bytes"
    )
    buffer_batches: Positive = _setting(
        4, "Workers", "Batches that wait for a busy agent before fetching pauses.", "batches"
    )
    commit_interval_ms: Positive = _setting(
        1_000, "Workers", "How often acknowledged offsets are committed.", "ms"
    )
    session_timeout_ms: Positive | None = _setting(
        None,
        "Workers",
        "Silence after which a worker is put out. None: 10,000, embedded 6,000.",
        "ms",
    )
    rebalance_timeout_ms: Positive | None = _setting(
        None,
        "Workers",
        "How long a rebalance waits for a busy worker. None: 30,000, embedded 4,000.",
        "ms",
    )
    stalled_after_ms: Positive = _setting(
        300_000, "Workers", "No progress for so long, with records waiting, ends the worker.", "ms"
    )

    block_records_max: Positive = _setting(
        20_000, "History", "Records after which a block is closed. Frozen in the log.", "records"
    )
    block_bytes_max: Positive = _setting(
        8 * 1024 * 1024,
        "History",
        "Bytes after which a block is closed. Frozen in the log.",
        "bytes",
    )
    block_bucket_ms: Positive | None = _setting(
        None,
        "History",
        "Broker time that a block spans at most; must divide a day. Frozen in the log. "
        "None: 5,000, embedded 1,000.",
        "ms",
    )

    log_dir: Path | None = _setting(
        None,
        "Proofs",
        "Folder of the proof log: tiles and checkpoint. None: `log` in the data folder.",
    )
    log_origin: Annotated[str, Field(pattern=r"^[^\s+]+$")] = _setting(
        "consent-ledger.local/log",
        "Proofs",
        "Name of the proof log, an address of yours without its scheme. Fixed for its life.",
    )
    log_checkpoint_interval_ms: Positive = _setting(
        10_000, "Proofs", "How often a checkpoint is signed while blocks arrive.", "ms"
    )
    log_policy_file: Path | None = _setting(
        None,
        "Proofs",
        "File that names the witnesses: `witness NAME KEY URL` a line. None: there are none.",
    )
    witness_timeout_ms: Positive = _setting(
        5_000, "Proofs", "How long a checkpoint waits for its witnesses.", "ms"
    )

    view_max_age_ms: Positive = _setting(
        5_000, "Decisions", "A view older than this answers `unavailable`.", "ms"
    )
    surroundings_max_age_ms: Positive = _setting(
        15_000,
        "Decisions",
        "Counts of campaigns, programs and calendars older than this answer `unavailable`.",
        "ms",
    )
    view_party_numbers_max: Positive = _setting(
        64,
        "Decisions",
        "Numbers of one person that a decision looks at. Of a party with more, each is answered "
        "`unavailable`: its reference is wrong.",
        "numbers",
    )
    clock_skew_max_ms: Positive = _setting(
        500, "Decisions", "Own clock further off the broker's than this: `unavailable`.", "ms"
    )
    rule_profile: Literal["strict", "statutory"] = _setting(
        "strict", "Decisions", "Which reading of the rules decides."
    )
    region_default: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = _setting(
        None, "Decisions", "Country of numbers written without one. None: such numbers are refused."
    )

    erasure_keeps_consent_proof: bool = _setting(
        False,
        "Privacy",
        "An erasure leaves number and evidence of consent and its withdrawal, as proof. See "
        "docs/privacy.md.",
    )
    backups_kept_days: Positive | None = _setting(
        None, "Privacy", "How long backups are kept; certificates of erasure state it.", "days"
    )
    retention_evidence_months: Annotated[int, Field(ge=MONTHS_MIN)] = _setting(
        72,
        "Privacy",
        "Whole months before this one of which all evidence is kept; `retention apply` deletes "
        "what is older. See docs/privacy.md for what the law asks.",
        "months",
    )
    retention_seal_timeout_ms: Positive = _setting(
        120_000, "Privacy", "How long `retention apply` waits until the log has its entry.", "ms"
    )

    serve_host: str = _setting(LOOPBACK, "HTTP", "Address that `serve` listens on.")
    serve_port: Port = _setting(18480, "HTTP", "Port that `serve` listens on.")
    api_url: str = _setting(
        f"http://{LOOPBACK}:18480", "HTTP", "Where the commands `publish`, `check`, … find `serve`."
    )
    api_key_file: Path | None = _setting(
        None, "HTTP", "File with the key that those commands send."
    )
    api_keys_file: Path | None = _setting(
        None,
        "HTTP",
        "Hashed keys and their roles that `serve` accepts. None: no authentication, and only "
        "on a loopback address.",
    )
    request_bytes_max: Positive = _setting(
        1024 * 1024, "HTTP", "Largest request body that is accepted.", "bytes"
    )
    request_timeout_ms: Positive = _setting(
        30_000, "HTTP", "How long a request, with its waiting, may take.", "ms"
    )

    embedded_broker_port: Port = _setting(19092, "Embedded", "Port of the broker that `up` starts.")
    embedded_clickhouse_port: Port = _setting(
        18123, "Embedded", "Port of the ClickHouse front that `up` starts."
    )
    child_log_bytes_max: Positive = _setting(
        10 * 1024 * 1024, "Embedded", "Size at which a process's log file is rotated.", "bytes"
    )
    child_log_files_max: Positive = _setting(
        3, "Embedded", "Log files kept of each process.", "files"
    )
    child_crashes_max: Positive = _setting(
        5,
        "Embedded",
        "Crashes of one process within a minute after which `up` gives up.",
        "crashes",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment; no files are searched for."""
        return init_settings, env_settings

    @property
    def embedded(self) -> bool:
        """True in the processes that `up` starts."""
        return self.deployment == "embedded"

    def environment(self) -> dict[str, str]:
        """Variables that give a child process these same settings, where they are not defaults."""
        given = {name: getattr(self, name) for name in sorted(self.model_fields_set)}
        return {
            variable_name(name): _as_text(value)
            for name, value in given.items()
            if value is not None
        }


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, arguments first; SettingsRejected names every problem.

    A variable that begins with the prefix and names no setting is refused, so that a misspelled
    name can't leave a default in force.
    """
    fields = Settings.model_fields
    problems = unknown_variables(os.environ, fields)
    try:
        settings = Settings(**overrides)
    except ValidationError as refused:
        problems += [
            problem_of(error, os.environ, fields) for error in refused.errors(include_input=False)
        ]
    if problems:
        raise SettingsRejected(tuple(problems)) from None
    return settings


def unit_of(field: FieldInfo) -> str:
    """Unit of a setting, or an empty text."""
    extra = field.json_schema_extra
    return str(extra["unit"]) if isinstance(extra, dict) else ""


def group_of(field: FieldInfo) -> str:
    """Heading under which a setting is listed."""
    extra = field.json_schema_extra
    return str(extra["group"]) if isinstance(extra, dict) else ""


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Path):
        return str(value.absolute())
    return str(value)
