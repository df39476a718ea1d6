"""The journal of decisions on disk."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from consent_ledger.adapters.decision_journal import (
    DecisionJournal,
    JournalCorrupt,
    JournalEntry,
    JournalInUse,
    JournalLimits,
    JournalUnavailable,
)


def entry(number: int, size: int = 100) -> JournalEntry:
    return JournalEntry(
        f"event-{number}", "dial-decisions", b"+14155550123", bytes([number]) * size
    )


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.journal"))


async def filled(folder: Path, count: int, limits: JournalLimits | None = None) -> DecisionJournal:
    journal = DecisionJournal(folder, limits)
    journal.open()
    await asyncio.gather(*(journal.append(entry(number)) for number in range(count)))
    return journal


def reopened(folder: Path) -> list[JournalEntry]:
    journal = DecisionJournal(folder)
    journal.open()
    left = journal.unreleased
    asyncio.run(journal.close())
    return left


async def test_what_was_appended_is_left_for_the_next_process(tmp_path: Path) -> None:
    """Entries that were not released are given again, whole and in order, however often opened."""
    journal = await filled(tmp_path, 20)
    await journal.close()
    for _ in range(2):
        left = await asyncio.to_thread(reopened, tmp_path)
        assert left == [entry(number) for number in range(20)]


async def test_released_entries_are_gone(tmp_path: Path) -> None:
    """Once every entry of a file is released and the file is not written, it is deleted."""
    journal = await filled(tmp_path, 3)
    first = files(tmp_path)
    journal.rotate()
    await journal.append(entry(3))
    for number in range(2):
        journal.release(f"event-{number}")
    assert first[0].exists()
    journal.release("event-2")
    assert not first[0].exists()
    assert journal.entries == 1
    await journal.close()
    assert await asyncio.to_thread(reopened, tmp_path) == [entry(3)]


async def test_files_stay_small(tmp_path: Path) -> None:
    """A file that reached its size is followed by a new one."""
    journal = DecisionJournal(tmp_path, JournalLimits(file_bytes=1_000))
    journal.open()
    for number in range(30):
        await journal.append(entry(number))
    await journal.close()
    assert len(files(tmp_path)) >= 3
    assert len(await asyncio.to_thread(reopened, tmp_path)) == 30


async def test_a_full_journal_refuses(tmp_path: Path) -> None:
    """Past its size limit nothing is taken, until entries are released."""
    journal = DecisionJournal(tmp_path, JournalLimits(file_bytes=500, bytes_max=1_000))
    journal.open()
    taken = 0
    with pytest.raises(JournalUnavailable):
        for number in range(100):
            await journal.append(entry(number))
            taken += 1
    for number in range(taken):
        journal.release(f"event-{number}")
    await journal.append(entry(0))
    await journal.close()


@pytest.mark.parametrize("cut", [1, 50, 107])
async def test_an_entry_that_was_cut_off_is_dropped(tmp_path: Path, cut: int) -> None:
    """A last entry whose writing was interrupted never counted; those before it do."""
    await (await filled(tmp_path, 3)).close()
    path = files(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-cut])
    assert await asyncio.to_thread(reopened, tmp_path) == [entry(0), entry(1)]


async def test_zeros_after_a_power_cut_are_dropped(tmp_path: Path) -> None:
    """A tail of zeros, as file systems leave it, is no entry."""
    await (await filled(tmp_path, 2)).close()
    with files(tmp_path)[0].open("ab") as file:
        file.write(bytes(4096))
    assert await asyncio.to_thread(reopened, tmp_path) == [entry(0), entry(1)]


async def test_damage_before_the_end_is_not_passed_over(tmp_path: Path) -> None:
    """A flipped byte in an entry that others follow stops the start."""
    await (await filled(tmp_path, 3)).close()
    path = files(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(JournalCorrupt):
        DecisionJournal(tmp_path).open()


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """Two processes never write to one folder."""
    journal = await filled(tmp_path, 1)
    with pytest.raises(JournalInUse):
        DecisionJournal(tmp_path).open()
    await journal.close()
    DecisionJournal(tmp_path).open()


async def test_a_disk_that_fails_is_told_and_then_used_again(tmp_path: Path) -> None:
    """An append that could not be written raises; when the disk is back, appends succeed."""
    journal = await filled(tmp_path, 1)
    os.close(journal._descriptor)
    journal._descriptor = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(JournalUnavailable):
        await journal.append(entry(1))
    await journal.append(entry(2))
    await journal.close()
    assert await asyncio.to_thread(reopened, tmp_path) == [entry(0), entry(2)]


async def test_a_closed_journal_refuses(tmp_path: Path) -> None:
    """After closing nothing is taken."""
    journal = await filled(tmp_path, 1)
    await journal.close()
    with pytest.raises(JournalUnavailable):
        await journal.append(entry(1))


def test_the_folder_is_private(tmp_path: Path) -> None:
    """Entries hold numbers: nobody else may read folder and files."""
    folder = tmp_path / "journal"
    journal = asyncio.run(filled(folder, 1))
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in files(folder))
    asyncio.run(journal.close())


WRITER = """
import asyncio, sys
from pathlib import Path
from consent_ledger.adapters.decision_journal import DecisionJournal, JournalEntry

async def main():
    journal = DecisionJournal(Path(sys.argv[1]))
    journal.open()
    async def write(first):
        for number in range(first, 10**9, 8):
            await journal.append(JournalEntry(str(number), "t", b"k", b"v" * 50))
            print(number, flush=True)
    await asyncio.gather(*(write(first) for first in range(8)))

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """Every entry whose append returned is there after kill -9, whatever was being written."""
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        acknowledged = [process.stdout.readline().strip() for _ in range(200)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]
        process.wait()
        journal = DecisionJournal(tmp_path)
        journal.open()
        left = [found.event_id for found in journal.unreleased]
        assert set(acknowledged) <= set(left)
        for event_id in left:
            journal.release(event_id)
        asyncio.run(journal.close())
