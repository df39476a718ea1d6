"""Events of sellers' programs and of calendars, as history has them.

For brokers that forget their log when they stop: what was published before is handed to whoever
follows these topics. They concern no number, so facts alone tell all that a follower uses.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final, cast

import fastavro

from consent.calendars_declared import CALENDAR_TOPIC
from consent.contracts import fact_schema
from consent.programs import PROGRAM_TOPIC
from projections.clickhouse import Store
from projections.errors import StoreRejected
from projections.surroundings import KnownEvent

_TOPICS: Final = (PROGRAM_TOPIC, CALENDAR_TOPIC)
_NOT_MADE_YET: Final = ("UNKNOWN_DATABASE", "UNKNOWN_TABLE")
_FACTS: Final = """
SELECT topic, fact, toUnixTimestamp64Micro(effective_at) FROM facts
WHERE topic IN {topics:Array(String)} AND unreadable = ''
ORDER BY recorded_at, topic, partition, offset
"""


def known_events(store: Store) -> list[KnownEvent]:
    """Every event, in the order in which they were recorded; blocks.

    A history that has no tables yet has none.
    """
    try:
        table = store.query_arrow(_FACTS, {"topics": list(_TOPICS)}, strings_as_bytes=True)
    except StoreRejected as refused:
        if refused.name not in _NOT_MADE_YET:
            raise
        return []
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return [_event(bytes(topic).decode(), bytes(fact), at) for topic, fact, at in rows]


def _event(topic: str, data: bytes, effective_at: int) -> KnownEvent:
    fact = read_fact(data)
    return KnownEvent(topic, fact["event_name"], payload_of(fact), effective_at)


def read_fact(data: bytes) -> Mapping[str, Any]:
    """A fact's own fields; its payload is still encoded."""
    return cast(
        Mapping[str, Any], fastavro.schemaless_reader(io.BytesIO(data), fact_schema("Fact"), None)
    )


def payload_of(fact: Mapping[str, Any]) -> Mapping[str, Any]:
    """The event in a readable fact: all of its fields but number, salt and evidence."""
    schema = fact_schema(fact["event_name"], fact["event_version"])
    payload = io.BytesIO(fact["payload"])
    return cast(Mapping[str, Any], fastavro.schemaless_reader(payload, schema, None))
