"""What an engine version decided once it decides for ever."""

from __future__ import annotations

import json

from consent.decision import ENGINE_VERSION
from tests.golden import FILE, found


def test_engine_decides_as_it_always_did() -> None:
    """Verdicts, reasons, instants and traces of every kind of rule are those on file.

    If they are meant to change, ENGINE_VERSION changes, and `python -m tests.golden` writes the
    file of the new version: decisions on record are repeated by the engine that made them.
    """
    kept, now = json.loads(FILE.read_text()), json.loads(json.dumps(found()))
    assert now["rulebook"] == kept["rulebook"]
    changed = [
        name for name, fields in now["decisions"].items() if kept["decisions"][name] != fields
    ]
    assert changed == [], f"engine {ENGINE_VERSION} decides otherwise"
    assert sorted(now["decisions"]) == sorted(kept["decisions"])


def test_file_shows_every_reason_of_its_rules() -> None:
    """The decisions on file are of every sort, or they would guard little."""
    decisions = json.loads(FILE.read_text())["decisions"].values()
    reasons = {reason for one in decisions for reason in one["reasons"]}
    assert reasons >= {
        *("CONSENT_REVOKED", "INTERNAL_DNC", "INTERNAL_DNC_PARTY", "CONSENT_PEWC_MISSING"),
        *("CONSENT_EVIDENCE_INCOMPLETE", "CONSENT_EXPIRED", "RND_REASSIGNED", "FREQ_CAP"),
        *("REFUSAL_COOLDOWN", "ABANDON_COOLDOWN_72H", "HOLIDAY_BAN", "QUIET_HOURS"),
        *("DATA_MISSING", "EMERGENCY_BAN"),
    }
    assert {one["verdict"] for one in decisions} == {"ALLOW", "DENY"}
    assert any(one["next_allowed_at"] for one in decisions)
