"""What a look-up in the suppression view says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from consent.state import SubjectState


class Freshness(Enum):
    """If a look-up may be relied on."""

    FRESH = "fresh"
    STALE = "stale"
    UNLOADED = "unloaded"

    @property
    def stale(self) -> bool:
        """True if what is shown may be too old."""
        return self is Freshness.STALE

    @property
    def unloaded(self) -> bool:
        """True if the partition was not read to its end yet."""
        return self is Freshness.UNLOADED


@dataclass(frozen=True, slots=True)
class PartitionAge:
    """How fresh a partition is. `true_at` (µs) and `age_ms` are None before any watermark."""

    partition: int
    freshness: Freshness
    true_at: int | None
    age_ms: int | None


@dataclass(frozen=True, slots=True)
class LinkedState:
    """Another number of the same person. `key` is that of its state: the number, or what stands
    for it once it was erased.
    """

    key: bytes
    state: SubjectState
    age: PartitionAge


@dataclass(frozen=True, slots=True)
class ViewAnswer:
    """What is known of a number. `true_at` (µs) and `age_ms` are None before any watermark.

    EMPTY in a fresh partition means that nothing was ever said about the number. `linked` are the
    person's other numbers, as the seller that asks knows them, in no order. A number that is linked
    to a party rests on every partition, since another number of the person may turn up in any:
    freshness, `true_at` and `age_ms` are then the worst of all, those of `oldest_partition`.
    `party_too_large`: so many numbers are said to be of the person that none is looked at.
    """

    state: SubjectState
    freshness: Freshness
    partition: int
    true_at: int | None
    age_ms: int | None
    linked: tuple[LinkedState, ...] = ()
    party_too_large: bool = False
    oldest_partition: int | None = None

    @property
    def age(self) -> PartitionAge:
        """How fresh the answer is, as that of the partition that it is no fresher than."""
        number = self.partition if self.oldest_partition is None else self.oldest_partition
        return PartitionAge(number, self.freshness, self.true_at, self.age_ms)


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition, for readiness and metrics."""

    partition: int
    freshness: Freshness
    true_at: int | None
    age_ms: int | None
    keys: int
    parties: int = 0
