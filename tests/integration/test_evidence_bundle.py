"""Bundles of evidence: what they tell, and that whatever is altered in one is found offline."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature

from consent.errors import Corrupt, Rejected
from consent.notes import Note, SigningKey
from consent_ledger import verify_bundle
from consent_ledger.evidence_scope import EvidenceScope
from consent_ledger.verify_bundle import Failed, Files, check, parse_key, read, zip_bytes
from projections.clickhouse import Store
from projections.inclusion import NothingSealed
from tests.evidence_world import (
    ANNA,
    BEGIN,
    END,
    FORM,
    OTHER,
    WITNESS,
    EvidenceWorld,
    opened,
    told_world,
)
from tests.made_ledger import LOG_KEY
from tests.stores import RunningFront

KEY = parse_key(LOG_KEY.verifier.encoded)
PROGRAM = Path(verify_bundle.__file__)
FLIPS = 400


@pytest.fixture(scope="module")
def world(
    clickhouse_front: RunningFront, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EvidenceWorld]:
    """A ledger in which the story was told, made once."""
    folder = tmp_path_factory.mktemp("evidence")
    with told_world(clickhouse_front.url, "test_evidence", folder) as told:
        yield told


@pytest.fixture(scope="module")
def bundle(world: EvidenceWorld) -> bytes:
    """The bundle about November, with a copy of the form attached."""
    return world.bundle(copies=[FORM]).data


@pytest.fixture(scope="module")
def files(bundle: bytes) -> Files:
    """Its files."""
    return opened(bundle)


@pytest.fixture(scope="module")
def story(files: Files) -> dict[str, Any]:
    """The story as data."""
    return dict(json.loads(files["story.json"]))


def signed(files: Files, key: SigningKey = LOG_KEY) -> Files:
    """The same files under a manifest that fits: what somebody could make who has the key."""
    made = {name: data for name, data in files.items() if name != "MANIFEST.txt"}
    lines = [f"{hashlib.sha256(made[name]).hexdigest()}  {name}" for name in sorted(made)]
    text = "\n".join((verify_bundle.FORMAT, f"log {key.name}", *lines, ""))
    return {**made, "MANIFEST.txt": Note(text, (key.signature(text),)).encoded.encode()}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The auditor's program, apart from this package."""
    return subprocess.run(
        [sys.executable, "-I", str(PROGRAM), *arguments],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )


def test_the_bundle_tells_the_story(story: dict[str, Any]) -> None:
    """Events of the period, what came before, and what they name; nobody else's, no rehearsal."""
    told = [(event["fact"]["event_name"], event["in_period"]) for event in story["events"]]
    assert told == [
        ("RulebookActivated", False),
        ("ScriptPublished", False),
        ("CampaignDeclared", False),
        ("ConsentGranted", False),
        ("ConsentWithdrawn", False),
        ("DialDecision", True),
        ("CallPlaced", True),
        ("CallEnded", True),
        ("ConsentWithdrawn", True),
        ("DialDecision", True),
    ]
    grant = story["events"][3]
    assert grant["evidence"]["name"] == "Anna <b>Example</b>"
    assert grant["fields"]["consent_kind"] == "PEWC"
    assert [line["how"] for line in story["standing"]] == [
        "taken back, at least in part",
        "stands",
        "stands",
    ]
    assert [event["fields"]["verdict"] for event in story["events"] if event["rules"]] == [
        "ALLOW",
        "DENY",
    ]


def test_decisions_have_their_rules_and_citations(story: dict[str, Any]) -> None:
    """Each outcome with what its rule says and where that is written."""
    denied = story["events"][-1]
    denying = [line for line in denied["rules"] if line["outcome"] == "DENY"]
    assert denying
    assert all(line["title"] and line["citation"] for line in denied["rules"])
    assert denied["reason_text"]


def test_wording_has_digests_and_copies(story: dict[str, Any]) -> None:
    """Words, disclosure, notice, copies and script, each with what it is kept by."""
    kinds = [one["what"] for one in story["wording"]]
    assert kinds[:1] == ["script"]
    assert {"words shown or said", "disclosure", "privacy notice", "recording"} <= set(kinds)
    (copy,) = [one for one in story["wording"] if one["what"] == "copy of the request as shown"]
    assert copy["copy"] == f"copies/{hashlib.sha256(FORM).hexdigest()}"
    assert copy["uri"] == "https://acme.example/copies/17.html"


