"""Wiring of the proof log: its folder, its key, its witnesses, and the worker that seals it."""

from __future__ import annotations

import contextlib

from consent.log_policy import LogPolicy, parse_policy
from consent.notes import SigningKey, VerifierKey
from consent_ledger.adapters.witnesses import asking_witnesses
from consent_ledger.bootstrap import app_config, log_folder, store_parameters
from consent_ledger.keys import load_log_key
from consent_ledger.settings import Settings
from projections.log_metrics import LogMetrics
from projections.log_sealer import Cosign, SealerSettings
from streams.record import record_stall_limits
from streams.seal import SealConfig


def log_signing_key(settings: Settings) -> SigningKey:
    """The key that signs checkpoints; KeyUnusable if it can't be read."""
    return SigningKey(settings.log_origin, load_log_key(settings))


def log_verifier_key(settings: Settings) -> VerifierKey:
    """The public half of the key that signs checkpoints."""
    return log_signing_key(settings).verifier


def log_policy(settings: Settings) -> LogPolicy:
    """Which witnesses are asked; none where no file says so."""
    if settings.log_policy_file is None:
        return LogPolicy()
    return parse_policy(settings.log_policy_file.read_text())


def seal_config(settings: Settings) -> SealConfig:
    """What `worker seal` is made of."""
    witnesses, timeout_s = log_policy(settings).witnesses, settings.witness_timeout_ms / 1000

    def asked(metrics: LogMetrics) -> contextlib.AbstractAsyncContextManager[Cosign]:
        return asking_witnesses(witnesses, timeout_s, metrics)

    return SealConfig(
        # It sits out an outage of the store, as `record` does.
        app=app_config(settings, "seal", record_stall_limits()),
        store=store_parameters(settings),
        folder=log_folder(settings),
        key=log_signing_key(settings),
        sealer=SealerSettings(checkpoint_interval_ms=settings.log_checkpoint_interval_ms),
        witnesses=asked,
    )
