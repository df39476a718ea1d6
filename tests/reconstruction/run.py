"""Compares reconstructions with the oracle's, and decisions with their records."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from consent.call import Surroundings
from consent.decision import Decision, decide
from consent.decision_record import verdict_fields
from consent.party_links import PARTY_REF
from consent.privacy import party_token
from consent.rulebook import Rulebook
from consent.state import SubjectState
from consent.state_entries import SLOT_ORDERS
from consent_ledger.api.models import CallQuestion
from consent_ledger.reconstruction import Moment, Reconstruction, Reconstructor
from projections.clickhouse import Store, StoreParameters
from projections.migration import load_migrations, migrate
from projections.past import Past
from tests.reconstruction.oracle import Slots, linked, state_at
from tests.reconstruction.world import HISTORY_KEY, World, household, number_of
from tests.stores import start_front

Told = Callable[[str, int, int], None]
_ERASED = ("erased",)


@dataclass
class Outcome:
    """What was compared, and the first few things that differed."""

    cases: int = 0
    states_differ: int = 0
    decisions_compared: int = 0
    decisions_differ: int = 0
    late_seen: int = 0
    replayed: int = 0
    replayed_differ: int = 0
    examples: list[str] = field(default_factory=list)

    def differs(self, what: str) -> None:
        """Keep an example."""
        if len(self.examples) < 5:
            self.examples.append(what)


def reconstructor(store: Store, rulebook: Rulebook) -> Reconstructor:
    """What is tested."""
    return Reconstructor(Past(store), HISTORY_KEY, rulebook)


def compare(
    world: World, made: Reconstructor, cases: int, seed: int, told: Told, outcome: Outcome
) -> None:
    """Random numbers at random moments, as known at random times after or before them."""
    draw = random.Random(f"cases/{seed}")
    for case in range(cases):
        index = draw.randrange(world.studied)
        moment = moment_near(draw, world, index)
        asked = _question(draw) if case % 2 else None
        found = made.at_moment(number_of(index), moment, asked)
        outcome.cases += 1
        outcome.late_seen += bool(found.late)
        expected = state_at(world.raws[index], moment.at, moment.known_at)
        if slots_of(found.state) != with_tokens(expected):
            outcome.states_differ += 1
            outcome.differs(f"state of {index} at {moment}: {_differing(found.state, expected)}")
        if asked is not None:
            _compare_decision(world, index, found, asked, outcome)
        told("cases", case + 1, cases)


def _compare_decision(
    world: World, index: int, found: Reconstruction, asked: CallQuestion, outcome: Outcome
) -> None:
    assert found.decision is not None
    members = household(index - 3) + household(index) + household(index + 3)
    slots = {
        number_of(one): state_at(world.raws[one], found.moment.at, found.moment.known_at)
        for one in members
        if one in world.raws
    }
    own = number_of(index)
    others = linked(slots, own, asked.seller_id)
    around = Surroundings(
        registries=found.decision.surroundings.registries,
        campaign=found.decision.surroundings.campaign,
        program=found.decision.surroundings.program,
        linked=tuple(state_of(with_tokens(slots[other])) for other in others),
    )
    outcome.decisions_compared += 1
    call = found.decision.request
    state = state_of(with_tokens(slots[own]))
    again = decide(call, state, around, found.rulebook, found.moment.at)
    if not _alike(found.decision, again):
        outcome.decisions_differ += 1
        outcome.differs(f"decision of {index} at {found.moment}: {len(others)} linked")


def _alike(one: Decision, other: Decision) -> bool:
    return verdict_fields(one) == verdict_fields(other)


def replay_all(world: World, made: Reconstructor, told: Told, outcome: Outcome) -> None:
    """Every decision of the replayed day, from history alone."""
    for done, event_id in enumerate(world.decisions):
        again = made.decision(event_id)
        outcome.replayed += 1
        if not again.result.same:
            outcome.replayed_differ += 1
            outcome.differs(f"decision {event_id}: {again.result.difference}")
        told("decisions", done + 1, len(world.decisions))


def moment_near(draw: random.Random, world: World, index: int) -> Moment:
    """Any two times, often those of an event of the number, to the microsecond."""
    times = [at for raw in world.raws[index] for at in (raw.recorded_at, raw.at())]
    any_time = [draw.randrange(world.end_us - 30 * 86_400_000_000, world.end_us) for _ in "ab"]
    near = [draw.choice(times) + draw.choice((-1, 0, 0, 1)) for _ in "ab"] if times else any_time
    at = draw.choice((any_time[0], near[0]))
    known_at = draw.choice((at, any_time[1], near[1], at + draw.randrange(10**12), world.end_us))
    return Moment(at, known_at)


def _question(draw: random.Random) -> CallQuestion:
    return CallQuestion(
        seller_id=draw.choice(("acme", "globex")),
        purpose=draw.choice(("MARKETING", "SURVEY")),
        call_mode=draw.choice(("LIVE", "AI_VOICE")),
        dial_mode=draw.choice(("MANUAL", "PREDICTIVE")),
        subject_matter=draw.choice((None, "loans")),
        campaign_id=None,
        sector="OTHER",
        message_class="ADVERTISING",
    )


def slots_of(state: SubjectState) -> Slots:
    """A state in the oracle's form."""
    slots: Slots = {}
    for section in (*SLOT_ORDERS, "attributes"):
        for key, value in getattr(state, section).items():
            parts = (key,) if isinstance(key, str) else tuple(key)
            slots[section, *parts] = tuple(value)
    for key, attempts in state.attempts.items():
        slots["attempts", *key] = tuple(tuple(attempt) for attempt in attempts)
    if state.erased is not None:
        slots[_ERASED] = tuple(state.erased)[:2]
    return slots


