"""Canonical numbers."""

import pytest

from consent.errors import Rejected
from consent.numbers import canonical_number, is_canonical, is_canonical_key, region_of


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("+14155550123", None, "+14155550123"),
        ("+1 (415) 555-0123", None, "+14155550123"),
        (" 415-555-0123 ", "US", "+14155550123"),
        ("06 12 34 56 78", "FR", "+33612345678"),
        ("020 7946 0018", "GB", "+442079460018"),
    ],
)
def test_forms_that_are_unambiguous(text: str, region: str | None, number: str) -> None:
    """International forms, and national ones with a region, have one canonical form."""
    assert canonical_number(text, region) == number


@pytest.mark.parametrize("text", ["415-555-0123", "", "+", "+1", "hello", "+1415555012345678"])
def test_forms_that_are_not(text: str) -> None:
    """A form that could be several numbers, or none, is rejected with a remedy, unrepeated."""
    with pytest.raises(Rejected) as raised:
        canonical_number(text)
    assert raised.value.reason == "NUMBER_INVALID"
    assert "E.164" in raised.value.remedy
    assert len(text) < 7 or text not in str(raised.value)


def test_a_local_number_without_area_code_is_not_one() -> None:
    """Seven digits are a number in every area code."""
    with pytest.raises(Rejected):
        canonical_number("555-0123", "US")


def test_canonical_is_ascii_digits() -> None:
    """Only a plus and 7 to 15 ASCII digits are canonical."""
    assert is_canonical("+14155550123")
    assert is_canonical_key(b"+14155550123")
    for text in ("14155550123", "+04155550123", "+1415\n", "+1415555012٣", "+14155550123\n"):
        assert not is_canonical(text)
        assert not is_canonical_key(text.encode())


def test_region() -> None:
    """The region is the country that the number belongs to, where there is one."""
    assert region_of("+14155550123") == "US"
    assert region_of("+442079460018") == "GB"
    assert region_of("+80012345678") is None
