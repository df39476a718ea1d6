"""The Merkle tree against the recursive definition, and proofs against every kind of change."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from consent.merkle import (
    CompactTree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    leaf_hashes,
    root_of,
    root_of_leaves,
    roots_by_range,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [number.to_bytes(3, "big") * (number % 4) for number in range(300)]
HASHES = leaf_hashes(LEAVES)
sizes = st.integers(1, len(LEAVES))


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def naive_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962, section 2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*naive_path(index, leaves[:split]), naive_root(leaves[split:])]
    return [*naive_path(index - split, leaves[split:]), naive_root(leaves[:split])]


def naive_consistency(old_size: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """RFC 6962, section 2.1.2, word for word."""
    if old_size == len(leaves):
        return [] if whole else [naive_root(leaves)]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if old_size <= split:
        return [*naive_consistency(old_size, leaves[:split], whole), naive_root(leaves[split:])]
    rest = naive_consistency(old_size - split, leaves[split:], False)
    return [*rest, naive_root(leaves[:split])]


def subtree(start: int, end: int) -> bytes:
    """Only whole subtrees may be asked for."""
    width = end - start
    assert width & (width - 1) == 0 and start % width == 0
    return root_of(HASHES[start:end])


def test_every_size_has_the_root_of_the_definition() -> None:
    """All trees of up to 300 leaves, in three ways."""
    grown = CompactTree()
    for size in range(len(LEAVES) + 1):
        expected = naive_root(LEAVES[:size])
        assert root_of_leaves(LEAVES[:size]) == expected
        assert tree_root(size, subtree) == expected
        assert grown.root == expected
        assert CompactTree.of(size, subtree) == grown
        if size < len(LEAVES):
            grown = grown.extended([leaf_hash(LEAVES[size])])


@given(sizes, st.data())
def test_inclusion_proofs_are_those_of_the_definition(size: int, data: st.DataObject) -> None:
    """They verify for their leaf, place, size and root, and for nothing else."""
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, subtree)
    root = naive_root(LEAVES[:size])
    assert proof == naive_path(index, LEAVES[:size])
    assert verify_inclusion(index, size, HASHES[index], root, proof)
    other = data.draw(st.integers(0, size - 1).filter(lambda one: one != index) | st.just(size))
    assert not verify_inclusion(other, size, HASHES[index], root, proof)
    assert not verify_inclusion(index, size, leaf_hash(b"another"), root, proof)
    assert not verify_inclusion(index, size, HASHES[index], leaf_hash(b"another"), proof)
    assert not verify_inclusion(index, size, HASHES[index], root, [*proof, root])
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        changed = [*proof[:place], flipped(proof[place], data), *proof[place + 1 :]]
        assert not verify_inclusion(index, size, HASHES[index], root, changed)
        assert not verify_inclusion(index, size, HASHES[index], root, proof[:-1])


@given(sizes, st.data())
def test_consistency_proofs_are_those_of_the_definition(size: int, data: st.DataObject) -> None:
    """They verify for their two trees, and for no other two."""
    old_size = data.draw(st.integers(1, size))
    proof = consistency_proof(old_size, size, subtree)
    old_root, root = naive_root(LEAVES[:old_size]), naive_root(LEAVES[:size])
    assert proof == naive_consistency(old_size, LEAVES[:size])
    assert verify_consistency(old_size, size, old_root, root, proof)
    assert not verify_consistency(old_size, size, flipped(old_root, data), root, proof)
    assert not verify_consistency(old_size, size, old_root, flipped(root, data), proof)
    assert not verify_consistency(old_size, size, old_root, root, [*proof, root])
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        changed = [*proof[:place], flipped(proof[place], data), *proof[place + 1 :]]
        assert not verify_consistency(old_size, size, old_root, root, changed)
        assert not verify_consistency(old_size, size, old_root, root, proof[:-1])


@given(sizes)
def test_everything_begins_with_nothing(size: int) -> None:
    """From the empty tree the proof is empty, and only the empty tree's root will do."""
    root = naive_root(LEAVES[:size])
    assert consistency_proof(0, size, subtree) == []
    assert verify_consistency(0, size, naive_root([]), root, [])
    assert not verify_consistency(0, size, root, root, [])
    assert not verify_consistency(0, size, naive_root([]), root, [root])


@given(st.lists(st.integers(1, 300), max_size=8), st.lists(st.binary(max_size=5), max_size=40))
def test_a_tree_grows_the_same_however_it_is_fed(cuts: list[int], leaves: list[bytes]) -> None:
    """Feeding in portions makes no difference."""
    hashes = leaf_hashes(leaves)
    tree = CompactTree()
    edges = sorted({min(cut, len(hashes)) for cut in cuts} | {0, len(hashes)})
    for start, end in pairwise(edges):
        tree = tree.extended(hashes[start:end])
    assert tree.size == len(leaves)
    assert tree.root == naive_root(leaves)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_roots_of_stretches(lengths: list[int]) -> None:
    """Every stretch has its own tree."""
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    roots = roots_by_range(HASHES[: sum(lengths)], starts)
    assert roots == [
        naive_root(LEAVES[start : start + length])
        for start, length in zip(starts, lengths, strict=True)
    ]


def flipped(value: bytes, data: st.DataObject) -> bytes:
    """The value with one bit changed."""
    bit = data.draw(st.integers(0, len(value) * 8 - 1))
    changed = bytearray(value)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
