"""Lists that are asked number by number, and those of a person's other numbers."""

from __future__ import annotations

import pytest

from consent.call import ListMembership, Registries
from consent.rulebook import Rulebook
from consent.state import EMPTY, SubjectState
from consent.state_entries import DncEntry
from tests.decisions import DAY, NOW, SELLER, book, book_files, decided, listing, request, rule

TODAY = NOW // DAY


def washing() -> Rulebook:
    """A rulebook with a registry that is asked number by number, of at most fifteen days."""
    absent = {"kind": "list_absent", "params": {"registries": ["a_wash"]}}
    fresh = {"kind": "freshness", "params": {"registries": ["a_wash"], "max_age_days": 15}}
    on_fail = {"effect": "deny", "reason": "NATIONAL_DNC", "next": "on_event"}
    stale = {"effect": "deny", "reason": "SCRUB_STALE", "next": "on_event"}
    files = book_files(
        rule(id="US-LIST", check=absent, on_fail=on_fail),
        rule(id="US-FRESH", check=fresh, on_fail=stale),
    )
    washed = '"title": "A list of a test", "wash": true'
    files["lists.yaml"] = files["lists.yaml"].replace('"title": "A list of a test"', washed)
    return Rulebook.load(files)


def washed(listed: bool, at: int, seller: str = SELLER) -> SubjectState:
    """The result of a wash."""
    entry = DncEntry(at, "wash", listed, at, False)
    return SubjectState(dnc={(seller, "NATIONAL", "a_wash"): entry})


@pytest.mark.parametrize(
    ("state", "verdict", "reason"),
    [
        (EMPTY, "UNAVAILABLE", "REGISTRY_UNLOADED"),
        (washed(False, NOW - DAY), "ALLOW", None),
        (washed(True, NOW - DAY), "DENY", "NATIONAL_DNC"),
        (washed(False, NOW - 15 * DAY), "ALLOW", None),
        (washed(False, NOW - 16 * DAY), "DENY", "SCRUB_STALE"),
        (washed(False, NOW + 1), "DENY", "NATIONAL_DNC"),
        (washed(False, NOW - DAY, "globex"), "UNAVAILABLE", "REGISTRY_UNLOADED"),
    ],
)
def test_washes(state: SubjectState, verdict: str, reason: str | None) -> None:
    """A registry that is asked number by number answers by its newest result, and its date."""
    decision = decided(request(), state, washing(), registries=Registries())
    assert (decision.verdict, decision.reason) == (verdict, reason)
    loaded = Registries((ListMembership("a_wash", None, "1", TODAY, False),))
    assert decided(request(), state, washing(), registries=loaded).allowed


WHOLE = (SELLER, "INTERNAL", "internal/whole-party")


def reaching(linked: str) -> Rulebook:
    """A rulebook that looks on the person's other numbers."""
    params = {"list_kinds": ["internal"], "linked": linked}
    on_fail = {"effect": "deny", "reason": "INTERNAL_DNC_PARTY", "next": "on_event"}
    return book(rule(check={"kind": "list_absent", "params": params}, on_fail=on_fail))


@pytest.mark.parametrize(
    ("entry", "whole_party", "every"),
    [
        (listing(key=WHOLE), True, True),
        (listing(), False, True),
        (listing(listed=False, key=WHOLE), False, False),
        (listing(key=("globex", "INTERNAL", "internal/whole-party")), False, False),
        (listing(key=("*", "INTERNAL", "internal/whole-party")), True, True),
        (listing(key=(SELLER, "NATIONAL", "x")), False, False),
        (listing(key=("test:acme", "INTERNAL", "internal/whole-party")), False, False),
    ],
)
def test_request_on_another_number(entry: SubjectState, whole_party: bool, every: bool) -> None:
    """A request for the whole party reaches the person's other numbers; a plain one where asked."""
    for linked, reached in (("whole_party", whole_party), ("all", every)):
        rulebook = reaching(linked)
        decision = decided(request(), EMPTY, rulebook, linked=(EMPTY, entry))
        assert decision.reason == ("INTERNAL_DNC_PARTY" if reached else None)
        # What stands on the number itself is for other rules.
        assert decided(request(), entry, rulebook).allowed


def test_lists_left_to_other_rules() -> None:
    """A rule may leave some lists to rules of their own, and take others by their id."""
    on_fail = {"effect": "deny", "reason": "STATE_DNC", "next": "on_event"}
    entry = listing(key=("*", "STATE", "us_tx_dnc"))
    for params, denied in (
        ({}, True),
        ({"except_ids": ["us_tx_dnc"]}, False),
        ({"except_ids": ["us_fl_dnc"]}, True),
        ({"list_ids": ["us_tx_dnc"]}, True),
        ({"list_ids": ["us_fl_dnc"]}, False),
    ):
        check = {"kind": "list_absent", "params": {"list_kinds": ["state"], **params}}
        decision = decided(request(), entry, book(rule(check=check, on_fail=on_fail)))
        assert decision.allowed is not denied
