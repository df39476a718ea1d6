"""Signed notes (C2SP signed-note): text with signatures below it, and the keys that make them.

Two kinds of Ed25519 signature: a plain one over the text (type 0x01), which a log makes, and a
timestamped one (type 0x04, C2SP tlog-cosignature), which a witness makes. Pure: the time of a
cosignature is an argument, and Ed25519 needs no randomness.
"""

from __future__ import annotations

import base64
import binascii
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from consent.errors import ConsentError

ED25519: Final = 0x01
COSIGNATURE: Final = 0x04
SEED_BYTES: Final = 32
_PUBLIC_KEY_BYTES: Final = 32
_KEY_ID_BYTES: Final = 4
_SIGNATURE_BYTES: Final = 64
_TIMESTAMP_BYTES: Final = 8
_TIMESTAMP_MAX: Final = 2**63 - 1
_DASH: Final = "\u2014 "
_SIGNATURES_MAX: Final = 100
_NOTE_CHARS_MAX: Final = 1_000_000


class NoteInvalid(ConsentError):
    """A note, a key or a signature line is not what it should be; says why, quotes nothing."""


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: who says to have signed, and the bytes after the key's id."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        """The line, with its newline."""
        return f"{_DASH}{self.name} {_base64(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text, which ends with a newline, and the signatures below it. Nothing is verified yet."""

    text: str
    signatures: tuple[NoteSignature, ...]

    @property
    def encoded(self) -> str:
        """The note as it is published."""
        return self.text + "\n" + "".join(one.line for one in self.signatures)

    def with_signatures(self, further: Iterable[NoteSignature]) -> Note:
        """The note with further signatures; those that it has already are not repeated."""
        new = [one for one in further if one not in self.signatures]
        return Note(self.text, (*self.signatures, *dict.fromkeys(new)))


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name; `kind` is ED25519 or COSIGNATURE."""

    name: str
    public_key: bytes
    kind: int = ED25519

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.kind not in (ED25519, COSIGNATURE):
            raise NoteInvalid(f"keys of type {self.kind:#04x} are not known")
        if len(self.public_key) != _PUBLIC_KEY_BYTES:
            raise NoteInvalid(f"a public key has {_PUBLIC_KEY_BYTES} bytes")

    @property
    def key_id(self) -> bytes:
        """The 4 bytes by which signature lines name the key."""
        return key_id(self.name, self.kind, self.public_key)

    @property
    def encoded(self) -> str:
        """The key as text (a vkey)."""
        material = _base64(bytes((self.kind,)) + self.public_key)
        return f"{self.name}+{self.key_id.hex()}+{material}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """The key that a vkey text is; NoteInvalid says what is wrong with it."""
        parts = text.strip().split("+", 2)
        if len(parts) != 3:
            raise NoteInvalid("a key is written as name+id+base64")
        name, id_hex, encoded = parts
        material = _decoded(encoded, "the key")
        if not material:
            raise NoteInvalid("the key is empty")
        key = cls(name, material[1:], material[0])
        if key.key_id.hex() != id_hex:
            raise NoteInvalid("the key's id is not that of its name and bytes")
        return key

    def signed_at(self, note: Note) -> int | None:
        """When the key cosigned a note, in seconds; 0 for a plain signature; None if it did not.

        NoteInvalid if a line of this name and id is not the key's signature.
        """
        found = None
        for line in note.signatures:
            if line.name == self.name and line.key_id == self.key_id:
                found = self._verified(note.text, line.signature)
        return found

    def _verified(self, text: str, signature: bytes) -> int:
        at, message = 0, text.encode()
        if self.kind == COSIGNATURE:
            at = int.from_bytes(signature[:_TIMESTAMP_BYTES], "big")
            signature = signature[_TIMESTAMP_BYTES:]
            message = cosigned_message(text, at)
        try:
            if len(signature) != _SIGNATURE_BYTES or at > _TIMESTAMP_MAX:
                raise InvalidSignature
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except InvalidSignature:
            raise NoteInvalid(f"the signature of {self.name} is wrong") from None
        return at


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A secret key, as its 32-byte seed, and the name under which it signs."""

    name: str
    seed: bytes = field(repr=False)
    kind: int = ED25519

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise NoteInvalid(f"a signing key has {SEED_BYTES} bytes")
        _ = self.verifier

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key()
        return VerifierKey(self.name, public.public_bytes_raw(), self.kind)

    def signature(self, text: str, at: int = 0) -> NoteSignature:
        """Signature of a text; `at` in seconds is part of it if this is a witness's key."""
        check_text(text)
        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        if self.kind == ED25519:
            signature = private.sign(text.encode())
        else:
            stamp = at.to_bytes(_TIMESTAMP_BYTES, "big")
            signature = stamp + private.sign(cosigned_message(text, at))
        return NoteSignature(self.name, self.verifier.key_id, signature)


