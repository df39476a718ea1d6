"""Wiring of the proof log: its folder, its key, its witnesses, and the worker that seals it."""

from __future__ import annotations

from consent.log_policy import LogPolicy, parse_policy
from consent.notes import SigningKey, VerifierKey
from consent_ledger.keys import load_log_key
from consent_ledger.settings import Settings


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
