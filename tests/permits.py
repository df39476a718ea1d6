"""What a permit says, for tests."""

from __future__ import annotations

from consent.instants import MICROSECONDS
from consent.permits import PermitTerms
from tests.decisions import NOW

TERMS = PermitTerms(
    permit_id="0d7f0c9e-4c0b-4f6e-8d43-7a4ad1d1a001",
    decision_id="0d7f0c9e-4c0b-4f6e-8d43-7a4ad1d1a002",
    issuer="ledger.example/log",
    number_token=b"\xabcdefghijklmno\x00",
    seller_id="acme",
    campaign_id="spring",
    purpose="MARKETING",
    call_mode="LIVE",
    dial_mode="MANUAL",
    test=False,
    rulebook_digest=bytes(32),
    partition=3,
    applied={("call-events", b"b" * 16): 12, ("consent-events", b"a" * 16): 7},
    issued_at=NOW + 1,
    expires_at=NOW + 60 * MICROSECONDS,
)