def key_id(name: str, kind: int, public_key: bytes) -> bytes:
    """The id of a key: a name for it, no proof of it."""
    return sha256(name.encode() + b"\n" + bytes((kind,)) + public_key).digest()[:_KEY_ID_BYTES]


def cosigned_message(text: str, at: int) -> bytes:
    """What a witness signs: the whole text below the time at which it saw it."""
    return f"cosignature/v1\ntime {at}\n{text}".encode()


def parse_note(encoded: str) -> Note:
    """The text and the signatures of a note; NoteInvalid if it is none. Verifies nothing."""
    if len(encoded) > _NOTE_CHARS_MAX:
        raise NoteInvalid("the note is too long")
    text, separator, below = encoded.rpartition("\n\n")
    if not separator or not below:
        raise NoteInvalid("a note has an empty line and signatures below its text")
    text += "\n"
    check_text(text)
    if not below.endswith("\n"):
        raise NoteInvalid("the last line of a note ends with a newline")
    signatures = parse_signatures(below)
    if len(signatures) > _SIGNATURES_MAX:
        raise NoteInvalid("the note has too many signatures")
    return Note(text, signatures)


def parse_signatures(lines: str) -> tuple[NoteSignature, ...]:
    """Signature lines, each with its newline."""
    return tuple(_signature(line) for line in lines.split("\n")[:-1])


def verified(note: Note, keys: Sequence[VerifierKey]) -> tuple[VerifierKey, ...]:
    """Those of the keys that signed; signatures of other keys are ignored.

    NoteInvalid if a signature of one of them is wrong, or if none of them signed.
    """
    signed = tuple(key for key in keys if key.signed_at(note) is not None)
    if not signed:
        raise NoteInvalid("none of the trusted keys has signed the note")
    return signed


def check_name(name: str) -> None:
    """NoteInvalid unless a key may be called so: not empty, no spaces, no plus."""
    if not name or "+" in name or any(character.isspace() for character in name):
        raise NoteInvalid("a key's name is not empty and has neither spaces nor plus signs")
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise NoteInvalid("a key's name has no control characters")


def check_text(text: str) -> None:
    """NoteInvalid unless this can be the text of a note."""
    if not text.endswith("\n"):
        raise NoteInvalid("the text of a note ends with a newline")
    if any(character < " " and character != "\n" for character in text):
        raise NoteInvalid("the text of a note has no control characters")


def _signature(line: str) -> NoteSignature:
    name, separator, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not separator:
        raise NoteInvalid("a signature line is a dash, a name and base64")
    check_name(name)
    data = _decoded(encoded, "a signature")
    if len(data) <= _KEY_ID_BYTES:
        raise NoteInvalid("a signature is longer than the id of its key")
    return NoteSignature(name, data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteInvalid(f"{what} is not base64") from None
    # Other spellings of the same bytes would make two notes of one.
    if _base64(data) != text:
        raise NoteInvalid(f"{what} is not base64 as it is usually written")
    return data
