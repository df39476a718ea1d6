"""The static files of a log (C2SP tlog-tiles): where a hash or an entry lies, and what is in them.

A tile holds 256 hashes of one level: those of level 0 are of entries, those above are each of a
full tile below. The last tile of a level is usually partial and has its width in its name. Entries
lie in bundles, beside the tiles of level 0. Names and bytes only; who stores them is elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from consent.errors import ConsentError
from consent.merkle import HASH_BYTES, Subtree, root_of

TILE_WIDTH: Final = 256
ENTRY_BYTES_MAX: Final = 65_535
_HEIGHT: Final = 8
_LEVEL_MAX: Final = 63
_PATH: Final = re.compile(
    r"tile/(entries|\d|[1-5]\d|6[0-3])/((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d{0,2}))?"
)


class TileInvalid(ConsentError):
    """A tile or a bundle is not what its name says."""


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """One tile, or with `level` None one bundle of entries; `width` below 256 if it is partial."""

    level: int | None
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        levels = self.level is None or 0 <= self.level <= _LEVEL_MAX
        if not levels or self.index < 0 or not 1 <= self.width <= TILE_WIDTH:
            raise ValueError(f"there is no tile {self.level}, {self.index}, {self.width}")

    @property
    def path(self) -> str:
        """Where it lies, below the log's address or folder."""
        level = "entries" if self.level is None else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{index_path(self.index)}{partial}"

    @property
    def full(self) -> Tile:
        """The tile that this one becomes."""
        return Tile(self.level, self.index)

    @property
    def start(self) -> int:
        """First entry that it covers."""
        return self.index << _HEIGHT * ((self.level or 0) + 1)

    @classmethod
    def parse(cls, path: str) -> Tile | None:
        """The tile that a path names; None if it names none, or one in another spelling."""
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        level = None if found[1] == "entries" else int(found[1])
        index = int(found[2].replace("x", "").replace("/", ""))
        width = int(found[3]) if found[3] else TILE_WIDTH
        if width > TILE_WIDTH or (found[3] and width == TILE_WIDTH):
            return None
        tile = cls(level, index, width)
        return tile if tile.path == path else None


def index_path(index: int) -> str:
    """A tile's number in groups of three digits, all but the last after an `x`."""
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    return "/".join(reversed(groups))


def tiles_of_size(size: int) -> Iterator[Tile]:
    """Every tile of hashes that a log of so many entries has, level by level."""
    level, count = 0, size
    while count:
        for index in range(count // TILE_WIDTH):
            yield Tile(level, index)
        if count % TILE_WIDTH:
            yield Tile(level, count // TILE_WIDTH, count % TILE_WIDTH)
        level, count = level + 1, count // TILE_WIDTH


def bundles_of_size(size: int) -> Iterator[Tile]:
    """Every bundle of entries that a log of so many entries has."""
    for index in range(size // TILE_WIDTH):
        yield Tile(None, index)
    if size % TILE_WIDTH:
        yield Tile(None, size // TILE_WIDTH, size % TILE_WIDTH)


def tiles_of_growth(old_size: int, size: int) -> Iterator[Tile]:
    """The tiles of hashes that change when a log grows, level by level."""
    level, old_count, count = 0, old_size, size
    while count > old_count:
        for index in range(old_count // TILE_WIDTH, -(-count // TILE_WIDTH)):
            yield Tile(level, index, min(TILE_WIDTH, count - index * TILE_WIDTH))
        level, old_count, count = level + 1, old_count // TILE_WIDTH, count // TILE_WIDTH


def encode_tile(hashes: Sequence[bytes]) -> bytes:
    """Bytes of a tile."""
    return b"".join(hashes)


def decode_tile(tile: Tile, data: bytes) -> list[bytes]:
    """Hashes of a tile; TileInvalid if it has not as many as its name says."""
    if len(data) != tile.width * HASH_BYTES:
        raise TileInvalid(f"{tile.path} has {len(data)} bytes, not {tile.width * HASH_BYTES}")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Bytes of a bundle; ValueError for an entry that is too long for one."""
    longest = max(map(len, entries), default=0)
    if longest > ENTRY_BYTES_MAX:
        raise ValueError(f"an entry of {longest} bytes, {ENTRY_BYTES_MAX} are allowed")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(tile: Tile, data: bytes) -> list[bytes]:
    """Entries of a bundle; TileInvalid if it has not as many as its name says."""
    entries = []
    at = 0
    while at < len(data):
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        if at > len(data) or start > len(data):
            raise TileInvalid(f"{tile.path} ends in the middle of an entry")
        entries.append(data[start:at])
    if len(entries) != tile.width:
        raise TileInvalid(f"{tile.path} has {len(entries)} entries, not {tile.width}")
    return entries


def stored_subtree(size: int, read: Callable[[Tile], Sequence[bytes]]) -> Subtree:
    """Hashes of whole subtrees of a log of `size` entries, read from its tiles.

    `read` gives the hashes of a tile; it may cache them, since tiles never change.
    """

    def subtree(start: int, end: int) -> bytes:
        height = (end - start).bit_length() - 1
        level, above = divmod(height, _HEIGHT)
        first = start >> (level * _HEIGHT)
        index, place = divmod(first, TILE_WIDTH)
        count = size >> (level * _HEIGHT)
        width = min(TILE_WIDTH, count - index * TILE_WIDTH)
        if end > size or width < 1:
            raise ValueError(f"a log of {size} entries has no {start} to {end}")
        hashes = read(Tile(level, index, width))
        return root_of(hashes[place : place + (1 << above)])

    return subtree
