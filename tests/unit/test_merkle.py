"""The Merkle tree, against the vectors that implementations of RFC 6962 share."""

from __future__ import annotations

import pytest

from consent.merkle import (
    EMPTY_ROOT,
    CompactTree,
    consistency_proof,
    inclusion_proof,
    leaf_hashes,
    root_from_inclusion,
    root_of,
    root_of_leaves,
    verify_consistency,
    verify_inclusion,
    whole_subtrees,
)

LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
"""The leaves of the certificate-transparency reference tests."""

ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""Their published roots, for the first leaf, the first two, and so on."""

HASHES = leaf_hashes(LEAVES)


def subtree(start: int, end: int) -> bytes:
    """Hashes of the reference tree."""
    return root_of(HASHES[start:end])


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    """RFC 6962: MTH of no leaves is SHA-256 of the empty string."""
    expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert EMPTY_ROOT.hex() == root_of_leaves([]).hex() == CompactTree().root.hex() == expected


@pytest.mark.parametrize("size", range(1, 9))
def test_published_roots(size: int) -> None:
    """Both ways to a root give the published one."""
    expected = ROOTS[size - 1]
    assert root_of_leaves(LEAVES[:size]).hex() == expected
    assert CompactTree().extended(HASHES[:size]).root.hex() == expected
    assert CompactTree.of(size, subtree).root.hex() == expected


@pytest.mark.parametrize(
    ("leaf", "size", "expected"),
    [
        (0, 1, []),
        (
            0,
            8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
        (
            1,
            5,
            [
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ],
)
def test_published_inclusion_proofs(leaf: int, size: int, expected: list[str]) -> None:
    """Proofs of the reference tests, made and verified."""
    proof = inclusion_proof(leaf, size, subtree)
    assert [one.hex() for one in proof] == expected
    assert verify_inclusion(leaf, size, HASHES[leaf], bytes.fromhex(ROOTS[size - 1]), proof)


@pytest.mark.parametrize(
    ("old_size", "size", "expected"),
    [
        (1, 1, []),
        (
            1,
            8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            [
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ],
)
def test_published_consistency_proofs(old_size: int, size: int, expected: list[str]) -> None:
    """Proofs of the reference tests, made and verified."""
    proof = consistency_proof(old_size, size, subtree)
    assert [one.hex() for one in proof] == expected
    roots = [bytes.fromhex(ROOTS[one - 1]) for one in (old_size, size)]
    assert verify_consistency(old_size, size, *roots, proof)


def test_what_no_tree_has_is_refused() -> None:
    """Indexes and sizes outside the tree raise where a proof is made and fail where it is read."""
    for index, size in ((-1, 3), (3, 3), (0, 0)):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_proof(index, size, subtree)
        assert root_from_inclusion(index, size, HASHES[0], []) is None
    with pytest.raises(ValueError, match="no beginning"):
        consistency_proof(4, 3, subtree)
    assert not verify_consistency(4, 3, HASHES[0], HASHES[1], [])
    with pytest.raises(ValueError, match="no tree has a node"):
        whole_subtrees(1, 3)
    with pytest.raises(ValueError, match="subtrees"):
        CompactTree(3, (HASHES[0],))
