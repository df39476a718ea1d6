"""Numbers that stand in for those of erased people, while their states are folded anew.

History has no number of an erased person, and needs none: a state depends on the events, and the
key under which it is kept is in `erasures`. Folding goes by number, so each of them gets one that
nobody has, in the same partition. It never leaves memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Protocol

from consent.partitioning import partition_of
from projections.suppression_store import ERASED_PREFIX

# No country has this code. The digits behind it stand nowhere in a payload by accident.
_COUNTRY_CODE: Final = "+999"
_FIRST: Final = 48_271_903_000

_ERASED: Final = """
SELECT hex(subject), hex(argMax(suppression_token, recorded_at)), argMax(partition, recorded_at)
FROM erasures
WHERE topic = 'privacy-requests' AND suppression_token != unhex('00000000000000000000000000000000')
GROUP BY subject ORDER BY subject
"""
_NUMBERS: Final = """
SELECT hex(subject), any(number) FROM (
    SELECT subject, number FROM evidence UNION ALL SELECT subject, number FROM carried_states
)
WHERE subject IN (SELECT subject FROM erasures) AND number != '' GROUP BY subject
"""


class Rows(Protocol):
    """What is needed of `projections.clickhouse.Store`; calls block."""

    def query_rows(self, query: str) -> list[tuple[Any, ...]]: ...


@dataclass(frozen=True, slots=True)
class StandIns:
    """`numbers` has a number for every erased subject: their own where a grant opened a new record,
    else one that stands in. `keys` has the key of the state by number that stands in.
    """

    numbers: Mapping[bytes, str] = field(default_factory=dict, repr=False)
    keys: Mapping[bytes, bytes] = field(default_factory=dict)


def stand_ins(store: Rows, partitions: int) -> StandIns:
    """Numbers for everybody who was erased; `partitions` is the count of number-keyed topics."""
    numbers = {bytes.fromhex(subject): str(own) for subject, own in store.query_rows(_NUMBERS)}
    keys: dict[bytes, bytes] = {}
    candidates = _Candidates(partitions)
    for subject, token, partition in store.query_rows(_ERASED):
        if bytes.fromhex(subject) not in numbers:
            number = candidates.of(int(partition) % partitions)
            numbers[bytes.fromhex(subject)] = number
            keys[number.encode()] = ERASED_PREFIX + token.lower().encode()
    return StandIns(numbers, keys)


class _Candidates:
    """Unused numbers by partition, each given out once."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._spare: dict[int, list[str]] = {}
        self._more: Iterator[str] = (f"{_COUNTRY_CODE}{digits}" for digits in count(_FIRST))

    def of(self, partition: int) -> str:
        spare = self._spare.setdefault(partition, [])
        for number in self._until(partition) if not spare else ():
            home = partition_of(number.encode(), self._partitions)
            self._spare.setdefault(home, []).append(number)
        return self._spare[partition].pop()

    def _until(self, partition: int) -> Iterable[str]:
        for number in self._more:
            yield number
            if self._spare.get(partition):
                return
