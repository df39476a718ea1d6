"""The contracts as pages for people and tools: an AsyncAPI 3 document and the reference of records.

Both are made from `schemas/` alone, so that a test can hold the files that we ship to them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from ruamel.yaml import YAML

from consent.codec import cloudevents_headers
from consent.contracts import NAMESPACE, Contracts, RecordContract, TopicContract, data_path
from consent.evidence import BITS

ASYNCAPI_VERSION: Final = "3.0.0"
BINDING_VERSION: Final = "0.5.0"
AVRO_FORMAT: Final = "application/vnd.apache.avro;version=1.9.0"
CONTENT_TYPE: Final = "application/vnd.confluent.avro"

SHARED_FIELDS: Final = (
    "event_id",
    "occurred_at",
    "seller_id",
    "source",
    "test",
    "number",
    "salt",
    "evidence",
)
"""Fields that every event has, in this order; `number` only where it is about one."""

_WRITTEN_BY_LEDGER: Final = frozenset({"dial-decisions"})
_EFFECTS: Final = {
    "permits": "Permits: refused when in doubt.",
    "restricts": "Restricts: applied when in doubt.",
    "neutral": "Neither permits nor restricts.",
}

Document = dict[str, Any]


def asyncapi_text(contracts: Contracts) -> str:
    """The AsyncAPI document as YAML; equal contracts give equal text."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 100
    out = io.StringIO()
    out.write("# Made from topics.yaml and the schemas beside it; a test holds it to them.\n")
    yaml.dump(asyncapi_document(contracts), out)
    return out.getvalue()


def asyncapi_document(contracts: Contracts) -> Document:
    """An AsyncAPI 3 document with Kafka bindings, seen from the ledger.

    The ledger receives what publishers send to the source topics and sends what it derives.
    Schemas are referred to as files beside the document.
    """
    topics = contracts.topics.values()
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {
            "title": "Consent ledger",
            "version": "1.0.0",
            "description": "Consent, do-not-call and call events in; one current record per "
            "number, decisions and sealed blocks out.",
            "license": {
                "name": "Apache-2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": _servers(),
        "channels": {topic.name: _channel(topic, contracts) for topic in topics},
        "operations": dict(_operations(topics)),
        "components": {
            "messages": {
                record.name: _message(record, contracts.topics[record.topic])
                for record in _newest(contracts)
            },
            "schemas": {"CloudEventsHeaders": _cloudevents_schema(contracts)},
        },
    }


def topics_table(contracts: Contracts) -> str:
    """Markdown: one row per topic with its key, partitions, how long it is kept, its records."""
    lines = ["| topic | key | partitions | kept | records |", "|---|---|---|---|---|"]
    for topic in contracts.topics.values():
        records = ", ".join(f"[{name}](records.md#{name.lower()})" for name in topic.records)
        partitions = "as numbers" if topic.keyed else str(topic.partitions)
        kept = _kept(topic)
        lines.append(
            f"| `{topic.name}` | {_key_docs()[topic.name]} | {partitions} | {kept} | {records} |"
        )
    return "\n".join(lines)


def _kept(topic: TopicContract) -> str:
    if topic.config["cleanup.policy"] == "compact":
        return "newest of each key"
    retention_ms = int(topic.config["retention.ms"])
    return "for ever" if retention_ms < 0 else f"{retention_ms // 86_400_000} days"


def records_reference(contracts: Contracts) -> str:
    """Markdown: every topic with its records and their own fields, and the evidence elements."""
    topics = [_topic_reference(topic, contracts) for topic in contracts.topics.values()]
    return "\n".join([_shared_reference(contracts), *topics, _elements_reference()])


@cache
def _key_docs() -> Mapping[str, str]:
    """What keys each topic, in words."""
    topics_file = YAML(typ="safe").load((data_path("schemas") / "topics.yaml").read_text())
    return {topic["name"]: topic["key_doc"] for topic in topics_file["topics"]}


def _newest(contracts: Contracts) -> Iterator[RecordContract]:
    for topic in contracts.topics.values():
        for name in topic.records:
            yield contracts.record(name)


def _servers() -> Document:
    return {
        "production": {
            "host": "{bootstrap}",
            "protocol": "kafka",
            "description": "Apache Kafka; tested with 4.3.",
            "variables": {
                "bootstrap": {
                    "default": "kafka:9092",
                    "description": "Any broker of the cluster, host and port.",
                }
            },
            "bindings": {
                "kafka": {"schemaRegistryVendor": "confluent", "bindingVersion": BINDING_VERSION}
            },
        },
        "embedded": {
            "host": "127.0.0.1:19092",
            "protocol": "kafka",
            "description": "The broker that `consent-ledger up` starts; it forgets when stopped.",
        },
    }


def _channel(topic: TopicContract, contracts: Contracts) -> Document:
    kafka: Document = {"topic": topic.name}
    if topic.partitions is not None:
        kafka["partitions"] = topic.partitions
    else:
        kafka["partitions"] = contracts.keyed_partitions["production"]
        kafka["x-partitions"] = dict(contracts.keyed_partitions)
    kafka["topicConfiguration"] = {
        name: _config_value(name, value) for name, value in topic.config.items()
    }
    kafka["bindingVersion"] = BINDING_VERSION
    return {
        "address": topic.name,
        "description": f"Key: {_key_docs()[topic.name]}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in topic.records},
        "bindings": {"kafka": kafka},
    }


def _config_value(name: str, value: str) -> Any:
    if name == "cleanup.policy":
        return value.split(",")
    return int(value) if value.lstrip("-").isdigit() else value


def _operations(topics: Iterable[TopicContract]) -> Iterator[tuple[str, Document]]:
    for topic in topics:
        if topic.source and topic.name not in _WRITTEN_BY_LEDGER:
            yield f"receive-{topic.name}", _operation("receive", topic, "What publishers send.")
        else:
            yield f"send-{topic.name}", _operation("send", topic, "What the ledger writes.")


def _operation(action: str, topic: TopicContract, summary: str) -> Document:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "summary": summary,
    }


