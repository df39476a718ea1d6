"""Deciding a recorded call again, and telling where the result differs from the record.

With the states folded from exactly the facts that the record names, and the rulebook of its
digest, the same engine gives the same record bit for bit. Where it does not, the first difference
is named, and beside it what the record was made by that this ledger has not: another engine,
other time-zone data, other area tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from consent.decision import ENGINE_VERSION, Decision, decide, unavailable
from consent.decision_record import RecordedCall, request_of, verdict_fields
from consent.errors import Corrupt
from consent.places import area_table_digest
from consent.reasons import UNAVAILABLE_REASONS
from consent.rulebook import Rulebook
from consent.state import SubjectState
from consent.zones import tzdata_version

DECISION_UNRECORDED: Final = "DECISION_UNRECORDED"
"""An allow that could not be recorded in time is followed by a record of no answer."""

PLACES: Final = ("states", "zones", "counties")
ABSENT: Final = "(nothing)"


class Difference(NamedTuple):
    """One place of the record, what it says, and what deciding again says there."""

    place: str
    recorded: Any
    again: Any


@dataclass(frozen=True, slots=True)
class Replay:
    """A decision made again. `difference` is the first one, None where all is the same.

    `made_by` names what the record was made by and this ledger has another version of.
    """

    decision: Decision
    difference: Difference | None
    made_by: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        """True if every field that says what was decided, and why, is the same."""
        return self.difference is None


def replay(
    record: Mapping[str, Any],
    state: SubjectState,
    linked: Sequence[SubjectState],
    rulebook: Rulebook,
) -> Replay:
    """Decide the call of a DialDecision again, by the fields of its event or of its fact.

    `linked` are the states of the record's linked numbers in its order. Corrupt if the rulebook is
    another one than the record names.
    """
    call = request_of(record)
    if rulebook.digest != call.rulebook_digest:
        raise Corrupt("the decision was made under another rulebook")
    decision = decided_again(record, call, state, linked, rulebook)
    again: dict[str, Any] = {name: list(getattr(decision.request, name)) for name in PLACES}
    again |= {"at": decision.at, "rulebook_digest": decision.rulebook_digest}
    again |= verdict_fields(decision)
    return Replay(decision, first_difference(record, again), made_by(record))


def decided_again(
    record: Mapping[str, Any],
    call: RecordedCall,
    state: SubjectState,
    linked: Sequence[SubjectState],
    rulebook: Rulebook,
) -> Decision:
    """The decision under any rulebook, from what the record says was known around the call.

    That the ledger could give no answer at all, as its view was too old, is taken from the record.
    """
    reason = no_answer_reason(record)
    if reason is not None:
        return unavailable(call.request, reason, rulebook, call.at)
    surroundings = replace(call.surroundings, linked=tuple(linked))
    decision = decide(call.request, state, surroundings, rulebook, call.at)
    if record["reason"] != DECISION_UNRECORDED or not decision.allowed:
        return decision
    return unrecorded(decision)


def no_answer_reason(record: Mapping[str, Any]) -> str | None:
    """Why no rule was asked, for a decision that the ledger was not fit to make; None else."""
    if record["verdict"] != "UNAVAILABLE" or record["outcomes"]:
        return None
    reason = record["reason"]
    return str(reason) if reason in UNAVAILABLE_REASONS else None


def unrecorded(decision: Decision) -> Decision:
    """What is answered, and recorded, where an allow could not be recorded in time."""
    return replace(
        decision,
        verdict="UNAVAILABLE",
        reason=DECISION_UNRECORDED,
        reasons=(DECISION_UNRECORDED,),
        rule=None,
        obligations=(),
        next_allowed=None,
    )


def made_by(record: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Versions that the record names and that are others here; what it does not name is passed.

    The tables of areas can't change a decision: the places that they named are in the record.
    """
    tables = record["area_table_digest"]
    versions = (
        ("engine_version", record["engine_version"], ENGINE_VERSION),
        ("tzdata_version", record["tzdata_version"], tzdata_version()),
        ("area_table_digest", tables and tables.hex(), area_table_digest().hex()),
    )
    return tuple(
        Difference(name, recorded, here)
        for name, recorded, here in versions
        if recorded is not None and recorded != here
    )


def first_difference(recorded: Mapping[str, Any], again: Mapping[str, Any]) -> Difference | None:
    """The first field that differs, down to the fact of a rule's outcome; None if none does."""
    for name, value in again.items():
        if recorded[name] != value:
            if name == "outcomes":
                return next(_in_outcomes(recorded[name], value))
            return Difference(name, recorded[name], value)
    return None


def _in_outcomes(
    recorded: Sequence[Mapping[str, Any]], again: Sequence[Mapping[str, Any]]
) -> Iterator[Difference]:
    """Differences of two traces: a rule that only one of them has, else the parts of an outcome."""
    before = {line["rule"]: line for line in recorded}
    after = {line["rule"]: line for line in again}
    for rule in [*before, *(rule for rule in after if rule not in before)]:
        one, other = before.get(rule), after.get(rule)
        if one is None or other is None:
            yield Difference(
                f"outcomes[{rule}]",
                ABSENT if one is None else one["outcome"],
                ABSENT if other is None else other["outcome"],
            )
            continue
        for part in ("outcome", "reason", "exemption"):
            if one[part] != other[part]:
                yield Difference(f"outcomes[{rule}].{part}", one[part], other[part])
        if one["facts"] != other["facts"]:
            yield _in_facts(rule, one["facts"], other["facts"])
    yield Difference("outcomes", [*before], [*after])


def _in_facts(
    rule: str, recorded: Sequence[Mapping[str, str]], again: Sequence[Mapping[str, str]]
) -> Difference:
    one = {fact["name"]: fact["value"] for fact in recorded}
    other = {fact["name"]: fact["value"] for fact in again}
    for name in [*one, *other]:
        if one.get(name) != other.get(name):
            place = f"outcomes[{rule}].facts[{name}]"
            return Difference(place, one.get(name, ABSENT), other.get(name, ABSENT))
    return Difference(f"outcomes[{rule}].facts", [*one], [*other])
