"""Wiring of the HTTP API, as `consent_ledger.bootstrap` is of the workers."""

from __future__ import annotations

import os
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from consent.columns import NONCE_BYTES
from consent.errors import Rejected
from consent.notes import SigningKey
from consent_ledger.adapters.publisher import PublisherConfig
from consent_ledger.api.authentication import is_loopback, load_api_keys
from consent_ledger.api.checking import CheckSettings
from consent_ledger.api.opening import DoorsConfig
from consent_ledger.api.parts import ApiConfig
from consent_ledger.api.privacy_office import PrivacyConfig
from consent_ledger.bootstrap import LogIds, known_from_history
from consent_ledger.bootstrap_brokers import admin_connection, broker_security, keyed_partitions
from consent_ledger.bootstrap_store import access_reason_required, log_folder, store_parameters
from consent_ledger.evidence_signing import EvidenceSigning
from consent_ledger.keys import key_paths, load_keys, load_log_key
from consent_ledger.permit_issuing import PermitSettings
from consent_ledger.permit_keys import load_permit_keys, permit_keys_folder
from consent_ledger.rule_files import load_rulebook
from consent_ledger.settings import Settings, variable_name
from projections.surroundings import SurroundingsConfig
from projections.view import ViewConfig

_JOURNAL_FOLDER: Final = "decisions"


def api_config(settings: Settings) -> ApiConfig:
    """Limits and keys of the API. Rejected if anybody on the network could use it without a key."""
    keys = None if settings.api_keys_file is None else load_api_keys(settings.api_keys_file)
    if keys is None and not is_loopback(settings.serve_host):
        remedy = f"Set {variable_name('api_keys_file')}, or listen on 127.0.0.1 only."
        name = variable_name("serve_host")
        raise Rejected("NO_AUTHENTICATION", name, settings.serve_host, remedy)
    return ApiConfig(
        keys=keys,
        answer_after="recorded" if settings.embedded else None,
        log_folder=log_folder(settings),
        evidence=_evidence(settings),
        version=_version(),
        body_bytes_max=settings.request_bytes_max,
        request_timeout_ms=settings.request_timeout_ms,
    )


def _evidence(settings: Settings) -> EvidenceSigning | None:
    """What bundles are signed with; None where this process was not given the log's key."""
    if not key_paths(settings)["log"].exists():
        return None
    key = SigningKey(settings.log_origin, load_log_key(settings))
    return EvidenceSigning(log_folder(settings), key, load_keys(settings).history)


def doors_config(settings: Settings) -> DoorsConfig:
    """What the parts behind the API's doors are made of."""
    keys, security = load_keys(settings), broker_security(settings).aiokafka_options()
    partitions, log_ids = keyed_partitions(settings), LogIds(admin_connection(settings)).of
    return DoorsConfig(
        publisher=PublisherConfig(
            bootstrap=settings.kafka_bootstrap,
            client_id="consent-ledger-serve",
            idempotent=not settings.embedded,
            security=security,
        ),
        view=ViewConfig(
            bootstrap=settings.kafka_bootstrap,
            partitions=partitions,
            suppression_key=keys.suppression,
            log_ids=log_ids,
            options=security,
            view_max_age_ms=settings.view_max_age_ms,
            party_numbers_max=settings.view_party_numbers_max,
            clock_offset_max_ms=settings.clock_skew_max_ms,
        ),
        surroundings=SurroundingsConfig(
            bootstrap=settings.kafka_bootstrap,
            keyed_partitions=partitions,
            log_ids=log_ids,
            nonce=os.urandom(NONCE_BYTES),
            options=security,
            max_age_ms=settings.surroundings_max_age_ms,
        ),
        known=known_from_history(settings),
        store=store_parameters(settings),
        rulebook=load_rulebook(None),
        permits=_permits(settings, keys.suppression),
        history_key=keys.history,
        check=CheckSettings(
            profile=settings.rule_profile.upper(),
            keyed_partitions=partitions,
            region_default=settings.region_default,
            recorded_settings=_recorded(settings),
        ),
        access_reason_required=access_reason_required(settings),
        privacy=PrivacyConfig(
            dead_letter_key=keys.dead_letters,
            keeps_consent_proof=settings.erasure_keeps_consent_proof,
            backups_days=settings.backups_kept_days,
        ),
        journal_folder=settings.data_dir / _JOURNAL_FOLDER if settings.embedded else None,
    )


def _permits(settings: Settings, suppression_key: bytes) -> PermitSettings:
    return PermitSettings(
        keys=load_permit_keys(settings, time.time_ns() // 1_000),
        folder=permit_keys_folder(settings),
        suppression_key=suppression_key,
        issuer=settings.log_origin,
        partitions=keyed_partitions(settings),
        # Half of the time that a new key waits, so that whoever has these keeps none too long.
        key_set_max_age_s=settings.permit_key_overlap_ms // 2_000,
    )


def _recorded(settings: Settings) -> dict[str, str]:
    """Settings that a decision depends on; they are written down with each."""
    names = (
        "rule_profile",
        "view_max_age_ms",
        "surroundings_max_age_ms",
        "view_party_numbers_max",
        "clock_skew_max_ms",
        "region_default",
    )
    return {name: str(getattr(settings, name) or "") for name in names}


def _version() -> str:
    try:
        return version("consent-ledger")
    except PackageNotFoundError:
        return "0"
