"""Sealing entries that are no blocks into a made ledger's log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from consent.codec import encode
from projections.clickhouse import Store
from projections.ledger_log import Judgement
from tests.made_ledger import MadeLedger

_KEPT = """
SELECT toString(entry_id), toUnixTimestamp64Micro(at), entry_kind, hex(content_sha256),
    mapKeys(content), mapValues(content)
FROM log_entries WHERE entry_kind = {kind:String} ORDER BY at, entry_id
"""


def kept_entries(store: Store, kind: str) -> list[dict[str, Any]]:
    """Entries of a kind that are about nobody alone, as the store keeps them."""
    return [
        {
            "entry_id": entry_id,
            "at": int(at),
            "entry_kind": entry_kind,
            "subject": None,
            "content_sha256": bytes.fromhex(digest),
            "content": [
                {"name": name, "value": value} for name, value in zip(names, values, strict=True)
            ],
        }
        for entry_id, at, entry_kind, digest, names, values in store.query_rows(
            _KEPT, {"kind": kind}
        )
    ]


def seal_entries(ledger: MadeLedger, entries: Iterable[Mapping[str, Any]]) -> None:
    """Put entries into the log, once each, and sign a checkpoint over them."""
    for entry in entries:
        judged = ledger.log.take(encode("LogEntry", entry))
        assert judged in (Judgement.APPENDED, Judgement.REPEATED)
    ledger.checkpoint()
