"""Adds keys to the file that `serve` reads: an entry with a digest there, the key itself apart.

The key is written once, to a file that only its owner may read, and is nowhere else.
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from ruamel.yaml import YAML

from consent.errors import Rejected
from consent_ledger.api.authentication import KeyEntry, KeyFile, Role, load_api_keys, new_key

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """Who the key is for, and what it may do; no sellers: for every seller."""

    name: str
    roles: tuple[Role, ...]
    seller_ids: tuple[str, ...] = ()


def add_api_key(file: Path, token_path: Path, wanted: NewApiKey) -> bool:
    """Make a key, write it to `token_path` and its entry to `file`; False if the name is there.

    A name that is there already is left as it is. After a crash the key may be on disk without
    its entry, where it opens nothing; doing it again makes another one.
    """
    if not _NAME.fullmatch(wanted.name):
        remedy = "use letters, digits, dots and hyphens, a letter or digit first, at most 64"
        raise Rejected("INVALID_NAME", "name", wanted.name[:64], remedy)
    entries = _entries(file)
    if any(entry.name == wanted.name for entry in entries):
        return False
    token, entry = new_key(wanted.name, wanted.roles, list(wanted.seller_ids) or None)
    _replace(token_path, token + "\n")
    _replace(file, _text([*entries, entry]))
    return True


def _entries(file: Path) -> list[KeyEntry]:
    if not file.exists():
        return []
    load_api_keys(file)
    content = YAML(typ="safe").load(file.read_text())
    return msgspec.convert(content, KeyFile).keys


def _text(entries: list[KeyEntry]) -> str:
    out, yaml = io.StringIO(), YAML()
    yaml.default_flow_style = False
    yaml.dump(msgspec.to_builtins(KeyFile(entries)), out)
    return out.getvalue()


def _replace(path: Path, text: str) -> None:
    """Write a private file, whole or not at all."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as problem:
        reason = problem.strerror or "can't be written"
        raise Rejected("NO_FILE", "api_keys_file", str(path), reason) from problem
