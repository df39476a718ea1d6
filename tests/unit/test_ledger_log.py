"""The proof log on disk: what becomes an entry, and what is left of a crash."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consent.blocks import CutterLimits, limits_entry
from consent.checkpoints import Checkpoint, opened_checkpoint
from consent.codec import encode
from consent.log_entries import decode_entry, encode_entry, header_sha256
from consent.merkle import leaf_hashes, root_of_leaves
from consent.notes import COSIGNATURE, SigningKey
from consent.tiles import Tile, bundles_of_size, tiles_of_size
from projections.ledger_log import INDEX, Judgement, LedgerLog
from projections.log_errors import LogContradicts, LogDamaged
from projections.log_folder import LogFolder

KEY = SigningKey("ledger.example/log", b"k" * 32)


class Chain:
    """Headers of one partition, each naming the one before it."""

    def __init__(self, log_id: bytes = b"l" * 16, partition: int = 0) -> None:
        self.log_id, self.partition = log_id, partition
        self.headers: list[dict[str, Any]] = []

    def next(self, **changes: Any) -> bytes:
        """Value of the next header."""
        first = self.headers[-1]["offset_last"] + 1 if self.headers else 0
        header = {
            "log_id": self.log_id,
            "topic": "consent-events",
            "partition": self.partition,
            "offset_first": first,
            "offset_last": first + 9,
            "records": 10,
            "month": 202611,
            "recorded_at_min": 1_790_000_000_000_000 + first,
            "recorded_at_max": 1_790_000_000_000_009 + first,
            "facts_sha256": bytes(32),
            "root": first.to_bytes(32, "big"),
            "previous_header_sha256": header_sha256(self.headers[-1]) if self.headers else None,
            "cutter_version": 1,
            **changes,
        }
        self.headers.append(header)
        return encode("BlockSealed", header)

    def values(self) -> list[bytes]:
        """Values of all headers."""
        return [encode("BlockSealed", header) for header in self.headers]


def opened(folder: Path, key: SigningKey = KEY) -> LedgerLog:
    """The log of a folder, which is made if there is none."""
    folder.mkdir(exist_ok=True)
    log = LedgerLog(LogFolder(folder), key)
    log.open()
    return log


def check_whole(log: LedgerLog, entries: list[bytes]) -> None:
    """Checkpoint, tiles and bundles are those of the entries."""
    note = log.folder.checkpoint()
    assert note is not None
    checkpoint = opened_checkpoint(note, [KEY.verifier])
    size = len(entries)
    assert (checkpoint.size, checkpoint.root) == (size, root_of_leaves(entries))
    assert list(log.folder.entries(0, size)) == entries
    hashes = leaf_hashes(entries)
    for tile in tiles_of_size(size):
        span = 256 ** (tile.level or 0)
        starts = range(tile.start, tile.start + tile.width * span, span)
        assert log.folder.tile(tile) == [
            root_of_leaves(entries[start : start + span]) if tile.level else hashes[start]
            for start in starts
        ]
    for tile in (*tiles_of_size(size), *bundles_of_size(size)):
        assert (log.folder.folder / tile.path).is_file()


def test_headers_become_entries_in_their_order(tmp_path: Path) -> None:
    """Two partitions and an entry of another kind, in the order in which they came."""
    log = opened(tmp_path / "log")
    one, other = Chain(partition=0), Chain(partition=1)
    cutter = limits_entry(CutterLimits(), 5)
    values = [encode("LogEntry", cutter), one.next(), other.next(), one.next()]
    assert [log.take(value) for value in values] == [Judgement.APPENDED] * 4
    published = log.publish()
    assert published.checkpoint.size == log.size == 4
    entries = [
        encode_entry("LogEntry", cutter),
        *(
            encode_entry("BlockSealed", header)
            for header in (one.headers[0], other.headers[0], one.headers[1])
        ),
    ]
    check_whole(log, entries)
    assert [decode_entry(entry)[0] for entry in entries] == ["LogEntry", *["BlockSealed"] * 3]
    assert [one.indexed.position for one in published.entries] == [0, 1, 2, 3]


def test_repeats_are_skipped(tmp_path: Path) -> None:
    """Before and after they are under a checkpoint, and after a restart."""
    log = opened(tmp_path / "log")
    chain = Chain()
    values = [chain.next(), chain.next()]
    for value in values:
        assert log.take(value) is Judgement.APPENDED
        assert log.take(value) is Judgement.REPEATED
    log.publish()
    assert [log.take(value) for value in values] == [Judgement.REPEATED] * 2
    again = opened(tmp_path / "log")
    assert [again.take(value) for value in values] == [Judgement.REPEATED] * 2
    assert again.take(chain.next()) is Judgement.APPENDED
    assert again.pending == 1


def test_the_first_proposal_of_the_limits_counts(tmp_path: Path) -> None:
    """Another owner's proposal of the same limits differs in its time and is no entry."""
    log = opened(tmp_path / "log")
    assert log.take(encode("LogEntry", limits_entry(CutterLimits(), 5))) is Judgement.APPENDED
    assert log.take(encode("LogEntry", limits_entry(CutterLimits(), 6))) is Judgement.REPEATED
    access = {**limits_entry(CutterLimits(), 5), "entry_kind": "ACCESS"}
    access["entry_id"] = "00000000-0000-4000-8000-000000000001"
    assert log.take(encode("LogEntry", access)) is Judgement.APPENDED
    assert log.take(encode("LogEntry", {**access, "at": 9})) is Judgement.CONTRADICTS


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"root": None}, Judgement.BARE),
        ({"previous_header_sha256": None}, Judgement.DOES_NOT_CONTINUE),
        ({"previous_header_sha256": bytes(32)}, Judgement.DOES_NOT_CONTINUE),
        ({"offset_first": 3}, Judgement.DOES_NOT_CONTINUE),
        ({"offset_first": 0}, Judgement.CONTRADICTS),
        ({"offset_first": 15, "offset_last": 30}, Judgement.APPENDED),
    ],
)
def test_what_does_not_continue_its_chain_is_no_entry(
    tmp_path: Path, changes: dict[str, Any], expected: Judgement
) -> None:
    """Only the next header of a partition is appended; a gap that it admits is its business."""
    for published in (False, True):
        log = opened(tmp_path / f"log-{published}")
        chain = Chain()
        log.take(chain.next())
        if published:
            log.publish()
        assert log.take(chain.next(**changes)) is expected
        assert expected.alarming == (expected not in (Judgement.APPENDED, Judgement.BARE))


