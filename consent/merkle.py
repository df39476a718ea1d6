"""The Merkle tree of RFC 6962 (section 2.1; RFC 9162 has the same): roots, proofs, verification.

Leaves are hashed with a 0x00 before them and nodes with a 0x01, and a tree of n leaves is split at
the largest power of two below n. Everything here is a pure function; the tree's hashes may lie
wherever the caller keeps them (`Subtree`), so that a proof needs few of them in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
PROOF_HASHES_MAX: Final = 63
"""No tree of fewer than 2**63 leaves has a longer proof."""

Subtree = Callable[[int, int], bytes]
"""Hash of the leaves from `start` up to `end`: of a whole subtree, so a power of two of them and
`start` a multiple of it.
"""


def leaf_hash(data: bytes) -> bytes:
    """Hash of one leaf."""
    return sha256(b"\0" + data).digest()


def leaf_hashes(leaves: Iterable[bytes]) -> list[bytes]:
    """Hashes of many leaves, in order."""
    return [sha256(b"\0" + data).digest() for data in leaves]


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return sha256(b"\1" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Root over leaf hashes, in order; of none, the hash of nothing.

    Pairs are joined level by level and an odd last hash goes up as it is, which gives the tree
    that splitting at powers of two defines.
    """
    if not hashes:
        return EMPTY_ROOT
    level = hashes
    while len(level) > 1:
        pairs = iter(level)
        above = [
            sha256(b"\1" + left + right).digest()
            for left, right in zip(pairs, pairs, strict=False)  # an odd last one is left over
        ]
        if len(level) & 1:
            above.append(level[-1])
        level = above
    return level[0]


def root_of_leaves(leaves: Iterable[bytes]) -> bytes:
    """Root over leaves, in order."""
    return root_of(leaf_hashes(leaves))


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """Hashes that lead from leaf `index` to the root of the first `size` leaves, bottom first."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    proof = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(range_root(middle, end, subtree))
            end = middle
        else:
            proof.append(range_root(start, middle, subtree))
            start = middle
    return proof[::-1]


def consistency_proof(old_size: int, size: int, subtree: Subtree) -> list[bytes]:
    """Hashes that show the first `old_size` leaves to be a beginning of the first `size`.

    Empty if the old tree is empty, or the same.
    """
    if not 0 <= old_size <= size:
        raise ValueError(f"a tree of {old_size} is no beginning of one of {size}")
    if old_size in (0, size):
        return []
    proof = []
    start, end, whole = 0, size, True
    while old_size != end:
        middle = start + _split(end - start)
        if old_size <= middle:
            proof.append(range_root(middle, end, subtree))
            end = middle
        else:
            proof.append(range_root(start, middle, subtree))
            start, whole = middle, False
    if not whole:
        proof.append(range_root(start, end, subtree))
    return proof[::-1]


def root_from_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes | None:
    """The root that a leaf hash and its proof lead to; None if the proof has another length."""
    if not 0 <= index < size:
        return None
    inner = (index ^ (size - 1)).bit_length()
    if len(proof) != inner + (index >> inner).bit_count():
        return None
    root = leaf
    for height, sibling in enumerate(proof[:inner]):
        right = (index >> height) & 1
        root = node_hash(sibling, root) if right else node_hash(root, sibling)
    for sibling in proof[inner:]:
        root = node_hash(sibling, root)
    return root


def verify_inclusion(
    index: int, size: int, leaf: bytes, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether a leaf hash stands at `index` in the tree of `size` leaves with this root."""
    return root_from_inclusion(index, size, leaf, proof) == root


def verify_consistency(
    old_size: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the tree of `old_size` leaves is a beginning of the tree of `size`.

    Anything begins with the empty tree.
    """
    if not 0 <= old_size <= size:
        return False
    if old_size == size:
        return not proof and old_root == root
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    if not proof:
        return False
    seed, rest = proof[0], proof[1:]
    if old_size & (old_size - 1) == 0:
        seed, rest = old_root, proof
    return _leads_to_both(old_size - 1, size - 1, seed, rest) == (old_root, root)


def _leads_to_both(
    old_last: int, last: int, seed: bytes, rest: Sequence[bytes]
) -> tuple[bytes, bytes] | None:
    """Old and new root of a consistency proof (RFC 9162, section 2.1.4.2)."""
    while old_last & 1:
        old_last, last = old_last >> 1, last >> 1
    old_root = root = seed
    for sibling in rest:
        if last == 0:
            return None
        if old_last & 1 or old_last == last:
            old_root, root = node_hash(sibling, old_root), node_hash(sibling, root)
            while old_last and not old_last & 1:
                old_last, last = old_last >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        old_last, last = old_last >> 1, last >> 1
    return (old_root, root) if last == 0 else None


def range_root(start: int, end: int, subtree: Subtree) -> bytes:
    """Root over the leaves from `start` up to `end`, a range that a tree of RFC 6962 has."""
    hashes = [subtree(*part) for part in whole_subtrees(start, end)]
    root = hashes.pop()
    while hashes:
        root = node_hash(hashes.pop(), root)
    return root


def tree_root(size: int, subtree: Subtree) -> bytes:
    """Root over the first `size` leaves."""
    return range_root(0, size, subtree) if size else EMPTY_ROOT


def whole_subtrees(start: int, end: int) -> list[tuple[int, int]]:
    """The largest whole subtrees that a range is made of, in order.

    `start` must be a multiple of the largest, as it is for every range that a tree is split into.
    """
    parts = []
    while start < end:
        width = 1 << (end - start).bit_length() - 1
        if start & (width - 1):
            raise ValueError(f"no tree has a node over the leaves {start} to {end}")
        parts.append((start, start + width))
        start += width
    return parts


@dataclass(frozen=True, slots=True)
class CompactTree:
    """A tree of which only the hashes are kept that its growth needs: one per bit of its size."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()
    """Of the whole subtrees that it is made of, the largest first."""

    def __post_init__(self) -> None:
        if len(self.hashes) != self.size.bit_count():
            raise ValueError(f"a tree of {self.size} is made of {self.size.bit_count()} subtrees")

    @classmethod
    def of(cls, size: int, subtree: Subtree) -> CompactTree:
        """The tree over the first `size` leaves of a stored one."""
        return cls(size, tuple(subtree(*part) for part in whole_subtrees(0, size)))

    def extended(self, leaves: Iterable[bytes]) -> CompactTree:
        """The tree with further leaf hashes."""
        size, hashes = self.size, list(self.hashes)
        for leaf in leaves:
            joined, rest = leaf, size
            while rest & 1:
                joined = node_hash(hashes.pop(), joined)
                rest >>= 1
            hashes.append(joined)
            size += 1
        return CompactTree(size, tuple(hashes))

    @property
    def root(self) -> bytes:
        """Its root."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in self.hashes[-2::-1]:
            root = node_hash(left, root)
        return root


def roots_by_range(hashes: Sequence[bytes], starts: Sequence[int]) -> list[bytes]:
    """Root of each stretch of leaf hashes: from every start up to the next, or to the end."""
    edges = [*starts, len(hashes)]
    return [root_of(hashes[start:end]) for start, end in pairwise(edges)]


def _split(count: int) -> int:
    """The largest power of two below `count`, which is 2 or more."""
    return 1 << (count - 1).bit_length() - 1
