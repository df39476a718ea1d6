"""The contracts as data: topics, records and schema ids, read once from the packaged files.

The only module of this package that reads files. What it reads is part of the release, so two
processes of one version can't disagree about it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import fastavro
from ruamel.yaml import YAML

NAMESPACE = "ledger.consent"

Effect = Literal["permits", "restricts", "neutral"]
Schema = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class RecordContract:
    """One version of one record type.

    `effect` says what is done in doubt: a record that `permits` is refused, one that `restricts`
    is applied. Records that no publisher sends (states, blocks, dead letters) are `neutral`.
    """

    name: str
    version: int
    topic: str
    schema_id: int
    subject: str
    effect: Effect
    schema: Schema
    parsed: Schema

    @property
    def event(self) -> bool:
        """True for what publishers send: it has a salt, and evidence to be kept apart."""
        return any(field["name"] == "salt" for field in self.schema["fields"])

    @property
    def has_number(self) -> bool:
        """True for an event about one number, which is then also the record's key."""
        return self.event and any(field["name"] == "number" for field in self.schema["fields"])


@dataclass(frozen=True, slots=True, eq=False)
class TopicContract:
    """One topic: what keys it, how it is kept, and which records it carries.

    `partitions` is None for the number-keyed topics, which all share the deployment's count.
    """

    name: str
    key: str
    source: bool
    partitions: int | None
    config: Mapping[str, str]
    records: tuple[str, ...]

    @property
    def keyed(self) -> bool:
        """True if its partitions correspond to those of every other number-keyed topic."""
        return self.partitions is None


@dataclass(frozen=True, slots=True, eq=False)
class Contracts:
    """Every topic and record of this release."""

    topics: Mapping[str, TopicContract]
    records: tuple[RecordContract, ...]
    keyed_partitions: Mapping[str, int]
    _by_name: Mapping[str, RecordContract]
    _by_id: Mapping[int, RecordContract]

    def record(self, name: str) -> RecordContract:
        """The newest version of a record; KeyError if there is no such record."""
        return self._by_name[name]

    def by_id(self, schema_id: int) -> RecordContract | None:
        """The record that a packaged schema id names, or None."""
        return self._by_id.get(schema_id)

    @property
    def source_topics(self) -> tuple[str, ...]:
        """Topics that publishers write; the history holds every record of them."""
        return tuple(topic.name for topic in self.topics.values() if topic.source)

    @property
    def keyed_source_topics(self) -> tuple[str, ...]:
        """Source topics keyed by number, which the projection folds."""
        return tuple(topic.name for topic in self.topics.values() if topic.source and topic.keyed)


def data_path(name: str) -> Path:
    """Folder `schemas` or `rules`: inside the installed package, or beside it in a checkout."""
    packaged = Path(__file__).parent / "data" / name
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / name


_adopted: list[Contracts] = []


def contracts() -> Contracts:
    """The contracts in force: the packaged ones, with the ids that the process adopted."""
    return _adopted[0] if _adopted else packaged_contracts()


def adopt_schema_ids(ids: Mapping[tuple[str, int], int]) -> None:
    """Use a schema registry's ids, by (subject, version), instead of the packaged ones.

    Called at most once, at start, before anything is read or written; records that `ids` does
    not name keep their packaged id.
    """
    packaged = packaged_contracts()
    records = tuple(
        replace(record, schema_id=ids.get((record.subject, record.version), record.schema_id))
        for record in packaged.records
    )
    if len({record.schema_id for record in records}) != len(records):
        raise ValueError("two records share a schema id; every subject must be in the registry")
    _adopted[:] = [replace(packaged, records=records, **_indexed(records))]


@cache
def packaged_contracts() -> Contracts:
    """Read the packaged contracts; the same object on every call."""
    root = data_path("schemas")
    topics_file = YAML(typ="safe").load((root / "topics.yaml").read_text())
    effects = {
        record["name"]: record.get("effect", "neutral")
        for topic in topics_file["topics"]
        for record in topic["records"]
    }
    records = tuple(
        _record(root, entry, effects)
        for entry in json.loads((root / "ids.json").read_text())["schemas"]
    )
    return Contracts(
        topics={topic["name"]: _topic(topic) for topic in topics_file["topics"]},
        records=records,
        keyed_partitions=topics_file["keyed_partitions"],
        **_indexed(records),
    )


@cache
def fact_schema(name: str, version: int = 1) -> Schema:
    """Parsed schema of what history keeps of a record; `Fact` is the envelope around it."""
    path = data_path("schemas") / "facts" / f"{name}.v{version}.avsc"
    return parse_schema(json.loads(path.read_text()))


def parse_schema(schema: Schema) -> Schema:
    """Parse for fastavro without logical types: numbers stay numbers, faster and lossless.

    The result carries fastavro's hint that it is parsed; without it each use would parse it again.
    """
    return cast(Schema, fastavro.parse_schema(without_logical_types(schema)))


def without_logical_types(schema: Any) -> Any:
    """The same schema whose timestamps are longs, dates ints and uuids strings."""
    if isinstance(schema, list):
        return [without_logical_types(branch) for branch in schema]
    if isinstance(schema, dict):
        kept = {key: value for key, value in schema.items() if key != "logicalType"}
        for key in ("type", "items"):
            if key in kept:
                kept[key] = without_logical_types(kept[key])
        if "fields" in kept:
            kept["fields"] = [without_logical_types(field) for field in kept["fields"]]
        return kept
    return schema


def named_types(schema: Any) -> dict[str, Schema]:
    """Every record, enum and fixed type in a schema, by its name."""
    found: dict[str, Schema] = {}
    if isinstance(schema, list):
        for branch in schema:
            found |= named_types(branch)
    elif isinstance(schema, dict):
        if schema["type"] in ("record", "enum", "fixed"):
            found[schema["name"]] = schema
        for field in schema.get("fields", ()):
            found |= named_types(field["type"])
        found |= named_types(schema.get("items", ()))
    return found


def resolved(schema: Any, named: Mapping[str, Schema]) -> Any:
    """A type, spelled out where it is only named."""
    return named[schema] if isinstance(schema, str) and schema in named else schema


def _record(root: Path, entry: Mapping[str, Any], effects: Mapping[str, Effect]) -> RecordContract:
    schema = json.loads((root / entry["path"]).read_text())
    return RecordContract(
        name=schema["name"],
        version=entry["version"],
        topic=entry["path"].split("/", 1)[0],
        schema_id=entry["id"],
        subject=entry["subject"],
        effect=effects[schema["name"]],
        schema=schema,
        parsed=parse_schema(schema),
    )


def _indexed(records: tuple[RecordContract, ...]) -> dict[str, Any]:
    oldest_first = sorted(records, key=lambda record: record.version)
    return {
        "_by_name": {record.name: record for record in oldest_first},
        "_by_id": {record.schema_id: record for record in records},
    }


def _topic(entry: Mapping[str, Any]) -> TopicContract:
    partitions = entry["partitions"]
    return TopicContract(
        name=entry["name"],
        key=entry["key"],
        source=entry["source"],
        partitions=None if partitions == "keyed" else int(partitions),
        config={key: str(value) for key, value in entry["config"].items()},
        records=tuple(record["name"] for record in entry["records"]),
    )
