"""The proof log: what of `ledger-blocks` becomes an entry, and how entries become a signed tree.

Entry i is a function of `ledger-blocks` in offset order alone: a header that continues the chain
of its partition is appended, a repeat is skipped, anything else is an alarm and no entry. So
whoever seals, and however often it dies, there is one history to sign. Growth becomes visible in
one step, the checkpoint: bundles and tiles are on disk before it, and what they hold beyond it
counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from consent.checkpoints import Checkpoint, opened_checkpoint
from consent.errors import Unreadable
from consent.log_entries import BLOCK, decode_entry, entry_of_value, entry_sha256
from consent.merkle import CompactTree, leaf_hash, tree_root
from consent.notes import Note, NoteInvalid, NoteSignature, SigningKey, parse_note
from consent.tiles import TILE_WIDTH, Tile, encode_bundle, encode_tile, tiles_of_growth
from projections.log_errors import LogContradicts, LogDamaged
from projections.log_folder import LogFolder, joined_hashes
from projections.log_index import EntryKey, IndexedEntry, LogIndex, entry_key, indexed

INDEX: Final = "index.sqlite"


class Judgement(Enum):
    """What became of a record of `ledger-blocks`.

    BARE is a header without a root, of a release that had none: it is announced again with one.
    The last three are alarms.
    """

    APPENDED = "appended"
    REPEATED = "repeated"
    BARE = "bare"
    UNREADABLE = "unreadable"
    CONTRADICTS = "contradicts"
    DOES_NOT_CONTINUE = "does_not_continue"

    @property
    def alarming(self) -> bool:
        """Whether a person must look."""
        return self in (
            Judgement.UNREADABLE,
            Judgement.CONTRADICTS,
            Judgement.DOES_NOT_CONTINUE,
        )


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry that is not yet under a checkpoint, or came under one just now."""

    entry: bytes
    name: str
    fields: Mapping[str, Any] = field(repr=False)
    indexed: IndexedEntry

    @classmethod
    def of(cls, entry: bytes, position: int) -> NewEntry:
        """An entry of the log, read back at its position."""
        name, fields = decode_entry(entry)
        return cls(entry, name, fields, indexed(entry, position))


@dataclass(frozen=True, slots=True)
class Publication:
    """A checkpoint that was signed, and the entries that it is the first to cover."""

    note: Note
    checkpoint: Checkpoint
    entries: tuple[NewEntry, ...]