def test_a_first_header_that_names_one_before_it(tmp_path: Path) -> None:
    """The beginning of a chain can't be left out."""
    log = opened(tmp_path / "log")
    chain = Chain()
    chain.next()
    assert log.take(chain.next()) is Judgement.DOES_NOT_CONTINUE


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\x00\x00\x00\x00\x01junk",
        encode("LogEntry", limits_entry(CutterLimits(), 5)) + b"x",
    ],
)
def test_what_can_not_be_read_is_no_entry(tmp_path: Path, value: bytes | None) -> None:
    """And does not stop the log."""
    log = opened(tmp_path / "log")
    assert log.take(value) is Judgement.UNREADABLE
    assert log.take(Chain().next()) is Judgement.APPENDED


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_tiles_are_the_same_however_it_grew(
    tmp_path_factory: pytest.TempPathFactory, portions: list[int]
) -> None:
    """Any division of the same entries into checkpoints gives the same tree and files."""
    log = opened(tmp_path_factory.mktemp("log") / "log")
    chain = Chain()
    for portion in portions:
        for _ in range(portion):
            log.take(chain.next())
        log.publish()
    check_whole(log, [encode_entry("BlockSealed", header) for header in chain.headers])
    partial = [path for path in log.folder.folder.rglob("*.p/*") if path.is_file()]
    replaced = [path for path in partial if path.parent.with_suffix("").is_file()]
    assert not replaced


@pytest.mark.slow
def test_levels_above_the_first(tmp_path: Path) -> None:
    """More than 65,536 entries make a tile of level 2, over several checkpoints."""
    log = opened(tmp_path / "log")
    entries: list[bytes] = []
    for count in (65_000, 536, 300):
        chains = [
            Chain(log_id=(len(entries) + number).to_bytes(16, "big")) for number in range(count)
        ]
        for chain in chains:
            log.take(chain.next())
        entries += [encode_entry("BlockSealed", chain.headers[0]) for chain in chains]
        log.publish()
    check_whole(log, entries)
    assert Tile(2, 0, 1) in tiles_of_size(len(entries))
    log.open()
    log.agrees_with(Checkpoint(KEY.name, 65_000, root_of_leaves(entries[:65_000])))


