"""The witness: what it signs, what it refuses, and what it remembers."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from consent.checkpoints import Checkpoint, Submission
from consent.errors import Rejected
from consent.log_policy import LogPolicy, TrustedKey, parse_policy
from consent.merkle import consistency_proof, leaf_hashes, root_of
from consent.notes import COSIGNATURE, Note, SigningKey, parse_note, parse_signatures
from consent_ledger.adapters.witnesses import Witnesses
from consent_ledger.cli.witness import witness_app
from consent_ledger.witness import SIZE_MEDIA_TYPE, Witness, WitnessAnswer
from projections.log_metrics import LogMetrics

LOG = SigningKey("ledger.example/log", b"k" * 32)
KEY = SigningKey("witness.example/w", b"w" * 32, COSIGNATURE)
POLICY = LogPolicy((TrustedKey(LOG.name, LOG.verifier),))
HASHES = leaf_hashes(str(number).encode() for number in range(40))
NOW = 1_790_000_000.5


def subtree(start: int, end: int) -> bytes:
    """Hashes of the log."""
    return root_of(HASHES[start:end])


def note_of(size: int, key: SigningKey = LOG, hashes: list[bytes] = HASHES) -> Note:
    """The signed checkpoint of a size."""
    text = Checkpoint(key.name, size, root_of(hashes[:size])).text
    return Note(text, (key.signature(text),))


def submission(old_size: int, size: int) -> bytes:
    """A submission as the log makes it."""
    proof = consistency_proof(old_size, size, subtree)
    return Submission(old_size, tuple(proof), note_of(size)).encoded.encode()


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    """A witness that has seen nothing."""
    return Witness(KEY, POLICY, tmp_path, lambda: NOW)


def test_it_cosigns_a_log_that_grows(witness: Witness, tmp_path: Path) -> None:
    """Its signatures verify, and it goes on after a restart where it was."""
    for old_size, size in ((0, 3), (3, 8), (8, 8)):
        answer = witness.add_checkpoint(submission(old_size, size))
        assert answer.status == 200
        note = note_of(size).with_signatures(parse_signatures(answer.body))
        assert KEY.verifier.signed_at(note) == int(NOW)
        assert witness.newest(LOG.name) == note
    again = Witness(KEY, POLICY, tmp_path, lambda: NOW)
    assert again.add_checkpoint(submission(3, 20)) == WitnessAnswer(409, "8\n", SIZE_MEDIA_TYPE)
    assert again.add_checkpoint(submission(8, 20)).status == 200


def test_it_refuses_what_does_not_continue(witness: Witness) -> None:
    """Another history, a proof that is wrong, sizes that are not the last one."""
    assert witness.add_checkpoint(submission(0, 8)).status == 200
    before = witness.newest(LOG.name)
    other = leaf_hashes([b"other", *(str(number).encode() for number in range(1, 40))])
    forked = Submission(8, tuple(consistency_proof(8, 20, subtree)), note_of(20, LOG, other))
    assert witness.add_checkpoint(forked.encoded.encode()).status == 422
    wrong = Submission(8, (bytes(32),), note_of(20))
    assert witness.add_checkpoint(wrong.encoded.encode()).status == 422
    same_size = Submission(8, (), note_of(8, LOG, other))
    assert witness.add_checkpoint(same_size.encoded.encode()).status == 409
    assert witness.add_checkpoint(submission(0, 5)).status == 409
    assert witness.add_checkpoint(submission(7, 20)).status == 409
    behind = Submission(8, (), note_of(5))
    assert witness.add_checkpoint(behind.encoded.encode()).status == 400
    assert witness.newest(LOG.name) == before


def test_it_refuses_what_it_does_not_know(witness: Witness) -> None:
    """Other logs, other keys, and what is no submission at all."""
    stranger = SigningKey("other.example/log", b"k" * 32)
    unknown = Submission(0, (), note_of(3, stranger))
    assert witness.add_checkpoint(unknown.encoded.encode()).status == 404
    forged = Submission(0, (), note_of(3, SigningKey(LOG.name, b"x" * 32)))
    assert witness.add_checkpoint(forged.encoded.encode()).status == 403
    proof_of_nothing = Submission(0, (bytes(32),), note_of(3))
    assert witness.add_checkpoint(proof_of_nothing.encoded.encode()).status == 422
    for body in (b"", b"\xff", b"old 0\n\nnothing\n"):
        assert witness.add_checkpoint(body).status == 400
    assert witness.newest(LOG.name) is None


async def test_the_log_asks_as_the_witness_answers(witness: Witness) -> None:
    """Over HTTP: the first time it learns the size, then it proves from there."""
    metrics = LogMetrics()
    transport = httpx.ASGITransport(app=witness_app(witness))
    async with httpx.AsyncClient(transport=transport) as client:
        trusted = [TrustedKey("w", KEY.verifier, "http://witness.example")]
        for size, asking in ((3, None), (20, None), (30, "anew")):
            if asking is None:
                asked = Witnesses(trusted, client, metrics)
            note = note_of(size)
            checkpoint = Checkpoint(LOG.name, size, root_of(HASHES[:size]))
            lines = await asked.cosign(note, checkpoint, subtree)
            cosigned = note.with_signatures(lines)
            assert KEY.verifier.signed_at(cosigned) == int(NOW)
        conflict = await client.post(
            "http://witness.example/add-checkpoint", content=submission(3, 20)
        )
        assert (conflict.status_code, conflict.text) == (409, "30\n")
        assert conflict.headers["content-type"] == SIZE_MEDIA_TYPE
        counted = metrics.cosignatures.labels("w", "cosigned")
        assert counted._value.get() == 3
        behind = Checkpoint(LOG.name, 4, root_of(HASHES[:4]))
        assert await Witnesses(trusted, client, metrics).cosign(note_of(4), behind, subtree) == []
        assert metrics.alarms.labels("witness_ahead")._value.get() == 1


async def test_a_witness_that_is_away_or_lies_changes_nothing() -> None:
    """No answer, an error, a signature of another key: the checkpoint goes without."""
    note = note_of(3)
    checkpoint = Checkpoint(LOG.name, 3, root_of(HASHES[:3]))
    other = SigningKey(KEY.name, b"o" * 32, COSIGNATURE)
    answers = [
        httpx.Response(500),
        httpx.Response(200, text=""),
        httpx.Response(200, text=other.signature(note.text, 5).line),
        httpx.Response(200, text="x" * 20_000),
        httpx.Response(409, text="not a number\n"),
        httpx.Response(409, text="1\n"),
    ]

    def answered(request: httpx.Request) -> httpx.Response:
        return answers[0]

    metrics = LogMetrics()
    trusted = [TrustedKey("w", KEY.verifier, "http://witness.example")]
    async with httpx.AsyncClient(transport=httpx.MockTransport(answered)) as client:
        while answers:
            assert await Witnesses(trusted, client, metrics).cosign(note, checkpoint, subtree) == []
            answers.pop(0)
    async with httpx.AsyncClient(timeout=1) as client:
        away = [TrustedKey("w", KEY.verifier, "http://127.0.0.1:1")]
        assert await Witnesses(away, client, metrics).cosign(note, checkpoint, subtree) == []
    assert metrics.cosignatures.labels("w", "failed")._value.get() == 7


def test_the_policy_file() -> None:
    """Logs and witnesses, comments, addresses; anything else is refused by its line."""
    text = f"""# who is trusted
log {LOG.verifier.encoded}

witness first {KEY.verifier.encoded} https://witness.example/
witness second {KEY.verifier.encoded}
"""
    policy = parse_policy(text)
    assert policy.logs_of(LOG.name) == (LOG.verifier,)
    assert policy.logs_of("other") == ()
    assert [one.url for one in policy.witnesses] == ["https://witness.example", None]
    for line in (
        f"log {KEY.verifier.encoded}",
        f"witness w {LOG.verifier.encoded}",
        "log nothing",
        "witness w",
        "quorum none",
    ):
        with pytest.raises(Rejected, match="line 2"):
            parse_policy(f"\n{line}\n")


def test_what_it_remembers_is_a_note(witness: Witness) -> None:
    """The file can be read by anybody, as evidence against a log that forks."""
    witness.add_checkpoint(submission(0, 3))
    newest = witness.newest(LOG.name)
    assert newest is not None
    assert parse_note(newest.encoded) == newest
