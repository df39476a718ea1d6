"""Decisions as `serve` makes them: from the projection's own states, with surroundings drawn."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from consent.call import CallRequest
from consent.decision import allowed_until, decide
from consent.decision_record import LinkedNumber, Permit, RecordContext, Watermark, decision_record
from consent.folding import Log, lift_batch, needed_columns
from consent.intake import Origin, read_batch
from consent.partitioning import partition_of
from consent.party_links import parties_for, parties_in
from consent.places import candidates, recorded_places
from consent.privacy import subject_token
from consent.rulebook import Rulebook
from consent.state import EMPTY, SubjectState
from consent.state_bytes import apply_entries
from consent.state_codec import decode_state_body
from tests.decisions import in_order
from tests.reconstruction.world import (
    HISTORY_KEY,
    LOG_IDS,
    NONCE,
    PARTITIONS,
    SUPPRESSION_KEY,
    Published,
    World,
    household,
    number_of,
)


@dataclass
class Decider:
    """Makes the fields of DialDecision events, each by what the log held so far."""

    rulebook: Rulebook
    draw: random.Random

    def __call__(self, index: int, at_ms: int, world: World) -> dict[str, Any]:
        """A decision about a studied number, now."""
        at, draw = at_ms * 1_000, self.draw
        number, state = number_of(index), projected(world.records[index], number_of(index))
        call = self._request(number, state)
        members = [one for one in household(index) if one != index and one in world.records]
        found = []
        for one in members:
            other = projected(world.records[one], number_of(one))
            if not parties_in(other.attributes).isdisjoint(parties_for(state, call.seller_id)):
                found.append((subject_token(HISTORY_KEY, number_of(one)), number_of(one), other))
        found.sort()
        surroundings = in_order(call, self.rulebook, at)
        if draw.random() < 0.2:
            surroundings = replace(surroundings, registries=type(surroundings.registries)())
        surroundings = replace(surroundings, linked=tuple(other for _, _, other in found))
        decision = decide(call, state, surroundings, self.rulebook, at)
        permit = None
        if decision.allowed:
            until = allowed_until(decision, state, self.rulebook, at + 60_000_000)
            permit = Permit(str(uuid.UUID(int=draw.getrandbits(128), version=4)), until, "k1")
        context = RecordContext(
            event_id=str(uuid.UUID(int=draw.getrandbits(128), version=4)),
            occurred_at=at,
            number=number,
            salt=draw.randbytes(16),
            system="serve",
            partition=_partition(number),
            applied=state.applied,
            watermark=Watermark(_partition(number), at, 3),
            permit=permit,
            linked=tuple(
                LinkedNumber(token, _partition(name), other.applied) for token, name, other in found
            ),
        )
        return decision_record(decision, context)

    def _request(self, number: str, state: SubjectState) -> CallRequest:
        draw = self.draw
        places = candidates(number, recorded_places(state, test=False))
        return CallRequest(
            seller_id=draw.choice(("acme", "globex")),
            purpose=draw.choice(("MARKETING", "MARKETING", "SURVEY")),
            call_mode=draw.choice(("LIVE", "AI_VOICE")),
            dial_mode=draw.choice(("MANUAL", "PREDICTIVE")),
            party="CONSUMER",
            states=places.states,
            zones=places.zones,
            campaign_id="spring",
            subject_matter=draw.choice(("loans", "cards", None)),
            sector="OTHER",
            message_class="ADVERTISING",
            caller_id_number="+12125550199",
        )


def projected(records: Sequence[tuple[str, Published]], number: str) -> SubjectState:
    """The state that the projection has of a number after these records, by its own fold."""
    by_topic: dict[str, list[Published]] = {}
    for topic, record in records:
        by_topic.setdefault(topic, []).append(record)
    body: bytes | None = None
    partition = _partition(number)
    for topic, found in by_topic.items():
        times = [record.timestamp * 1_000 for record in found]
        origin = Origin(topic, partition, PARTITIONS)
        reading = read_batch(found, origin, NONCE, needed_columns, times)
        log = Log(topic, LOG_IDS[topic], partition)
        lifted = lift_batch(reading, found, times, log, SUPPRESSION_KEY)
        entries = lifted.get(number.encode())
        if entries:
            body = apply_entries(body, entries)
    return EMPTY if body is None else decode_state_body(body)


def _partition(number: str) -> int:
    return partition_of(number.encode(), PARTITIONS)
