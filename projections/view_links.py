"""The other numbers of a person in the suppression view, and how fresh all of it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from consent.party_links import Party, parties_in
from projections.view_answer import Freshness, LinkedState, PartitionAge
from projections.view_partition import PartitionView

_WORST_FIRST = (Freshness.UNLOADED, Freshness.STALE, Freshness.FRESH)


def worst_age(ages: Sequence[PartitionAge]) -> PartitionAge:
    """The one to go by: the least reliable, among equally reliable ones the oldest."""
    return min(
        ages,
        key=lambda age: (
            _WORST_FIRST.index(age.freshness),
            -1 if age.true_at is None else age.true_at,
        ),
    )


def party_size(views: Sequence[PartitionView], parties: Collection[Party]) -> int:
    """How many states are linked to these parties; one that is linked to two counts twice."""
    return sum(view.parties.count_of(party) for view in views for party in parties)


def linked_states(
    views: Sequence[PartitionView],
    parties: Collection[Party],
    own: bytes,
    ages: Sequence[PartitionAge],
) -> tuple[LinkedState, ...]:
    """States that are linked to one of the parties, except that of `own`, each once.

    `ages` are those of the views, in their order.
    A number that is just being erased is still in the index under its own key; its state says
    that it is linked no longer.
    """
    found: dict[bytes, LinkedState] = {}
    for view, age in zip(views, ages, strict=True):
        keys = sorted({key for party in parties for key in view.parties.keys_of(party)})
        # Of a number and its token the number comes last: its state has what either has.
        homes = {view.home_of(key): key for key in keys}
        homes.pop(view.home_of(own), None)
        for home, key in homes.items():
            state = view.state_of(key)
            if not parties_in(state.attributes).isdisjoint(parties):
                found[home] = LinkedState(home, state, age)
    return tuple(found.values())
