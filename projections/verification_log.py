"""Is the proof log what its checkpoints say? Every entry, every tile, every known checkpoint.

The whole log is read once, in order, and hashed anew. What is damaged is named by its file, and
what can be told in spite of it is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from consent.checkpoints import Checkpoint, opened_checkpoint
from consent.merkle import CompactTree, leaf_hashes, root_of
from consent.notes import NoteInvalid, VerifierKey
from consent.tiles import TILE_WIDTH, Tile
from projections.log_errors import LogDamaged
from projections.log_folder import CHECKPOINT, LogFolder
from projections.verification_findings import Finding, Found, Kind, Place


@dataclass(frozen=True, slots=True)
class GivenCheckpoint:
    """A checkpoint that somebody kept: its note, and where it is from, for findings."""

    note: str = field(repr=False)
    place: Place


@dataclass(frozen=True, slots=True)
class LogPlace:
    """An entry of the log: None where its bundle is damaged, and no hash where its tile is too."""

    index: int
    entry: bytes | None
    leaf: bytes | None


class LogCheck:
    """Verifies one log. `keys` are the log's public keys, which must come from elsewhere."""

    def __init__(
        self,
        folder: LogFolder,
        keys: Sequence[VerifierKey],
        given: Sequence[GivenCheckpoint],
        found: Found,
    ) -> None:
        self._folder = folder
        self._keys = keys
        self._given = given
        self._found = found

    def size(self) -> int:
        """Entries under the largest checkpoint that is known; also judges all checkpoints."""
        own = self._newest()
        self._known = dict(self._opened())
        if own is not None:
            self._known.setdefault(own, Place(path=CHECKPOINT, size=own.size))
        largest = max((one.size for one in self._known), default=0)
        if own is not None and own.size < largest:
            detail = f"it covers {own.size} entries, and {largest} were signed"
            self._add("CHECKPOINT_ROLLED_BACK", Place(path=CHECKPOINT, size=own.size), detail)
        elif own is None and largest and not self._unreadable:
            detail = f"there is none, and {largest} entries were signed"
            self._add("CHECKPOINT_ROLLED_BACK", Place(path=CHECKPOINT), detail)
        return largest

    def entries(self, size: int) -> Iterator[LogPlace]:
        """Every place of the log, in order; judges tiles and roots on the way."""
        marks = sorted({one.size for one in self._known} | {size})
        roots: dict[int, bytes | None] = {0: CompactTree().root}
        tree: CompactTree | None = CompactTree()
        levels = _Levels(self._folder, size, self._found)
        for index in range(-(-size // TILE_WIDTH)):
            first = index * TILE_WIDTH
            width = min(TILE_WIDTH, size - first)
            entries, hashes = self._bundle(index, width, size)
            for place in range(width):
                entry = None if entries is None else entries[place]
                yield LogPlace(first + place, entry, None if hashes is None else hashes[place])
            start = first
            for mark in (*(one for one in marks if first < one <= first + width), first + width):
                if tree is not None:
                    part = None if hashes is None else hashes[start - first : mark - first]
                    tree = None if part is None else tree.extended(part)
                roots[mark] = None if tree is None else tree.root
                start = mark
            levels.add(None if hashes is None else root_of(hashes), width)
        levels.end()
        self._compare(roots)

    def _newest(self) -> Checkpoint | None:
        self._unreadable = False
        try:
            note = self._folder.checkpoint()
            return None if note is None else opened_checkpoint(note, self._keys)
        except (LogDamaged, NoteInvalid) as problem:
            self._unreadable = True
            self._add("CHECKPOINT_INVALID", Place(path=CHECKPOINT), str(problem))
            return None

    def _opened(self) -> Iterator[tuple[Checkpoint, Place]]:
        for given in self._given:
            try:
                yield opened_checkpoint(given.note, self._keys), given.place
            except NoteInvalid as problem:
                self._add("CHECKPOINT_INVALID", given.place, str(problem))

    def _bundle(
        self, index: int, width: int, size: int
    ) -> tuple[list[bytes] | None, list[bytes] | None]:
        """Entries and leaf hashes of a bundle; hashes also where only the tile is whole."""
        bundle, tile = Tile(None, index, width), Tile(0, index, width)
        entries, hashes = self._read(bundle), self._read(tile)
        if entries is None:
            return None, hashes
        made = leaf_hashes(entries)
        if hashes is not None and hashes != made:
            # Who of the two is wrong, the level above says, or a root that was signed.
            above = self._above(index, width, size)
            wrong = tile if above is None or root_of(made) == above else bundle
            place = Place(path=wrong.path)
            self._add("TILE_DAMAGED", place, "entries and their hashes do not correspond")
            if wrong is bundle:
                return None, hashes
        return entries, made

    def _above(self, index: int, width: int, size: int) -> bytes | None:
        """The hash of a tile in the level above; for a last, partial one, what the root asks."""
        number, place = divmod(index, TILE_WIDTH)
        if width == TILE_WIDTH:
            count = size // TILE_WIDTH
            above = Tile(1, number, min(TILE_WIDTH, count - number * TILE_WIDTH))
            hashes = self._read(above, silent=True)
            return None if hashes is None else hashes[place]
        signed = [one.root for one in self._known if one.size == size]
        before = self._tree_before(index)
        for hashes in (
            self._read(Tile(0, index, width), silent=True),
            leaf_hashes(self._read(Tile(None, index, width), silent=True) or []),
        ):
            if hashes and before is not None and before.extended(hashes).root in signed:
                return root_of(hashes)
        return None

    def _tree_before(self, index: int) -> CompactTree | None:
        try:
            size = index * TILE_WIDTH
            return CompactTree.of(size, self._folder.subtree(size))
        except LogDamaged:
            return None

    def _read(self, tile: Tile, silent: bool = False) -> list[bytes] | None:
        try:
            return self._folder.bundle(tile) if tile.level is None else self._folder.tile(tile)
        except LogDamaged as damaged:
            if not silent:
                self._add("TILE_DAMAGED", Place(path=damaged.path), damaged.detail)
            return None

    def _compare(self, roots: dict[int, bytes | None]) -> None:
        for checkpoint, place in self._known.items():
            root = roots.get(checkpoint.size)
            if root is not None and root != checkpoint.root:
                detail = "the log's entries have another root at this size"
                self._add("CHECKPOINT_CONTRADICTED", place, detail)

    def _add(self, kind: Kind, place: Place, detail: str) -> None:
        self._found(Finding(kind, place, detail))


class _Levels:
    """Compares the tiles above level 0 with what the tiles below them give."""

    def __init__(self, folder: LogFolder, size: int, found: Found) -> None:
        self._folder = folder
        self._found = found
        self._counts = [size]
        while self._counts[-1] >= TILE_WIDTH:
            self._counts.append(self._counts[-1] // TILE_WIDTH)
        self._open: list[list[bytes | None]] = [[] for _ in (*self._counts, 0)]
        self._done = [0] * len(self._open)

    def add(self, root: bytes | None, width: int) -> None:
        """The root of the next tile of level 0."""
        if width == TILE_WIDTH:
            self._push(1, root)

    def end(self) -> None:
        """Compare what is left open: the partial tiles."""
        for level in range(1, len(self._counts)):
            if self._open[level]:
                self._compare(level)

    def _push(self, level: int, hashed: bytes | None) -> None:
        self._open[level].append(hashed)
        if len(self._open[level]) == TILE_WIDTH:
            full = self._open[level]
            self._compare(level)
            whole = [one for one in full if one is not None]
            self._push(level + 1, root_of(whole) if len(whole) == len(full) else None)

    def _compare(self, level: int) -> None:
        made, self._open[level] = self._open[level], []
        tile = Tile(level, self._done[level], len(made))
        self._done[level] += 1
        try:
            stored = self._folder.tile(tile)
        except LogDamaged as damaged:
            place = Place(path=damaged.path)
            self._found(Finding("TILE_DAMAGED", place, damaged.detail))
            return
        if any(own not in (None, one) for own, one in zip(made, stored, strict=True)):
            detail = "its hashes are not those of the tiles below it"
            self._found(Finding("TILE_DAMAGED", Place(path=tile.path), detail))