STEPS = ("bundle", "tile", "checkpoint")


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_leaves_the_old_log_or_the_new(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was written last: the same records give the same log, other ones another."""
    folder = tmp_path / "log"
    log = opened(folder)
    chain = Chain()
    for _ in range(300):
        log.take(chain.next())
    log.publish()
    further = [chain.next() for _ in range(250)]
    for value in further:
        log.take(value)
    with monkeypatch.context() as patched:
        dying_after(step, patched)
        with pytest.raises(KeyboardInterrupt):
            log.publish()
    again = opened(folder)
    assert again.size == (550 if step == "checkpoint" else 300)
    other = Chain(log_id=b"o" * 16)
    expected = [encode_entry("BlockSealed", header) for header in chain.headers[: again.size]]
    # The embedded broker forgets: what comes after a restart may come in another order.
    for value in [other.next() for _ in range(260)]:
        assert again.take(value) is Judgement.APPENDED
    expected += [encode_entry("BlockSealed", header) for header in other.headers]
    for value, header in zip(further, chain.headers[300:], strict=True):
        if again.take(value) is Judgement.APPENDED:
            expected.append(encode_entry("BlockSealed", header))
    again.publish()
    assert len(expected) == 810
    check_whole(again, expected)


def dying_after(step: str, patched: pytest.MonkeyPatch) -> None:
    """Make a folder's writer die after the first file of a kind."""
    whole = LogFolder._write

    def write(self: LogFolder, name: str, data: bytes) -> None:
        whole(self, name, data)
        kind = "bundle" if "entries" in name else name.partition("/")[0]
        if kind == step:
            raise KeyboardInterrupt

    patched.setattr(LogFolder, "_write", write)


def test_an_index_that_is_lost_is_made_again(tmp_path: Path) -> None:
    """It follows from the bundles; one that is ahead of the checkpoint is cut."""
    log = opened(tmp_path / "log")
    chain = Chain()
    for _ in range(600):
        log.take(chain.next())
    log.publish()
    log.close()
    for name in (INDEX, f"{INDEX}-wal", f"{INDEX}-shm"):
        (tmp_path / "log" / name).unlink(missing_ok=True)
    again = opened(tmp_path / "log")
    assert again.index.size == 600
    assert all(again.take(value) is Judgement.REPEATED for value in chain.values())
    assert again.take(chain.next()) is Judgement.APPENDED


def test_what_was_signed_elsewhere_must_be_continued(tmp_path: Path) -> None:
    """A folder that is behind, or that holds another history, signs nothing."""
    log = opened(tmp_path / "log")
    chain = Chain()
    for _ in range(20):
        log.take(chain.next())
    signed = log.publish().checkpoint
    shutil.copytree(tmp_path / "log", tmp_path / "copy")
    log.take(chain.next())
    newer = log.publish().checkpoint
    log.agrees_with(signed)
    log.agrees_with(newer)
    log.agrees_with(Checkpoint(KEY.name, 0, root_of_leaves([])))
    behind = opened(tmp_path / "copy")
    with pytest.raises(LogContradicts, match="restore"):
        behind.agrees_with(newer)
    with pytest.raises(LogContradicts, match="another root"):
        behind.agrees_with(Checkpoint(KEY.name, 7, newer.root))


def test_a_folder_of_another_key_is_refused(tmp_path: Path) -> None:
    """Also under another name."""
    log = opened(tmp_path / "log")
    log.take(Chain().next())
    log.publish()
    log.close()
    for key in (SigningKey(KEY.name, b"x" * 32), SigningKey("other.example/log", b"k" * 32)):
        with pytest.raises(LogContradicts):
            opened(tmp_path / "log", key)


@pytest.mark.parametrize("damage", ["missing", "short", "changed", "checkpoint"])
def test_damage_is_found_at_the_start(tmp_path: Path, damage: str) -> None:
    """The tiles that the root rests on are read before anything is added to them."""
    log = opened(tmp_path / "log")
    chain = Chain()
    for _ in range(20):
        log.take(chain.next())
    log.publish()
    path = tmp_path / "log" / Tile(0, 0, 20).path
    if damage == "missing":
        path.unlink()
    elif damage == "short":
        os.truncate(path, 100)
    elif damage == "changed":
        path.write_bytes(bytes(640))
    else:
        (tmp_path / "log" / "checkpoint").write_text("nothing")
    with pytest.raises(LogDamaged):
        opened(tmp_path / "log")


def test_cosignatures_stand_below_the_checkpoint(tmp_path: Path) -> None:
    """They are kept over a restart, and each is there once."""
    log = opened(tmp_path / "log")
    log.take(Chain().next())
    text = log.publish().checkpoint.text
    witness = SigningKey("witness.example/w", b"w" * 32, COSIGNATURE)
    for _ in range(2):
        log.cosigned([witness.signature(text, 1_790_000_000)])
    again = opened(tmp_path / "log")
    assert again.signed is not None
    assert len(again.signed.signatures) == 2
    assert witness.verifier.signed_at(again.signed) == 1_790_000_000


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    """A second one waits, or gives up when it is told to."""
    folder = LogFolder(tmp_path / "log")
    with folder.locked(lambda: False) as held:
        assert held
        asked: list[int] = []

        def gone() -> bool:
            asked.append(1)
            return len(asked) > 2

        with LogFolder(tmp_path / "log").locked(gone) as second:
            assert not second
    with folder.locked(lambda: False) as held:
        assert held
