"""What a check of a rule finds, and what every check and condition must offer."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, Protocol

from consent.call_facts import CallFacts

UsedFacts = tuple[tuple[str, object], ...]
"""Names and values of the facts that a finding rests on, never with personal data."""


class Result(Enum):
    """What a check found. MISSING and UNLOADED are left to the rule and the engine to judge."""

    HOLDS = "holds"
    FAILS = "fails"
    MISSING = "missing"
    UNLOADED = "unloaded"
    NOT_APPLICABLE = "not_applicable"


class Finding(NamedTuple):
    """One check's finding.

    `reason` replaces the rule's own reason code. `clears_at` is, for a cap that is used up or a
    silence that is not over, the instant from which it would hold if nothing else happened.
    """

    result: Result
    used: UsedFacts = ()
    reason: str | None = None
    clears_at: int | None = None


HOLDS = Finding(Result.HOLDS)
NOT_APPLICABLE = Finding(Result.NOT_APPLICABLE)


class Check(Protocol):
    """A compiled check of one rule revision. Pure: equal facts give equal findings."""

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Judge the call. `zones` are those candidate zones in which the revision is in force."""
        ...

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterable[int]:
        """Instants in (after, until] from which time alone may change the finding.

        May name instants at which nothing changes, must not leave one out at which it does.
        """
        ...


class Condition(Protocol):
    """A compiled condition of an exemption. Pure. What is not known never saves a call."""

    def saves(self, facts: CallFacts) -> UsedFacts | None:
        """The facts by which the call is exempt, None if it is not."""
        ...

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterable[int]:
        """Instants in (after, until] from which time alone may change the answer."""
        ...


class Timeless:
    """A base for what does not change with time."""

    __slots__ = ()

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterable[int]:
        """Time changes nothing."""
        return ()
