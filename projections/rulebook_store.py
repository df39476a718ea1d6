"""Rulebooks by digest in the store, so that past decisions can be judged by the rules of their day.

A content is written once and never changed; with it, by which engine and which time-zone data it
was put into use.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from consent.rulebook import Rulebook
from projections.clickhouse_async import AsyncStore

_CONTENT_PATH: Final = "rulebook.json"
_STORED: Final = """
SELECT content FROM rulebooks
WHERE rulebook_digest = unhex({digest:String}) AND path = {path:String} LIMIT 1
"""
_USED: Final = """
SELECT 1 FROM rulebook_uses
WHERE rulebook_digest = unhex({digest:String}) AND engine_version = {engine_version:String}
  AND tzdata_version = {tzdata_version:String} LIMIT 1
"""
_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class RulebookUse:
    """A rulebook, and what decides by it."""

    rulebook: Rulebook
    engine_version: str
    tzdata_version: str


async def store_rulebook(store: AsyncStore, use: RulebookUse) -> None:
    """Keep a rulebook's content, and that it is used; harmless to repeat and to do twice at once.

    Raises Retryable if the store is away.
    """
    rulebook = use.rulebook
    digest = rulebook.digest
    if await stored_content(store, digest) is None:
        await _insert(store, "rulebooks", digest, path=_CONTENT_PATH, content=rulebook.content)
    versions = {"engine_version": use.engine_version, "tzdata_version": use.tzdata_version}
    if not await store.query_rows(_USED, {"digest": digest.hex(), **versions}):
        version = rulebook.version
        await _insert(store, "rulebook_uses", digest, rulebook_version=version, **versions)


async def stored_content(store: AsyncStore, digest: bytes) -> bytes | None:
    """The content of a rulebook, for `Rulebook.from_content`, which checks it; None if unknown."""
    asked = {"digest": digest.hex(), "path": _CONTENT_PATH}
    table = await store.query_arrow(_STORED, asked, strings_as_bytes=True)
    found = table.column(0).to_pylist()
    return bytes(found[0]) if found else None


async def _insert(store: AsyncStore, table: str, digest: bytes, **fields: str | bytes) -> None:
    columns = {
        "rulebook_digest": pa.array([digest], pa.binary(_DIGEST_BYTES)),
        **{
            name: pa.array([value], pa.binary() if isinstance(value, bytes) else pa.string())
            for name, value in fields.items()
        },
    }
    # The token is of the row: whoever writes the same one at once writes it once.
    row = [digest, *(v if isinstance(v, bytes) else v.encode() for v in fields.values())]
    token = hashlib.sha256(b"".join(len(v).to_bytes(8, "big") + v for v in row)).hexdigest()
    await store.insert_arrow(table, pa.table(columns), f"{table}-{token}")
