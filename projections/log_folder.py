"""The folder in which the proof log lies: its tiles, its bundles and its newest checkpoint.

Files appear whole and stay, whatever dies: each is written beside its place, synced and renamed,
and so is the folder that holds it. The same folder can be served as it is by any web server, but
for `index.sqlite`, `lock` and names that begin with a dot, which are the log's own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from consent.merkle import Subtree
from consent.tiles import (
    TILE_WIDTH,
    Tile,
    TileInvalid,
    decode_bundle,
    decode_tile,
    stored_subtree,
)
from projections.log_errors import LogDamaged

CHECKPOINT: Final = "checkpoint"
_LOCK: Final = "lock"
_LOCK_POLL_S: Final = 0.1
_CACHED_TILES: Final = 1_024


class LogFolder:
    """Reads and writes the files of one log. One process may write at a time: see `locked`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tile(self, tile: Tile) -> list[bytes]:
        """Hashes of a tile, or of the beginning of the tile that it has become.

        LogDamaged if it is not there or not whole.
        """
        return self._read(tile, decode_tile)

    def bundle(self, tile: Tile) -> list[bytes]:
        """Entries of a bundle, or the beginning of the bundle that it has become."""
        return self._read(tile, decode_bundle)

    def entries(self, start: int, size: int) -> Iterator[bytes]:
        """The entries from `start` on, of a log of `size`."""
        for index in range(start // TILE_WIDTH, -(-size // TILE_WIDTH)):
            first = index * TILE_WIDTH
            entries = self.bundle(Tile(None, index, min(TILE_WIDTH, size - first)))
            yield from entries[max(0, start - first) :]

    def subtree(self, size: int) -> Subtree:
        """Hashes of the tree of `size` entries, read from its tiles."""
        return stored_subtree(size, lru_cache(_CACHED_TILES)(self.tile))

    def checkpoint(self) -> str | None:
        """The newest checkpoint, None for a log that has none yet."""
        try:
            return (self.folder / CHECKPOINT).read_bytes().decode()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise LogDamaged(CHECKPOINT, "it is no text") from None

    def write_checkpoint(self, note: str) -> None:
        """Replace the checkpoint."""
        self._write(CHECKPOINT, note.encode())

    def write_tile(self, tile: Tile, data: bytes) -> None:
        """Store a tile or bundle."""
        self._write(tile.path, data)

    def forget_partial(self, tile: Tile) -> None:
        """Remove the partial tiles that a full one has replaced."""
        shutil.rmtree(self.folder / f"{tile.full.path}.p", ignore_errors=True)

    @contextlib.contextmanager
    def locked(self, gone: Callable[[], bool]) -> Iterator[bool]:
        """Hold the folder for writing; False if `gone` came true before it was free.

        The kernel lets go of it however the process ends.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("a") as lock:
            while not gone():
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(_LOCK_POLL_S)
                    continue
                yield True
                return
        yield False

    def _read(self, tile: Tile, decode: Callable[[Tile, bytes], list[bytes]]) -> list[bytes]:
        for candidate in dict.fromkeys((tile, tile.full)):
            try:
                data = (self.folder / candidate.path).read_bytes()
            except FileNotFoundError:
                continue
            except OSError as problem:
                raise LogDamaged(candidate.path, f"can't be read ({problem.strerror})") from None
            try:
                return decode(candidate, data)[: tile.width]
            except TileInvalid as problem:
                raise LogDamaged(candidate.path, str(problem)) from None
        raise LogDamaged(tile.path, "is missing")

    def _write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        _make_folder(path.parent)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync(path.parent)


def joined_hashes(folder: LogFolder, tile: Tile, added: Sequence[bytes]) -> list[bytes]:
    """Hashes of a tile that grows: what it had, read from the folder, and what was added."""
    had = tile.width - len(added)
    if had == 0 or tile.level is None:
        return list(added)
    return [*folder.tile(Tile(tile.level, tile.index, had)), *added]


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
