"""Keys that sign permits, as files: made, published before they sign, retired, listed a while more.

Each key is a file `ID.jwk` of one folder: a private JSON Web Key with its dates. Retiring a key
takes the private part out of its file. Files are replaced whole, and processes that sign read the
folder again and again, so that a change needs no restart.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from consent.errors import Rejected
from consent.instants import instant_text, parse_instant
from consent.lifters import PERMIT_LIFETIME_MAX_US
from consent.permits import PermitKey, public_jwk, public_keys_of
from consent_ledger.keys import KeyUnusable, sync_folder
from consent_ledger.settings import Settings, variable_name

SUFFIX: Final = ".jwk"
_FOLDER: Final = "permit"
_SEED_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class HeldKey:
    """One key with its dates in µs. `seed` None: it is retired and signs no more.

    It signs from `signs_from`, and is published until `listed_until`, which is None before it was
    retired.
    """

    key_id: str
    public_key: bytes
    created_at: int
    signs_from: int
    retired_at: int | None = None
    listed_until: int | None = None
    seed: bytes | None = field(default=None, repr=False)

    def listed(self, now: int) -> bool:
        """True while verifiers must know it."""
        return self.listed_until is None or now < self.listed_until

    def state(self, now: int) -> str:
        """One word for a person."""
        if self.retired_at is not None:
            return "retired" if self.listed(now) else "gone"
        return "signs" if self.signs_from <= now else "waits"


class KeyRing:
    """The keys of a folder at one moment."""

    def __init__(self, keys: Iterable[HeldKey]) -> None:
        self.keys = tuple(sorted(keys, key=lambda key: (key.signs_from, key.key_id)))
        self._signing = [(key, PermitKey(key.seed)) for key in self.keys if key.seed is not None]

    def signs(self, now: int) -> bool:
        """True if there is a key whose time to sign has come."""
        return any(held.signs_from <= now for held, _ in self._signing)

    def signer(self, now: int) -> PermitKey:
        """The key that signs now: the newest whose time has come; LookupError without any key.

        If no key's time has come, the first one's: a clock that was set back must not stop calls.
        """
        if not self._signing:
            raise LookupError("there is no key that signs permits")
        due = [key for held, key in self._signing if held.signs_from <= now]
        return due[-1] if due else self._signing[0][1]

    def key_set(self, now: int) -> dict[str, Any]:
        """The JSON Web Key Set for those who verify."""
        return {"keys": [public_jwk(key.public_key) for key in self.keys if key.listed(now)]}

    def find(self, key_id: str) -> HeldKey:
        """The key whose id begins so; Rejected unless there is exactly one."""
        found = [key for key in self.keys if key.key_id.startswith(key_id)]
        if len(found) != 1 or not key_id:
            remedy = "give the id, or its beginning, as `keys permit list` shows it"
            raise Rejected("NO_SUCH_KEY", "key", key_id[:60], remedy)
        return found[0]


def permit_keys_folder(settings: Settings) -> Path:
    """Where the keys are."""
    return settings.permit_keys_dir or settings.data_dir / "keys" / _FOLDER


def create_missing_permit_key(settings: Settings) -> list[Path]:
    """Make a key that signs at once if the folder has none; returns the new file, if any."""
    folder, now = permit_keys_folder(settings), time.time_ns() // 1_000
    return [] if any(folder.glob(f"*{SUFFIX}")) else [make_permit_key(folder, now, now)]


def make_permit_key(folder: Path, now: int, signs_from: int) -> Path:
    """A new key, which signs from an instant; on disk when this returns."""
    key = PermitKey(secrets.token_bytes(_SEED_BYTES))
    while not key.key_id[0].isalnum():
        # An id that begins with a dash would be taken for an option of a command.
        key = PermitKey(secrets.token_bytes(_SEED_BYTES))
    held = HeldKey(key.key_id, key.public_key, now, signs_from, seed=key.seed)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _write(folder, held)


def retire_permit_key(
    folder: Path, key_id: str, now: int, overlap_us: int, at_once: bool = False
) -> HeldKey:
    """Take a key out of use; its private part is deleted.

    It stays published as long as a permit of it can be good, and `overlap_us` more; with
    `at_once`, for a key that others may have, not at all. Rejected if none would be left to sign.
    """
    ring = read_permit_keys(folder)
    held = ring.find(key_id)
    if held.retired_at is not None and not at_once:
        raise Rejected("KEY_RETIRED", "key", held.key_id, "it is retired already")
    if not KeyRing(key for key in ring.keys if key != held).signs(now):
        remedy = "make another with `keys permit new`, and wait until it signs"
        raise Rejected("LAST_KEY", "key", held.key_id, remedy)
    lasts_us = 0 if at_once else PERMIT_LIFETIME_MAX_US + overlap_us
    retired_at = now if held.retired_at is None else held.retired_at
    retired = replace(held, retired_at=retired_at, listed_until=now + lasts_us, seed=None)
    _write(folder, retired)
    return retired


def read_permit_keys(folder: Path) -> KeyRing:
    """Every key of the folder; KeyUnusable names the file that is none, or that others can write.

    A folder without keys is an empty ring.
    """
    return KeyRing(_read(path) for path in sorted(folder.glob(f"*{SUFFIX}")))


def load_permit_keys(settings: Settings, now: int) -> KeyRing:
    """The keys, of which one signs; KeyUnusable if none does."""
    folder = permit_keys_folder(settings)
    ring = read_permit_keys(folder)
    if not ring.signs(now):
        variable = variable_name("permit_keys_dir")
        remedy = f"Make one with `consent-ledger keys init`, or say where they are: {variable}."
        raise KeyUnusable(folder, "there is no key that signs permits", remedy)
    return ring


def _read(path: Path) -> HeldKey:
    remedy = f"Restore it from your copy, or take it out of the folder ({SUFFIX} files are read)."
    try:
        if path.stat().st_mode & 0o022:
            raise KeyUnusable(path, "other users can write it", "Run chmod go-w on it.")
        document = json.loads(path.read_text())
        ((key_id, public_key),) = public_keys_of({"keys": [document]}).items()
        held = HeldKey(
            key_id,
            public_key,
            parse_instant(document["created_at"]),
            parse_instant(document["signs_from"]),
            _instant(document.get("retired_at")),
            _instant(document.get("listed_until")),
            None if document.get("d") is None else base64.urlsafe_b64decode(document["d"] + "="),
        )
        if held.seed is not None and PermitKey(held.seed).public_key != public_key:
            raise ValueError("the private part is of another key")
    except OSError as problem:
        remedy = "Let this process, and no other user, read it."
        raise KeyUnusable(path, f"can't be read ({problem.strerror})", remedy) from None
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise KeyUnusable(path, f"is no key ({type(problem).__name__})", remedy) from None
    return held


def _instant(text: str | None) -> int | None:
    return None if text is None else parse_instant(text)


def _write(folder: Path, held: HeldKey) -> Path:
    """Whole or not at all, also if the machine stops in between."""
    document: dict[str, Any] = {
        **public_jwk(held.public_key),
        "created_at": instant_text(held.created_at),
        "signs_from": instant_text(held.signs_from),
    }
    if held.retired_at is not None and held.listed_until is not None:
        document["retired_at"] = instant_text(held.retired_at)
        document["listed_until"] = instant_text(held.listed_until)
    if held.seed is not None:
        document["d"] = base64.urlsafe_b64encode(held.seed).rstrip(b"=").decode()
    path = folder / f"{held.key_id}{SUFFIX}"
    draft = folder / f".{path.name}.{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(document, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(folder)
    return path
