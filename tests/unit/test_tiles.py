"""Tiles and bundles: names and contents as the specification has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.merkle import consistency_proof, inclusion_proof, leaf_hashes, root_of, tree_root
from consent.tiles import (
    TILE_WIDTH,
    Tile,
    TileInvalid,
    bundles_of_size,
    decode_bundle,
    decode_tile,
    encode_bundle,
    encode_tile,
    stored_subtree,
    tiles_of_growth,
    tiles_of_size,
)

HASHES = leaf_hashes(number.to_bytes(4, "big") for number in range(70_000))


def hashes_of(tile: Tile) -> list[bytes]:
    """The content of a tile, from its definition."""
    assert tile.level is not None
    span = TILE_WIDTH**tile.level
    starts = (tile.start + number * span for number in range(tile.width))
    return [root_of(HASHES[start : start + span]) for start in starts]


def test_the_example_of_the_specification() -> None:
    """A tree of 70,000 entries has the tiles that C2SP tlog-tiles lists."""
    tiles = list(tiles_of_size(70_000))
    full = [tile for tile in tiles if tile.width == TILE_WIDTH]
    assert len([tile for tile in full if tile.level == 0]) == 273
    assert [tile for tile in tiles if tile.width != TILE_WIDTH] == [
        Tile(0, 273, 112),
        Tile(1, 1, 17),
        Tile(2, 0, 1),
    ]
    assert [tile for tile in full if tile.level == 1] == [Tile(1, 0)]
    assert list(tiles_of_size(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(bundles_of_size(257)) == [Tile(None, 0), Tile(None, 1, 1)]


def test_paths() -> None:
    """Numbers stand in groups of three digits; partial tiles have their width below them."""
    assert Tile(0, 1_234_067).path == "tile/0/x001/x234/067"
    assert Tile(1, 0, 17).path == "tile/1/000.p/17"
    assert Tile(None, 5).path == "tile/entries/005"
    for tile in (Tile(0, 1_234_067, 3), Tile(63, 999), Tile(None, 1_000, 255)):
        assert Tile.parse(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/0",
        "tile/00/000",
        "tile/64/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/x000/001",
        "tile/0/x001/x234/067/",
        "tile/0/../000",
        "tile/entries/1000",
        "tile/-1/000",
    ],
)
def test_other_paths_name_nothing(path: str) -> None:
    """Each tile has one name."""
    assert Tile.parse(path) is None


@given(st.integers(0, 70_000), st.integers(0, 70_000))
def test_growth_touches_what_is_new(one: int, other: int) -> None:
    """The tiles of the old size and those of the growth are together those of the new size."""
    old_size, size = sorted((one, other))
    grown = {tile.full: tile for tile in tiles_of_size(old_size)}
    grown |= {tile.full: tile for tile in tiles_of_growth(old_size, size)}
    assert sorted(grown.values()) == sorted(tiles_of_size(size))
    changed = set(tiles_of_size(size)) - set(tiles_of_size(old_size))
    assert changed <= set(tiles_of_growth(old_size, size))


@pytest.mark.parametrize("size", [1, 255, 256, 257, 65_536, 65_793, 70_000])
def test_proofs_from_tiles(size: int) -> None:
    """Roots and proofs need nothing but the tiles of the size."""
    known = set(tiles_of_size(size))

    def read(tile: Tile) -> list[bytes]:
        assert tile in known
        return hashes_of(tile)

    subtree = stored_subtree(size, read)
    plain = HASHES[:size]

    def direct(start: int, end: int) -> bytes:
        return root_of(plain[start:end])

    assert tree_root(size, subtree) == root_of(plain)
    for index in {0, size // 3, size - 1}:
        assert inclusion_proof(index, size, subtree) == inclusion_proof(index, size, direct)
        old = index + 1
        assert consistency_proof(old, size, subtree) == consistency_proof(old, size, direct)
    with pytest.raises(ValueError, match="has no"):
        subtree(size, size + 1)


def test_tiles_and_bundles_hold_what_their_name_says() -> None:
    """Encoded and decoded; another length is an error that names the file."""
    tile, bundle = Tile(0, 0, 3), Tile(None, 0, 3)
    assert decode_tile(tile, encode_tile(HASHES[:3])) == HASHES[:3]
    entries = [b"", b"a" * 300, b"b" * 65_535]
    assert decode_bundle(bundle, encode_bundle(entries)) == entries
    for data in (encode_tile(HASHES[:2]), encode_tile(HASHES[:3])[:-1]):
        with pytest.raises(TileInvalid, match=r"tile/0/000\.p/3"):
            decode_tile(tile, data)
    whole = encode_bundle(entries)
    for data in (whole[:-1], whole + b"\0", whole + b"\0\0", encode_bundle(entries[:2])):
        with pytest.raises(TileInvalid, match=r"tile/entries/000\.p/3"):
            decode_bundle(bundle, data)
    with pytest.raises(ValueError, match="allowed"):
        encode_bundle([b"x" * 65_536])
