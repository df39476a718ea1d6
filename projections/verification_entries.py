"""Has the store what the log's other entries name by their digests?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from consent.retention_entries import ENTRY_KIND as RETENTION
from projections.clickhouse import Store
from projections.verification_findings import Finding, Found, Place


class KeptEntries:
    """The store's copies of entries that are no blocks, read once."""

    def __init__(self, store: Store, found: Found) -> None:
        self._found = found
        self._digests = {
            entry_id: bytes.fromhex(digest)
            for entry_id, digest in store.query_rows(
                "SELECT toString(entry_id), hex(content_sha256) FROM log_entries"
            )
        }
        self._documents = {
            entry_id: hashlib.sha256(document.encode()).digest()
            for entry_id, document in store.query_rows(
                "SELECT toString(entry_id), document FROM retentions"
            )
        }

    def compare(self, position: int, fields: Mapping[str, Any]) -> None:
        """Judge the entry at a position of the log."""
        entry_id, digest = fields["entry_id"], fields["content_sha256"]
        if self._digests.get(entry_id) != digest:
            detail = "the store does not have this entry as it was sealed"
            self._add("log_entries", position, detail)
        if fields["entry_kind"] == RETENTION and self._documents.get(entry_id) != digest:
            detail = "the store does not have the document of what was to go as it was sealed"
            self._add("retentions", position, detail)

    def _add(self, table: str, position: int, detail: str) -> None:
        place = Place(table=table, entry_index=position)
        self._found(Finding("ENTRY_NOT_KEPT", place, detail))
