"""Of two entries for one slot at the same instant, the stricter one is kept."""

from __future__ import annotations

from typing import Any

import pytest

from consent.state import (
    Attempt,
    DncEntry,
    Grant,
    LegalHold,
    Reassignment,
    Refusal,
    Relationship,
    SubjectState,
    merge,
)

AT = 1_795_000_000_000_000

GRANT = Grant(AT, "b", AT + 100, AT, 0b111, (), "UNKNOWN")
DNC = DncEntry(AT, "b", True, AT, False)
RELATIONSHIP = Relationship(AT, "b", 20_000, "ACTIVE", None, ("x", "y"), True)
ATTEMPT = Attempt(AT, "b", "", "p", AT + 60, "MARKETING", "LIVE", "MANUAL")


@pytest.mark.parametrize(
    ("section", "laxer", "stricter"),
    [
        ("grants", GRANT._replace(expires_at=None), GRANT),
        ("grants", GRANT, GRANT._replace(expires_at=AT + 99)),
        ("grants", GRANT, GRANT._replace(elements=0b11)),
        ("grants", GRANT, GRANT._replace(subject_matters=("loans",))),
        (
            "grants",
            GRANT._replace(subject_matters=("a", "b")),
            GRANT._replace(subject_matters=("c",)),
        ),
        ("grants", GRANT._replace(party="BUSINESS"), GRANT),
        ("grants", GRANT, GRANT._replace(party="CONSUMER")),
        ("dnc", DNC._replace(listed=False), DNC),
        ("dnc", DNC, DNC._replace(whole_party=True)),
        ("dnc", DNC, DNC._replace(requested_at=AT - 1)),
        ("dnc", DNC, DNC._replace(listed_on=1)),
        ("refusals", Refusal(AT, "b", False), Refusal(AT, "a", True)),
        ("relationships", RELATIONSHIP, RELATIONSHIP._replace(status="ENDED")),
        ("relationships", RELATIONSHIP, RELATIONSHIP._replace(on=19_999)),
        ("relationships", RELATIONSHIP, RELATIONSHIP._replace(ended_on=20_001)),
        ("relationships", RELATIONSHIP, RELATIONSHIP._replace(related_subject_matters=("x",))),
        ("relationships", RELATIONSHIP, RELATIONSHIP._replace(affiliate_expected=False)),
        ("relationships", RELATIONSHIP, RELATIONSHIP._replace(call_until_at=AT + 9)),
        ("reassignments", Reassignment(AT, "b", "NO", 1), Reassignment(AT, "a", "NO_DATA", 1)),
        ("reassignments", Reassignment(AT, "b", "NO_DATA", 1), Reassignment(AT, "a", "YES", 1)),
        ("legal_holds", LegalHold(AT, False), LegalHold(AT, True)),
    ],
)
def test_the_stricter_wins_at_one_instant(section: str, laxer: Any, stricter: Any) -> None:
    """Whichever came first; a later entry wins over both."""
    one = SubjectState(**{section: {"slot": laxer}})
    other = SubjectState(**{section: {"slot": stricter}})
    assert merge(one, other) == merge(other, one) == other
    later = SubjectState(**{section: {"slot": laxer._replace(at=AT + 1)}})
    assert merge(later, other) == merge(other, later) == later


@pytest.mark.parametrize(
    ("laxer", "stricter"),
    [
        (ATTEMPT, ATTEMPT._replace(permit_expires_at=AT + 61)),
        (ATTEMPT, ATTEMPT._replace(permit_expires_at=None)),
    ],
)
def test_of_one_attempt_what_counts_longer_is_kept(laxer: Attempt, stricter: Attempt) -> None:
    """A call counts for ever, a permit until it expires."""
    one = SubjectState(attempts={("acme", "*"): (laxer,)})
    other = SubjectState(attempts={("acme", "*"): (stricter,)})
    assert merge(one, other) == merge(other, one) == other
