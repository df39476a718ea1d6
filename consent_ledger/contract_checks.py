"""Holds `schemas/` to its promises; run by `make check` and by the tests.

`python -m consent_ledger.contract_checks` prints every finding and exits 1 if there is one.
`--write` brings the made files up to date: the AsyncAPI document, the made parts of
docs/contracts.md and docs/records.md, and the digests of files that have none yet. It never
replaces a digest: a released file is never edited.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import avro.errors
import avro.schema
import fastavro
import typer
from fastavro.schema import SchemaParseException
from ruamel.yaml import YAML

from consent.contracts import NAMESPACE, data_path, packaged_contracts
from consent_ledger.contract_pages import asyncapi_text, records_reference, topics_table
from consent_ledger.schema_evolution import VersionedSchema, evolution_problems

DIGESTS: Final = "digests.json"
ASYNCAPI: Final = "asyncapi.yaml"

_PATH = re.compile(r"(?P<topic>[a-z-]+)/(?P<name>[A-Za-z]+)\.v(?P<version>\d+)\.avsc")
_EXAMPLE = re.compile(
    r"(?P<begin><!-- example: (?P<path>[\w/.-]+) -->).*?(?P<end><!-- end of example -->)", re.DOTALL
)
_FIRST_FIELDS: Final = ("event_id", "occurred_at", "seller_id", "source", "test")
_LAST_FIELDS: Final = ("salt", "evidence")
_ENVELOPE: Final = "facts/Fact.v1.avsc"
_REMEDY_EDITED: Final = "Restore it and add the next version beside it."


@dataclass(frozen=True, slots=True)
class Finding:
    """Something under `schemas/` that breaks a promise; `path` is relative to it."""

    path: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class SchemaFiles:
    """Everything under a `schemas/` folder that the checks look at."""

    root: Path
    schemas: Mapping[str, dict[str, Any]]
    ids: tuple[Mapping[str, Any], ...]
    topics: Mapping[str, tuple[str, ...]]
    digests: Mapping[str, str]


def read_files(root: Path) -> SchemaFiles:
    """Read a `schemas/` folder; ValueError or KeyError if a file is not what its name says."""
    topics = YAML(typ="safe").load((root / "topics.yaml").read_text())["topics"]
    digests = root / DIGESTS
    return SchemaFiles(
        root=root,
        schemas={
            path.relative_to(root).as_posix(): json.loads(path.read_text())
            for path in sorted(root.glob("*/*.avsc"))
        },
        ids=tuple(json.loads((root / "ids.json").read_text())["schemas"]),
        topics={
            topic["name"]: tuple(record["name"] for record in topic["records"]) for topic in topics
        },
        digests=json.loads(digests.read_text())["sha256"] if digests.exists() else {},
    )


def findings(files: SchemaFiles) -> Iterator[Finding]:
    """Every broken promise, in the order of the files within each check."""
    for check in _CHECKS:
        yield from check(files)


def _parsing(files: SchemaFiles) -> Iterator[Finding]:
    for path, schema in files.schemas.items():
        try:
            fastavro.parse_schema(json.loads(json.dumps(schema)))
            avro.schema.parse(json.dumps(schema))
        except (ValueError, KeyError, SchemaParseException, avro.errors.AvroException) as problem:
            yield Finding(path, f"it is not Avro ({problem})", "Both libraries must parse it.")


def _naming(files: SchemaFiles) -> Iterator[Finding]:
    for path, schema in files.schemas.items():
        match = _PATH.fullmatch(path)
        if match is None:
            yield Finding(path, "the file has no version", "Name it <topic>/<Record>.v<N>.avsc.")
            continue
        if (schema.get("name"), schema.get("namespace")) != (match["name"], NAMESPACE):
            remedy = f"Name the record {match['name']} in namespace {NAMESPACE}."
            yield Finding(path, "record and file are named differently", remedy)
        topic, name = match["topic"], match["name"]
        if topic != "facts" and name not in files.topics.get(topic, ()):
            yield Finding(path, f"{topic} does not carry {name}", "Add it to topics.yaml.")


def _ids(files: SchemaFiles) -> Iterator[Finding]:
    wanted = {path for path in files.schemas if not path.startswith("facts/")}
    for path in sorted(wanted - {entry["path"] for entry in files.ids}):
        yield Finding(path, "it has no schema id", "Append it to ids.json under the next id.")
    used: dict[int, str] = {}
    for entry in files.ids:
        path, number = entry["path"], entry["id"]
        match = _PATH.fullmatch(path)
        if match is None or path not in wanted:
            yield Finding("ids.json", f"id {number} names no file", f"Restore {path}.")
            continue
        subject = f"{match['topic']}-{NAMESPACE}.{match['name']}"
        if (entry["subject"], entry["version"]) != (subject, int(match["version"])):
            remedy = f"Write {subject}, version {match['version']}."
            yield Finding("ids.json", f"id {number} has another subject or version", remedy)
        if number in used:
            remedy = "An id is given once, for good."
            yield Finding("ids.json", f"id {number} is {path} and {used[number]}", remedy)
        used[number] = path


def _shapes(files: SchemaFiles) -> Iterator[Finding]:
    for path, schema in files.schemas.items():
        for problem, remedy in _shape_problems(schema):
            yield Finding(path, problem, remedy)


def _shape_problems(kind: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Types that Polars can't decode as columns, or that could not evolve."""
    if isinstance(kind, list):
        if len(kind) != 2 or kind[0] != "null":
            yield f"{where} is a union of {len(kind)} types", "Only null and one type are allowed."
        for branch in kind:
            yield from _shape_problems(branch, where)
    elif isinstance(kind, dict):
        if kind["type"] == "map":
            yield f"{where} is a map", "Use a list of records with a name and a value."
        elif kind["type"] == "array":
            yield from _shape_problems(kind["items"], f"{where}[]")
        elif kind["type"] == "enum" and (kind["symbols"][0], kind.get("default")) != (
            "UNKNOWN",
            "UNKNOWN",
        ):
            yield f"{where} has no symbol for what is not known", "Begin and default to UNKNOWN."
        elif kind["type"] == "record":
            for field in kind["fields"]:
                yield from _field_problems(field, f"{where}/{field['name']}")


