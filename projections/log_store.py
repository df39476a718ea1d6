"""What the store keeps of the proof log: checkpoints, where entries are, and what is to be sealed.

The store forgets nothing, topics do; so what history holds and the log lacks is found here and
announced again. Every insert has a token, so repeating it is harmless. Retries nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import pyarrow

from consent.checkpoints import Checkpoint
from consent.codec import encode
from consent.fact_columns import NO_SUBJECT
from consent.facts import LogPartition
from consent.log_entries import BLOCK
from consent.notes import Note
from projections.clickhouse import Store
from projections.history_blocks import Blocks
from projections.ledger_log import NewEntry, Publication
from projections.log_index import EntryKey, LogIndex

Announcement = tuple[bytes, bytes]
"""Key and value of a record of `ledger-blocks`."""


class LogStore:
    """The proof log's tables; safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._blocks = Blocks(store)

    def newest_notes(self, origin: str) -> list[str]:
        """The note of the largest checkpoint that is kept of a log."""
        rows = self._store.query_rows(
            "SELECT note FROM checkpoints WHERE origin = {origin:String} "
            "ORDER BY size DESC LIMIT 1",
            {"origin": origin},
        )
        return [str(row[0]) for row in rows]

    def positions_end(self, origin: str) -> int:
        """Up to where it is kept in which place of the log an entry is."""
        rows = self._store.query_rows(
            "SELECT max(entry_index) + 1 FROM log_positions WHERE origin = {origin:String} "
            "HAVING count() > 0",
            {"origin": origin},
        )
        return int(rows[0][0]) if rows else 0

    def keep(self, checkpoint: Checkpoint, note: Note, at: int) -> None:
        """Keep a checkpoint and its cosignatures, once; `at` in µs."""
        rows = self._store.query_rows(
            "SELECT count() FROM checkpoints "
            "WHERE origin = {origin:String} AND size = {size:Int64}",
            {"origin": checkpoint.origin, "size": checkpoint.size},
        )
        if rows[0][0]:
            return
        table = pyarrow.Table.from_pylist(
            [checkpoint_fields(checkpoint, note, at)], schema=_CHECKPOINT_SCHEMA
        )
        token = f"v1|checkpoints|{checkpoint.origin}|{checkpoint.size}"
        self._store.insert_arrow("checkpoints", table, token)

    def keep_positions(self, publication: Publication) -> None:
        """Keep where the entries of a publication are, and the records of those that are no blocks.

        Entries that are kept already are left out.
        """
        origin, entries = publication.checkpoint.origin, publication.entries
        if not entries:
            return
        first, last = entries[0].indexed.position, entries[-1].indexed.position
        kept = self._store.query_rows(
            "SELECT entry_index FROM log_positions WHERE origin = {origin:String} "
            "AND entry_index BETWEEN {first:Int64} AND {last:Int64}",
            {"origin": origin, "first": first, "last": last},
        )
        known = {int(row[0]) for row in kept}
        rows = [_position(origin, one) for one in entries if one.indexed.position not in known]
        if rows:
            table = pyarrow.Table.from_pylist(rows, schema=_POSITION_SCHEMA)
            token = f"v1|log_positions|{origin}|{rows[0]['entry_index']}-{last}"
            self._store.insert_arrow("log_positions", table, token)
        self._keep_entries([one.fields for one in entries if one.name != BLOCK])

    def unsealed(self, index: LogIndex) -> list[Announcement]:
        """What history holds and the log lacks, in an order in which each continues its chain.

        May hold what was announced a moment ago: a repeat is no entry.
        """
        return [*self._unsealed_entries(index), *self._unsealed_blocks(index)]

    def _unsealed_blocks(self, index: LogIndex) -> Iterable[Announcement]:
        sealed = index.chains()
        rows = self._store.query_rows(
            "SELECT hex(log_id), topic, partition, max(offset_last) FROM blocks "
            "GROUP BY log_id, topic, partition ORDER BY min(recorded_at_min), topic, partition"
        )
        for log_id, topic, partition, last in rows:
            origin = LogPartition(bytes.fromhex(log_id), topic, int(partition))
            end = sealed.get((origin.log_id, origin.partition), -1)
            if int(last) > end:
                key = f"{topic}/{partition}".encode()
                for block in self._blocks.all(origin):
                    if block.offset_first > end and block.root is not None:
                        yield key, encode(BLOCK, block.header(origin))

    def _unsealed_entries(self, index: LogIndex) -> Iterable[Announcement]:
        rows = self._store.query_rows(
            "SELECT toString(entry_id), toUnixTimestamp64Micro(at), entry_kind, hex(subject), "
            "hex(content_sha256), mapKeys(content), mapValues(content) FROM log_entries "
            "ORDER BY at, entry_id"
        )
        for entry_id, at, kind, subject, digest, names, values in rows:
            if index.find(EntryKey(UUID(entry_id).bytes)) is not None:
                continue
            token = bytes.fromhex(subject)
            fields = {
                "entry_id": entry_id,
                "at": int(at),
                "entry_kind": kind,
                "subject": None if token == NO_SUBJECT else token,
                "content_sha256": bytes.fromhex(digest),
                "content": [
                    {"name": name, "value": value}
                    for name, value in zip(names, values, strict=True)
                ],
            }
            yield kind.lower().encode(), encode("LogEntry", fields)

    def _keep_entries(self, entries: Sequence[Mapping[str, Any]]) -> None:
        for fields in entries:
            keep_entry_once(self._store, fields)


