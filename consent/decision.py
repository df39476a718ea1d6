"""Deciding whether a call may be made: every applicable rule is run, any denial denies.

    decide(request, state, surroundings, rulebook, at) -> Decision

Pure: the same request, state, surroundings, rulebook and instant give the same decision, down to
its trace. What is recorded of a decision is in `decision_record`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from consent.call import NO_SURROUNDINGS, CallRequest, Surroundings
from consent.call_facts import CallFacts
from consent.findings import Finding, Result, UsedFacts
from consent.reasons import DATA_MISSING, REGISTRY_UNLOADED, UNAVAILABLE_REASONS
from consent.rule import CallWords, Outcome, Rule
from consent.rulebook import Rows, Rulebook
from consent.state import SubjectState
from consent.zones import DAY_US

ENGINE_VERSION: Final = "2"
"""Changes whenever the same inputs may give another decision, or another trace."""

SEARCH_DAYS: Final = 14
"""The next allowed instant is searched so far past the end of the last cap."""

Verdict = Literal["ALLOW", "DENY", "UNAVAILABLE"]


class RuleOutcome(NamedTuple):
    """One line of the trace.

    `reason` is set on DENY, OBLIGE and WARN, and on SHADOW where the rule would have denied;
    `exemption` names what saved the call. UNKNOWN is a rule whose facts were not loaded.
    """

    rule: Rule
    outcome: Outcome
    reason: str | None = None
    exemption: str | None = None
    facts: UsedFacts = ()
    next: str = "on_event"


class NextAllowed(NamedTuple):
    """When the same call may be tried again; `at` is set where `when` is `at`."""

    when: Literal["never", "on_event", "campaign_period_end", "at"]
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, and all that it rests on beside the number's state.

    `request` has the candidate places resolved: what was asked and what the state recorded.
    `reasons` holds every reason, the primary one first; it is empty on an allow. `rule` decided.
    `obligations` come with an allow only, `next_allowed` with a denial only.
    """

    verdict: Verdict
    reason: str | None
    reasons: tuple[str, ...]
    rule: Rule | None
    obligations: tuple[str, ...]
    next_allowed: NextAllowed | None
    outcomes: tuple[RuleOutcome, ...]
    at: int
    request: CallRequest
    surroundings: Surroundings
    rulebook_digest: bytes
    engine_version: str = ENGINE_VERSION

    @property
    def allowed(self) -> bool:
        """True only for an allow: a denial and no answer are both no permission."""
        return self.verdict == "ALLOW"


def decide(
    request: CallRequest,
    state: SubjectState,
    surroundings: Surroundings,
    rulebook: Rulebook,
    at: int,
) -> Decision:
    """Decide about a call at `at`, in microseconds UTC.

    Shadow rules are evaluated and recorded, and never change the verdict. If no rule denies but a
    registry that one needs is not loaded, the answer is UNAVAILABLE.
    """
    facts = CallFacts(request, state, surroundings, rulebook.geography, at)
    words = _words_of(facts)
    rows = rulebook.rows(facts.states, words, at)
    return _decided(facts, rulebook, words, _run(rows, facts, rulebook))


def unavailable(request: CallRequest, reason: str, rulebook: Rulebook, at: int) -> Decision:
    """The answer where the number's state can't be relied on: VIEW_STALE or VIEW_UNLOADED."""
    if reason not in UNAVAILABLE_REASONS:
        raise ValueError(f"{reason} is no reason for having no answer")
    return Decision(
        verdict="UNAVAILABLE",
        reason=reason,
        reasons=(reason,),
        rule=None,
        obligations=(),
        next_allowed=None,
        outcomes=(),
        at=at,
        request=request,
        surroundings=NO_SURROUNDINGS,
        rulebook_digest=rulebook.digest,
    )


def allowed_until(decision: Decision, state: SubjectState, rulebook: Rulebook, until: int) -> int:
    """The first instant after an allow, up to `until`, at which a rule denies; else `until`.

    Assumes that nothing happens in between. A permit must not be valid at or after it.
    """
    facts = CallFacts(
        decision.request, state, decision.surroundings, rulebook.geography, decision.at
    )
    words = _words_of(facts)
    rules = rulebook.rows(facts.states, words, None).rules
    for instant in _edges(rules, facts, rulebook, facts.at, until):
        then = facts.moved(instant)
        lines = _run(rulebook.rows(facts.states, words, instant), then, rulebook)
        if any(line.outcome == "DENY" for line in lines):
            return instant
    return until


