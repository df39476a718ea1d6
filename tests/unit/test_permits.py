"""Permits: what they say, how long they are good for, and that nothing else passes for one."""

from __future__ import annotations

import base64
import json
import warnings
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import KeySet, OKPKey

from consent.call import NO_SURROUNDINGS
from consent.decision import decide
from consent.instants import MICROSECONDS
from consent.lifters import PERMIT_LIFETIME_MAX_US
from consent.permits import (
    PermitInvalid,
    PermitKey,
    PermitTerms,
    key_id_of,
    permit_expiry,
    public_jwk,
    public_keys_of,
    read_permit,
    recorded_permit,
)
from consent.state import EMPTY, SubjectState
from consent.state_entries import Attempt
from tests.decisions import NOW, book, request, rule
from tests.permits import TERMS

KEY = PermitKey(bytes(range(32)))
KEYS = {KEY.key_id: KEY.public_key}


def test_a_permit_says_what_it_was_made_of() -> None:
    """What is read is what was signed, and signing again gives the same."""
    assert read_permit(KEY.permit(TERMS), KEYS) == TERMS
    assert KEY.permit(TERMS) == KEY.permit(replace(TERMS))


@given(
    st.builds(
        replace,
        st.just(TERMS),
        seller_id=st.text(min_size=1, max_size=40),
        campaign_id=st.none() | st.text(max_size=40),
        test=st.booleans(),
        issued_at=st.integers(0, 4_000_000_000 * MICROSECONDS),
        expires_at=st.integers(0, 4_000_000_000 * MICROSECONDS),
        applied=st.dictionaries(
            st.tuples(st.text(max_size=20), st.binary(min_size=16, max_size=16)),
            st.integers(0, 2**53),
            max_size=4,
        ),
    )
)
def test_every_permit_reads_back(terms: PermitTerms) -> None:
    """Instants keep their microsecond, texts every character."""
    assert read_permit(KEY.permit(terms), KEYS) == terms


