"""Tokens, commitments and sealed originals."""

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from consent import privacy

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))


def test_tokens_depend_on_key_and_number() -> None:
    """A token stands for one number under one key, and is repeatable."""
    one = privacy.subject_token(KEY, "+14155550123")
    assert one == privacy.subject_token(KEY, "+14155550123")
    assert [one] == privacy.subject_tokens(KEY, ["+14155550123"])
    others = [privacy.subject_token(OTHER, "+14155550123"), privacy.subject_token(KEY, "+1415555")]
    assert len({one, *others}) == 3
    assert len(one) == privacy.TOKEN_BYTES


def test_party_references_of_two_sellers_never_meet() -> None:
    """Customer 7 of one seller is not customer 7 of another."""
    assert privacy.party_token(KEY, "a", "7") != privacy.party_token(KEY, "b", "7")


@given(st.lists(st.none() | st.binary(max_size=20), max_size=6))
def test_packing_is_reversible(parts: list[bytes | None]) -> None:
    """None, empty and any bytes come back as they were."""
    assert privacy.unpack(privacy.pack(parts)) == parts


@given(st.lists(st.none() | st.binary(max_size=50), max_size=4))
def test_a_sealed_original_opens_only_with_its_key_and_place(parts: list[bytes | None]) -> None:
    """Sealing is repeatable; another key, place or byte does not open."""
    place = privacy.position_bytes(bytes(16), "consent-events", 1, 7)
    letter = privacy.seal_dead_letter(KEY, place, parts)
    assert letter == privacy.seal_dead_letter(KEY, place, parts)
    assert privacy.open_dead_letter(KEY, place, letter) == parts
    elsewhere = privacy.position_bytes(bytes(16), "consent-events", 1, 8)
    for key, position in ((OTHER, place), (KEY, elsewhere)):
        with pytest.raises(InvalidTag):
            privacy.open_dead_letter(key, position, letter)


def test_keys_hide_and_differ() -> None:
    """Keys never show in a repr, have the right length, and none serves two purposes."""
    keys = privacy.Keys(KEY, OTHER, bytes(32))
    assert repr(KEY)[2:-1] not in repr(keys)
    with pytest.raises(ValueError, match="differ"):
        privacy.Keys(KEY, KEY, bytes(32))
    with pytest.raises(ValueError, match="32 bytes"):
        privacy.Keys(KEY, OTHER, b"short")