def _decided(
    facts: CallFacts, rulebook: Rulebook, words: CallWords, outcomes: tuple[RuleOutcome, ...]
) -> Decision:
    denials = [line for line in outcomes if line.outcome == "DENY"]
    unloaded = [line for line in outcomes if line.outcome == "UNKNOWN"]
    deciding = _first(denials or unloaded, rulebook)
    return Decision(
        verdict="DENY" if denials else "UNAVAILABLE" if unloaded else "ALLOW",
        reason=None if deciding is None else deciding.reason,
        reasons=rulebook.reasons.ordered(
            line.reason for line in denials or unloaded if line.reason is not None
        ),
        rule=None if deciding is None else deciding.rule,
        obligations=() if deciding is not None else _obligations(outcomes, rulebook),
        next_allowed=_next_allowed(facts, rulebook, words, denials) if denials else None,
        outcomes=outcomes,
        at=facts.at,
        request=_resolved(facts),
        surroundings=facts.surroundings,
        rulebook_digest=rulebook.digest,
    )


def _resolved(facts: CallFacts) -> CallRequest:
    """The request with every candidate that was used, so that it decides alike on its own."""
    request = facts.request
    if (request.states, request.zones, request.counties) == (
        facts.states,
        facts.zones,
        facts.counties,
    ):
        return request
    return replace(request, states=facts.states, zones=facts.zones, counties=facts.counties)


def _first(lines: list[RuleOutcome], rulebook: Rulebook) -> RuleOutcome | None:
    """The deciding line: by reason, then the narrower jurisdiction, then id, newest revision."""
    if not lines:
        return None
    return min(
        lines,
        key=lambda line: (
            rulebook.reasons.rank(line.reason or DATA_MISSING),
            -line.rule.narrowness,
            line.rule.id,
            -line.rule.rev,
        ),
    )


def _obligations(outcomes: Iterable[RuleOutcome], rulebook: Rulebook) -> tuple[str, ...]:
    return rulebook.reasons.ordered_obligations(
        line.reason for line in outcomes if line.outcome == "OBLIGE" and line.reason is not None
    )


def _words_of(facts: CallFacts) -> CallWords:
    request = facts.request
    return CallWords(
        request.purpose,
        request.call_mode,
        request.dial_mode,
        facts.profile,
        facts.lines,
        facts.parties,
        facts.sectors,
        facts.message_classes,
    )


def _run(rows: Rows, facts: CallFacts, rulebook: Rulebook) -> tuple[RuleOutcome, ...]:
    """Run every row whose revision is in force in some candidate zone at the facts' instant.

    Rules that ask what the others let the call pass by come last, and keep their place.
    """
    at, zones, certain, holds = facts.at, facts.zones, rows.certain, Result.HOLDS
    lines: list[RuleOutcome] = []
    later: list[tuple[int, Rule, tuple[str, ...]]] = []
    judged_in = zones
    for rule in rows.rules:
        if not certain:
            in_force = rule.zones_in_force(at, zones or rulebook.zones_of(facts.states))
            if not in_force:
                continue
            judged_in = in_force if zones else ()
        if rule.relies:
            later.append((len(lines) + len(later), rule, judged_in))
            continue
        finding = rule.check.find(facts, judged_in)
        if finding[0] is holds:
            lines.append(RuleOutcome(rule, rule.passed, None, None, finding[1]))
        else:
            lines.append(_judge(rule, finding, facts))
    if later:
        facts.reliance = _reliance(lines)
        for place, rule, judged_in in later:
            lines.insert(place, _judge(rule, rule.check.find(facts, judged_in), facts))
    return tuple(lines)


def _reliance(lines: Iterable[RuleOutcome]) -> frozenset[str]:
    """By what deciding rules let the call pass: a consent, a relationship, or neither."""
    return frozenset(
        _RELIED_ON[name]
        for line in lines
        if line.outcome == "PASS"
        for name, _ in line.facts
        if name in _RELIED_ON
    )


