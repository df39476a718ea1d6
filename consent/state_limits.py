"""What becomes of a state that would be too large for a record of the suppression topic.

Nobody who publishes properly comes near the limit. But a state that no broker takes would stop its
whole partition, so the last resort is to say less, and never to permit more: first rehearsals go,
then everything that permits, and what restricts is drawn together into restrictions of everything.
Links to other numbers of the person stay, newest first, as far as there is room: by them an opt-out
reaches those numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from consent.party_links import PARTY_REF
from consent.state import (
    ANY,
    TEST_PREFIX,
    Attribute,
    DncEntry,
    LegalHold,
    SubjectState,
    Withdrawal,
)
from consent.state_codec import SECTIONS, decode_state_body, encode_state_body

STATE_BYTES_MAX: Final = 900_000
"""Below the topic's `max.message.bytes`."""

_LINK_OVERHEAD_BYTES: Final = 32
_VALUE_OVERHEAD_BYTES: Final = 2
"""No less than an encoded link takes beside its name and its values."""

_NO_EVENT: Final = "00000000-0000-0000-0000-000000000000"

OVERFLOW: Final = "overflow"
"""List id and hold id of what was drawn together."""


def bounded_body(body: bytes, bytes_max: int = STATE_BYTES_MAX) -> bytes:
    """The encoded state itself if it is no larger than the limit, else one that restricts more.

    Deterministic, and the same for what was bounded before; but no longer what merging alone
    would give, so that whoever bounds must say so.
    """
    if len(body) <= bytes_max:
        return body
    state = _without_rehearsals(decode_state_body(body))
    body = encode_state_body(state)
    if len(body) <= bytes_max:
        return body
    drawn = _drawn_together(state)
    return encode_state_body(replace(drawn, attributes=_links(state, bytes_max // 2)))


def _without_rehearsals(state: SubjectState) -> SubjectState:
    sections: dict[str, Any] = {}
    for name in SECTIONS:
        content = getattr(state, name)
        if name not in ("erased", "applied"):
            content = {key: value for key, value in content.items() if not _rehearsed(key)}
        sections[name] = content
    return SubjectState(**sections)


def _rehearsed(key: Any) -> bool:
    name = key if isinstance(key, str) else key[0]
    return bool(name.startswith(TEST_PREFIX))


def _drawn_together(state: SubjectState) -> SubjectState:
    """Everything is withdrawn as of the newest entry; lists and holds stay in force as one."""
    stamps = _stamps(state)
    if not stamps:
        return state
    newest_at, event_id = max(stamps)
    withdrawn = Withdrawal(newest_at, event_id, "UNKNOWN")
    listed = [entry for entry in state.dnc.values() if entry.listed]
    held = any(hold.held for hold in state.legal_holds.values())
    entry = DncEntry(
        newest_at, event_id, True, newest_at, any(entry.whole_party for entry in listed)
    )
    return SubjectState(
        withdrawals={(ANY, ANY, ANY, ANY): withdrawn},
        dnc={(ANY, "INTERNAL", OVERFLOW): entry} if listed else {},
        legal_holds={OVERFLOW: LegalHold(newest_at, True)} if held else {},
        erased=state.erased,
        applied=state.applied,
    )


def _links(state: SubjectState, bytes_max: int) -> Mapping[str, Attribute]:
    """Real links to a person's other numbers, the newest ones that fit."""
    kept: dict[str, Attribute] = {}
    room = bytes_max
    links = (item for item in state.attributes.items() if item[0].startswith(PARTY_REF))
    for name, link in sorted(links, key=lambda item: (item[1], item[0]), reverse=True):
        room -= _LINK_OVERHEAD_BYTES + len(name.encode())
        room -= sum(len(value) + _VALUE_OVERHEAD_BYTES for value in link.values)
        if room < 0:
            break
        kept[name] = link
    return kept


def _stamps(state: SubjectState) -> list[tuple[int, str]]:
    values: list[Any] = []
    for name in SECTIONS:
        content = getattr(state, name)
        if name == "attempts":
            values += [attempt for attempts in content.values() for attempt in attempts]
        elif name not in ("erased", "applied"):
            values += content.values()
    return [(value.at, getattr(value, "event_id", _NO_EVENT)) for value in values]
