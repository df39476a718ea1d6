"""Conditions of exemptions: what saves a call from a rule that it fails.

Each is general; which rule takes which, and in which profiles, is written in the rule files. What
is not known never saves a call, and every answer names the facts that it rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from consent.call import UNKNOWN
from consent.call_facts import CallFacts
from consent.consent_check import evidence_of
from consent.findings import Condition, Timeless, UsedFacts
from consent.listing_age import ConsentSinceListing, ListedLessThan
from consent.relationships import OngoingContract, RelationshipCondition, grant_edges
from consent.rule_context import ParameterError, RuleContext, known_registry
from consent.state_entries import Relationship
from consent.zones import DAY_US


@dataclass(frozen=True, slots=True)
class Agreed:
    """A consent of one of the kinds covers this call now, with its evidence."""

    kinds: frozenset[str]
    evidence: tuple[int, ...]

    def saves(self, facts: CallFacts) -> UsedFacts | None:
        """The newest such grant."""
        agreed = facts.agreed_since(facts.revoked_at, self.kinds, self.evidence)
        if agreed is None:
            return None
        return (("grant", agreed[1].event_id), ("granted_at", agreed[1].at))

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where grants of these kinds begin and end."""
        return grant_edges(facts, self.kinds, after, until)


@dataclass(frozen=True, slots=True)
class KnownWords(Timeless):
    """Every word that may be so is among these; what nobody stated is the word UNKNOWN."""

    name: str
    stated: Callable[[CallFacts], Sequence[str]]
    words: frozenset[str]

    def saves(self, facts: CallFacts) -> UsedFacts | None:
        """The words that are stated."""
        stated = self.stated(facts) or (UNKNOWN,)
        return ((self.name, " ".join(stated)),) if self.words.issuperset(stated) else None


@dataclass(frozen=True, slots=True)
class EmergencyPurpose(Timeless):
    """The call is made for an emergency."""

    def saves(self, facts: CallFacts) -> UsedFacts | None:
        """What the request states."""
        return (("emergency_purpose", True),) if facts.request.emergency_purpose else None


