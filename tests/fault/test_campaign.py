"""The checks of the fault campaign, shown to fail: each counts what was broken for it."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest

from consent.blocks import Columns, CutterLimits, closed, cut, opened
from consent.codec import encode
from consent.facts import LogPartition
from consent.lift import Position, lift
from consent.partitioning import partition_of
from consent.state import EMPTY, SubjectState, merge
from consent.state_codec import encode_state, encode_state_body
from projections.clickhouse import Store, StoreParameters
from projections.history_blocks import sealed_block, token
from projections.history_rows import BlockRows, BlockWork, rows_of
from projections.history_store import HistoryStore
from projections.migration import load_migrations, migrate
from projections.suppression_fold import token_key_of
from projections.view import Freshness, ViewAnswer
from tests.events import RawEvent, event, raw
from tests.fault.faults import FAMILIES, schedule
from tests.fault.findings import KINDS, Findings
from tests.fault.history_checks import HistoryCheck
from tests.fault.projection_checks import ColdReading, Expected, ProjectionCheck, compacted
from tests.fault.reference import UNREADABLE, Accepted, Reference, fingerprint
from tests.fault.view_watch import ViewWatch
from tests.record_process import KEYS
from tests.stores import RunningFront, start_front

TOPIC = "consent-events"
PLACE = (TOPIC, 0)
LOG_ID = b"L" * 16
RECORDS = 12
BROKEN = 7
"""Offset of a record that can't be read."""
NOTHING = dict.fromkeys(KINDS, 0)
NUMBER = "+14155550123"

_databases = itertools.count(1)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFront]:
    """A store for this module."""
    folder = tmp_path_factory.mktemp("front")
    started = start_front(folder / "data", folder / "front.log")
    yield started
    started.stop()


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    """Nothing found yet."""
    return Findings(tmp_path / "findings.jsonl", seed=1)


@dataclass
class Recorded:
    """A log of one partition, and a store in which its only block is to be written."""

    store: Store
    check: HistoryCheck
    records: list[RawEvent]
    work: BlockWork
    rows: BlockRows

    @property
    def events(self) -> dict[tuple[str, int], array[int]]:
        """The log as the check wants it."""
        known = array("Q")
        for record in self.records:
            readable = record.offset != BROKEN
            known.append(fingerprint(_event_id(record.offset)) if readable else UNREADABLE)
        return {PLACE: known}

    def write(self, *left_out: str) -> None:
        """Everything that a worker writes, but for the named tables."""
        origin, block = self.work.origin, self.work.block
        for table in (self.rows.evidence, self.rows.facts, *self.rows.side):
            if table.table not in left_out:
                HistoryStore(self.store).insert(origin, block, table)
        if "blocks" not in left_out:
            sealed = sealed_block(block, self.rows.sum, None, 1)
            HistoryStore(self.store).blocks.seal(origin, sealed)

    def again(self, table: str, offsets: set[int]) -> None:
        """Rows of a table once more, under a token that the store does not know."""
        rows = {"facts": self.rows.facts, "evidence": self.rows.evidence}[table]
        kept = rows.without(set(rows.offsets) - offsets)
        again = token(self.work.origin, self.work.block, table) + "|again"
        self.store.insert_arrow(table, kept.rows, again)


def _event_id(offset: int) -> str:
    return f"00000000-0000-4000-8000-{offset:012d}"


@pytest.fixture
def recorded(front: RunningFront, findings: Findings) -> Iterator[Recorded]:
    """Twelve records, of which one can't be read, and an empty database."""
    database = f"campaign_{next(_databases)}"
    store = Store.connect(StoreParameters(url=front.url, database=database))
    migrate(store, load_migrations(files("projections") / "migrations"))
    records = [raw("ConsentWithdrawn", at, event_id=_event_id(at)) for at in range(RECORDS)]
    records[BROKEN] = RawEvent(BROKEN, records[BROKEN].timestamp, b"k", b"\x00bad")
    times = [record.timestamp * 1000 for record in records]
    columns = Columns(list(range(RECORDS)), times, [100] * RECORDS)
    block = closed(cut(opened(0), columns, CutterLimits()).tail)
    work = BlockWork(block, LogPartition(LOG_ID, TOPIC, 0), 1, records, times)
    check = HistoryCheck(store, {TOPIC: LOG_ID}, findings)
    yield Recorded(store, check, records, work, rows_of(work, KEYS, b"n" * 16))
    store.command(f"DROP DATABASE {database} SYNC", use_database=False)
    store.close()


