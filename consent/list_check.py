"""The kind `list_absent`: the number is on none of the named do-not-call lists.

Lists that reach the number's state as events (`list_kinds`) are always known. A registry that was
not loaded makes the answer unavailable instead of a yes or a no.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from consent.call_facts import CallFacts
from consent.findings import HOLDS, Finding, Result


@dataclass(frozen=True, slots=True)
class ListCheck:
    """`list_ids` narrows `list_kinds` to lists of these ids; empty is every list of the kinds."""

    list_kinds: frozenset[str]
    list_ids: frozenset[str]
    registries: tuple[str, ...]

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Fail on any listing; with several the one asked for first is named."""
        if facts.state.dnc:
            standing = [
                (entry.requested_at, entry.event_id, key)
                for key, entry in facts.listings(self.list_kinds)
                if not self.list_ids or key[2] in self.list_ids
            ]
            if standing:
                requested_at, event_id, key = min(standing)
                used = (
                    ("list", f"{key[1]}/{key[2]}"),
                    ("entry", event_id),
                    ("requested_at", requested_at),
                )
                return Finding(Result.FAILS, used)
        return self._registered(facts) if self.registries else HOLDS

    def edges(self, facts: CallFacts, until: int) -> Iterable[int]:
        """Where removals take effect."""
        for _key, entry in facts.listings(self.list_kinds):
            if not entry.listed and facts.at < entry.at <= until:
                yield entry.at

    def _registered(self, facts: CallFacts) -> Finding:
        used: list[tuple[str, object]] = []
        unloaded = False
        for list_id in self.registries:
            found = facts.registries.membership(list_id)
            if found is None or found.member is None:
                unloaded = True
                used.append((list_id, None))
            elif found.member:
                return Finding(Result.FAILS, ((list_id, True), ("version", found.version)))
            else:
                used.append((list_id, False))
        return Finding(Result.UNLOADED if unloaded else Result.HOLDS, tuple(used))


def compile_list_absent(params: Mapping[str, Any]) -> ListCheck:
    """Check of the parameters in a rule file."""
    return ListCheck(
        list_kinds=frozenset(kind.upper() for kind in params.get("list_kinds", ())),
        list_ids=frozenset(params.get("list_ids", ())),
        registries=tuple(params.get("registries", ())),
    )
