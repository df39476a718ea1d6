"""What a permit says, how long it is good for, and whether one that is shown is genuine.

A permit is a JSON Web Signature in its compact form, signed with Ed25519. It names the number by
its suppression token: a dialer that follows the suppression topic has that key and can tell for
whom a permit is; the history token would let whoever collects permits open the history. A permit
and its record say the same: the token is a function of the decision, its ids and the key alone.

`cryptography` signs: joserfc, which would, warns at each use of `EdDSA`, and that is the only name
of Ed25519 that most verifiers know. In the tests it is the second opinion.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from consent.decision import Decision, allowed_until
from consent.decision_record import Permit
from consent.errors import ConsentError
from consent.instants import MICROSECONDS, instant_text, parse_instant
from consent.lifters import PERMIT_LIFETIME_MAX_US
from consent.rulebook import Rulebook
from consent.state import SubjectState
from consent.state_entries import AppliedKey

ALGORITHM: Final = "EdDSA"
TYPE: Final = "permit+jwt"
PUBLIC_KEY_BYTES: Final = 32
_TOKEN_CHARS_MAX: Final = 16_384
_TERMS: Final = ("seller_id", "campaign_id", "purpose", "call_mode", "dial_mode")


class PermitInvalid(ConsentError):
    """What was shown is no permit of these keys; says why, quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class PermitTerms:
    """Everything that a permit says.

    `number_token` is the suppression token. Instants are µs; the permit is good while now is less
    than `expires_at`. `applied` are the last offsets that the
    number's state held, by topic and log, of `partition`.
    """

    permit_id: str
    decision_id: str
    issuer: str
    number_token: bytes
    seller_id: str
    campaign_id: str | None
    purpose: str
    call_mode: str
    dial_mode: str
    test: bool
    rulebook_digest: bytes
    partition: int
    applied: Mapping[AppliedKey, int]
    issued_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class PermitKey:
    """A key that signs permits, from its seed of 32 bytes, which never shows in a repr."""

    seed: bytes = field(repr=False)
    _private: Ed25519PrivateKey = field(init=False, repr=False, compare=False)
    public_key: bytes = field(init=False)
    key_id: str = field(init=False)
    _head: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        public_key = private.public_key().public_bytes_raw()
        head = {"alg": ALGORITHM, "kid": key_id_of(public_key), "typ": TYPE}
        object.__setattr__(self, "_private", private)
        object.__setattr__(self, "public_key", public_key)
        object.__setattr__(self, "key_id", head["kid"])
        object.__setattr__(self, "_head", _base64(_json(head)) + b".")

    def permit(self, terms: PermitTerms) -> str:
        """The permit as it is given; equal terms give equal ones."""
        signed = self._head + _base64(_json(_claims(terms)))
        return (signed + b"." + _base64(self._private.sign(signed))).decode()


def permit_expiry(decision: Decision, state: SubjectState, rulebook: Rulebook) -> int:
    """End of the permit of an allow: 60 s, or the first instant before that at which a rule denies.

    Repeatable from the record like the decision itself: `state` and the decision's surroundings
    are those that it was made with.
    """
    return allowed_until(decision, state, rulebook, decision.at + PERMIT_LIFETIME_MAX_US)


def recorded_permit(terms: PermitTerms, key: PermitKey) -> Permit:
    """What the decision's record says of its permit."""
    return Permit(terms.permit_id, terms.expires_at, key.key_id)


def read_permit(token: str, public_keys: Mapping[str, bytes]) -> PermitTerms:
    """The terms of a genuine permit; PermitInvalid if it is none, or of another key.

    `public_keys` are those trusted, by id. Says nothing about time: see `expires_at`.
    """
    if len(token) > _TOKEN_CHARS_MAX or token.count(".") != 2:
        raise PermitInvalid("this is no permit: it has not three parts, or is too long")
    head, claims, signature = token.split(".")
    stated = _parsed(head)
    if stated.get("alg") != ALGORITHM or stated.get("typ") != TYPE or "crit" in stated:
        raise PermitInvalid("this is no permit: its header is another one")
    public_key = public_keys.get(str(stated.get("kid")))
    if public_key is None:
        raise PermitInvalid("the permit is signed with a key that is not known")
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
        key.verify(_unbase64(signature), f"{head}.{claims}".encode())
    except (InvalidSignature, ValueError):
        raise PermitInvalid("the permit's signature is not right") from None
    return _terms(_parsed(claims))