def test_an_auditor_checks_it_with_one_program(bundle: bytes, tmp_path: Path) -> None:
    """Packed and unpacked, with the key from elsewhere, and with that of a witness."""
    path = tmp_path / "bundle.zip"
    path.write_bytes(bundle)
    key = tmp_path / "key"
    key.write_text(LOG_KEY.verifier.encoded + "\n")
    witness = WITNESS.verifier.encoded
    done = run(str(path), "--key", str(key), "--witness", witness)
    assert done.returncode == 0, done.stdout
    assert "VERIFIED" in done.stdout
    assert "does not prove\ncompleteness" in done.stdout
    assert "witness.example/w1" in done.stdout
    with zipfile.ZipFile(path) as packed:
        packed.extractall(tmp_path / "unpacked")
    unpacked = run(str(tmp_path / "unpacked"))
    assert unpacked.returncode == 0, unpacked.stdout
    assert f"CONSISTENT. Compare with the published key: {LOG_KEY.verifier.encoded}" in (
        unpacked.stdout
    )
    other = SigningKey(LOG_KEY.name, b"x" * 32).verifier.encoded
    assert run(str(path), "--key", other).returncode == 1
    assert run(str(path), "--key", LOG_KEY.verifier.encoded, "--witness", other).returncode == 1
    assert run().returncode == 2


def test_every_flipped_byte_of_the_archive_is_found(bundle: bytes, tmp_path: Path) -> None:
    """Anywhere: in contents, names, times, sizes, the index, the manifest or the verifier."""
    draw = random.Random(7)
    path = tmp_path / "flipped.zip"
    edges = [*range(60), *range(len(bundle) - 400, len(bundle))]
    places = edges + [draw.randrange(len(bundle)) for _ in range(FLIPS)]
    for place in places:
        flipped = bytearray(bundle)
        flipped[place] ^= draw.randrange(1, 256)
        path.write_bytes(flipped)
        with pytest.raises(Exception):  # noqa: B017 (an archive that can't be read, say)
            check(read(path), KEY, [])
    path.write_bytes(bundle)
    assert check(read(path), KEY, [])


