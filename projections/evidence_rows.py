"""What a bundle of evidence is made from: facts as they were sealed, and evidence that is held.

Reads only. A fact that is stored twice counts once; evidence that was erased is not there.
"""

from __future__ import annotations

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
