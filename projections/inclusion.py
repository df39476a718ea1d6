"""Where facts are in the proof log, and the hashes that lead from each to a signed checkpoint.

Reads the store and the log's folder, changes nothing, and gives no proof that does not hold: what
the store has of a block is hashed again and compared with what was sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from consent.checkpoints import Checkpoint, opened_checkpoint
from consent.errors import Corrupt, Retryable
from consent.facts import LogPartition
from consent.lift import Position
from consent.log_entries import BLOCK, decode_entry, entry_sha256
from consent.merkle import Subtree, inclusion_proof, leaf_hashes, root_of
from consent.notes import VerifierKey
from consent.tiles import TILE_WIDTH, Tile
from projections.clickhouse import Store
from projections.history_blocks import Blocks, SealedBlock
from projections.log_folder import LogFolder

_NEWEST: Final = (
    "SELECT size, note FROM checkpoints WHERE origin = {origin:String} ORDER BY size DESC LIMIT 1"
)
_FIRST: Final = (
    "SELECT size, note FROM checkpoints WHERE origin = {origin:String} AND size > {index:Int64} "
    "ORDER BY size LIMIT 1"
)
_POSITION: Final = (
    "SELECT entry_index, hex(entry_sha256), offset_last FROM log_positions "
    "WHERE log_id = unhex({log_id:String}) AND partition = {partition:Int32} "
    "AND offset_first <= {offset:Int64} AND origin = {origin:String} "
    "AND entry_name = 'BlockSealed' "
    "ORDER BY offset_first DESC LIMIT 1"
)
_LOG_FIELDS: Final = ("log_id", "topic", "partition")


class NothingSealed(Retryable):
    """The log has no checkpoint yet: the sealer signs one within seconds."""

    def __str__(self) -> str:
        return "no checkpoint was signed yet; is `worker seal` running?"


class SignedCheckpoint(NamedTuple):
    """A checkpoint, and the note with its signatures."""

    checkpoint: Checkpoint
    note: str


@dataclass(frozen=True, slots=True)
class SealedEntry:
    """A block's header as the log has it: its entry, its place, and its proofs by checkpoint size.

    The proofs lead to the first checkpoint that covers it and to the newest one.
    """

    entry: bytes
    index: int
    proofs: dict[int, list[bytes]]


@dataclass(frozen=True, slots=True)
class Inclusion:
    """The way from one fact to its block's root: which entry, which leaf, and the hashes."""

    entry: int
    leaf: int
    path: list[bytes]


@dataclass(frozen=True, slots=True)
class Inclusions:
    """Proofs of facts, by position; `unsealed` are those that no checkpoint covers yet."""

    newest: SignedCheckpoint
    checkpoints: dict[int, SignedCheckpoint]
    entries: list[SealedEntry]
    proofs: dict[Position, Inclusion]
    unsealed: list[Position]


@dataclass(slots=True)
class _Block:
    """A block that is being proved, and where its facts are."""

    number: int
    origin: LogPartition
    header: SealedBlock
    hashes: list[bytes]
    leaves: dict[int, int]


class InclusionProver:
    """Proves facts of one store to be in one log; every call blocks."""

    def __init__(self, store: Store, folder: LogFolder, key: VerifierKey) -> None:
        self._store = store
        self._folder = folder
        self._key = key
        self._blocks = Blocks(store)

    def prove(
        self, positions: Iterable[Position], told: Callable[[int], None] = lambda done: None
    ) -> Inclusions:
        """Proofs for facts that the store holds. `told` hears how many are done.

        NothingSealed if there is no checkpoint at all, Corrupt where store and log disagree.
        """
        newest = self._newest()
        found = Inclusions(newest, {newest.checkpoint.size: newest}, [], {}, [])
        subtree = self._folder.subtree(newest.checkpoint.size)
        open_blocks: dict[tuple[bytes, int], list[_Block]] = {}
        for done, position in enumerate(positions, 1):
            chain = open_blocks.setdefault((position.log_id, position.partition), [])
            block = next((one for one in chain if _covers(one, position)), None)
            if block is None:
                block = self._block(position, found, subtree)
                if block is not None:
                    chain.append(block)
            if block is None:
                found.unsealed.append(position)
            else:
                found.proofs[position] = _inclusion(block, position)
            told(done)
        return found

    def _newest(self) -> SignedCheckpoint:
        rows = self._store.query_rows(_NEWEST, {"origin": self._key.name})
        if not rows:
            raise NothingSealed
        return self._signed(rows[0][1])

    def _signed(self, note: str) -> SignedCheckpoint:
        return SignedCheckpoint(opened_checkpoint(note, [self._key]), note)

    def _block(self, position: Position, found: Inclusions, subtree: Subtree) -> _Block | None:
        """The block of a fact, its entry proved and added; None if it is not sealed yet."""
        rows = self._store.query_rows(
            _POSITION,
            {
                "log_id": position.log_id.hex(),
                "partition": position.partition,
                "offset": position.offset,
                "origin": self._key.name,
            },
        )
        size = found.newest.checkpoint.size
        if not rows or int(rows[0][2]) < position.offset or int(rows[0][0]) >= size:
            return None
        index = int(rows[0][0])
        entry = self._entry(index, size)
        if entry_sha256(entry) != bytes.fromhex(rows[0][1]):
            raise _disagree(index)
        name, header = decode_entry(entry)
        if name != BLOCK or header["log_id"] != position.log_id:
            raise _disagree(index)
        block = self._opened(len(found.entries), header)
        first = self._first(index, found)
        proofs = {
            one.checkpoint.size: inclusion_proof(index, one.checkpoint.size, subtree)
            for one in (first, found.newest)
        }
        found.entries.append(SealedEntry(entry, index, proofs))
        return block

    def _first(self, index: int, found: Inclusions) -> SignedCheckpoint:
        """The first checkpoint that covers an entry."""
        asked = {"origin": self._key.name, "index": index}
        size, note = self._store.query_rows(_FIRST, asked)[0]
        return found.checkpoints.setdefault(int(size), self._signed(note))

    def _entry(self, index: int, size: int) -> bytes:
        number = index // TILE_WIDTH
        width = min(TILE_WIDTH, size - number * TILE_WIDTH)
        return self._folder.bundle(Tile(None, number, width))[index % TILE_WIDTH]

    def _opened(self, number: int, header: dict[str, Any]) -> _Block:
        origin = LogPartition(*(header[name] for name in _LOG_FIELDS))
        rest = {name: value for name, value in header.items() if name not in _LOG_FIELDS}
        sealed = SealedBlock(**rest)
        facts = self._blocks.facts_by_offset(origin, sealed)
        hashes = leaf_hashes(fact for _, fact in facts)
        if root_of(hashes) != sealed.root:
            raise Corrupt(
                f"block {sealed.offset_first} of {origin.topic}/{origin.partition} is not what was "
                "sealed: run `consent-ledger verify`"
            )
        leaves = {offset: leaf for leaf, (offset, _) in enumerate(facts)}
        return _Block(number, origin, sealed, hashes, leaves)


def _covers(block: _Block, position: Position) -> bool:
    return block.header.offset_first <= position.offset <= block.header.offset_last


def _inclusion(block: _Block, position: Position) -> Inclusion:
    hashes = block.hashes
    leaf = block.leaves[position.offset]

    def subtree(start: int, end: int) -> bytes:
        return root_of(hashes[start:end])

    return Inclusion(block.number, leaf, inclusion_proof(leaf, len(hashes), subtree))


def _disagree(index: int) -> Corrupt:
    return Corrupt(f"store and log disagree about entry {index}: run `consent-ledger verify`")