_RELIED_ON: Final = {
    "grant": "consent",
    "newer_grant": "consent",
    "relationship": "relationship",
}


def _judge(rule: Rule, finding: Finding, facts: CallFacts) -> RuleOutcome:
    """What a finding means under its rule: exemptions, missing facts, shadow, effect."""
    result, used, reason, _ = finding
    if result is Result.HOLDS:
        return RuleOutcome(rule, rule.passed, None, None, used)
    if result is Result.NOT_APPLICABLE:
        return RuleOutcome(rule, "NOT_APPLICABLE", None, None, used)
    for exemption in rule.exemptions:
        saved_by = exemption.saves(facts)
        if saved_by is not None:
            return RuleOutcome(rule, rule.passed, None, exemption.code, (*used, *saved_by))
    if result is Result.MISSING and rule.on_missing == "ignore":
        return RuleOutcome(rule, "NOT_APPLICABLE", None, None, used)
    outcome, reason, following = _EFFECTS[rule.effect], reason or rule.reason, rule.next
    if result is Result.MISSING and rule.on_missing == "deny":
        outcome, reason, following = "DENY", DATA_MISSING, "on_event"
    elif result is Result.UNLOADED and rule.effect == "deny":
        outcome, reason, following = "UNKNOWN", REGISTRY_UNLOADED, "on_event"
    return RuleOutcome(rule, outcome if rule.decides else "SHADOW", reason, None, used, following)


_EFFECTS: Final[dict[str, Outcome]] = {"deny": "DENY", "oblige": "OBLIGE", "warn": "WARN"}


def _next_allowed(
    facts: CallFacts, rulebook: Rulebook, words: CallWords, denials: list[RuleOutcome]
) -> NextAllowed:
    """`never` before `on_event` before the campaign's period, else the first instant that does."""
    following = {line.next for line in denials}
    if "never" in following:
        return NextAllowed("never")
    if "on_event" in following:
        return NextAllowed("on_event")
    if "period_end" in following:
        return NextAllowed("campaign_period_end")
    at = _first_open(facts, rulebook, words)
    return NextAllowed("on_event") if at is None else NextAllowed("at", at)


def _first_open(facts: CallFacts, rulebook: Rulebook, words: CallWords) -> int | None:
    """The first instant at which every rule that passes with time holds, by its revisions then.

    Caps of revisions that are not in force yet count too when the end of the search is set. An
    instant is looked at only where something may change, a stretch of time after the other.
    """
    rules = _timing(rulebook.rows(facts.states, words, None).rules)
    findings = (rule.check.find(facts, facts.zones) for rule in rules if rule.next == "cap_expiry")
    last = max((finding.clears_at or facts.at for finding in findings), default=facts.at)
    for instant in _edges(rules, facts, rulebook, facts.at, last + SEARCH_DAYS * DAY_US):
        rows = rulebook.rows(facts.states, words, instant)
        then = facts.moved(instant)
        lines = _run(Rows(_timing(rows.rules), rows.certain), then, rulebook)
        if not any(line.outcome == "DENY" for line in lines):
            return instant
    return None


def _timing(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return tuple(rule for rule in rules if rule.passes_with_time and rule.decides)


def _edges(
    rules: tuple[Rule, ...], facts: CallFacts, rulebook: Rulebook, after: int, until: int
) -> Iterator[int]:
    """Instants in (after, until], in order, at which some outcome may change."""
    zones = facts.zones or rulebook.zones_of(facts.states)
    span = _FIRST_SPAN_US
    while after < until:
        end = min(after + span, until)
        found: set[int] = set()
        for rule in rules:
            found.update(rule.check.edges(facts, after, end))
            for exemption in rule.exemptions:
                found.update(exemption.condition.edges(facts, after, end))
            found.update(rule.revision_edges(after, end, zones))
        yield from sorted(found)
        after, span = end, span * 4


_FIRST_SPAN_US: Final = DAY_US
"""Most searches end within a day; each further stretch is four times as long."""
