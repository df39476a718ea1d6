"""The ledger's secret keys on disk: made once, read at start, never printed.

Each is a file of 32 random bytes that only its owner may read. Losing the history key means that
no number can be looked up in the history any more; so keep a copy of all apart from the data. The
log key signs the proof log: whoever has it and the data can rewrite both.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from consent.errors import ConsentError
from consent.privacy import KEY_BYTES, Keys
from consent_ledger.settings import Settings, variable_name

KEY_NAMES = ("history", "suppression", "dead-letter", "log")
_SECRET_NAMES = KEY_NAMES[:3]


@dataclass(eq=False)
class KeyUnusable(ConsentError):
    """A key file is missing, or can't be what it should be; nothing was started."""

    path: Path
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}. {self.remedy}"


def key_paths(settings: Settings) -> dict[str, Path]:
    """Where each key is read from."""
    folder = settings.data_dir / "keys"
    given = (
        settings.history_key_file,
        settings.suppression_key_file,
        settings.dead_letter_key_file,
        settings.log_key_file,
    )
    return {
        name: path or folder / f"{name}.key" for name, path in zip(KEY_NAMES, given, strict=True)
    }


def create_missing_keys(settings: Settings) -> list[Path]:
    """Make each key that has no file yet; returns the new files. Never touches one that exists.

    A key appears whole or not at all, also if the machine stops in between.
    """
    return [path for path in key_paths(settings).values() if make_key(path)]


def load_keys(settings: Settings) -> Keys:
    """Read the secret keys; KeyUnusable says which one is wrong and what to do."""
    paths = key_paths(settings)
    history, suppression, dead_letters = (read_key(name, paths[name]) for name in _SECRET_NAMES)
    try:
        return Keys(history=history, suppression=suppression, dead_letters=dead_letters)
    except ValueError as problem:
        first = next(iter(paths.values()))
        raise KeyUnusable(first, str(problem), "Use three different keys.") from None


def load_log_key(settings: Settings) -> bytes:
    """The key that signs the proof log, as its seed; only who seals needs it."""
    return read_key("log", key_paths(settings)["log"])


def make_key(path: Path) -> bool:
    """Make a key if its file is missing; False if there was one, which is left as it is."""
    if path.exists():
        return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, never replaces a key that another process has just made.
        os.link(draft, path)
        sync_folder(path.parent)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def sync_folder(folder: Path) -> None:
    """Return once the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_key(name: str, path: Path) -> bytes:
    """The key in a file; KeyUnusable if it is none, or if others can write it."""
    variable = variable_name(name.replace("-", "_") + "_key_file")
    try:
        mode, key = path.stat().st_mode, path.read_bytes()
    except FileNotFoundError:
        remedy = f"Make the keys with `consent-ledger keys init`, or say where it is: {variable}."
        raise KeyUnusable(path, f"there is no {name} key", remedy) from None
    except OSError as problem:
        remedy = "Let this process, and no other user, read it."
        raise KeyUnusable(path, f"can't be read ({problem.strerror})", remedy) from None
    if mode & 0o022:
        # Only writing is refused: orchestrators mount secrets readable by all in the container.
        raise KeyUnusable(path, "other users can write it", "Run chmod go-w on it.")
    if len(key) != KEY_BYTES:
        reason = f"holds {len(key)} bytes; a key has {KEY_BYTES}"
        raise KeyUnusable(path, reason, f"Point {variable} at the right file.")
    return key
