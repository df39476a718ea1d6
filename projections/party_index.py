"""Which states of one partition are linked to a party, kept up to date as states change.

Owns no states. What it says is exactly what a scan of the encoded states would say. A party of one
number, the usual case where a person's numbers lie in different partitions, costs one entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from consent.party_links import PARTY_REF, Party, parties_in
from consent.state_bytes import attributes_with

_MARK: Final = PARTY_REF.encode()
_NO_PARTIES: Final[frozenset[Party]] = frozenset()
_NO_KEYS: Final[tuple[bytes, ...]] = ()


class PartyIndex:
    """Keys of states by party."""

    def __init__(self) -> None:
        self._keys: dict[Party, bytes | set[bytes]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def keys_of(self, party: Party) -> Iterable[bytes]:
        """Keys whose state is linked to the party, in no order; see `count_of`."""
        found = self._keys.get(party)
        if found is None:
            return _NO_KEYS
        return (found,) if isinstance(found, bytes) else found

    def count_of(self, party: Party) -> int:
        """How many keys are linked to the party."""
        found = self._keys.get(party)
        return 0 if found is None else 1 if isinstance(found, bytes) else len(found)

    def changed(self, key: bytes, before: bytes | None, after: bytes | None) -> None:
        """The state of a key is another one; None where it has none."""
        old, new = _parties(before), _parties(after)
        for party in old - new:
            self._remove(party, key)
        for party in new - old:
            self._add(party, key)

    def _add(self, party: Party, key: bytes) -> None:
        held = self._keys.get(party)
        if held is None:
            self._keys[party] = key
        elif isinstance(held, set):
            held.add(key)
        elif held != key:
            self._keys[party] = {held, key}

    def _remove(self, party: Party, key: bytes) -> None:
        held = self._keys.get(party)
        if isinstance(held, set):
            held.discard(key)
            if len(held) == 1:
                self._keys[party] = held.pop()
        elif held == key:
            del self._keys[party]


def _parties(body: bytes | None) -> frozenset[Party]:
    """Parties of an encoded state; quick for one without any."""
    if body is None or _MARK not in body:
        return _NO_PARTIES
    return parties_in(attributes_with(body, _MARK))