def test_a_whole_history_is_whole(recorded: Recorded, findings: Findings) -> None:
    """Nothing is found where nothing is wrong, neither on the way nor at the end."""
    recorded.write()
    assert recorded.check.sealed(recorded.events) == RECORDS
    recorded.check.whole(recorded.events)
    assert findings.clean


@pytest.mark.parametrize("table", ["facts", "evidence"])
def test_a_lost_row(recorded: Recorded, findings: Findings, table: str) -> None:
    """A row that is missing is lost, whether the others are checked early or late."""
    recorded.write(table)
    recorded.again(table, set(range(RECORDS)) - {3})
    recorded.check.sealed(recorded.events)
    assert findings.result() == NOTHING | {"lost": 1}
    recorded.check.whole(recorded.events)
    # At the end the block's digest is compared as well.
    assert findings.result() == NOTHING | {"lost": 3 if table == "facts" else 2}


@pytest.mark.parametrize("table", ["facts", "evidence"])
def test_a_doubled_row(recorded: Recorded, findings: Findings, table: str) -> None:
    """A row that is there twice is doubled."""
    recorded.write()
    recorded.again(table, {5})
    recorded.check.sealed(recorded.events)
    assert findings.result() == NOTHING | {"doubled": 1}


def test_a_lost_dead_letter(recorded: Recorded, findings: Findings) -> None:
    """A record that could not be read must be among the dead letters, unless it was erased."""
    recorded.write("dead_letters")
    recorded.check.sealed(recorded.events)
    assert findings.clean
    recorded.check.whole(recorded.events)
    assert findings.result() == NOTHING | {"lost": 1}
    excusing = HistoryCheck(recorded.store, {TOPIC: LOG_ID}, findings, lambda _place, _at: True)
    excusing.whole(recorded.events)
    assert findings.result() == NOTHING | {"lost": 1}


def test_rows_that_the_log_does_not_have(recorded: Recorded, findings: Findings) -> None:
    """A row after the end of the log, or of another log, is one too many."""
    recorded.write()
    shorter = {PLACE: recorded.events[PLACE][: RECORDS - 1]}
    recorded.check.whole(shorter)
    assert findings.counts["doubled"] == 3  # fact, evidence, and the block reaches too far
    recorded.store.command(
        "INSERT INTO facts (fact, log_id, topic, partition, offset) "
        f"SELECT 'x', unhex('{'aa' * 16}'), '{TOPIC}', 0, 0"
    )
    recorded.check.whole(recorded.events)
    assert findings.counts["doubled"] == 4


def test_a_row_of_another_event(recorded: Recorded, findings: Findings) -> None:
    """A fact that is not that of the record at its offset is a lost record."""
    recorded.write()
    events = recorded.events
    events[PLACE][2] = fingerprint("another event")
    recorded.check.sealed(events)
    assert findings.result() == NOTHING | {"lost": 2}  # fact and evidence


def test_a_lost_block(recorded: Recorded, findings: Findings) -> None:
    """Facts without a block are found at the end; so is a block that nobody announced."""
    recorded.write("blocks")
    assert recorded.check.sealed(recorded.events) == 0
    recorded.check.whole(recorded.events)
    assert findings.result() == NOTHING | {"lost": 1}
    sealed = sealed_block(recorded.work.block, recorded.rows.sum, None, 1)
    HistoryStore(recorded.store).blocks.seal(recorded.work.origin, sealed)
    recorded.check.announced([])
    assert findings.result() == NOTHING | {"lost": 2}