def with_tokens(slots: Slots) -> Slots:
    """The oracle's state with tokens for the references of parties."""
    return {
        key: (value[0], tuple(sorted(party_token(HISTORY_KEY, *one).hex() for one in value[1])))
        if key[0] == "attributes" and PARTY_REF in key[1]
        else value
        for key, value in slots.items()
    }


def state_of(slots: Slots) -> SubjectState:
    """The oracle's state in the form that `decide` takes."""
    from consent import state_entries as entries

    kinds: Mapping[str, Any] = {
        "grants": entries.Grant,
        "withdrawals": entries.Withdrawal,
        "dnc": entries.DncEntry,
        "refusals": entries.Refusal,
        "relationships": entries.Relationship,
        "outcomes": entries.LastOutcome,
        "reassignments": entries.Reassignment,
        "attributes": entries.Attribute,
    }
    sections: dict[str, Any] = {name: {} for name in (*kinds, "attempts")}
    erased = None
    for key, value in slots.items():
        section, parts = key[0], key[1:]
        plain = parts[0] if len(parts) == 1 else parts
        if section == "erased":
            erased = entries.Erasure(value[0], value[1], ())
        elif section == "attempts":
            sections[section][plain] = tuple(entries.Attempt(*one) for one in value)
        else:
            sections[section][plain] = kinds[section](*value)
    return replace(SubjectState(**sections), erased=erased)


def _differing(state: SubjectState, expected: Slots) -> str:
    one, other = slots_of(state), with_tokens(expected)
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return "; ".join(f"{key}: {one.get(key)} / {other.get(key)}" for key in keys[:2])


@contextmanager
def store_in(folder: Path, query_timeout_ms: int = 300_000) -> Iterator[Store]:
    """An embedded store with the ledger's tables."""
    front = start_front(folder / "clickhouse", folder / "front.log")
    try:
        parameters = StoreParameters(url=front.url, query_timeout_ms=query_timeout_ms)
        store = Store.connect(parameters)
        migrate(store, load_migrations(files("projections") / "migrations"))
        yield store
        store.close()
    finally:
        front.stop()
