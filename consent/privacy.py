"""What stands for a person where the person must not be named, and how originals are sealed.

Tokens are HMAC-SHA256 under a key, because a plain hash of a telephone number is undone by trying
them all. History and suppression use different keys: who can name a dialer's records can't open
the history.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
TOKEN_BYTES: Final = 16
SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_NONE: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Keys:
    """The secret keys of a ledger, 32 bytes each. They never show in a repr."""

    history: bytes = field(repr=False)
    suppression: bytes = field(repr=False)
    dead_letters: bytes = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("history", "suppression", "dead_letters"):
            if len(getattr(self, name)) != KEY_BYTES:
                raise ValueError(f"the {name} key must be {KEY_BYTES} bytes")
        if len({self.history, self.suppression, self.dead_letters}) != 3:
            raise ValueError("the history, suppression and dead-letter keys must differ")


def subject_token(key: bytes, number: str) -> bytes:
    """16 bytes that stand for a number under a key."""
    return hmac.digest(key, number.encode(), "sha256")[:TOKEN_BYTES]


def subject_tokens(key: bytes, numbers: Iterable[str]) -> list[bytes]:
    """Tokens of many numbers, in order."""
    digest = hmac.digest
    return [digest(key, number.encode(), "sha256")[:TOKEN_BYTES] for number in numbers]


def party_token(key: bytes, seller_id: str, reference: str) -> bytes:
    """16 bytes that stand for a publisher's reference of a person or household.

    References of two sellers never meet: each seller numbers its own customers.
    """
    message = f"party\0{seller_id}\0{reference}"
    return hmac.digest(key, message.encode(), "sha256")[:TOKEN_BYTES]


def commitment(salt: bytes, number: str, evidence: bytes) -> bytes:
    """SHA-256(salt, number, evidence bytes as published): binds evidence without containing it.

    `evidence` is the Avro body of the evidence sub-record, empty if there was none.
    """
    return hashlib.sha256(salt + number.encode() + evidence).digest()


def unreadable_commitment(key: bytes, record_key: bytes | None, value: bytes | None) -> bytes:
    """Keyed commitment to a record that can't be read; keyed, since it may be a bare number."""
    return hmac.digest(key, pack([record_key, value]), "sha256")


@dataclass(frozen=True, slots=True)
class SealedLetter:
    """An original under a dead-letter key."""

    nonce: bytes
    original: bytes


def seal_dead_letter(key: bytes, position: bytes, original: Sequence[bytes | None]) -> SealedLetter:
    """Encrypt a record's key, value and headers (AES-256-GCM) bound to its position in the log.

    Deterministic, so that a replay writes the same bytes; the nonce depends on what is sealed, so
    none is ever used for two different originals.
    """
    plain = pack(original)
    nonce = hmac.digest(key, b"nonce" + position + plain, "sha256")[:_NONCE_BYTES]
    return SealedLetter(nonce, AESGCM(key).encrypt(nonce, plain, position))


def open_dead_letter(key: bytes, position: bytes, letter: SealedLetter) -> list[bytes | None]:
    """What was sealed; cryptography's InvalidTag if key, position or bytes are not right."""
    return unpack(AESGCM(key).decrypt(letter.nonce, letter.original, position))


def position_bytes(log_id: bytes, topic: str, partition: int, offset: int) -> bytes:
    """A record's place in the log as bytes, unambiguous."""
    return pack([log_id, topic.encode(), partition.to_bytes(4, "big"), offset.to_bytes(8, "big")])


def pack(parts: Sequence[bytes | None]) -> bytes:
    """Length-prefixed concatenation; None and empty stay distinct."""
    out = bytearray()
    for part in parts:
        out += (_NONE if part is None else len(part)).to_bytes(4, "big")
        out += part or b""
    return bytes(out)


def unpack(data: bytes) -> list[bytes | None]:
    """What `pack` was given; ValueError if it is not such."""
    parts: list[bytes | None] = []
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        at += 4
        if length == _NONE:
            parts.append(None)
            continue
        if at + length > len(data):
            raise ValueError("packed bytes end too early")
        parts.append(data[at : at + length])
        at += length
    return parts