def test_blocks_announced_in_two_ways(recorded: Recorded, findings: Findings) -> None:
    """Two headers of one block contradict each other; one without a block stands for nothing."""
    recorded.write()
    sealed = sealed_block(recorded.work.block, recorded.rows.sum, None, 1)
    header = sealed.header(recorded.work.origin)
    good = encode("BlockSealed", header)
    recorded.check.announced([good, good])
    assert findings.clean
    other = encode("BlockSealed", header | {"facts_sha256": b"x" * 32})
    alone = encode("BlockSealed", header | {"offset_first": 900})
    recorded.check.announced([good, other, alone])
    assert findings.result() == NOTHING | {"doubled": 2}


def test_accepted_records_must_be_in_the_log() -> None:
    """What was acknowledged is looked for in its place, before or after the log was read."""
    accepted = Accepted()
    contents = {PLACE: array("Q", [11, 12, 13])}
    for offset, content in ((0, 11), (1, 99), (3, 14)):
        accepted.add(PLACE, offset, content)
    accepted.add(PLACE, None, 13)
    assert accepted.missing(contents) == [(PLACE, 1)]
    assert accepted.missing(contents) == []
    assert accepted.missing_at_the_end(contents) == [(PLACE, 3)]
    accepted.add(PLACE, None, 55)
    assert (PLACE, -1) in accepted.missing_at_the_end(contents)


def _withdrawal(at: int, offset: int = 0, number: str = NUMBER) -> SubjectState:
    fields = event("ConsentWithdrawn", number=number, occurred_at=at)
    return lift("ConsentWithdrawn", fields, at, Position(TOPIC, LOG_ID, 0, offset, at))


def _erased(at: int) -> SubjectState:
    fields = event("ErasureExecuted", number=NUMBER, occurred_at=at, cutoff_at=at)
    return lift("ErasureExecuted", fields, at, Position("privacy-requests", LOG_ID, 0, 0, at))


def _cold(*records: tuple[int, bytes, bytes | None]) -> ColdReading:
    reading = ColdReading()
    for record in records:
        reading.take(*record)
    return reading


def test_states_that_differ(findings: Findings) -> None:
    """A state that is missing, older, of nobody or in the wrong partition is counted; the right
    one is not, though it may be spread over several records until it is compacted.
    """
    older, newer = _withdrawal(1_000), _withdrawal(2_000, 1)
    whole = merge(older, newer)
    key = NUMBER.encode()
    home = partition_of(key, 4)
    check = ProjectionCheck(Expected({key: whole}, 4, KEYS.suppression), findings)
    spread = _cold((home, key, encode_state(whole)), (home, key, encode_state(older)))
    check.merged("spread", spread)
    check.looked_up("looked up", {key: whole}, lambda _number: whole)
    check.cached("cached", {home: {key: encode_state_body(whole)}})
    assert findings.clean and not compacted(spread)
    check.last("the last is older", spread)
    check.merged("nothing", _cold())
    check.cached("older", {home: {key: encode_state_body(older)}})
    check.looked_up("looked up", {key: whole}, lambda _number: older)
    assert findings.result() == NOTHING | {"projection_differs": 4}
    right = (home, key, encode_state(whole))
    check.merged("of nobody", _cold(right, (0, b"+14155550199", encode_state(older))))
    check.merged("elsewhere", _cold(right, (home ^ 1, key, encode_state(older))))
    assert findings.result() == NOTHING | {"projection_differs": 6}


def test_states_of_erased_subjects(findings: Findings) -> None:
    """An erased subject's state is under the token, and the number's key ends in a tombstone."""
    state = merge(_withdrawal(1_000), _erased(2_000))
    key, token_key = NUMBER.encode(), token_key_of(KEYS.suppression)(NUMBER.encode())
    home = partition_of(key, 4)
    check = ProjectionCheck(Expected({key: state}, 4, KEYS.suppression), findings)
    moved = [
        (home, key, encode_state(_withdrawal(1_000))),
        (home, token_key, encode_state(state)),
        (home, key, None),
    ]
    check.merged("moved", _cold(*moved))
    check.last("moved", _cold(*moved))
    assert findings.clean
    check.last("not moved", _cold(*moved[:2]))
    assert findings.result() == NOTHING | {"projection_differs": 1}