def key_id_of(public_key: bytes) -> str:
    """The id of a key: its JWK thumbprint (RFC 7638, RFC 8037)."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": _base64(public_key).decode()}
    return _base64(hashlib.sha256(_json(members)).digest()).decode()


def public_jwk(public_key: bytes) -> dict[str, str]:
    """A public key as JSON Web Key, as it stands in a key set."""
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": _base64(public_key).decode(),
        "kid": key_id_of(public_key),
        "use": "sig",
        "alg": ALGORITHM,
    }


def public_keys_of(key_set: Mapping[str, Any]) -> dict[str, bytes]:
    """Keys of a JSON Web Key Set by id; others are left out. ValueError, KeyError if it is none."""
    found = {}
    for entry in key_set.get("keys", ()):
        if entry.get("kty") == "OKP" and entry.get("crv") == "Ed25519":
            public_key = _unbase64(entry["x"])
            found[entry.get("kid") or key_id_of(public_key)] = public_key
    return found


def _claims(terms: PermitTerms) -> dict[str, Any]:
    """`iat` and `exp` in whole seconds, rounded down, for any reader of such tokens.

    `issued_at` and `expires_at` say them as the record does: many libraries take no fractions, and
    find a token of this second to be of the future.
    """
    named = {name: getattr(terms, name) for name in _TERMS}
    return {
        "iss": terms.issuer,
        "jti": terms.permit_id,
        "sub": terms.number_token.hex(),
        "iat": terms.issued_at // MICROSECONDS,
        "exp": terms.expires_at // MICROSECONDS,
        "issued_at": instant_text(terms.issued_at),
        "expires_at": instant_text(terms.expires_at),
        **{name: value for name, value in named.items() if value is not None},
        **({"test": True} if terms.test else {}),
        "decision_id": terms.decision_id,
        "rulebook": terms.rulebook_digest.hex(),
        "partition": terms.partition,
        "applied": [
            {"topic": topic, "log_id": log_id.hex(), "offset_last": offset_last}
            for (topic, log_id), offset_last in sorted(terms.applied.items())
        ],
    }


def _terms(claims: Mapping[str, Any]) -> PermitTerms:
    try:
        applied = {
            (one["topic"], bytes.fromhex(one["log_id"])): one["offset_last"]
            for one in claims["applied"]
        }
        named: dict[str, Any] = {name: claims.get(name) for name in _TERMS}
        return PermitTerms(
            permit_id=claims["jti"],
            decision_id=claims["decision_id"],
            issuer=claims["iss"],
            number_token=bytes.fromhex(claims["sub"]),
            **named,
            test=claims.get("test", False),
            rulebook_digest=bytes.fromhex(claims["rulebook"]),
            partition=claims["partition"],
            applied=applied,
            issued_at=parse_instant(claims["issued_at"]),
            expires_at=parse_instant(claims["expires_at"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise PermitInvalid("the permit says not what a permit says") from problem


def _parsed(part: str) -> dict[str, Any]:
    try:
        found = json.loads(_unbase64(part))
    except (ValueError, RecursionError):
        raise PermitInvalid("this is no permit: a part can't be read") from None
    if not isinstance(found, dict):
        raise PermitInvalid("this is no permit: a part is no object")
    return found


_encoded: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def _json(value: object) -> bytes:
    return _encoded(value).encode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _unbase64(text: str) -> bytes:
    """Strict: one text for each value, so that no permit has two spellings."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as problem:
        raise ValueError("this is no base64url") from problem
    if _base64(data).decode() != text:
        raise ValueError("this base64url has another spelling")
    return data
