"""Signed notes, checkpoints and submissions, against published examples and against misuse."""

from __future__ import annotations

import pytest

from consent.checkpoints import (
    Checkpoint,
    Submission,
    decimal,
    opened_checkpoint,
    parse_checkpoint,
    parse_submission,
)
from consent.merkle import root_of_leaves
from consent.notes import (
    COSIGNATURE,
    NoteInvalid,
    SigningKey,
    VerifierKey,
    parse_note,
    parse_signatures,
    verified,
)

# The example of the Go package golang.org/x/mod/sumdb/note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb"
    "6KE6RyyBwJnAM=\n"
)
# The example of C2SP tlog-checkpoint and tlog-cosignature.
C2SP_NOTE = (
    "example.com/behind-the-sofa\n"
    "20852163\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q"
    "1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2o"
    "yin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
LOG = SigningKey("ledger.example/log", bytes(range(32)))
WITNESS = SigningKey("witness.example/w1", bytes(range(1, 33)), COSIGNATURE)
CHECKPOINT = Checkpoint("ledger.example/log", 3, root_of_leaves([b"a", b"b", b"c"]))


def signed_note() -> str:
    """A checkpoint with the log's signature and a witness's."""
    note = parse_note(CHECKPOINT.text + "\n" + LOG.signature(CHECKPOINT.text).line)
    return note.with_signatures([WITNESS.signature(CHECKPOINT.text, 1_790_000_000)]).encoded


def test_a_published_note_verifies() -> None:
    """Key, id and signature are read as other programs write them, and written alike."""
    key = VerifierKey.parse(GO_KEY)
    note = parse_note(GO_NOTE)
    assert verified(note, [key]) == (key,)
    assert note.encoded == GO_NOTE
    assert key.encoded == GO_KEY
    assert key.key_id.hex() == "c74f20a3"


def test_a_published_checkpoint_is_read() -> None:
    """Text, signature lines and the time of a cosignature lie where the specification says."""
    note = parse_note(C2SP_NOTE)
    checkpoint = parse_checkpoint(note.text)
    assert checkpoint.origin == "example.com/behind-the-sofa"
    assert checkpoint.size == 20_852_163
    assert checkpoint.text == note.text
    assert note.encoded == C2SP_NOTE
    assert note.signatures[0].key_id.hex() == "033de0ae"
    cosignature = note.signatures[1]
    assert int.from_bytes(cosignature.signature[:8], "big") == 1_679_315_147
    assert len(cosignature.signature) == 8 + 64


def test_what_is_signed_verifies() -> None:
    """A log's note with a cosignature opens with either key, and says when it was cosigned."""
    note = parse_note(signed_note())
    assert opened_checkpoint(signed_note(), [LOG.verifier]) == CHECKPOINT
    assert verified(note, [LOG.verifier, WITNESS.verifier]) == (LOG.verifier, WITNESS.verifier)
    assert WITNESS.verifier.signed_at(note) == 1_790_000_000
    assert LOG.verifier.signed_at(note) == 0
    assert VerifierKey.parse(WITNESS.verifier.encoded) == WITNESS.verifier


def test_signing_is_repeatable() -> None:
    """The same text and time give the same signature, which is not repeated in the note."""
    note = parse_note(signed_note())
    again = WITNESS.signature(CHECKPOINT.text, 1_790_000_000)
    assert note.with_signatures([again, again]) == note


ROOT_TEXT = CHECKPOINT.text.split("\n")[2]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n3\n", "\n4\n"),
        ("ledger.example/log\n", "ledger.example/lag\n"),
        (ROOT_TEXT, "A" * 43 + "="),
        (ROOT_TEXT + "\n", ROOT_TEXT + "\nmore\n"),
    ],
)
def test_a_changed_text_is_refused(old: str, new: str) -> None:
    """Any change of what was signed is found."""
    changed = signed_note().replace(old, new, 1)
    assert changed != signed_note()
    keys = [LOG.verifier, VerifierKey("ledger.example/lag", LOG.verifier.public_key)]
    with pytest.raises(NoteInvalid):
        opened_checkpoint(changed, keys)


