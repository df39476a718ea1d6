"""What became of a grant, and who the seller said to be: what receipts tell beside the grant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from consent.reconstruction import KnownFact
from consent_ledger.evidence_receipts import Fields, consent_state

_ANY: Final = ("UNKNOWN",)
_ENDINGS: Final = {
    "ConsentWithdrawn": "dpv:ConsentWithdrawn",
    "ConsentInvalidated": "dpv:ConsentInvalidated",
    "CallEnded": "dpv:ConsentWithdrawn",
}


def happened_at(fact: KnownFact) -> int:
    """When it had happened: nothing happens after it was recorded, whatever its date says."""
    return min(fact.effective_at, fact.position.recorded_at)


def campaign_of(grant: KnownFact, facts: Sequence[KnownFact]) -> Fields | None:
    """The seller's newest declaration of the grant's campaign, else of any; None without one."""
    assert grant.fields is not None
    own, any_of_seller = None, None
    for fact in facts:
        if fact.name != "CampaignDeclared" or fact.seller_id != grant.seller_id:
            continue
        any_of_seller = fact.fields
        if fact.fields and fact.fields["campaign_id"] == grant.fields["campaign_id"]:
            own = fact.fields
    return own or any_of_seller


def lifecycle_of(grant: KnownFact, facts: Sequence[KnownFact]) -> list[Mapping[str, Any]]:
    """States of a grant, oldest first, for `consent_record`: itself, and what ended it."""
    fields = grant.fields
    assert fields is not None
    states = [(happened_at(grant), consent_state(fields["change"]), fields["source"]["actor"])]
    for fact in facts:
        if (
            fact.fields is not None
            and happened_at(fact) >= happened_at(grant)
            and ends(fact, grant)
        ):
            actor = fact.fields["source"]["actor"]
            states.append((happened_at(fact), _ENDINGS[fact.name], actor))
    if fields["expires_at"] is not None:
        states.append((fields["expires_at"], "dpv:ConsentExpired", "SYSTEM"))
    return [{"time": at, "state": state, "by": by} for at, state, by in sorted(states)]


def ends(fact: KnownFact, grant: KnownFact) -> bool:
    """Whether an event took back at least a part of a grant."""
    fields, granted = fact.fields, grant.fields
    if fields is None or granted is None or fact.name not in _ENDINGS:
        return False
    if fact.name == "CallEnded" and not fields["opted_out"]:
        return False
    all_sellers = fields.get("all_sellers") or fields.get("opt_out_all_sellers")
    if not all_sellers and fact.seller_id not in (grant.seller_id, "*"):
        return False
    named = fields.get("grant_event_id")
    if named is not None and fact.name == "ConsentInvalidated":
        return bool(named == grant.event_id)
    return all(_meets(fields[name], granted[name]) for name in ("purposes", "modes"))


def _meets(ended: Sequence[str], granted: Sequence[str]) -> bool:
    """Whether a scope has something of another; one that is empty or not known has everything."""
    return not ended or any(one in _ANY or one in granted for one in ended)