def _field_problems(field: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    if isinstance(field["type"], list) and field.get("default", "") is not None:
        yield f"{where} is optional without being null by default", 'Add "default": null.'
    if not field.get("doc") and not _documented(field["type"]):
        yield f"{where} has no doc", "Say in one sentence what it means and its unit."
    yield from _shape_problems(field["type"], where)


def _documented(kind: Any) -> bool:
    """A record says itself what it is for."""
    branches = kind if isinstance(kind, list) else [kind]
    return any(isinstance(branch, dict) and bool(branch.get("doc")) for branch in branches)


def _event_order(files: SchemaFiles) -> Iterator[Finding]:
    """History keeps an event's bytes up to its number as they came: the order is a promise."""
    for path, schema in _events(files).items():
        names = [field["name"] for field in schema["fields"]]
        last = ("number", *_LAST_FIELDS) if "number" in names else _LAST_FIELDS
        in_order = (
            tuple(names[: len(_FIRST_FIELDS)]) == _FIRST_FIELDS
            and tuple(names[-len(last) :]) == last
        )
        if not in_order:
            remedy = (
                f"Begin with {', '.join(_FIRST_FIELDS)}; own fields next; end with "
                "number where there is one, salt, evidence."
            )
            yield Finding(path, "its fields are out of order", remedy)


def _facts(files: SchemaFiles) -> Iterator[Finding]:
    for path, schema in _events(files).items():
        fact_path = "facts/" + path.split("/", 1)[1]
        fact = files.schemas.get(fact_path)
        if fact is None or fact["fields"] != fact_fields(schema):
            remedy = "Its fields are those of the event before number, salt and evidence."
            yield Finding(fact_path, f"it is not what history keeps of {path}", remedy)
    kept = {"facts/" + path.split("/", 1)[1] for path in _events(files)} | {_ENVELOPE}
    for path in files.schemas:
        if path.startswith("facts/") and path not in kept:
            yield Finding(path, "it belongs to no event", "Remove it, or restore the event.")


def fact_fields(event: Mapping[str, Any]) -> list[Any]:
    """The fields of an event that history keeps."""
    return [
        field for field in event["fields"] if field["name"] not in ("number", "salt", "evidence")
    ]


def _events(files: SchemaFiles) -> dict[str, dict[str, Any]]:
    return {
        path: schema
        for path, schema in files.schemas.items()
        if not path.startswith("facts/")
        and any(field["name"] == "salt" for field in schema["fields"])
    }


def _evolution(files: SchemaFiles) -> Iterator[Finding]:
    versions: dict[str, list[VersionedSchema]] = defaultdict(list)
    for path, schema in files.schemas.items():
        match = _PATH.fullmatch(path)
        if match is not None:
            subject = f"{match['topic']}/{match['name']}"
            versions[subject].append(VersionedSchema(match["name"], int(match["version"]), schema))
    for subject, found in versions.items():
        numbers = sorted(version.version for version in found)
        if numbers != list(range(1, len(numbers) + 1)):
            yield Finding(subject, f"versions are {numbers}", "Count from 1 without holes.")
        for problem in evolution_problems(found):
            yield Finding(subject, problem, "A version only adds, with defaults.")


def _digests(files: SchemaFiles) -> Iterator[Finding]:
    remedy = "Run `python -m consent_ledger.contract_checks --write` before it is released."
    now = _digests_of(files)
    for path in files.digests:
        if path not in now:
            yield Finding(path, "a released file is gone", "Restore it.")
    for path, digest in now.items():
        if path not in files.digests:
            yield Finding(path, "it has no digest yet", remedy)
        elif files.digests[path] != digest:
            yield Finding(path, "it was edited after its release", _REMEDY_EDITED)


def _digests_of(files: SchemaFiles) -> dict[str, str]:
    """SHA-256 of every schema file, and of what each id stands for."""
    digests = {
        path: hashlib.sha256((files.root / path).read_bytes()).hexdigest() for path in files.schemas
    }
    for entry in files.ids:
        named = f"{entry['subject']} {entry['version']} {entry['path']}"
        digests[f"id {entry['id']}"] = hashlib.sha256(named.encode()).hexdigest()
    return digests


_CHECKS: Final[tuple[Callable[[SchemaFiles], Iterator[Finding]], ...]] = (
    _parsing,
    _naming,
    _ids,
    _shapes,
    _event_order,
    _facts,
    _evolution,
    _digests,
)


def write_digests(files: SchemaFiles) -> None:
    """Add digests of new files; those that are there stay as they are."""
    digests = {**_digests_of(files), **files.digests}
    text = json.dumps({"sha256": dict(sorted(digests.items()))}, indent=1) + "\n"
    (files.root / DIGESTS).write_text(text)


def with_made_part(page: str, name: str, text: str) -> str:
    """A page whose part between the marks of `name` is `text`; ValueError without such marks."""
    begin, end = f"<!-- made: {name} -->", f"<!-- end of {name} -->"
    before, found_begin, rest = page.partition(begin)
    _old, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"the page does not mark where its made part {name} begins and ends")
    return f"{before}{begin}\n{text}\n{end}{after}"


