"""What stood at the end of a bundle's period: each consent and what became of it, each refusal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consent.instants import instant_text
from consent.reconstruction import KnownFact
from consent_ledger.receipt_events import happened_at, lifecycle_of

_RESTRICTING = ("ConsentWithdrawn", "ConsentRefused", "DncAdded")
_ENDED = {
    "dpv:ConsentWithdrawn": "taken back",
    "dpv:ConsentInvalidated": "found invalid",
    "dpv:ConsentExpired": "expired",
}


def standing_of(own: Sequence[tuple[int, KnownFact]], end: int) -> list[dict[str, Any]]:
    """Lines by the number of their event, oldest first; `in_force` as far as facts alone say.

    Whether a call may be placed is the rules' business: a consent in force may not be enough.
    """
    known = [fact for _, fact in own]
    lines = []
    for number, fact in own:
        if fact.fields is None:
            continue
        if fact.name == "ConsentGranted" and fact.fields["change"] != "REQUESTED":
            lines.append({"event": number, "restricts": False, **_granted(fact, known, end)})
        elif fact.name in _RESTRICTING:
            lines.append({"event": number, "restricts": True, **_restricted(fact, known)})
    return lines


def _granted(grant: KnownFact, known: Sequence[KnownFact], end: int) -> dict[str, Any]:
    for state in lifecycle_of(grant, known)[1:]:
        word = _ENDED.get(state["state"])
        if word is not None and state["time"] < end:
            at = instant_text(state["time"])
            return {"in_force": False, "how": f"{word}, at least in part", "at": at}
    return {"in_force": True, "how": "not taken back", "at": None}


def _restricted(fact: KnownFact, known: Sequence[KnownFact]) -> dict[str, Any]:
    assert fact.fields is not None
    for later in known:
        if fact.name != "DncAdded" or later.name != "DncRemoved" or later.fields is None:
            continue
        same = all(later.fields[name] == fact.fields[name] for name in ("list_kind", "list_id"))
        if same and later.seller_id == fact.seller_id and happened_at(later) > happened_at(fact):
            at = instant_text(happened_at(later))
            return {"in_force": False, "how": "taken off the list", "at": at}
    return {"in_force": True, "how": "stands", "at": None}
