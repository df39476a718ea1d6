"""The kind `list_absent`: the number is on none of the named do-not-call lists.

Lists that reach the number's state as events (`list_kinds`) are always known. A registry that was
not loaded makes the answer unavailable instead of a yes or a no.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from consent.call_facts import CallFacts
from consent.findings import Finding, Result
from consent.rule_context import RuleContext, known_registries
from consent.state_entries import WHOLE_PARTY_SUFFIX, DncEntry, DncKey


@dataclass(frozen=True, slots=True)
class ListCheck:
    """`list_ids` narrows `list_kinds` to lists of these ids; empty is every list of the kinds.

    Lists of `except_ids` are left to rules of their own. With `linked` the entries are looked for
    on the person's other numbers: all of them, or those that name every number of the person.
    """

    list_kinds: frozenset[str]
    list_ids: frozenset[str]
    except_ids: frozenset[str]
    registries: tuple[str, ...]
    linked: str | None

    def find(self, facts: CallFacts, zones: tuple[str, ...]) -> Finding:
        """Fail on any listing; with several the one asked for first is named."""
        if self.linked is None and not facts.state.dnc:
            return self._registered(facts) if self.registries else _NOT_LISTED
        standing = [
            (entry.requested_at, entry.event_id, key) for key, entry in self._listings(facts)
        ]
        if standing:
            requested_at, event_id, key = min(standing)
            used = (
                ("list", f"{key[1]}/{key[2]}"),
                ("entry", event_id),
                ("requested_at", requested_at),
            )
            return Finding(Result.FAILS, used)
        return self._registered(facts) if self.registries else _NOT_LISTED

    def edges(self, facts: CallFacts, after: int, until: int) -> Iterable[int]:
        """Where removals take effect."""
        for _key, entry in self._listings(facts):
            if not entry.listed and after < entry.at <= until:
                yield entry.at

    def _listings(self, facts: CallFacts) -> Iterator[tuple[DncKey, DncEntry]]:
        states = (facts.state,) if self.linked is None else facts.surroundings.linked
        for state in states:
            if not state.dnc:
                continue
            for key, entry in facts.listings(self.list_kinds, state):
                if self.linked == "whole_party" and not names_whole_party(key, entry):
                    continue
                list_id = key[2].removesuffix(WHOLE_PARTY_SUFFIX)
                if list_id not in self.except_ids and (
                    not self.list_ids or list_id in self.list_ids
                ):
                    yield key, entry

    def _registered(self, facts: CallFacts) -> Finding:
        used: list[tuple[str, object]] = []
        unloaded = False
        for list_id in self.registries:
            found = facts.membership(list_id)
            if found is None or found.member is None:
                unloaded = True
                used.append((list_id, None))
            elif found.member:
                return Finding(Result.FAILS, ((list_id, True), ("version", found.version)))
            else:
                used.append((list_id, False))
        return Finding(Result.UNLOADED if unloaded else Result.HOLDS, tuple(used))


def names_whole_party(key: DncKey, entry: DncEntry) -> bool:
    """True if an entry asks for every number of the person."""
    return entry.whole_party or key[2].endswith(WHOLE_PARTY_SUFFIX)


_NOT_LISTED: Final = Finding(Result.HOLDS, (("listings", 0),))


def compile_list_absent(params: Mapping[str, Any], context: RuleContext) -> ListCheck:
    """Check of the parameters in a rule file."""
    return ListCheck(
        list_kinds=frozenset(kind.upper() for kind in params.get("list_kinds", ())),
        list_ids=frozenset(params.get("list_ids", ())),
        except_ids=frozenset(params.get("except_ids", ())),
        registries=known_registries(params, context),
        linked=params.get("linked"),
    )