def with_examples(page: str, examples: Path) -> str:
    """A page whose marked examples are the files of the `examples` folder that they name."""

    def shown(match: re.Match[str]) -> str:
        text = (examples / match["path"]).read_text()
        return f"{match['begin']}\n```json\n{text}```\n{match['end']}"

    return _EXAMPLE.sub(shown, page)


def _made_files(root: Path) -> dict[Path, str]:
    """Files made from the packaged contracts, and what must be in them."""
    contracts = packaged_contracts()
    made = {root / ASYNCAPI: asyncapi_text(contracts)}
    docs = root.parent / "docs"
    if docs.is_dir():
        overview = (docs / "contracts.md").read_text()
        overview = with_made_part(overview, "topics", topics_table(contracts))
        made[docs / "contracts.md"] = with_examples(overview, root / "examples")
        records = (docs / "records.md").read_text()
        made[docs / "records.md"] = with_made_part(records, "records", records_reference(contracts))
    return made


def command(
    schemas: Annotated[Path | None, typer.Option(help="Folder to check.")] = None,
    write: Annotated[bool, typer.Option(help="Bring the made files up to date.")] = False,
) -> None:
    """Check the contracts; exit 1 if a promise is broken."""
    root = schemas or data_path("schemas")
    made = _made_files(root) if schemas is None else {}
    if write:
        write_digests(read_files(root))
        for path, text in made.items():
            path.write_text(text)
    found = list(findings(read_files(root)))
    for path, text in made.items():
        if not path.exists() or path.read_text() != text:
            found.append(Finding(path.name, "it is out of date", "Run this with --write."))
    for finding in found:
        print(finding, file=sys.stderr)
    print(f"{len(found)} findings in {root}" if found else "contracts hold")
    raise typer.Exit(1 if found else 0)


if __name__ == "__main__":
    typer.run(command)
