"""What a bundle of evidence is made from: facts as they were sealed, and evidence that is held.

Reads only. A fact that is stored twice counts once; evidence that was erased is not there.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from consent.calendars_declared import CALENDAR_TOPIC
from consent.fact_columns import NO_SUBJECT
from consent.past_surroundings import REGISTRY_TOPIC
from consent.programs import PROGRAM_TOPIC
from consent.reconstruction import KnownFact, read_known_fact
from projections.clickhouse import Store

_ORDER: Final = "ORDER BY recorded_at, topic, partition, offset"
_OF_SUBJECT: Final = f"SELECT fact FROM facts WHERE subject = unhex({{subject:String}}) {_ORDER}"  # noqa: S608
_AROUND: Final = f"""
SELECT fact FROM facts
WHERE subject = unhex({{nobody:String}}) AND topic IN {{topics:Array(String)}} AND unreadable = ''
{_ORDER}
"""  # noqa: S608
_EVIDENCE: Final = (
    "SELECT log_id, topic, partition, offset, number, salt, evidence FROM evidence "
    "WHERE subject = unhex({subject:String})"
)
_CARRIED: Final = (
    "SELECT log_id, topic, partition, offset_first, offset_last FROM carried_states "
    "WHERE subject = unhex({subject:String})"
)
_DOCUMENTS: Final = "SELECT toString(entry_id), document FROM retentions ORDER BY at, entry_id"
_ERASURES: Final = "SELECT count() FROM erasures WHERE subject = unhex({subject:String})"
_CONTENT: Final = (
    "SELECT content FROM rulebooks WHERE rulebook_digest = unhex({digest:String}) LIMIT 1"
)

Place = tuple[bytes, str, int, int]
"""Log, topic, partition and offset."""


@dataclass(frozen=True, slots=True)
class StoredFact:
    """A fact's bytes, and what they say."""

    data: bytes
    known: KnownFact

    @property
    def place(self) -> Place:
        """Where it is in the log."""
        position = self.known.position
        return (position.log_id, position.topic, position.partition, position.offset)


@dataclass(frozen=True, slots=True)
class HeldEvidence:
    """What is held of a person with one event; `evidence` is None where none was published."""

    number: str = field(repr=False)
    salt: bytes = field(repr=False)
    evidence: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class ExpiredEvidence:
    """A stretch of a log of which a person's evidence is past its retention and was deleted.

    `entry_ids` name the sealed entries that said so before; `month` is as 2026-11.
    """

    log_id: bytes
    topic: str
    partition: int
    offset_first: int
    offset_last: int
    month: str
    entry_ids: tuple[str, ...]

    def has(self, place: Place) -> bool:
        """True if a fact lies in it."""
        origin = (self.log_id, self.topic, self.partition)
        return place[:3] == origin and self.offset_first <= place[3] <= self.offset_last


class EvidenceRows:
    """Answers from one store; every call blocks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def facts_of(self, subject: bytes) -> list[StoredFact]:
        """All facts of a subject, in the log's order."""
        return self._facts(_OF_SUBJECT, {"subject": subject.hex()})

    def around(self) -> list[StoredFact]:
        """All facts of programs, registries and calendars, in the log's order."""
        topics = [PROGRAM_TOPIC, REGISTRY_TOPIC, CALENDAR_TOPIC]
        return self._facts(_AROUND, {"nobody": NO_SUBJECT.hex(), "topics": topics})

    def evidence_of(self, subject: bytes) -> dict[Place, HeldEvidence]:
        """What is held of a subject, by the place of its fact."""
        table = self._store.query_arrow(
            _EVIDENCE, {"subject": subject.hex()}, strings_as_bytes=True
        )
        return {
            (
                bytes(row["log_id"]),
                bytes(row["topic"]).decode(),
                int(row["partition"]),
                int(row["offset"]),
            ): HeldEvidence(bytes(row["number"]).decode(), bytes(row["salt"]), row["evidence"])
            for row in table.to_pylist()
        }

    def expired_of(self, subject: bytes) -> list[ExpiredEvidence]:
        """Where evidence of a subject is past its retention; erased people have none of these."""
        carried = self._store.query_arrow(
            _CARRIED, {"subject": subject.hex()}, strings_as_bytes=True
        ).to_pylist()
        if not carried:
            return []
        said: dict[tuple[Any, ...], list[tuple[str, str]]] = {}
        for entry_id, document in self._documents():
            for part in document["parts"]:
                said.setdefault(_stretch(part), []).append((document["month"], entry_id))
        stretches = [_stretch(row) for row in carried]
        return [
            ExpiredEvidence(*one, said[one][0][0], tuple(entry_id for _, entry_id in said[one]))
            for one in stretches
            if one in said
        ]

    def erased(self, subject: bytes) -> bool:
        """Whether the person asked for erasure, and it was executed."""
        found = self._store.query_rows(_ERASURES, {"subject": subject.hex()})
        return bool(found[0][0])

    def _documents(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for entry_id, document in self._store.query_rows(_DOCUMENTS):
            yield str(entry_id), json.loads(document)

    def rulebooks(self, digests: Collection[bytes]) -> dict[bytes, bytes]:
        """Contents by digest; what is not kept is left out."""
        found = {}
        for digest in sorted(digests):
            table = self._store.query_arrow(
                _CONTENT, {"digest": digest.hex()}, strings_as_bytes=True
            )
            for content in table.column(0).to_pylist():
                found[digest] = bytes(content)
        return found

    def _facts(self, sql: str, asked: Mapping[str, Any]) -> list[StoredFact]:
        return list(self._read(sql, asked))

    def _read(self, sql: str, asked: Mapping[str, Any]) -> Iterator[StoredFact]:
        met: set[Place] = set()
        column = self._store.query_arrow(sql, asked, strings_as_bytes=True).column(0)
        for data in column.to_pylist():
            fact = StoredFact(bytes(data), read_known_fact(bytes(data)))
            if fact.place not in met:
                met.add(fact.place)
                yield fact


def _stretch(row: Mapping[str, Any]) -> tuple[bytes, str, int, int, int]:
    """The stretch of a log that a row, or a part of a document, is about."""
    log_id, topic = row["log_id"], row["topic"]
    return (
        bytes.fromhex(log_id) if isinstance(log_id, str) else bytes(log_id),
        topic if isinstance(topic, str) else bytes(topic).decode(),
        int(row["partition"]),
        int(row["offset_first"]),
        int(row["offset_last"]),
    )