def test_another_library_verifies_it() -> None:
    """joserfc takes key set and permit, and finds the standard claims where they belong."""
    keys = KeySet.import_key_set({"keys": [public_jwk(KEY.public_key)]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        found = jws.deserialize_compact(KEY.permit(TERMS), keys, algorithms=["EdDSA"])
    claims = json.loads(found.payload)
    assert found.headers() == {"alg": "EdDSA", "kid": KEY.key_id, "typ": "permit+jwt"}
    assert claims["jti"] == TERMS.permit_id
    assert claims["sub"] == TERMS.number_token.hex()
    assert (claims["iat"], claims["exp"]) == (
        TERMS.issued_at // MICROSECONDS,
        TERMS.expires_at // MICROSECONDS,
    )
    assert OKPKey.import_key(public_jwk(KEY.public_key)).thumbprint() == KEY.key_id


def test_no_changed_character_passes() -> None:
    """Whatever single character is another one, the permit is refused."""
    token = KEY.permit(TERMS)
    for place, character in enumerate(token):
        other = "A" if character != "A" else "B"
        with pytest.raises(PermitInvalid):
            read_permit(token[:place] + other + token[place + 1 :], KEYS)


def part(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "head",
    [
        {"alg": "none", "typ": "permit+jwt"},
        {"alg": "HS256", "typ": "permit+jwt", "kid": KEY.key_id},
        {"alg": "EdDSA", "typ": "JWT", "kid": KEY.key_id},
        {"alg": "EdDSA", "typ": "permit+jwt", "kid": KEY.key_id, "crit": ["b64"]},
        {"alg": "EdDSA", "typ": "permit+jwt"},
        [],
    ],
)
def test_no_other_header_passes(head: object) -> None:
    """Neither no signature, nor another kind, nor another thing that this key signed."""
    _, claims, signature = KEY.permit(TERMS).split(".")
    with pytest.raises(PermitInvalid):
        read_permit(f"{part(head)}.{claims}.{signature}", KEYS)


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.b.c", "a.b.c.d", "é.b.c", "." * 20_000])
def test_what_is_no_permit_is_refused(token: str) -> None:
    with pytest.raises(PermitInvalid):
        read_permit(token, KEYS)


def test_a_permit_of_an_unknown_key_is_refused() -> None:
    other = PermitKey(bytes(32))
    with pytest.raises(PermitInvalid, match="not known"):
        read_permit(other.permit(TERMS), KEYS)
    with pytest.raises(PermitInvalid, match="signature"):
        read_permit(KEY.permit(TERMS), {KEY.key_id: other.public_key})


def test_a_key_set_is_read_by_id() -> None:
    """Keys of other kinds are passed over, and an id that is missing follows from the key."""
    nameless = {name: text for name, text in public_jwk(KEY.public_key).items() if name != "kid"}
    assert public_keys_of({"keys": [{"kty": "RSA"}, nameless]}) == {
        key_id_of(KEY.public_key): KEY.public_key
    }


def test_the_seed_never_shows() -> None:
    """Neither raw nor as hex."""
    assert repr(KEY.seed) not in repr(KEY) and KEY.seed.hex() not in repr(KEY)


HOURS = rule(
    check={"kind": "window", "params": {"days": {"mon-sun": [["08:00", "21:00"]]}}},
    on_fail={"effect": "deny", "reason": "QUIET_HOURS", "next": "window"},
)
CAP = rule(
    id="US-TEST-CAP",
    check={"kind": "cap", "params": {"max": 2, "hours": 24, "per": "seller"}},
    on_fail={"effect": "deny", "reason": "FREQ_CAP", "next": "cap_expiry"},
)
CLOSING = NOW + 11 * 3600 * MICROSECONDS
"""21:00 in Chicago on the day of NOW."""


@pytest.mark.parametrize(
    ("before_closing_us", "lasts_us"),
    [
        (3600 * MICROSECONDS, PERMIT_LIFETIME_MAX_US),
        (PERMIT_LIFETIME_MAX_US, PERMIT_LIFETIME_MAX_US),
        (59 * MICROSECONDS, 59 * MICROSECONDS),
        (1, 1),
    ],
)
def test_a_permit_ends_when_the_call_would_be_denied(before_closing_us: int, lasts_us: int) -> None:
    """60 s, or the end of the hours if that is sooner: at that instant the call is denied."""
    rulebook, at = book(HOURS), CLOSING - before_closing_us
    decision = decide(request(), EMPTY, NO_SURROUNDINGS, rulebook, at)
    assert decision.allowed
    assert permit_expiry(decision, EMPTY, rulebook) == at + lasts_us
    assert not decide(request(), EMPTY, NO_SURROUNDINGS, rulebook, CLOSING).allowed


def attempt(at: int, permit_id: str | None = None, expires_at: int | None = None) -> Attempt:
    """A call, or a permit to make one."""
    return Attempt(at, str(at), "c", permit_id, expires_at, "MARKETING", "LIVE", "MANUAL")


def test_a_permit_counts_until_it_ends_or_is_used() -> None:
    """Two under a cap of two: denied while both count, allowed at the end of the older one."""
    rulebook = book(CAP)
    first, second = attempt(NOW, "p1", NOW + 60), attempt(NOW + 1, "p2", NOW + 61)

    def allowed(at: int, *attempts: Attempt) -> bool:
        state = SubjectState(attempts={("acme", "*"): attempts})
        return decide(request(), state, NO_SURROUNDINGS, rulebook, at).allowed

    assert not allowed(NOW + 59, second, first)
    assert allowed(NOW + 60, second, first)
    call = attempt(NOW + 5, "p1")
    assert not allowed(NOW + 59, call, second, first)
    assert allowed(NOW + 61, call, second, first)
    assert allowed(NOW + 59, call, first)


def test_the_record_names_permit_end_and_key() -> None:
    recorded = recorded_permit(TERMS, KEY)
    assert (recorded.permit_id, recorded.expires_at, recorded.key_id) == (
        TERMS.permit_id,
        TERMS.expires_at,
        KEY.key_id,
    )
