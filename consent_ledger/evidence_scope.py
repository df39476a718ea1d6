"""Which facts belong into a bundle of evidence about a number and a period.

Of calls and decisions those of the period; of everything else also what came before, since what was
allowed in the period rests on it. And of the facts that are about no number those that these name:
scripts, campaigns, versions of lists, rulebooks, caller ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from consent.reconstruction import KnownFact
from consent_ledger.receipt_events import happened_at
from projections.evidence_rows import StoredFact

_OF_PERIOD_ONLY: Final = ("call-events", "dial-decisions")

Name = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EvidenceScope:
    """From `begin` to before `end`, in µs; of these sellers, None: of all.

    Rehearsals are left out.
    """

    begin: int
    end: int
    seller_ids: frozenset[str] | None = None

    def covers(self, fact: KnownFact) -> bool:
        """Whether a number's fact belongs into the bundle."""
        if fact.test or happened_at(fact) >= self.end:
            return False
        if fact.position.topic in _OF_PERIOD_ONLY and not self.in_period(fact):
            return False
        return self.seller_ids is None or fact.seller_id in self.seller_ids | {"*"}

    def in_period(self, fact: KnownFact) -> bool:
        """Whether it happened in the period itself."""
        return self.begin <= happened_at(fact) < self.end


def named_facts(facts: Iterable[StoredFact], around: Iterable[StoredFact]) -> list[StoredFact]:
    """Those of the facts about no number that a number's facts name, in the order of `around`."""
    wanted: set[Name] = set()
    for one in facts:
        if one.known.fields is not None:
            wanted.update(_names_in(one.known.name, one.known.fields))
    return [
        one
        for one in around
        if not one.known.test
        and one.known.fields is not None
        and _name_of(one.known.name, one.known.fields) in wanted
    ]


def rulebook_digests(facts: Iterable[StoredFact]) -> set[bytes]:
    """Digests of the rulebooks by which decisions were made."""
    return {
        one.known.fields["rulebook_digest"]
        for one in facts
        if one.known.name == "DialDecision" and one.known.fields is not None
    }


def _names_in(name: str, fields: Mapping[str, Any]) -> Iterator[Name]:
    seller_id = fields["seller_id"]
    if fields.get("script_id"):
        yield ("script", seller_id, fields["script_id"], str(fields.get("script_version")))
    if fields.get("campaign_id"):
        yield ("campaign", seller_id, fields["campaign_id"])
    if fields.get("caller_id_number"):
        yield ("caller id", seller_id, fields["caller_id_number"])
    if name == "DialDecision":
        yield ("rulebook", fields["rulebook_digest"].hex())
        for listed in fields["lists"]:
            yield ("list", listed["list_id"], str(listed["version"]))


def _name_of(name: str, fields: Mapping[str, Any]) -> Name:
    seller_id = fields["seller_id"]
    match name:
        case "ScriptPublished":
            return ("script", seller_id, fields["script_id"], fields["version"])
        case "CampaignDeclared":
            return ("campaign", seller_id, fields["campaign_id"])
        case "CallerIdAuthorised":
            return ("caller id", seller_id, fields["caller_id_number"])
        case "RulebookActivated":
            return ("rulebook", fields["rulebook_digest"].hex())
        case "RegistryVersionPublished":
            return ("list", fields["list_id"], fields["version"])
    return ()