def keep_entry_once(store: Store, entry: Mapping[str, Any]) -> bool:
    """Keep a LogEntry unless one of its id is kept; True if it was not."""
    found = store.query_rows(
        "SELECT count() FROM log_entries WHERE entry_id = {id:UUID}", {"id": entry["entry_id"]}
    )
    if found[0][0]:
        return False
    keep_entry(store, entry)
    return True


def keep_entry(store: Store, entry: Mapping[str, Any]) -> None:
    """Keep a LogEntry, because its topic forgets."""
    row = {**entry, "subject": entry["subject"] or NO_SUBJECT}
    row["content"] = [(pair["name"], pair["value"]) for pair in entry["content"]]
    table = pyarrow.Table.from_pylist([row], schema=_ENTRY_SCHEMA)
    store.insert_arrow("log_entries", table, f"v1|log_entries|{entry['entry_id']}")


def checkpoint_fields(checkpoint: Checkpoint, note: Note, at: int) -> dict[str, Any]:
    """Fields of a CheckpointSigned: those of the row of `checkpoints` as well."""
    own = [one for one in note.signatures if one.name == checkpoint.origin]
    return {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root,
        "note": note.encoded,
        "at": at,
        "cosignatures": [one.line for one in note.signatures if one not in own],
    }


def _position(origin: str, new: NewEntry) -> dict[str, Any]:
    block = new.name == BLOCK
    fields = new.fields
    return {
        "origin": origin,
        "entry_index": new.indexed.position,
        "entry_sha256": new.indexed.sha256,
        "entry_name": new.name,
        "entry_id": "" if block else fields["entry_id"],
        "log_id": fields["log_id"] if block else NO_SUBJECT,
        "topic": fields["topic"] if block else "",
        "partition": fields["partition"] if block else -1,
        "offset_first": fields["offset_first"] if block else -1,
        "offset_last": fields["offset_last"] if block else -1,
    }


_TIME: Final = pyarrow.timestamp("us", "UTC")
_CHECKPOINT_SCHEMA: Final = pyarrow.schema(
    [
        ("origin", pyarrow.string()),
        ("size", pyarrow.int64()),
        ("root", pyarrow.binary()),
        ("note", pyarrow.string()),
        ("at", _TIME),
        ("cosignatures", pyarrow.list_(pyarrow.string())),
    ]
)
_POSITION_SCHEMA: Final = pyarrow.schema(
    [
        ("origin", pyarrow.string()),
        ("entry_index", pyarrow.int64()),
        ("entry_sha256", pyarrow.binary()),
        ("entry_name", pyarrow.string()),
        ("entry_id", pyarrow.string()),
        ("log_id", pyarrow.binary()),
        ("topic", pyarrow.string()),
        ("partition", pyarrow.int32()),
        ("offset_first", pyarrow.int64()),
        ("offset_last", pyarrow.int64()),
    ]
)
_ENTRY_SCHEMA: Final = pyarrow.schema(
    [
        ("entry_id", pyarrow.string()),
        ("at", _TIME),
        ("entry_kind", pyarrow.string()),
        ("subject", pyarrow.binary()),
        ("content_sha256", pyarrow.binary()),
        ("content", pyarrow.map_(pyarrow.string(), pyarrow.string())),
    ]
)
