"""The checks hold for what is packaged, and find each kind of broken promise."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consent.contracts import data_path
from consent_ledger.contract_checks import findings, read_files, with_made_part, write_digests

Schema = dict[str, Any]
GRANTED = "consent-events/ConsentGranted.v1.avsc"


@pytest.fixture
def schemas(tmp_path: Path) -> Path:
    """A copy of the packaged folder that a test may break."""
    copy = tmp_path / "schemas"
    shutil.copytree(data_path("schemas"), copy, ignore=shutil.ignore_patterns("examples"))
    return copy


def problems(root: Path) -> list[str]:
    return [str(finding) for finding in findings(read_files(root))]


def edit(root: Path, path: str, change: Callable[[Schema], object]) -> None:
    """Change one schema, and its digest with it, as if it had always been so."""
    schema = json.loads((root / path).read_text())
    change(schema)
    (root / path).write_text(json.dumps(schema))
    forget_digest(root, path)


def forget_digest(root: Path, *paths: str) -> None:
    digests = json.loads((root / "digests.json").read_text())
    for path in paths:
        digests["sha256"].pop(path, None)
    (root / "digests.json").write_text(json.dumps(digests))
    write_digests(read_files(root))


def field(schema: Schema, name: str) -> Schema:
    return next(entry for entry in schema["fields"] if entry["name"] == name)


def test_the_packaged_contracts_hold() -> None:
    """The command that `make check` runs finds nothing and exits 0."""
    done = subprocess.run(
        [sys.executable, "-m", "consent_ledger.contract_checks"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_broken_folder_makes_the_command_fail(schemas: Path) -> None:
    """The command exits 1 and names the file, the problem and the remedy."""
    (schemas / GRANTED).write_text((schemas / GRANTED).read_text() + " ")
    command = [sys.executable, "-m", "consent_ledger.contract_checks", "--schemas", str(schemas)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{GRANTED}: it was edited after its release. Restore it" in done.stderr


def test_a_released_file_may_not_disappear(schemas: Path) -> None:
    """A schema that has a digest and is gone is found."""
    (schemas / "facts/DncAdded.v1.avsc").unlink()
    assert any("a released file is gone" in problem for problem in problems(schemas))


def test_writing_digests_never_blesses_an_edit(schemas: Path) -> None:
    """After an edit, writing the digests again leaves the finding in place."""
    (schemas / GRANTED).write_text((schemas / GRANTED).read_text() + " ")
    write_digests(read_files(schemas))
    assert any("edited after its release" in problem for problem in problems(schemas))


def test_an_id_is_given_for_good(schemas: Path) -> None:
    """Giving a released id to another schema is found."""
    ids = json.loads((schemas / "ids.json").read_text())
    first, second = ids["schemas"][:2]
    first["id"], second["id"] = second["id"], first["id"]
    (schemas / "ids.json").write_text(json.dumps(ids))
    assert sum("edited after its release" in problem for problem in problems(schemas)) == 2


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda s: field(s, "salt").update(doc=""), "/salt has no doc"),
        (lambda s: s.update(name="Granted"), "record and file are named differently"),
        (lambda s: s.update(namespace="other"), "record and file are named differently"),
        (lambda s: s["fields"].insert(0, s["fields"].pop()), "its fields are out of order"),
        (lambda s: s["fields"].insert(2, s["fields"].pop(8)), "its fields are out of order"),
        (
            lambda s: s["fields"].insert(
                6, {"name": "x", "doc": "x", "type": {"type": "map", "values": "int"}}
            ),
            "/x is a map",
        ),
        (
            lambda s: s["fields"].insert(
                6, {"name": "x", "doc": "x", "type": ["null", "int", "string"], "default": None}
            ),
            "/x is a union of 3 types",
        ),
        (lambda s: field(s, "expires_at").pop("default"), "optional without being null"),
        (
            lambda s: field(s, "consent_kind")["type"]["symbols"].remove("UNKNOWN"),
            "it is not Avro",
        ),
        (
            lambda s: field(s, "consent_kind")["type"].pop("default"),
            "/consent_kind has no symbol for what is not known",
        ),
        (lambda s: field(s, "number").update(type="nope"), "it is not Avro"),
        (lambda s: s["fields"].pop(7), "it is not what history keeps of"),
    ],
)
def test_a_broken_promise_is_found(
    schemas: Path, change: Callable[[Schema], object], found: str
) -> None:
    """Each promise of a schema, broken once, is a finding that names it."""
    edit(schemas, GRANTED, change)
    assert [problem for problem in problems(schemas) if found in problem]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda entry: entry.update(id=2), "id 2 is consent-events/ConsentWithdrawn.v1.avsc and"),
        (lambda entry: entry.update(version=2), "has another subject or version"),
        (lambda entry: entry.update(subject="x"), "has another subject or version"),
        (lambda entry: entry.update(path="consent-events/Gone.v1.avsc"), "names no file"),
    ],
)
def test_a_wrong_id_is_found(
    schemas: Path, change: Callable[[dict[str, Any]], object], found: str
) -> None:
    """Ids are unique, and name the subject and version of a file that is there."""
    ids = json.loads((schemas / "ids.json").read_text())
    change(ids["schemas"][0])
    (schemas / "ids.json").write_text(json.dumps(ids))
    assert [problem for problem in problems(schemas) if found in problem]


def test_a_breaking_second_version_is_found(schemas: Path) -> None:
    """A second version that a reader of the first can't read is refused, with the reason."""
    second = json.loads((schemas / GRANTED).read_text())
    second["fields"].insert(6, {"name": "branch", "doc": "Branch.", "type": "string"})
    _add_second_version(schemas, second)
    found = [problem for problem in problems(schemas) if "can't read" in problem]
    assert found
    assert "branch" in found[0]


def test_an_allowed_second_version_is_accepted(schemas: Path) -> None:
    """A second version that adds an optional field, and its fact, breaks no promise."""
    second = json.loads((schemas / GRANTED).read_text())
    added = {"name": "branch", "type": ["null", "string"], "default": None, "doc": "Branch."}
    second["fields"].insert(-3, added)
    _add_second_version(schemas, second)
    assert problems(schemas) == []


def _add_second_version(root: Path, schema: Schema) -> None:
    (root / "consent-events/ConsentGranted.v2.avsc").write_text(json.dumps(schema))
    fields = schema["fields"]
    kept = [entry for entry in fields if entry["name"] not in ("number", "salt", "evidence")]
    (root / "facts/ConsentGranted.v2.avsc").write_text(json.dumps({**schema, "fields": kept}))
    ids = json.loads((root / "ids.json").read_text())
    subject = "consent-events-ledger.consent.ConsentGranted"
    path = "consent-events/ConsentGranted.v2.avsc"
    ids["schemas"].append({"id": 40, "subject": subject, "version": 2, "path": path})
    (root / "ids.json").write_text(json.dumps(ids))
    write_digests(read_files(root))


def test_a_page_without_marks_is_refused() -> None:
    """The made part is never put into a page that does not mark its place."""
    with pytest.raises(ValueError, match="does not mark"):
        with_made_part("# A page\n", "topics", "table")