@dataclass(frozen=True, slots=True)
class PortedWithin:
    """The number was ported from wireline to wireless at most so long ago."""

    period_us: int

    def saves(self, facts: CallFacts) -> UsedFacts | None:
        """The port, if every source says so."""
        ported = self._ported(facts)
        if ported and all(at <= facts.at <= at + self.period_us for at in ported):
            return (("ported_at", max(ported)),)
        return None

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where the port is too long ago."""
        for at in self._ported(facts):
            for edge in (at, at + self.period_us + 1):
                if after < edge <= until:
                    yield edge

    def _ported(self, facts: CallFacts) -> list[int]:
        if facts.attributes.get("port", set()) != {"WIRELINE_TO_WIRELESS"}:
            return []
        return [int(value) for value in facts.attributes.get("ported_at", ())]


@dataclass(frozen=True, slots=True)
class FreeToRecipient(Timeless):
    """The campaign declares that the person called is not charged for it."""

    def saves(self, facts: CallFacts) -> UsedFacts | None:
        """What it declares."""
        declared = facts.surroundings.program.free_to_recipient
        return (("free_to_recipient", True),) if declared else None


@dataclass(frozen=True, slots=True)
class CallingAgreed:
    """The person asked the seller to be called at a time, which is now, and did not withdraw."""

    def saves(self, facts: CallFacts) -> UsedFacts | None:
        """The newest such request."""
        asked = [
            (one.at, one.event_id)
            for one in self._asked(facts)
            if one.at > facts.revoked_at
            and self._begins(one) <= facts.at < (one.call_until_at or 0)
        ]
        return (("relationship", max(asked)[1]), ("kind", "CALLBACK")) if asked else None

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterator[int]:
        """Where such a time begins and ends."""
        for one in self._asked(facts):
            for at in (self._begins(one), one.call_until_at):
                if at is not None and after < at <= until:
                    yield at

    def _asked(self, facts: CallFacts) -> Iterator[Relationship]:
        return (one for _, one in facts.relationships(_CALLBACK) if one.status != "ENDED")

    def _begins(self, one: Relationship) -> int:
        return one.at if one.call_from_at is None else max(one.at, one.call_from_at)


_CALLBACK: Final = frozenset({"CALLBACK"})


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of several conditions saves the call."""

    conditions: tuple[Condition, ...]

    def saves(self, facts: CallFacts) -> UsedFacts | None:
        """The facts of the first that does."""
        for condition in self.conditions:
            used = condition.saves(facts)
            if used is not None:
                return used
        return None

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterable[int]:
        """Those of all of them."""
        return chain.from_iterable(one.edges(facts, after, until) for one in self.conditions)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one of several conditions saves the call."""

    conditions: tuple[Condition, ...]

    def saves(self, facts: CallFacts) -> UsedFacts | None:
        """The facts of all of them."""
        together: list[tuple[str, object]] = []
        for condition in self.conditions:
            used = condition.saves(facts)
            if used is None:
                return None
            together += used
        return tuple(together)

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterable[int]:
        """Those of all of them."""
        return chain.from_iterable(one.edges(facts, after, until) for one in self.conditions)


def compile_condition(entry: Mapping[str, Any], context: RuleContext) -> Condition:
    """The condition of `{name: params}`; ParameterError if it names what is not described."""
    if len(entry) != 1:
        raise ParameterError((), "a condition has one name", "Put several into `all` or `any`.")
    ((name, params),) = entry.items()
    try:
        return CONDITIONS[name](params, context)
    except ParameterError as problem:
        raise ParameterError((name, *problem.path), problem.message, problem.remedy) from None


def _agreed(params: Any, context: RuleContext) -> Condition:
    kinds = frozenset(kind.upper() for kind in params["kinds"])
    return Agreed(kinds, evidence_of(params.get("evidence_required", ()))[0])


def _relationship(params: Any, context: RuleContext) -> Condition:
    return RelationshipCondition(
        kinds=frozenset(kind.upper() for kind in params["kinds"]),
        months=params.get("months"),
        days=params.get("days"),
        statuses=frozenset(word.upper() for word in params.get("statuses", _STATUSES)),
        related=params.get("related", False),
    )


_STATUSES: Final = ("active", "ended", "unknown")


def _listed_less_than(params: Any, context: RuleContext) -> Condition:
    return ListedLessThan(known_registry(params, context), params["days"])


def _consent_since_listing(params: Any, context: RuleContext) -> Condition:
    kinds = frozenset(kind.upper() for kind in params["kinds"])
    return ConsentSinceListing(known_registry(params, context), kinds)


def _words(
    name: str, stated: Callable[[CallFacts], Sequence[str]]
) -> Callable[[Any, RuleContext], Condition]:
    def compiled(params: Any, context: RuleContext) -> Condition:
        words = [params] if isinstance(params, str) else params
        return KnownWords(name, stated, frozenset(word.upper() for word in words))

    return compiled


def _seller_types(facts: CallFacts) -> Sequence[str]:
    stated = facts.surroundings.program.seller_type
    return () if stated is None else (stated.upper(),)


def _several(params: Any, context: RuleContext) -> tuple[Condition, ...]:
    compiled = []
    for index, entry in enumerate(params):
        try:
            compiled.append(compile_condition(entry, context))
        except ParameterError as problem:
            raise ParameterError((index, *problem.path), problem.message, problem.remedy) from None
    return tuple(compiled)


CONDITIONS: Final[Mapping[str, Callable[[Any, RuleContext], Condition]]] = {
    "consent": _agreed,
    "ongoing_contract": lambda params, context: OngoingContract(),
    "relationship": _relationship,
    "sector": _words("sector", lambda facts: facts.sectors),
    "message_class": _words("message_class", lambda facts: facts.message_classes),
    "seller_type": _words("seller_type", _seller_types),
    "emergency_purpose": lambda params, context: EmergencyPurpose(),
    "dial": _words("dial", lambda facts: (facts.request.dial_mode,)),
    "mode": _words("mode", lambda facts: (facts.mode,)),
    "line": _words("line", lambda facts: facts.lines),
    "party": _words("party", lambda facts: facts.parties),
    "ported_within": lambda params, context: PortedWithin(params["days"] * DAY_US),
    "free_to_recipient": lambda params, context: FreeToRecipient(),
    "listed_less_than": _listed_less_than,
    "consent_since_listing": _consent_since_listing,
    "calling_agreed": lambda params, context: CallingAgreed(),
    "any": lambda params, context: AnyOf(_several(params, context)),
    "all": lambda params, context: AllOf(_several(params, context)),
}
"""Every condition that a rule can name."""
