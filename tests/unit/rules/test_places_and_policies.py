"""What must hold of every place that the rulebook knows, whatever its own rows are."""

from __future__ import annotations

from typing import Any

import pytest

from consent.decision import Decision
from consent.rule_context import EVERYWHERE
from consent.scenario import scenarios_of
from consent.scenario_results import evaluate
from tests.decisions import packaged_rulebook

ZONES = {
    "AU": "Australia/Sydney",
    "CA": "America/Toronto",
    "DE": "Europe/Berlin",
    "ES": "Europe/Madrid",
    "FR": "Europe/Paris",
    "GB": "Europe/London",
    "IN": "Asia/Kolkata",
    "IT": "Europe/Rome",
    "US": "America/New_York",
}


def lawful_countries() -> list[str]:
    """Countries with rows of their own."""
    return sorted(packaged_rulebook().geography.lawful_countries)


def decided(country: str, **facts: Any) -> Decision:
    """A strict marketing call to a consumer in the country at noon there, on a Tuesday."""
    request = {
        "number": "+14155550100",
        "at": "2026-11-24T12:00:00Z",
        "seller": "acme",
        "purpose": "MARKETING",
        "mode": "LIVE",
        "party": "CONSUMER",
        "states": [country],
        "zones": [ZONES[country]],
    }
    (scenario,) = scenarios_of({"scenarios": [{"id": country, "request": request, "facts": facts}]})
    return evaluate(scenario, packaged_rulebook()).decision


def test_countries_are_those_of_the_release() -> None:
    """A country that gets rows gets its cases and its zone here as well."""
    assert lawful_countries() == sorted(ZONES)


@pytest.mark.parametrize("country", sorted(ZONES))
def test_reported_listing_is_refused_everywhere(country: str) -> None:
    """A consumer's number that was reported as nationally listed is not called, wherever it is."""
    listed = {"list_kind": "NATIONAL", "list_id": "some-list", "at": "2026-10-01T00:00:00Z"}
    decision = decided(country, listed=[listed])
    assert "NATIONAL_DNC" in decision.reasons
    saying = [line for line in decision.outcomes if line.reason == "NATIONAL_DNC"]
    assert len(saying) == 1, [line.rule.name for line in saying]


@pytest.mark.parametrize("country", sorted(ZONES))
@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"withdrawals": [{"occurred_at": "2026-10-01T00:00:00Z"}]}, "CONSENT_REVOKED"),
        ({"internal_dnc": [{"requested_at": "2026-10-01T00:00:00Z"}]}, "INTERNAL_DNC"),
        ({"reassigned": {"answer": "YES", "queried_on": "2026-11-20"}}, "RND_REASSIGNED"),
        ({"refusals": [{"at": "2026-11-20T00:00:00Z"}]}, "REFUSAL_COOLDOWN"),
        ({"program": {"recording_notice": False}}, "RECORDING_NOTICE_UNAVAILABLE"),
    ],
)
def test_house_policies_hold_everywhere(country: str, facts: dict[str, Any], reason: str) -> None:
    """What a person said, and what the house decided, does not depend on the country."""
    assert reason in decided(country, **facts).reasons


@pytest.mark.parametrize("country", sorted(ZONES))
def test_no_exemption_lifts_hours_in_strict(country: str) -> None:
    """Consent, relationships and appointments never lift hours or closed days in strict."""
    timing = {"window", "holiday", "day_ban"}
    for rule in packaged_rulebook().rules:
        if rule.country in (country, EVERYWHERE) and rule.kind in timing and rule.decides:
            lifting = [one.code for one in rule.exemptions if "STRICT" in one.profiles]
            assert not any(
                word in code
                for code in lifting
                for word in ("CONSENT", "EBR", "RELATION", "ASKED", "CUSTOMER", "CONTRACT")
            ), rule.name


@pytest.mark.parametrize("country", sorted(ZONES))
def test_recording_is_announced_everywhere(country: str) -> None:
    """Every allowed call carries the obligation, in both profiles."""
    saying = [line.rule.id for line in decided(country).outcomes if line.rule.id == "REC-NOTICE"]
    assert saying == ["REC-NOTICE"]
