"""What history held of a number, and of what surrounds a call, up to any moment.

Reads facts only, by their subject, so that it works for a person whose evidence was erased.
Changes nothing. A row that is stored twice counts once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from consent.calendars_declared import CALENDAR_TOPIC
from consent.fact_columns import NO_SUBJECT, TIME_MAX_US, TIME_MIN_US
from consent.past_surroundings import REGISTRY_TOPIC
from consent.programs import PROGRAM_TOPIC
from consent.reconstruction import KnownFact, read_known_fact
from consent.tallies import KEPT_US, CampaignId
from consent.tally_events import SOURCE_TOPIC
from projections.clickhouse import Store
from projections.errors import StoreRejected

RECORDED: Final = "recorded_at <= fromUnixTimestamp64Micro({known_at:Int64}, 'UTC')"
_ORDER: Final = "ORDER BY recorded_at, topic, partition, offset"

# Letter by letter as the index `by_party` has it: the token stands before the last byte of a fact.
# Bytes that only look like one name subjects too many, whose states then say that they are not.
_PARTY: Final = r"if(substring(fact, -18, 1) = '\x02', substring(fact, -17, 16), '')"
# Point reads touch as few columns as can be: what is left out of a part, and the order, is done
# here, since each column of each month is a read of its own.
_MONTHS: Final = "_partition_id <= {month_last:String}"
_OF_SUBJECT: Final = f"""
SELECT fact FROM facts WHERE subject = unhex({{subject:String}}) AND {_MONTHS}
"""  # noqa: S608 (all parts are our own)
_OF_SUBJECTS: Final = """
SELECT fact FROM facts
WHERE subject IN (SELECT toFixedString(unhex(arrayJoin({subjects:Array(String)})), 16))
"""
_LINKED: Final = f"""
SELECT DISTINCT subject FROM facts
WHERE {_PARTY} IN (SELECT unhex(arrayJoin({{parties:Array(String)}}))) AND {RECORDED}
LIMIT {{subjects_max:UInt32}}
"""  # noqa: S608
_SURROUNDED: Final = f"""
SELECT fact, subject = unhex({{nobody:String}}) FROM facts
WHERE subject IN (unhex({{subject:String}}), unhex({{nobody:String}})) AND {_MONTHS}
"""  # noqa: S608
_CALLS: Final = f"""
SELECT fact FROM facts
WHERE topic = {{topic:String}} AND event_name IN ('CallPlaced', 'CallEnded')
  AND campaign_id = {{campaign_id:String}} AND seller_id = {{seller_id:String}}
  AND test = {{test:Bool}} AND unreadable = '' AND {RECORDED}
  AND recorded_at >= fromUnixTimestamp64Micro({{since:Int64}}, 'UTC') {_ORDER}
"""  # noqa: S608
_FIRST_CALL: Final = f"""
SELECT min(least(toUnixTimestamp64Micro(effective_at), toUnixTimestamp64Micro(recorded_at)))
FROM facts
WHERE topic = {{topic:String}} AND event_name IN ('CallPlaced', 'CallEnded')
  AND campaign_id = {{campaign_id:String}} AND seller_id = {{seller_id:String}}
  AND test = {{test:Bool}} AND unreadable = '' AND {RECORDED}
HAVING count() > 0
"""  # noqa: S608
_DECISION: Final = f"""
SELECT fact FROM facts
WHERE event_id = {{event_id:String}} AND event_name = 'DialDecision' AND unreadable = ''
{_ORDER} LIMIT 1
"""  # noqa: S608
_DECIDED: Final = """
SELECT subject, min(recorded_at) FROM facts
WHERE event_name = 'DialDecision' AND unreadable = ''
  AND recorded_at >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')
  AND recorded_at < fromUnixTimestamp64Micro({until:Int64}, 'UTC')
