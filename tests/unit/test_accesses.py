"""What is written down about a look: its reason, and its entry of the log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.accesses import NOT_GIVEN, Access, access_entry, checked_reason
from consent.codec import encode
from consent.errors import Rejected
from consent.log_entries import entry_of_value


@pytest.mark.parametrize(
    "reason",
    ["audit 2026-11-25", "complaint C-4711/2026", "§ 15 GDPR, case 12 of 2026", "FTC CID 23"],
)
def test_a_reason_is_taken_as_it_is(reason: str) -> None:
    """Cases, dates and file numbers are reasons."""
    assert checked_reason(f"  {reason} ", required=True) == reason


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (None, "REASON_MISSING"),
        ("   ", "REASON_MISSING"),
        ("x" * 201, "REASON_TOO_LONG"),
        ("two\nlines", "REASON_TOO_LONG"),
        ("asked by jo@example.com", "REASON_NAMES_PERSON"),
        ("called +1 (415) 555-0123", "REASON_NAMES_PERSON"),
        ("called 4155550123 on 2026-11-25", "REASON_NAMES_PERSON"),
    ],
)
def test_what_is_no_reason(reason: str | None, code: str) -> None:
    """No reason, more than a line, and what names a person are refused, and not repeated."""
    with pytest.raises(Rejected) as refused:
        checked_reason(reason, required=True)
    assert refused.value.reason == code
    if reason and reason.strip():
        assert reason not in str(refused.value)


def test_without_keys_a_reason_may_be_left_out() -> None:
    """Then that is what is kept; a wrong one is still refused."""
    assert checked_reason(None, required=False) == NOT_GIVEN
    with pytest.raises(Rejected):
        checked_reason("jo@example.com", required=False)


texts = st.text(max_size=40)


@given(texts, texts, texts, texts, st.none() | st.binary(min_size=16, max_size=16))
def test_an_access_is_an_entry_of_the_log(
    who: str, role: str, what: str, why: str, subject: bytes | None
) -> None:
    """Its fields go through the log's codec unchanged."""
    access = Access(who, role, what, why, subject, {"month": "2026-11"})
    fields = access_entry(access, "6a1c0000-0000-4000-8000-000000000001", 1_790_000_000_000_000)
    _, name, read = entry_of_value(encode("LogEntry", fields))
    assert name == "LogEntry"
    content = {pair["name"]: pair["value"] for pair in read["content"]}
    assert (content["who"], content["role"], content["what"]) == (who, role, what)
    assert (content["why"], read["subject"], read["entry_kind"]) == (why, subject, "ACCESS")


@given(texts, texts, texts, texts)
def test_another_access_has_another_digest(one: str, two: str, three: str, four: str) -> None:
    """No two different contents have the same canonical form."""
    first = access_entry(Access(one, "r", two, "why"), "id", 0)
    second = access_entry(Access(three, "r", four, "why"), "id", 0)
    assert (first["content_sha256"] == second["content_sha256"]) == ((one, two) == (three, four))