class LedgerLog:
    """One log, in a folder that this process holds. Used from one thread at a time."""

    def __init__(self, folder: LogFolder, key: SigningKey) -> None:
        self.folder = folder
        self._key = key
        self._tree = CompactTree()
        self._signed: Note | None = None
        self._pending: list[NewEntry] = []
        self._pending_by_key: dict[EntryKey, IndexedEntry] = {}
        self._pending_heads: dict[tuple[bytes, int], IndexedEntry] = {}
        self._index: LogIndex | None = None

    @property
    def size(self) -> int:
        """Entries under the newest checkpoint."""
        return self._tree.size

    @property
    def signed(self) -> Note | None:
        """The newest checkpoint, None for a log that has none yet."""
        return self._signed

    @property
    def pending(self) -> int:
        """Entries that are not yet under a checkpoint."""
        return len(self._pending)

    @property
    def index(self) -> LogIndex:
        """The index of what is under the newest checkpoint."""
        if self._index is None:
            raise RuntimeError("the log is not open")
        return self._index

    def open(self) -> None:
        """Find the log as its checkpoint says it is; what lies beyond it is forgotten.

        LogDamaged if files below the checkpoint are missing or wrong, LogContradicts if the
        checkpoint is not signed with this key and name.
        """
        self.close()
        self._signed = _parsed(self.folder.checkpoint())
        size = 0
        if self._signed is not None:
            checkpoint = self._opened(self._signed)
            size = checkpoint.size
            self._tree = CompactTree.of(size, self.folder.subtree(size))
            if self._tree.root != checkpoint.root:
                raise LogDamaged("tile", "the tiles do not have the root that was signed")
        self._index = LogIndex(self.folder.folder / INDEX)
        self._index.truncate(size)
        known = self._index.size
        further = enumerate(self.folder.entries(known, size), known)
        self._index.extend(indexed(entry, position) for position, entry in further)

    def close(self) -> None:
        """Forget everything that is not under a checkpoint."""
        if self._index is not None:
            self._index.close()
        self._index, self._signed, self._tree = None, None, CompactTree()
        self._pending = []
        self._pending_by_key, self._pending_heads = {}, {}

    def agrees_with(self, checkpoint: Checkpoint) -> None:
        """LogContradicts unless the log continues a checkpoint that was seen elsewhere."""
        if checkpoint.size > self.size:
            raise LogContradicts(
                f"{checkpoint.size} entries were signed and the folder has {self.size}; restore it"
            )
        if tree_root(checkpoint.size, self.folder.subtree(self.size)) != checkpoint.root:
            raise LogContradicts(f"another root was signed for {checkpoint.size} entries")

    def take(self, value: bytes | None) -> Judgement:
        """Append a record of `ledger-blocks`, or say why it is no new entry."""
        try:
            entry, name, fields = entry_of_value(value)
            key, offset_last = entry_key(name, fields)
        except (Unreadable, ValueError):
            return Judgement.UNREADABLE
        new = IndexedEntry(key, offset_last, entry_sha256(entry), self.size + len(self._pending))
        judgement = self._judged(name, fields, new)
        if judgement is Judgement.APPENDED:
            self._pending.append(NewEntry(entry, name, fields, new))
            self._pending_by_key[key] = self._pending_heads[key.chain] = new
        return judgement

    def publish(self) -> Publication:
        """Write what is pending, sign the tree over it, and make that the log.

        After a crash the log is what it was before, or what it is after; the same entries give the
        same files again.
        """
        entries, old_size = tuple(self._pending), self.size
        leaves = [leaf_hash(one.entry) for one in entries]
        tree = self._tree.extended(leaves)
        self._write_bundles(old_size, [one.entry for one in entries])
        full = self._write_tiles(old_size, leaves)
        checkpoint = Checkpoint(self._key.name, tree.size, tree.root)
        note = Note(checkpoint.text, (self._key.signature(checkpoint.text),))
        self.folder.write_checkpoint(note.encoded)
        self._tree, self._signed = tree, note
        self.index.extend(one.indexed for one in entries)
        self._pending = []
        self._pending_by_key, self._pending_heads = {}, {}
        for tile in full:
            self.folder.forget_partial(tile)
        return Publication(note, checkpoint, entries)

    def cosigned(self, signatures: Iterable[NoteSignature]) -> Note:
        """Put witnesses' signatures below the newest checkpoint."""
        if self._signed is None:
            raise RuntimeError("nothing was signed yet")
        note = self._signed.with_signatures(signatures)
        if note != self._signed:
            self.folder.write_checkpoint(note.encoded)
            self._signed = note
        return note

    def _judged(self, name: str, fields: Mapping[str, Any], new: IndexedEntry) -> Judgement:
        known = self._pending_by_key.get(new.key) or self.index.find(new.key)
        if name != BLOCK:
            # Of several proposals of the cutter's limits, which differ in their time, the first
            # counts; any other entry has an id of its own.
            alike = known is None or known.sha256 == new.sha256 or fields["entry_kind"] == "CUTTER"
            if not alike:
                return Judgement.CONTRADICTS
            return Judgement.APPENDED if known is None else Judgement.REPEATED
        if fields["root"] is None:
            return Judgement.BARE
        if known is not None:
            return Judgement.REPEATED if known.sha256 == new.sha256 else Judgement.CONTRADICTS
        head = self._pending_heads.get(new.key.chain) or self.index.newest(new.key)
        if head is None:
            first = fields["previous_header_sha256"] is None
            return Judgement.APPENDED if first else Judgement.DOES_NOT_CONTINUE
        follows = new.key.offset_first > head.offset_last
        if follows and fields["previous_header_sha256"] == head.sha256:
            return Judgement.APPENDED
        return Judgement.DOES_NOT_CONTINUE

    def _write_bundles(self, old_size: int, entries: list[bytes]) -> None:
        size = old_size + len(entries)
        for tile in tiles_of_growth(old_size, size):
            if tile.level != 0:
                break
            bundle = Tile(None, tile.index, tile.width)
            first = bundle.index * TILE_WIDTH
            had = max(0, old_size - first)
            kept = self.folder.bundle(Tile(None, bundle.index, had)) if had else []
            added = entries[max(0, first - old_size) : first + bundle.width - old_size]
            self.folder.write_tile(bundle, encode_bundle([*kept, *added]))

    def _write_tiles(self, old_size: int, leaves: list[bytes]) -> list[Tile]:
        """Write the tiles that growth changes; those, and bundles, that it made full."""
        full, written = [], dict[Tile, list[bytes]]()
        for tile in tiles_of_growth(old_size, old_size + len(leaves)):
            level = tile.level or 0
            old_count = old_size >> 8 * level
            had = min(max(0, old_count - tile.index * TILE_WIDTH), tile.width)
            first = tile.index * TILE_WIDTH + had
            last = tile.index * TILE_WIDTH + tile.width
            if level == 0:
                added = leaves[first - old_size : last - old_size]
            else:
                below = (written[Tile(level - 1, number)] for number in range(first, last))
                added = [CompactTree().extended(hashes).root for hashes in below]
            written[tile.full] = joined_hashes(self.folder, tile, added)
            self.folder.write_tile(tile, encode_tile(written[tile.full]))
            if tile.width == TILE_WIDTH:
                full += [tile] if level else [tile, Tile(None, tile.index)]
        return full

    def _opened(self, note: Note) -> Checkpoint:
        try:
            return opened_checkpoint(note.encoded, [self._key.verifier])
        except NoteInvalid as problem:
            raise LogContradicts(f"its checkpoint is not signed with this key: {problem}") from None


def _parsed(encoded: str | None) -> Note | None:
    if encoded is None:
        return None
    try:
        return parse_note(encoded)
    except NoteInvalid as problem:
        raise LogDamaged("checkpoint", str(problem)) from None
