"""Everything that history holds of one number, oldest first, with what it means in plain words.

Reads facts only: no evidence leaves through here, and it works for a person whose evidence was
erased. The number is turned into its token before anything is asked of the store.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from consent.codec import decode_body
from consent.contracts import contracts, fact_schema
from consent.document_form import document_fields
from consent.documents import TEST_SELLER_PREFIX
from consent.errors import Rejected
from consent.evidence import BITS
from consent.instants import instant_text
from consent.privacy import subject_token
from consent.reasons import ReasonCatalogue
from consent_ledger.api.models import Reason, TimelineAnswer, TimelineEntry
from consent_ledger.words import summary_of
from projections.clickhouse_async import AsyncStore

EVERY_SELLER: Final = "*"
_HIDDEN: Final = frozenset({"event_id", "occurred_at", "seller_id", "test"})


class _Cursor(msgspec.Struct, array_like=True):
    recorded_at: int
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class TimelineQuery:
    """One page: at most `entries_max` entries after the cursor of the page before.

    `seller_ids` limits it to what those sellers may see: their own events and those that are for
    every seller. None: everything.
    """

    number: str
    include_test: bool
    entries_max: int
    after: str | None
    seller_ids: frozenset[str] | None = None


class TimelineReader:
    """Reads timelines from the store; an answer holds what was recorded when it was asked."""

    def __init__(
        self, store: AsyncStore, database: str, history_key: bytes, reasons: ReasonCatalogue
    ) -> None:
        self._store = store
        self._database = database
        self._history_key = history_key
        self._reasons = reasons

    def subject_of(self, number: str) -> bytes:
        """The token under which history holds a canonical number."""
        return subject_token(self._history_key, number)

    async def read(self, query: TimelineQuery) -> TimelineAnswer:
        """One page of a canonical number's timeline; Rejected for a cursor that is none."""
        cursor = _cursor_of(query.after)
        token = self.subject_of(query.number)
        rows = await self._rows(token, cursor, query)
        entries: list[TimelineEntry] = []
        last: _Cursor | None = None
        for recorded_at, topic, partition, offset, fact, seen_before in rows[: query.entries_max]:
            last = _Cursor(recorded_at, topic, partition, offset)
            entries.append(self._entry(bytes.fromhex(fact), bool(seen_before)))
        more = len(rows) > query.entries_max and last is not None
        return TimelineAnswer(entries=entries, next=_text_of(last) if more and last else None)

    async def _rows(
        self, token: bytes, cursor: _Cursor, query: TimelineQuery
    ) -> Sequence[Sequence[Any]]:
        return await self._store.query_rows(
            _SELECT.format(database=self._database),
            {
                "subject": token.hex(),
                "include_test": query.include_test,
                "every_seller": query.seller_ids is None,
                "seller_ids": sorted({*(query.seller_ids or ()), EVERY_SELLER}),
                "recorded_at": cursor.recorded_at,
                "topic": cursor.topic,
                "partition": cursor.partition,
                "offset": cursor.offset,
                "rows_max": query.entries_max + 1,
            },
        )

    def _entry(self, fact: bytes, repeated: bool) -> TimelineEntry:
        envelope = decode_body(fact_schema("Fact"), fact)
        place = {name: envelope[name] for name in ("topic", "partition", "offset")}
        recorded_at = instant_text(envelope["recorded_at"])
        if envelope["unreadable"] is not None:
            return TimelineEntry(
                type=envelope["event_name"] or "unknown",
                summary=f"A record that could not be read ({envelope['unreadable']}); "
                "an opt-out among such records is applied as one from every seller",
                occurred_at=recorded_at,
                recorded_at=recorded_at,
                event_id="",
                seller_id="",
                **place,
            )
        name, version = envelope["event_name"], envelope["event_version"]
        fields = decode_body(fact_schema(name, version), envelope["payload"])
        elements = envelope["elements"]
        return TimelineEntry(
            type=name,
            summary=summary_of(name, fields, envelope["party"] is not None),
            occurred_at=instant_text(fields["occurred_at"]),
            recorded_at=recorded_at,
            event_id=fields["event_id"],
            seller_id=fields["seller_id"].removeprefix(TEST_SELLER_PREFIX),
            repeated=repeated,
            test=fields["test"],
            reasons=[Reason(code, self._reasons.text(code)) for code in _reasons(name, fields)],
            evidence=[element for element, bit in BITS.items() if elements >> bit & 1],
            fields=_told_fields(name, fields),
            **place,
        )


_SELECT: Final = """
SELECT recorded_us, topic, partition, offset, hex(fact), nth > 1 AND event_id != '' AS repeated
FROM (
    SELECT toUnixTimestamp64Micro(recorded_at) AS recorded_us, topic, partition, offset, fact,
        event_id,
        row_number() OVER (
            PARTITION BY event_id ORDER BY recorded_at, topic, partition, offset
        ) AS nth
    FROM {database}.facts
    WHERE subject = unhex({{subject:String}}) AND (NOT test OR {{include_test:Bool}})
        AND ({{every_seller:Bool}} OR seller_id IN {{seller_ids:Array(String)}})
)
WHERE (recorded_us, topic, partition, offset)
    > ({{recorded_at:Int64}}, {{topic:String}}, {{partition:Int32}}, {{offset:Int64}})
ORDER BY recorded_us, topic, partition, offset
LIMIT {{rows_max:UInt32}}
"""


def _reasons(name: str, fields: dict[str, Any]) -> Sequence[str]:
    return fields["reasons"] if name == "DialDecision" else ()


def _told_fields(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """What an event says beyond the columns that every entry has; what is not given is left out."""
    given = {
        field: value
        for field, value in fields.items()
        if field not in _HIDDEN and value not in (None, [], "UNKNOWN")
    }
    return document_fields(contracts().record(name).schema, given)


def _cursor_of(text: str | None) -> _Cursor:
    if text is None:
        return _Cursor(-(1 << 62), "", -1, -1)
    try:
        return msgspec.msgpack.decode(base64.urlsafe_b64decode(text), type=_Cursor)
    except (ValueError, msgspec.MsgspecError):
        remedy = "give what `next` of the page before said"
        raise Rejected("INVALID_CURSOR", "after", "(not shown)", remedy) from None


def _text_of(cursor: _Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode()