def _answer(state: SubjectState, true_at: int, freshness: Freshness) -> ViewAnswer:
    return ViewAnswer(state, freshness, 0, true_at, 0)


def test_a_view_that_goes_back(findings: Findings) -> None:
    """A look-up that shows less than an earlier one is a stale read, fresh or not."""
    watch = ViewWatch(findings)
    older, newer = _withdrawal(1_000), _withdrawal(2_000, 1)
    for state in (EMPTY, older, merge(older, newer)):
        answer = _answer(state, 0, Freshness.STALE)
        watch.look_up(NUMBER, {NUMBER: answer}.__getitem__)
    assert findings.clean
    watch.look_up(NUMBER, lambda _number: _answer(older, 0, Freshness.STALE))
    assert findings.result() == NOTHING | {"stale_reads": 1}


def test_a_fresh_view_that_misses_a_restriction(findings: Findings) -> None:
    """What was acknowledged before a fresh view was true must be shown; what came after need not,
    and a stale view promises nothing.
    """
    watch = ViewWatch(findings)
    said = _withdrawal(1_000)
    watch.accepted(NUMBER, 5_000, said)
    watch.look_up(NUMBER, lambda _number: _answer(EMPTY, 4_999, Freshness.FRESH))
    watch.look_up(NUMBER, lambda _number: _answer(EMPTY, 9_000, Freshness.STALE))
    assert findings.clean
    assert not watch.judged
    watch.look_up(NUMBER, lambda _number: _answer(EMPTY, 5_000, Freshness.FRESH))
    assert findings.result() == NOTHING | {"stale_reads": 1}
    watch.accepted(NUMBER, 5_500, said)
    watch.look_up(NUMBER, lambda _number: _answer(said, 6_000, Freshness.FRESH))
    assert findings.result() == NOTHING | {"stale_reads": 1}
    assert watch.judged == 2


def test_the_reference_folds_and_follows_forwards() -> None:
    """Readable events are folded, an unreadable opt-out withdraws all, and what is in the wrong
    partition is not folded but must appear again as a forward.
    """
    reference = Reference(2, {TOPIC: LOG_ID}, KEYS.suppression)
    key = NUMBER.encode()
    home = partition_of(key, 2)
    good = raw("ConsentWithdrawn", 0, number=NUMBER)
    cut_off = RawEvent(1, good.timestamp, key, (good.value or b"")[:30])
    reference.take((TOPIC, home), [good, cut_off])
    sellers = {seller for seller, *_scope in reference.states[key].withdrawals}
    assert sellers == {"acme", "*"} and reference.unreadable == 1
    before = reference.states[key]
    strayed = raw("ConsentRefused", 0, number=NUMBER)
    reference.take((TOPIC, 1 - home), [strayed])
    assert reference.states[key] == before
    assert reference.unforwarded() == [(TOPIC, 1 - home, 0, "WRONG_PARTITION")]
    headers = (("ledger-forwarded", b"1"),)
    forwarded = RawEvent(2, good.timestamp, key, strayed.value, headers)
    reference.take((TOPIC, home), [forwarded])
    assert reference.unforwarded() == [] and reference.states[key] != before


def test_the_reference_does_not_skip() -> None:
    """A record that is missing in what was read can't pass unnoticed."""
    reference = Reference(2, {TOPIC: LOG_ID}, KEYS.suppression)
    with pytest.raises(RuntimeError, match="jumps from 0 to 1"):
        reference.take(PLACE, [raw("ConsentWithdrawn", 1)])


def test_faults_follow_from_the_seed() -> None:
    """The same seed gives the same faults; each round has all, the first of them of each family."""
    every = [name for names in FAMILIES.values() for name in names]
    count = len(every)
    rounds = list(itertools.islice(schedule(7), 2 * count))
    assert rounds == list(itertools.islice(schedule(7), 2 * count))
    assert rounds != list(itertools.islice(schedule(8), 2 * count))
    names = [fault.name for fault in rounds]
    assert sorted(names[:count]) == sorted(names[count:]) == sorted(every)
    first = set(names[: len(FAMILIES)])
    assert all(len(first & set(family)) == 1 for family in FAMILIES.values())