def test_a_wrong_signature_of_a_known_key_spoils_the_note() -> None:
    """Also beside a right one of another key, and with a time that was not signed."""
    other = SigningKey(LOG.name, bytes(32))
    line = LOG.signature(CHECKPOINT.text).line
    forged = other.signature(CHECKPOINT.text)
    wrong = parse_signatures(line)[0]
    wrong = type(wrong)(wrong.name, wrong.key_id, forged.signature)
    note = parse_note(CHECKPOINT.text + "\n" + WITNESS.signature(CHECKPOINT.text, 5).line)
    with pytest.raises(NoteInvalid, match="is wrong"):
        verified(note.with_signatures([wrong]), [LOG.verifier, WITNESS.verifier])
    cosigned = note.signatures[0]
    later = type(cosigned)(
        cosigned.name, cosigned.key_id, (6).to_bytes(8, "big") + cosigned.signature[8:]
    )
    with pytest.raises(NoteInvalid, match="is wrong"):
        verified(note.with_signatures([later]), [WITNESS.verifier])


def test_unknown_keys_are_ignored_and_do_not_suffice() -> None:
    """A line of an unknown key is no obstacle, and no signature."""
    note = parse_note(C2SP_NOTE)
    with pytest.raises(NoteInvalid, match="none of the trusted keys"):
        verified(note, [LOG.verifier])
    with pytest.raises(NoteInvalid, match="another log"):
        opened_checkpoint(C2SP_NOTE, [LOG.verifier])


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\nno dash\n",
        "text\n\n— name\n",
        "text\n\n— name AAAA\n",
        "text\n\n— name !!!!\n",
        "text\n\n— na+me AAAAAAAA\n",
        "text\n\n— name AAAAAAAB",
        "te\txt\n\n— name AAAAAAAA\n",
        "text\n\n— name AAAAAAB=\n",
    ],
)
def test_what_is_no_note_is_refused(encoded: str) -> None:
    """Every departure from the form has its sentence."""
    with pytest.raises(NoteInvalid):
        parse_note(encoded)


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "name+00000000+",
        "name+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq",
        "na me+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    """A name, an id or bytes that do not belong together."""
    with pytest.raises(NoteInvalid):
        VerifierKey.parse(text)


@pytest.mark.parametrize(
    "text",
    ["a\n1\n", "a\n01\n" + "A" * 43 + "=\n", "a\n-1\n" + "A" * 43 + "=\n", "a\n1\nAAAA\n", "a\n\n"],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    """Too few lines, odd numbers, short hashes."""
    with pytest.raises(NoteInvalid):
        parse_checkpoint(text)


def test_extension_lines_are_kept() -> None:
    """They are part of what is signed."""
    extended = Checkpoint("a", 0, bytes(32), ("more", "and more"))
    assert parse_checkpoint(extended.text) == extended


def test_a_submission_is_read_as_it_is_written() -> None:
    """With and without a proof."""
    note = parse_note(signed_note())
    for proof in ((), (bytes(32), b"\xff" * 32)):
        submission = Submission(2, proof, note)
        assert parse_submission(submission.encoded) == submission
    for body in ("", "old 2\n", "new 2\n\n" + signed_note(), "old 2\nAAAA\n\n" + signed_note()):
        with pytest.raises(NoteInvalid):
            parse_submission(body)
    too_long = Submission(2, (bytes(32),) * 64, note).encoded
    with pytest.raises(NoteInvalid, match="too many"):
        parse_submission(too_long)


@pytest.mark.parametrize("text", ["", "00", "+1", " 1", "1_0", "٣", str(2**63), "1" * 5_000])
def test_odd_numbers_are_refused(text: str) -> None:
    """A size has one spelling."""
    with pytest.raises(NoteInvalid):
        decimal(text)
