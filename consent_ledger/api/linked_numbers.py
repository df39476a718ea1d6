"""The person's other numbers, as a decision takes them and as its record names them.

Records are kept in history, so tokens are made with the history key: those of the suppression
topic would tell who can open that one which facts belong to a number.
"""

from __future__ import annotations

from dataclasses import dataclass

from consent.decision_record import LinkedNumber, Watermark
from consent.privacy import subject_token
from consent.state import SubjectState
from projections.view import LinkedState, PartitionAge, ViewAnswer


@dataclass(frozen=True, slots=True)
class LinkedNumbers:
    """States, and what is recorded of each, in the same order: that of their tokens."""

    states: tuple[SubjectState, ...] = ()
    numbers: tuple[LinkedNumber, ...] = ()


def linked_numbers(view: ViewAnswer, history_key: bytes) -> LinkedNumbers:
    """What a look-up found, in an order that depends on nothing but the numbers themselves.

    The token of an erased number, which is known no longer, is one of what stands for it.
    """
    if not view.linked:
        return LinkedNumbers()
    named = ((subject_token(history_key, one.key.decode()), one) for one in view.linked)
    found = sorted(named, key=lambda pair: pair[0])
    return LinkedNumbers(
        tuple(one.state for _token, one in found),
        tuple(_named(token, one) for token, one in found),
    )


def watermark_of(age: PartitionAge) -> Watermark | None:
    """How fresh a partition was; None before its first watermark."""
    if age.true_at is None or age.age_ms is None:
        return None
    return Watermark(age.partition, age.true_at, age.age_ms)


def _named(token: bytes, one: LinkedState) -> LinkedNumber:
    return LinkedNumber(token, one.age.partition, one.state.applied, watermark_of(one.age))
