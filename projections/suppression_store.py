"""One partition of the suppression topic on local disk: a cache, rebuilt from the topic at will.

Owns the RocksDB database and what is written to it together: states, and up to which offset of
which incarnation of the topic they include it. A write is atomic and goes through RocksDB's
write-ahead log, without an fsync: after a crash the database is as it was after some earlier
write, and recovery reads the rest from the topic. Never holds what the topic lacks, because
states are written here after the topic has acknowledged them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from rocksdict import (
    BlockBasedOptions,
    BottommostLevelCompaction,
    Cache,
    CompactOptions,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
)

from consent.errors import Corrupt

log = structlog.get_logger(__name__)

ERASED_PREFIX: Final = b"#"
WATERMARK_PREFIX: Final = b"!"

_PLACE_KEY: Final = b"\x00place"
_PURGE_KEY: Final = b"\x00purge"
_LOG_ID_BYTES: Final = 16
_LOG_FILES_MAX: Final = 2
_LOG_FILE_BYTES_MAX: Final = 1 << 20


@dataclass(eq=False)
class StoreUnusable(Corrupt):
    """The local database can't be opened. Deleting its folder is safe: it is a cache."""

    path: str
    detail: str

    def __str__(self) -> str:
        return f"local cache {self.path} can't be used: {self.detail}"


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Memory of all partitions of a worker together.

    `write_buffer_bytes` is per partition and may be held twice, while one buffer is flushed.
    """

    block_cache_bytes: int = 128 << 20
    write_buffer_bytes: int = 16 << 20
    open_files_max: int = 128
    background_jobs: int = 2


@dataclass(frozen=True, slots=True)
class ChangelogPlace:
    """The states include all of incarnation `log_id` of the topic below `offset_next`."""

    log_id: bytes
    offset_next: int


class StoreFolder:
    """Where the databases of a worker's partitions are, with the block cache that they share."""

    def __init__(self, directory: Path, limits: StoreLimits) -> None:
        self._directory = directory
        self._limits = limits
        self._cache = Cache(limits.block_cache_bytes)

    def open(self, partition: int) -> SuppressionStore:
        """Open, or make, a partition's database; StoreUnusable if another process has it.

        A damaged one is emptied: the topic has all of it.
        """
        path = self._directory / str(partition)
        path.parent.mkdir(parents=True, exist_ok=True)
        return SuppressionStore(path, self._options())

    def _options(self) -> Options:
        limits = self._limits
        tables = BlockBasedOptions()
        tables.set_block_cache(self._cache)
        tables.set_bloom_filter(10, False)
        tables.set_cache_index_and_filter_blocks(True)
        tables.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(tables)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_write_buffer_size(limits.write_buffer_bytes)
        options.set_max_write_buffer_number(2)
        options.set_max_open_files(limits.open_files_max)
        options.set_max_background_jobs(limits.background_jobs)
        options.set_keep_log_file_num(_LOG_FILES_MAX)
        options.set_max_log_file_size(_LOG_FILE_BYTES_MAX)
        return options


class SuppressionStore:
    """Encoded states by key, and how far they go. Made by StoreFolder; for one thread at a time."""

    def __init__(self, path: Path, options: Options) -> None:
        self._path = path
        self._options = options
        self._closed = False
        self._rows: Any = self._opened()
        self._place = self._read_place()
        self._erased = self._count_erased()
        self._purge_due = self._rows.get(_PURGE_KEY) is not None

    @property
    def purge_due(self) -> bool:
        """True if files may still hold states that were deleted."""
        return self._purge_due

    @property
    def place(self) -> ChangelogPlace | None:
        """How far the states go; None for an empty database."""
        return self._place

    @property
    def any_erased(self) -> bool:
        """True if some state of the partition is kept under a token."""
        return self._erased > 0

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Encoded state of every key, in order; None where there is none."""
        if not keys:
            return []
        found: list[bytes | None] = self._rows[list(keys)]
        return found

    def write(self, states: Mapping[bytes, bytes | None], place: ChangelogPlace) -> None:
        """Put states, delete those that are None, and note the place; all of it or nothing."""
        batch = WriteBatch(raw_mode=True)
        erased = self._erased
        purge_due = self._purge_due or any(body is None for body in states.values())
        for key, body in states.items():
            if key.startswith(ERASED_PREFIX) and self._rows.get(key) is None:
                erased += 1
            if body is None:
                batch.delete(key)
            else:
                batch.put(key, body)
        batch.put(_PLACE_KEY, place.log_id + place.offset_next.to_bytes(8, "big"))
        if purge_due and not self._purge_due:
            # It survives a crash, as the deletions do.
            batch.put(_PURGE_KEY, b"")
        self._rows.write(batch)
        self._place = place
        self._erased = erased
        self._purge_due = purge_due

    def purge(self) -> None:
        """Write the files anew without what was deleted; after a crash it is due again.

        RocksDB deletes by writing that something is deleted: its key and state stay in older
        files, in the write-ahead log, and as bounds of files in the manifest. Takes about a second
        for each 100 MB.
        """
        self._rows.flush()
        options = CompactOptions()
        options.set_bottommost_level_compaction(BottommostLevelCompaction.force())
        self._rows.compact_range(None, None, options)
        self._rows.delete(_PURGE_KEY)
        # Opening writes a new manifest.
        self.close()
        self._rows = self._opened()
        self._purge_due = False

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every key and encoded state, in the order of keys."""
        for key, body in self._rows.items():
            if not key.startswith(b"\x00"):
                yield key, body

    def clear(self) -> None:
        """Forget everything: what is cached is of another incarnation of the topic."""
        self.close()
        shutil.rmtree(self._path)
        self._rows = self._opened()
        self._place = None
        self._erased = 0
        self._purge_due = False

    def close(self) -> None:
        """Release the folder. Closing twice is allowed."""
        if not self._closed:
            self._closed = True
            self._rows.close()

    def _opened(self) -> Rdict:
        try:
            rows = Rdict(str(self._path), self._options)
        except Exception as problem:
            # RocksDB's own errors have no type; this one is the caller's mistake, or damage.
            if "Corruption" not in str(problem):
                raise StoreUnusable(str(self._path), str(problem)) from problem
            log.warning("local_cache_damaged", path=str(self._path))
            shutil.rmtree(self._path)
            rows = Rdict(str(self._path), self._options)
        self._closed = False
        return rows

    def _read_place(self) -> ChangelogPlace | None:
        stored = self._rows.get(_PLACE_KEY)
        if stored is None:
            return None
        return ChangelogPlace(stored[:_LOG_ID_BYTES], int.from_bytes(stored[_LOG_ID_BYTES:], "big"))

    def _count_erased(self) -> int:
        return sum(1 for _key in self._keys_from(ERASED_PREFIX))

    def _keys_from(self, prefix: bytes) -> Iterable[bytes]:
        for key in self._rows.keys(from_key=prefix):
            if not key.startswith(prefix):
                return
            yield key
