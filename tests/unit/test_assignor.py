"""Shares of a group's partitions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.assignor import even_shares

PARTITIONS = st.integers(0, 24)
HELD = st.dictionaries(
    st.sampled_from("abcdefg"), st.frozensets(st.integers(0, 30)), min_size=1, max_size=7
)


@given(held=HELD, partitions=PARTITIONS)
def test_shares_are_whole_and_even(held: dict[str, frozenset[int]], partitions: int) -> None:
    """Also when members claim the same partitions, or some that are no more."""
    shares = even_shares(held, partitions)
    assert shares.keys() == held.keys()
    assert sorted(one for share in shares.values() for one in share) == list(range(partitions))
    sizes = [len(share) for share in shares.values()]
    assert max(sizes) - min(sizes) <= 1


@given(held=HELD, partitions=PARTITIONS)
def test_even_shares_stay(held: dict[str, frozenset[int]], partitions: int) -> None:
    """A second round moves nothing, so a rejoin of the same members costs no recovery."""
    shares = even_shares(held, partitions)
    assert even_shares(shares, partitions) == shares


@given(members=st.integers(1, 6), partitions=PARTITIONS)
def test_who_joins_takes_only_what_makes_it_even(members: int, partitions: int) -> None:
    """No partition moves between those that were there before."""
    before = even_shares({f"old-{one}": frozenset() for one in range(members)}, partitions)
    after = even_shares({**before, "new": frozenset()}, partitions)
    assert all(after[member] <= share for member, share in before.items())


@given(members=st.integers(2, 7), partitions=PARTITIONS)
def test_who_leaves_is_taken_over_from(members: int, partitions: int) -> None:
    """Those that stay keep all that they had."""
    before = even_shares({f"old-{one}": frozenset() for one in range(members)}, partitions)
    before.pop("old-0")
    after = even_shares(before, partitions)
    assert all(share <= after[member] for member, share in before.items())


def test_the_fifth_on_twelve() -> None:
    """The case that Faust's own dealing leaves at 1, 2, 3, 3, 3."""
    four = {name: frozenset(range(3 * at, 3 * at + 3)) for at, name in enumerate("abcd")}
    shares = even_shares({**four, "e": frozenset()}, 12)
    assert sorted(len(share) for share in shares.values()) == [2, 2, 2, 3, 3]
