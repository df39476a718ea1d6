"""Numbers of one person: how an event links its number to a publisher's reference of the person.

A link is an attribute of the number's state, one per seller, whose values are tokens: numbers that
have a token in common belong together. The reference itself never enters a state. As every
attribute it moves with the newest event and ends with an erasure. Which key tokens are made with
is the caller's: the suppression topic's own for what dialers see, so that it opens no history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import polars

from consent.evidence import has_evidence
from consent.lifters import LIFTERS, Entries, prefixed
from consent.privacy import party_token
from consent.state import ANY, TEST_PREFIX, Attribute, SubjectState

PARTY_REF: Final = "party_ref:"
"""Before the seller, in the name of the attribute that holds a link's token as hex."""


_TEST_PARTY_REF: Final = TEST_PREFIX + PARTY_REF

Party = bytes
"""A token as numbers are grouped by it; those of rehearsals begin with TEST_PREFIX."""


_NO_PARTIES: Final[frozenset[Party]] = frozenset()


@lru_cache(maxsize=1 << 14)
def _link_names(seller_id: str, test: bool) -> tuple[str, str]:
    """Attributes whose links count for a seller: its own, and those stated for every seller."""
    return prefixed(test, PARTY_REF + seller_id), prefixed(test, PARTY_REF + ANY)


def link_entries(at: int, test: bool, seller_id: str, token: bytes) -> Entries:
    """Entries of a link stated on behalf of a seller."""
    name = prefixed(test, PARTY_REF + seller_id)
    return (("attributes", name, Attribute(at, (token.hex(),))),)


def parties_for(state: SubjectState, seller_id: str, test: bool = False) -> frozenset[Party]:
    """Parties that a number belongs to as far as this seller knows."""
    attributes = state.attributes
    names = [name for name in _link_names(seller_id, test) if name in attributes]
    return parties_in({name: attributes[name] for name in names}) if names else _NO_PARTIES


def parties_in(attributes: Mapping[str, Attribute]) -> frozenset[Party]:
    """Parties that a number's attributes link it to, whoever knows of it."""
    found: set[str] = set()
    for name, attribute in attributes.items():
        if name.startswith(PARTY_REF):
            found.update(attribute.values)
        elif name.startswith(_TEST_PARTY_REF):
            found.update(TEST_PREFIX + value for value in attribute.values)
    return frozenset(value.encode() for value in found)


def named_party(name: str, event: Mapping[str, Any], key: bytes | None) -> bytes | None:
    """Token of the party that one event names; ValueError if it names one and there is no key."""
    reference = (event.get("evidence") or {}).get("party_reference")
    if not LIFTERS[name].links or not _refers(reference):
        return None
    if key is None:
        raise ValueError("the event names a party: a key is needed to keep its token")
    return party_token(key, event["seller_id"], str(reference))


def named_parties(name: str, frame: polars.DataFrame, key: bytes) -> list[bytes | None]:
    """`named_party` of every row of a frame of events of one type."""
    none: list[bytes | None] = [None] * frame.height
    references = party_references(frame)
    if references is None or not LIFTERS[name].links:
        return none
    sellers = frame.get_column("seller_id").to_list()
    return [
        party_token(key, seller, str(reference)) if _refers(reference) else None
        for seller, reference in zip(sellers, references, strict=True)
    ]


def party_references(frame: polars.DataFrame) -> Sequence[str | None] | None:
    """The publisher's reference in every row of a frame of events; None if none has any."""
    if not has_evidence(frame):
        return None
    references = frame.get_column("evidence").struct.field("party_reference")
    return None if references.null_count() == frame.height else references.to_list()


def _refers(reference: str | None) -> bool:
    """An empty reference is none: it would make one person of everybody."""
    return reference is not None and not reference.isspace() and reference != ""
