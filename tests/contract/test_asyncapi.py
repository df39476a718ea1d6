"""The AsyncAPI document is valid, complete, and refers only to what is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from consent.contracts import contracts, data_path
from consent_ledger.contract_pages import asyncapi_document

SPECIFICATION = Path(__file__).parent / "data" / "asyncapi-3.0.0.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The shipped file."""
    return dict(YAML(typ="safe").load((data_path("schemas") / "asyncapi.yaml").read_text()))


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def test_the_shipped_document_is_the_made_one(document: dict[str, Any]) -> None:
    """The shipped document says what topics.yaml and the schemas say."""
    assert document == asyncapi_document(contracts())


def test_it_is_valid_asyncapi(document: dict[str, Any]) -> None:
    """The document fits the specification's own JSON Schema, Kafka bindings included."""
    jsonschema.Draft7Validator(json.loads(SPECIFICATION.read_text())).validate(document)


def test_the_specification_refuses_a_wrong_binding(document: dict[str, Any]) -> None:
    """A topic with no partitions would be found, so the specification's bindings do apply."""
    wrong = json.loads(json.dumps(document))
    wrong["channels"]["suppression"]["bindings"]["kafka"]["partitions"] = 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(json.loads(SPECIFICATION.read_text())).validate(wrong)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """Each reference is to a part of the document or to a schema file beside it."""
    for reference in _references(document):
        if reference.startswith("#/"):
            part: Any = document
            for step in reference[2:].split("/"):
                part = part[step]
        else:
            assert (data_path("schemas") / reference).is_file(), reference


def test_every_topic_and_record_is_in_it(document: dict[str, Any]) -> None:
    """Each topic is a channel with its records as messages, and has an operation."""
    for topic in contracts().topics.values():
        channel = document["channels"][topic.name]
        assert tuple(channel["messages"]) == topic.records
        assert channel["bindings"]["kafka"]["topic"] == topic.name
    used = {operation["channel"]["$ref"] for operation in document["operations"].values()}
    assert used == {f"#/channels/{name}" for name in contracts().topics}
