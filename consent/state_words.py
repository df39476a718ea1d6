"""A state as an auditor reads it: entries by section, instants as text, nothing that is a key."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from consent.evidence import BITS
from consent.instants import date_text, instant_text
from consent.party_links import PARTY_REF
from consent.reconstruction import StateChange
from consent.state import TEST_PREFIX, SubjectState
from consent.state_entries import ANY

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "grants": ("seller_id", "purpose", "mode", "consent_kind"),
    "withdrawals": ("seller_id", "purpose", "mode", "subject_matter"),
    "dnc": ("seller_id", "list_kind", "list_id"),
    "refusals": ("seller_id", "subject_matter"),
    "relationships": ("seller_id", "relationship_kind", "relationship_id"),
    "attempts": ("seller_id", "subject_matter"),
    "outcomes": ("seller_id", "outcome"),
    "attributes": ("name",),
    "reassignments": ("seller_id",),
    "legal_holds": ("hold_id",),
    "erased": (),
}
"""Sections of a state, and what their keys are made of."""

_DATES: Final = ("on", "ended_on", "listed_on", "query_date")

Sellers = Collection[str] | None
"""Sellers whose entries are shown, and those of every seller; None for all."""


def state_words(state: SubjectState, sellers: Sellers = None) -> dict[str, list[dict[str, Any]]]:
    """Every entry of a state, by section, in the order of their keys; empty sections left out."""
    shown: dict[str, list[dict[str, Any]]] = {}
    for section in _KEYS:
        entries = [
            {**_key_words(section, key), **entry_words(value)}
            for key, value in _entries(state, section)
            if is_shown(section, key, sellers)
        ]
        if entries:
            shown[section] = entries
    return shown


def change_words(change: StateChange) -> dict[str, Any]:
    """One entry that differs between two states; null where one has none."""
    return {
        "section": change.section,
        **_key_words(change.section, change.key[: len(_KEYS[change.section])]),
        "before": None if change.before is None else entry_words(change.before),
        "after": None if change.after is None else entry_words(change.after),
    }


def is_shown(section: str, key: tuple[str, ...], sellers: Sellers) -> bool:
    """True if who may see these sellers may see the entry; what is of no seller is for all."""
    if sellers is None or _KEYS[section][:1] != ("seller_id",):
        return True
    seller_id = key[0].removeprefix(TEST_PREFIX)
    return seller_id == ANY or seller_id in sellers


def entry_words(entry: Any) -> dict[str, Any]:
    """An entry's fields; what is not stated is left out."""
    return {
        name: _value_words(name, value)
        for name, value in entry._asdict().items()
        if value is not None and value != ()
    }


def _key_words(section: str, key: tuple[str, ...]) -> dict[str, Any]:
    words: dict[str, Any] = dict(zip(_KEYS[section], key, strict=True))
    if any(part.startswith(TEST_PREFIX) for part in key[:1]):
        words[_KEYS[section][0]] = key[0].removeprefix(TEST_PREFIX)
        words["test"] = True
    return words


def _entries(state: SubjectState, section: str) -> list[tuple[tuple[str, ...], Any]]:
    if section == "erased":
        return [] if state.erased is None else [((), state.erased)]
    if section == "attempts":
        return [(key, attempt) for key in sorted(state.attempts) for attempt in state.attempts[key]]
    found: Mapping[Any, Any] = getattr(state, section)
    return [
        ((key,) if isinstance(key, str) else key, found[key])
        for key in sorted(found)
        if not (isinstance(key, str) and key.removeprefix(TEST_PREFIX).startswith(PARTY_REF))
    ]


def _value_words(name: str, value: Any) -> Any:
    if name == "at" or name.endswith("_at"):
        return instant_text(value)
    if name in _DATES:
        return date_text(value)
    if name == "elements":
        return [element for element, bit in BITS.items() if value >> bit & 1]
    if name == "cutoffs":
        return len(value)
    return list(value) if isinstance(value, tuple) else value
