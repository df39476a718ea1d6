"""Folds records of the history into the states that they amount to, as the projection does.

Uses the very functions of the projection, so that the states are the same, byte for byte. Writes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from consent.folding import Log, lift_batch, needed_columns
from consent.intake import Origin, read_batch
from consent.lift import Position, applied_entry, unreadable_entries
from consent.partitioning import partition_of
from consent.state_bytes import apply_entries, merge_bodies
from projections.replay import StoredFact

log = structlog.get_logger(__name__)

_APPLIED: Final = "applied"

States = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class FoldingConfig:
    """`partitions` is the count of every number-keyed topic; `nonce` is 16 random bytes of this
    process; `suppression_key` names parties.
    """

    partitions: int
    suppression_key: bytes = field(repr=False)
    nonce: bytes = field(repr=False)


@dataclass(slots=True)
class FoldingReport:
    """What was read. `unreadable_now`: this release refuses records that an earlier one took."""

    facts: int = 0
    facts_of_erased: int = 0
    opt_outs_lost: int = 0
    unreadable_now: int = 0


class StateFolding:
    """The states that one partition of the history amounts to.

    A number's state is written in its own partition and in one piece. What was recorded elsewhere,
    because a publisher had placed it wrongly, is kept apart as `strays`.
    """

    def __init__(self, partition: int, config: FoldingConfig, report: FoldingReport) -> None:
        self.states: States = {}
        self.strays: States = {}
        self._partition = partition
        self._config = config
        self._report = report

    def take_carried(self, carried: Iterable[tuple[bytes, bytes]]) -> None:
        """Merge states, by number, that earlier records of this partition amounted to."""
        for number, body in carried:
            add_states(self._of(number), {number: body})

    def take(self, facts: Sequence[StoredFact]) -> None:
        """Fold facts of one log and topic."""
        self._report.facts += len(facts)
        homes: dict[int, list[StoredFact]] = {}
        for fact in facts:
            if fact.opted_out:
                self._take_opt_out(fact)
            elif fact.number is None:
                self._report.facts_of_erased += 1
            else:
                homes.setdefault(self._home(fact.key), []).append(fact)
        for home, records in homes.items():
            self._take_records(records, home)

    def _take_records(self, records: Sequence[StoredFact], home: int) -> None:
        place = records[0].position
        recorded_at = [record.position.recorded_at for record in records]
        origin = Origin(place.topic, home, self._config.partitions)
        reading = read_batch(records, origin, self._config.nonce, needed_columns, recorded_at)
        for problem in reading.unreadable:
            # It was readable when history took it. An opt-out is applied, as one of everything.
            self._report.unreadable_now += 1
            where = _place(records[problem.index].position)
            log.error("stored_record_unreadable", reason=problem.reason, **where)
        log_partition = Log(place.topic, place.log_id, place.partition)
        party_key = self._config.suppression_key
        lifted = lift_batch(reading, records, recorded_at, log_partition, party_key)
        for key, entries in lifted.items():
            if home == self._partition:
                self.states[key] = apply_entries(self.states.get(key), entries)
            else:
                # It was forwarded: the copy in its own partition says what is applied there.
                said = [entry for entry in entries if entry[0] != _APPLIED]
                self.strays[key] = apply_entries(self.strays.get(key), said)

    def _take_opt_out(self, fact: StoredFact) -> None:
        if fact.number is None:
            self._report.opt_outs_lost += 1
            log.error("opt_out_lost", **_place(fact.position))
            return
        said = unreadable_entries(fact.position)
        if self._home(fact.key) == self._partition:
            entries = [*said, applied_entry(fact.position)]
            self.states[fact.key] = apply_entries(self.states.get(fact.key), entries)
        else:
            self.strays[fact.key] = apply_entries(self.strays.get(fact.key), said)

    def _of(self, number: bytes) -> States:
        return self.states if self._home(number) == self._partition else self.strays

    def _home(self, number: bytes) -> int:
        return partition_of(number, self._config.partitions)


def add_states(states: States, more: States) -> None:
    """Merge states into others."""
    for number, body in more.items():
        held = states.get(number)
        states[number] = body if held is None else merge_bodies(held, body)


def _place(position: Position) -> dict[str, Any]:
    return {
        "topic": position.topic,
        "partition": position.partition,
        "offset": position.offset,
    }
