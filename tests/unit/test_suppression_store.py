"""The local cache of one partition."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from projections.suppression_store import (
    ChangelogPlace,
    StoreFolder,
    StoreLimits,
    StoreUnusable,
    SuppressionStore,
)

LOG = b"l" * 16
SMALL = StoreLimits(block_cache_bytes=1 << 20, write_buffer_bytes=1 << 20)


@pytest.fixture
def folder(tmp_path: Path) -> StoreFolder:
    """Where the caches of a worker are."""
    return StoreFolder(tmp_path, SMALL)


def test_an_empty_cache_has_no_place(folder: StoreFolder) -> None:
    """It includes nothing of any incarnation of the topic."""
    store = folder.open(3)
    assert store.place is None
    assert store.get([b"a"]) == [None]
    assert not store.any_erased


def test_states_and_place_survive_together(folder: StoreFolder) -> None:
    """What was written is there after opening again, deletions included."""
    store = folder.open(3)
    store.write({b"+1": b"one", b"+2": b"two", b"#t": b"erased"}, ChangelogPlace(LOG, 7))
    store.write({b"+1": None, b"+3": b"three"}, ChangelogPlace(LOG, 9))
    store.close()
    store.close()
    again = folder.open(3)
    assert again.place == ChangelogPlace(LOG, 9)
    assert again.get([b"+3", b"+1", b"+2"]) == [b"three", None, b"two"]
    assert again.any_erased
    assert list(again.items()) == [(b"#t", b"erased"), (b"+2", b"two"), (b"+3", b"three")]


def test_purging_takes_deleted_keys_out_of_every_file(folder: StoreFolder, tmp_path: Path) -> None:
    """Deleting only notes that something is gone; after a purge no file holds key or state."""
    kept = [f"+1415555{number:04d}".encode() for number in range(2_000)]
    # The first and the last key of a file stand in the manifest too.
    gone = {b"+14155540000": b"first of all", b"+14155559999": b"last", b"+141555500505": b"amid"}
    store = folder.open(3)
    store.write(dict.fromkeys(kept, b"state") | gone, ChangelogPlace(LOG, 7))
    store.purge()
    store.write(dict.fromkeys(gone), ChangelogPlace(LOG, 9))
    assert store.purge_due
    store.close()
    store = folder.open(3)
    assert store.purge_due, "a crash before the purge"
    store.purge()
    assert not store.purge_due
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(kept[0] in data for data in files.values()), "nothing would be found"
    for key in gone:
        assert [path for path, data in files.items() if key[-9:] in data] == []
    assert store.place == ChangelogPlace(LOG, 9)
    assert store.get([kept[0], b"+14155540000"]) == [b"state", None]
    assert len(list(store.items())) == 2_000
    store.close()
    assert not folder.open(3).purge_due


def test_clearing_forgets_everything(folder: StoreFolder) -> None:
    """Nothing of another incarnation is kept."""
    store = folder.open(3)
    store.write({b"+1": b"one", b"#t": b"erased"}, ChangelogPlace(LOG, 7))
    store.clear()
    assert (store.place, store.any_erased, list(store.items())) == (None, False, [])
    store.write({b"+2": b"two"}, ChangelogPlace(b"m" * 16, 1))
    assert store.get([b"+2"]) == [b"two"]


def test_a_cache_is_used_by_one_at_a_time(folder: StoreFolder) -> None:
    """A second opening is refused, and harms nothing."""
    store = folder.open(3)
    store.write({b"+1": b"one"}, ChangelogPlace(LOG, 7))
    with pytest.raises(StoreUnusable):
        folder.open(3)
    assert store.get([b"+1"]) == [b"one"]


def test_a_damaged_cache_is_emptied(folder: StoreFolder, tmp_path: Path) -> None:
    """The topic has all of it: recovery starts from nothing."""
    store = folder.open(3)
    store.write({b"+1": b"one"}, ChangelogPlace(LOG, 7))
    store.close()
    for manifest in (tmp_path / "3").glob("MANIFEST-*"):
        manifest.write_bytes(b"damaged" * 100)
    assert folder.open(3).place is None


def test_a_killed_process_leaves_whole_writes(tmp_path: Path) -> None:
    """Without a close, states and place are those of one and the same write."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from projections.suppression_store import *\n"
        "store = StoreFolder(Path(sys.argv[1]), StoreLimits()).open(0)\n"
        "for number in range(1, 200):\n"
        "    body = str(number).encode()\n"
        "    store.write({b'+1': body, b'+2': body}, ChangelogPlace(b'l' * 16, number))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert ended.returncode == -9
    store: SuppressionStore = StoreFolder(tmp_path, SMALL).open(0)
    assert store.place == ChangelogPlace(LOG, 199)
    assert store.get([b"+1", b"+2"]) == [b"199", b"199"]
