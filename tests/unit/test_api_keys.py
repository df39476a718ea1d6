"""API keys: their file, their roles, and the sellers they are bound to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consent.contracts import contracts
from consent.errors import Rejected
from consent_ledger.api.authentication import (
    ROLES,
    ApiKeys,
    Principal,
    is_loopback,
    load_api_keys,
    new_key,
)
from consent_ledger.api.problems import Problem
from tests.events import event

DIGEST = "ab" * 32


def written(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "keys.yaml"
    path.write_text(content)
    return path


def test_a_key_opens_what_its_entry_says(tmp_path: Path) -> None:
    """The token of an entry, and only that, gives its principal."""
    token, entry = new_key("web", ["publisher"], ["acme"])
    assert token not in str(entry)
    keys = load_api_keys(
        written(
            tmp_path,
            f"keys: [{{name: web, sha256: {entry.sha256},"
            " roles: [publisher], seller_ids: [acme]}]",
        )
    )
    found = keys.principal_of(token, 0)
    assert found == Principal("web", frozenset({"publisher"}), frozenset({"acme"}))
    assert keys.principal_of(token + "x", 0) is None
    assert keys.principal_of(entry.sha256, 0) is None


def test_a_key_ends_when_it_says() -> None:
    """At its expiry a key is unknown."""
    token, entry = new_key("web", ["publisher"], None)
    entry.expires_at = "1970-01-01T00:00:01Z"
    keys = ApiKeys([entry])
    assert keys.principal_of(token, 999_999) is not None
    assert keys.principal_of(token, 1_000_000) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "keys: [",
        "keys: [{name: a}]",
        f"keys: [{{name: a, sha256: {DIGEST}, roles: [king]}}]",
        f"keys: [{{name: a, sha256: {DIGEST}, roles: []}}]",
        "keys: [{name: a, sha256: abcd, roles: [admin]}]",
        f"keys: [{{name: a, sha256: {DIGEST}, roles: [admin], rights: all}}]",
        f"keys: [{{name: a, sha256: {DIGEST}, roles: [admin], expires_at: soon}}]",
        f"keys: [{{name: a, sha256: {DIGEST}, roles: [admin]}},"
        f" {{name: a, sha256: {'cd' * 32}, roles: [admin]}}]",
    ],
)
def test_a_file_that_can_not_be_used_is_refused(tmp_path: Path, content: str) -> None:
    """A wrong file of keys stops the start; it never means that there are no keys."""
    with pytest.raises(Rejected) as caught:
        load_api_keys(written(tmp_path, content))
    assert caught.value.reason == "INVALID_KEY_FILE"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A path that leads nowhere stops the start too."""
    with pytest.raises(Rejected):
        load_api_keys(tmp_path / "none")


def publishable(role: Any) -> set[str]:
    """Types of events that a role may publish."""
    principal = Principal("x", frozenset({role}))
    found = set()
    for record in contracts().records:
        if record.event and record.name != "DialDecision":
            try:
                principal.may_publish(record, event(record.name, seller_id="acme"))
            except Rejected:
                continue
            found.add(record.name)
    return found


def test_roles_publish_their_topics_only() -> None:
    """What changes the law, the calendar or a person's data takes the role for it."""
    allowed = {role: publishable(role) for role in ROLES}
    everything = {record.name for record in contracts().records if record.event} - {"DialDecision"}
    assert allowed["admin"] == everything
    assert allowed["auditor"] == set()
    assert allowed["dialer"] == {"CallPlaced", "CallEnded"}
    assert "ErasureExecuted" in allowed["privacy"]
    assert "ConsentGranted" not in allowed["privacy"]
    assert {"ConsentGranted", "DncRemoved", "ErasureRequested"} <= allowed["publisher"]
    assert not allowed["publisher"] & {
        "ErasureExecuted",
        "LegalHoldReleased",
        "RulebookActivated",
        "RegistryVersionPublished",
        "EmergencyLifted",
    }


def test_a_bound_key_restricts_for_all_but_permits_for_its_own() -> None:
    """A bound key passes on an opt-out from every seller, and lifts none for every seller."""
    bound = Principal("x", frozenset({"publisher"}), frozenset({"acme"}))
    withdrawn = contracts().record("ConsentWithdrawn")
    bound.may_publish(withdrawn, event("ConsentWithdrawn", all_sellers=True))
    removed = contracts().record("DncRemoved")
    with pytest.raises(Rejected):
        bound.may_publish(removed, event("DncRemoved", all_sellers=True))
    with pytest.raises(Rejected):
        bound.may_publish(withdrawn, event("ConsentWithdrawn", seller_id="other"))
    with pytest.raises(Problem):
        bound.require("dialer")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    """Only what this machine alone can reach is loopback."""
    assert is_loopback(host) == expected