def test_every_flipped_byte_of_a_file_is_found(files: Files) -> None:
    """Also where the archive was unpacked, and without a key from elsewhere."""
    draw = random.Random(8)
    for name, data in files.items():
        for _ in range(8):
            flipped = bytearray(data)
            flipped[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            altered = {**files, name: bytes(flipped)}
            with pytest.raises(Exception):  # noqa: B017
                check(altered, parse_key(altered["log-key.txt"].decode()), [])


def test_added_removed_renamed_files_are_found(files: Files) -> None:
    """The manifest names all there is."""
    with pytest.raises(Failed, match=r"more\.txt was added"):
        check({**files, "more.txt": b""}, KEY, [])
    for name in files:
        with pytest.raises((Failed, KeyError)):
            check({other: data for other, data in files.items() if other != name}, KEY, [])
    renamed = {name.replace("story.html", "stori.html"): data for name, data in files.items()}
    with pytest.raises(Failed):
        check(renamed, KEY, [])


def test_bytes_around_the_archive_are_found(bundle: bytes, tmp_path: Path) -> None:
    """In front, behind, and where another program packed the same files."""
    path = tmp_path / "other.zip"
    for data in (b"#!/bin/sh\n" + bundle, bundle + b"\0"):
        path.write_bytes(data)
        with pytest.raises(Exception):  # noqa: B017
            read(path)
    with zipfile.ZipFile(BytesIO(bundle)) as packed, zipfile.ZipFile(path, "w") as other:
        for name in packed.namelist():
            other.writestr(name, packed.read(name), zipfile.ZIP_DEFLATED)
    with pytest.raises(Failed, match="packed again"):
        read(path)


def _events(files: Files, alter: Callable[[list[dict[str, Any]]], Any]) -> Files:
    story = json.loads(files["story.json"])
    alter(story["events"])
    return {**files, "story.json": json.dumps(story).encode()}


def _evidence(files: Files, alter: Callable[[dict[str, Any]], Any]) -> Files:
    rows = json.loads(files["evidence.json"])
    alter(rows)
    return {**files, "evidence.json": json.dumps(rows).encode()}


def _proofs(files: Files, alter: Callable[[dict[str, Any]], Any]) -> Files:
    proofs = json.loads(files["facts.json"])
    alter(proofs)
    return {**files, "facts.json": json.dumps(proofs).encode()}


def _flipped(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[len(data) // 2] ^= 1
    return base64.b64encode(data).decode()


FORGERIES: dict[str, Callable[[Files], Files]] = {
    "a field": lambda f: _events(f, lambda e: e[3]["fields"].update(consent_kind="EXPRESS")),
    "a time": lambda f: _events(f, lambda e: e[8]["fact"].update(recorded_at="2026-11-25")),
    "evidence in the story": lambda f: _events(f, lambda e: e[3]["evidence"].update(name="Ben")),
    "evidence invented": lambda f: _events(f, lambda e: e[6].update(evidence={"name": "Ben"})),
    "an event left out": lambda f: _events(f, lambda e: e.pop(8)),
    "events in another order": lambda f: _events(f, lambda e: e.reverse()),
    "a citation": lambda f: _events(f, lambda e: e[9]["rules"][0].update(citation=["None"])),
    "an outcome": lambda f: _events(f, lambda e: e[9]["rules"].pop()),
    "the number": lambda f: _evidence(f, lambda r: r["3"].update(number=OTHER)),
    "the salt": lambda f: _evidence(f, lambda r: r["3"].update(salt="00" * 16)),
    "evidence bytes": lambda f: _evidence(
        f, lambda r: r["3"].update(evidence=_flipped(r["3"]["evidence"]))
    ),
    "evidence of no fact": lambda f: _evidence(f, lambda r: r.update({"77": r["3"]})),
    "a fact's bytes": lambda f: _proofs(
        f, lambda p: p["facts"][3].update(fact=_flipped(p["facts"][3]["fact"]))
    ),
    "a header": lambda f: _proofs(
        f, lambda p: p["blocks"][0].update(entry=_flipped(p["blocks"][0]["entry"]))
    ),
    "a fact's place": lambda f: _proofs(f, lambda p: p["facts"][4].update(leaf=2)),
    "a block without proof": lambda f: _proofs(f, lambda p: p["blocks"][0].update(proofs={})),
    "a block's index": lambda f: _proofs(f, lambda p: p["blocks"][0].update(index=0)),
    "a rulebook": lambda f: {
        name: data.replace(b"47 CFR", b"48 CFR") if name.startswith("rulebooks/") else data
        for name, data in f.items()
    },
    "a copy": lambda f: {
        name: b"another form" if name.startswith("copies/") else data for name, data in f.items()
    },
    "a checkpoint": lambda f: {
        name: data.replace(b"\n13\n", b"\n14\n") for name, data in f.items()
    },
}


@pytest.mark.parametrize("what", FORGERIES)
def test_who_has_the_key_can_not_tell_facts_otherwise(files: Files, what: str) -> None:
    """A new manifest, signed with the log's own key, does not make an altered story good."""
    assert check(signed(files), KEY, [])
    forged = FORGERIES[what](files)
    assert forged != files
    with pytest.raises((Failed, KeyError, ValueError, IndexError, InvalidSignature)):
        check(signed(forged), KEY, [])


def test_a_manifest_is_no_checkpoint_and_needs_the_key(files: Files) -> None:
    """Signed with another key it is nothing, also beside the right signature."""
    stranger = SigningKey("stranger.example", b"s" * 32)
    with pytest.raises(Failed, match="did not sign"):
        check(signed(files, SigningKey(LOG_KEY.name, b"y" * 32)), KEY, [])
    manifest = files["MANIFEST.txt"].decode()
    text = manifest.rpartition("\n\n")[0] + "\n"
    both = manifest + stranger.signature(text).line
    with pytest.raises(Failed, match="did not sign"):
        check({**files, "MANIFEST.txt": both.encode()}, KEY, [])


def test_the_same_question_gives_the_same_bytes(world: EvidenceWorld, bundle: bytes) -> None:
    """A bundle is a function of store, log, question and time."""
    assert world.bundle(copies=[FORM]).data == bundle


def test_the_verifier_can_be_read(files: Files) -> None:
    """It is in the bundle, short, and needs the standard library and `cryptography` only."""
    source = PROGRAM.read_text()
    assert files["verify_bundle.py"].decode() == source
    assert len(source.splitlines()) < 300
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {name.partition(".")[0] for name in imported} <= {
        *sys.stdlib_module_names,
        "cryptography",
    }


def test_the_archive_is_one_that_every_program_reads() -> None:
    """Names, contents and sums of any files."""
    given = {"a/b.txt": b"hello", "empty": b"", "z": bytes(range(256)) * 300}
    with zipfile.ZipFile(BytesIO(zip_bytes(given))) as packed:
        assert packed.testzip() is None
        assert {name: packed.read(name) for name in packed.namelist()} == given


def test_erased_evidence_is_told_as_such(world: EvidenceWorld) -> None:
    """The facts stay proved; the person's part is gone, and so is the proof of the number."""
    world.store.command("CREATE TABLE kept AS evidence")
    world.store.command("INSERT INTO kept SELECT * FROM evidence")
    try:
        world.store.command("DELETE FROM evidence WHERE topic = 'consent-events'")
        made = world.bundle()
    finally:
        world.store.command("TRUNCATE TABLE evidence")
        world.store.command("INSERT INTO evidence SELECT * FROM kept")
        world.store.command("DROP TABLE kept SYNC")
    with zipfile.ZipFile(BytesIO(made.data)) as packed:
        told = json.loads(packed.read("story.json"))
        page = packed.read("story.html").decode()
    grant = told["events"][3]
    assert (grant["evidence"], grant["evidence_held"]) == (None, False)
    assert "Evidence is not held any more" in page
    assert "anna@mail.example" not in made.data.decode("latin-1")
    assert any("4 are bound by it" in line for line in made.checks), made.checks


def test_what_is_not_sealed_yet_is_left_out(
    store: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """And said; before the first checkpoint there is no bundle at all."""
    world = EvidenceWorld(store, tmp_path_factory.mktemp("unsealed") / "log")
    world.say("ConsentWithdrawn", "2026-11-20T15:00:00Z")
    with pytest.raises(NothingSealed):
        world.bundle()
    world.checkpoint()
    world.say("ConsentWithdrawn", "2026-11-21T15:00:00Z")
    made = world.bundle()
    assert (made.facts, made.unsealed) == (1, 1)
    with zipfile.ZipFile(BytesIO(made.data)) as packed:
        told = json.loads(packed.read("story.json"))
    assert told["not_sealed_yet"] == 1
    assert any("1 records were so new" in text for text in told["limits"])


def test_a_store_that_was_altered_gives_no_bundle(
    store: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It would have no proof."""
    world = EvidenceWorld(store, tmp_path_factory.mktemp("altered") / "log")
    world.say_all("ConsentWithdrawn", "2026-11-20T15:00:00Z", [ANNA, OTHER, OTHER])
    world.checkpoint()
    assert world.bundle().facts == 1
    world.store.command("ALTER TABLE facts DELETE WHERE offset = 2 SETTINGS mutations_sync = 1")
    with pytest.raises(Corrupt, match="not what was sealed"):
        world.bundle()


def test_scopes(world: EvidenceWorld) -> None:
    """Sellers, and a period without calls; a number of which nothing is held."""
    others = world.bundle(scope=EvidenceScope(BEGIN, END, frozenset({"b"})))
    assert others.facts == 1
    early = world.bundle(scope=EvidenceScope(BEGIN - 90 * 86_400_000_000, BEGIN))
    assert early.facts == 3
    nobody = world.bundle(number="+15125550199")
    assert nobody.facts == 0
    assert check(opened(nobody.data), KEY, [])


def test_copies_are_those_that_facts_name(world: EvidenceWorld) -> None:
    """A document that no event states the digest of is refused."""
    with pytest.raises(Rejected, match="COPY_UNKNOWN"):
        world.bundle(copies=[b"another form"])