GROUP BY subject ORDER BY subject
"""
_CONTENT: Final = """
SELECT content FROM rulebooks WHERE rulebook_digest = unhex({digest:String}) LIMIT 1
"""
_AROUND_TOPICS: Final = frozenset({PROGRAM_TOPIC, CALENDAR_TOPIC, REGISTRY_TOPIC})
_NOT_MADE_YET: Final = ("UNKNOWN_DATABASE", "UNKNOWN_TABLE")
_ONE_THREAD: Final = {"max_threads": 1}


_SUBJECT_AT: Final = """
SELECT subject FROM facts
WHERE log_id = unhex({log_id:String}) AND partition = {partition:Int32}
    AND offset = {offset:Int64} AND subject != unhex({nobody:String})
LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Linked:
    """Other subjects that facts name a party of; `too_many` if there are more than was asked."""

    subjects: tuple[bytes, ...] = ()
    too_many: bool = False


class Past:
    """Answers from history; every call blocks.

    Point reads take one thread of the store: more cost more than they save.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def facts_of(self, subject: bytes, known_at: int = TIME_MAX_US) -> list[KnownFact]:
        """All facts of a subject that were recorded by a moment, in the log's order."""
        asked = {"subject": subject.hex(), "month_last": _month(known_at)}
        found = _decoded(self._column(_OF_SUBJECT, asked, _ONE_THREAD))
        return _in_order(found, known_at)

    def facts_of_many(self, subjects: Collection[bytes]) -> dict[bytes, list[KnownFact]]:
        """All facts of each of these subjects, in the log's order."""
        if not subjects:
            return {}
        asked = {"subjects": [subject.hex() for subject in subjects]}
        found: dict[bytes, list[KnownFact]] = {subject: [] for subject in subjects}
        for fact in sorted(
            _decoded(self._column(_OF_SUBJECTS, asked)), key=lambda fact: fact.order
        ):
            if fact.subject is not None:
                found[fact.subject].append(fact)
        return found

    def facts_of_linked(
        self, links: Mapping[bytes, Sequence[Mapping[str, Any]]]
    ) -> dict[bytes, list[KnownFact]]:
        """All facts of each number that a decision names as linked, by the token that it has there.

        `links` has of each token the `applied` of its state. Of a number that had been erased
        dialers know only what its record is kept under, and the token is made of that; whose it is
        follows from the places that its state had applied.
        """
        found = self.facts_of_many(links)
        missing = {link: applied for link, applied in links.items() if not found[link]}
        subjects = {
            link: subject
            for link, applied in missing.items()
            if (subject := self._subject_at(applied)) is not None
        }
        facts = self.facts_of_many(set(subjects.values()))
        return found | {link: facts[subject] for link, subject in subjects.items()}

    def _subject_at(self, applied: Sequence[Mapping[str, Any]]) -> bytes | None:
        """Whose facts are at these places: a state names the newest of each log."""
        for last in applied:
            asked = {
                "log_id": last["log_id"].hex(),
                "partition": last["partition"],
                "offset": last["offset_last"],
                "nobody": NO_SUBJECT.hex(),
            }
            for subject in self._column(_SUBJECT_AT, asked):
                return bytes(subject)
        return None

    def linked(
        self, parties: Collection[bytes], own: bytes, known_at: int, numbers_max: int
    ) -> Linked:
        """Other subjects of which a fact recorded by a moment names one of these parties."""
        if not parties:
            return Linked()
        asked = {
            "parties": sorted(party.hex() for party in parties),
            "known_at": _instant(known_at),
            "subjects_max": numbers_max + 2,
        }
        found = {bytes(subject) for subject in self._column(_LINKED, asked)}
        if len(found) > numbers_max:
            return Linked(too_many=True)
        return Linked(tuple(sorted(found - {own, NO_SUBJECT})))

    def surrounded(self, subject: bytes, known_at: int) -> tuple[list[KnownFact], list[KnownFact]]:
        """As `facts_of`, and what had been recorded of programs, calendars and registries.

        Both in the log's order, from one question.
        """
        asked = {
            "subject": subject.hex(),
            "nobody": NO_SUBJECT.hex(),
            "month_last": _month(known_at),
        }
        own: list[bytes] = []
        others: list[KnownFact] = []
        for data, about_nobody in self._rows(_SURROUNDED, asked, _ONE_THREAD):
            if not about_nobody:
                own.append(data)
            elif (fact := _read_once(bytes(data))).position.topic in _AROUND_TOPICS:
                others.append(fact)
        return _in_order(_decoded(own), known_at), _in_order([*_each_once(others)], known_at)

    def calls_of(self, campaign: CampaignId, test: bool, at: int, known_at: int) -> list[KnownFact]:
        """Events of a campaign's calls that may count in a period that holds `at`.

        The seller's id is without the prefix of rehearsals.
        """
        asked = self._campaign(campaign, test, known_at) | {"since": _instant(at - KEPT_US)}
        return _decoded(self._column(_CALLS, asked))

    def first_call_at(self, campaign: CampaignId, test: bool, known_at: int) -> int | None:
        """When the campaign's earliest call was, as known at a moment; None without one."""
        found = self._column(_FIRST_CALL, self._campaign(campaign, test, known_at))
        return int(found[0]) if found else None

    def decision(self, event_id: str) -> KnownFact | None:
        """The first record of a decision; None if history has none of this id."""
        found = _decoded(self._column(_DECISION, {"event_id": event_id}))
        return found[0] if found else None

    def decided_subjects(self, since: int, until: int) -> list[bytes]:
        """Subjects about whom decisions were recorded in a period, from its first instant on."""
        asked = {"since": _instant(since), "until": _instant(until)}
        return [bytes(subject) for subject in self._column(_DECIDED, asked)]

    def rulebook_content(self, digest: bytes) -> bytes | None:
        """A rulebook's content for `Rulebook.from_content`, which checks it; None if unknown."""
        found = self._column(_CONTENT, {"digest": digest.hex()})
        return bytes(found[0]) if found else None

    @staticmethod
    def _campaign(campaign: CampaignId, test: bool, known_at: int) -> dict[str, Any]:
        return {
            "topic": SOURCE_TOPIC,
            "campaign_id": campaign.campaign_id,
            "seller_id": campaign.seller_id,
            "test": test,
            "known_at": _instant(known_at),
        }

    def _column(
        self, sql: str, asked: Mapping[str, Any], settings: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """The first column of a result; none where history has no tables yet."""
        return [row[0] for row in self._rows(sql, asked, settings)]

    def _rows(
        self, sql: str, asked: Mapping[str, Any], settings: Mapping[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        try:
            table = self._store.query_arrow(sql, asked, settings, strings_as_bytes=True)
        except StoreRejected as refused:
            if refused.name not in _NOT_MADE_YET:
                raise
            return []
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _instant(micros: int) -> int:
    """An instant that the store has; recorded times lie between the same bounds."""
    return max(TIME_MIN_US, min(TIME_MAX_US, micros))


def _month(micros: int) -> str:
    """The month's name as history is parted; those before 1970 and after 2299 hold nothing."""
    at = datetime.fromtimestamp(max(0, min(micros, TIME_MAX_US)) // 1_000_000, UTC)
    return f"{at:%Y%m}"


@lru_cache(maxsize=20_000)
def _read_once(data: bytes) -> KnownFact:
    """What is of no number is asked for again with every number, and seldom grows."""
    return read_known_fact(data)


def _in_order(facts: list[KnownFact], known_at: int) -> list[KnownFact]:
    """Those recorded by a moment, in the log's order."""
    kept = [fact for fact in facts if fact.position.recorded_at <= known_at]
    kept.sort(key=lambda fact: fact.order)
    return kept


def _decoded(rows: Sequence[bytes]) -> list[KnownFact]:
    return [*_each_once(read_known_fact(bytes(row)) for row in rows)]


def _each_once(facts: Iterable[KnownFact]) -> Iterator[KnownFact]:
    met = set()
    for fact in facts:
        place = fact.position
        key = (place.log_id, place.topic, place.partition, place.offset)
        if key not in met:
            met.add(key)
            yield fact