def _message(record: RecordContract, topic: TopicContract) -> Document:
    message: Document = {
        "name": record.name,
        "title": f"{record.name} v{record.version}",
        "summary": record.schema.get("doc", record.name),
    }
    if record.event:
        message["description"] = _EFFECTS[record.effect]
        message["headers"] = {"$ref": "#/components/schemas/CloudEventsHeaders"}
    message["contentType"] = CONTENT_TYPE
    message["payload"] = {
        "schemaFormat": AVRO_FORMAT,
        "schema": {"$ref": f"./{topic.name}/{record.name}.v{record.version}.avsc"},
    }
    message["x-schema-id"] = record.schema_id
    message["bindings"] = {
        "kafka": {
            "key": {"type": "string", "description": _key_docs()[topic.name]},
            "schemaIdLocation": "payload",
            "schemaIdPayloadEncoding": "confluent",
            "schemaLookupStrategy": "TopicRecordNameStrategy",
            "bindingVersion": BINDING_VERSION,
        }
    }
    return message


def _cloudevents_schema(contracts: Contracts) -> Document:
    """Headers as our publishers write them, asked of the codec that writes them."""
    sample = {"event_id": "", "occurred_at": 0, "source": {"system": ""}}
    written = cloudevents_headers(contracts.record("ConsentGranted"), sample)
    docs = {
        "ce_specversion": "CloudEvents 1.0.",
        "ce_id": "The event_id.",
        "ce_source": "A slash and the publishing system.",
        "ce_type": f"{NAMESPACE}., the record's name, .v and its version.",
        "ce_time": "occurred_at, RFC 3339.",
        "content-type": CONTENT_TYPE,
    }
    return {
        "type": "object",
        "description": "Written by the ledger's publishers, optional for others. None names the "
        "number.",
        "properties": {
            name: {"type": "string", "description": docs[name]} for name, _value in written
        },
    }


def _shared_reference(contracts: Contracts) -> str:
    fields = {field["name"]: field for field in contracts.record("ConsentGranted").schema["fields"]}
    tables = _tables([fields[name] for name in SHARED_FIELDS])
    return "\n".join(["## Fields of every event\n", *tables])


def _topic_reference(topic: TopicContract, contracts: Contracts) -> str:
    lines = [f"## {topic.name}\n", f"Key: {_key_docs()[topic.name]}.\n"]
    for name in topic.records:
        record = contracts.record(name)
        effect = f" {_EFFECTS[record.effect]}" if record.event else ""
        lines.append(f"### {name}\n")
        lines.append(f"{record.schema.get('doc', '')}{effect} Schema id {record.schema_id}.\n")
        shared = SHARED_FIELDS if record.event else ()
        lines += _tables(
            [field for field in record.schema["fields"] if field["name"] not in shared]
        )
    return "\n".join(lines)


def _tables(fields: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A table of the fields, and one of each record that is defined in them."""
    yield "| field | type | required | meaning |"
    yield "|---|---|---|---|"
    yield from map(_field_row, fields)
    yield ""
    for field in fields:
        inner = _record_inside(field["type"])
        if inner is not None:
            yield f"{inner['name']}, in `{field['name']}`:\n"
            yield from _tables(inner["fields"])


def _record_inside(kind: Any) -> Mapping[str, Any] | None:
    if isinstance(kind, list):
        return next((found for branch in kind if (found := _record_inside(branch))), None)
    if not isinstance(kind, dict):
        return None
    return kind if kind["type"] == "record" else _record_inside(kind.get("items"))


def _elements_reference() -> str:
    lines = [
        "## Evidence elements\n",
        "Of an event's evidence, history keeps only which elements there were, as a set of bits.\n",
        "| bit | element |",
        "|---|---|",
    ]
    lines += [f"| {bit} | `{name}` |" for name, bit in BITS.items()]
    return "\n".join([*lines, ""])


def _field_row(field: Mapping[str, Any]) -> str:
    required = "" if "default" in field else "yes"
    doc = field.get("doc", "").replace("|", "\\|")
    return f"| `{field['name']}` | {_type_text(field['type'])} | {required} | {doc} |"


def _type_text(kind: Any) -> str:
    if isinstance(kind, list):
        return " or ".join(_type_text(branch) for branch in kind if branch != "null")
    if isinstance(kind, str):
        return kind
    if kind["type"] == "enum":
        return f"{kind['name']}: " + " ".join(f"`{symbol}`" for symbol in kind["symbols"])
    if kind["type"] == "array":
        return f"list of {_type_text(kind['items'])}"
    if kind["type"] == "record":
        return f"record {kind['name']}"
    if kind["type"] == "fixed":
        return f"{kind['size']} bytes"
    return {"timestamp-micros": "time", "date": "date", "uuid": "UUID"}.get(
        kind.get("logicalType", ""), str(kind["type"])
    )
