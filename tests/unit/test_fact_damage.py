"""Facts of which a bit was changed: columns are recomputed, or it is said that they can't be."""

from __future__ import annotations

import random

import pytest

from consent.columns import ColumnsUnreadable
from consent.contracts import RecordContract, contracts
from consent.fact_columns import columns_of_facts
from consent.facts import FactContext, LogPartition, facts_of, needed_columns
from consent.intake import Origin, read_batch
from tests.strategies import event_records, random_event, raw_of

NONCE = b"nonce of 16 byte"
AT = 1_790_000_000_000_000
CHANGES = 40


@pytest.mark.parametrize("record", event_records(), ids=lambda record: record.name)
def test_any_changed_bit_is_survived(record: RecordContract) -> None:
    """No damage of a fact raises anything but what a reader of damaged facts expects."""
    contract = record
    draw = random.Random(contract.name)
    raw = raw_of(contract, random_event(contract, draw), 0)
    reading = read_batch([raw], Origin(contract.topic, 0, 1), NONCE, needed_columns, [AT])
    context = FactContext(LogPartition(b"l" * 16, contract.topic, 0), b"h" * 32)
    fact = facts_of([raw], [AT], reading, context).facts[0]
    assert columns_of_facts([fact], NONCE).height == 1
    for _ in range(CHANGES):
        changed = bytearray(fact)
        changed[draw.randrange(len(fact))] ^= 1 << draw.randrange(8)
        try:
            assert columns_of_facts([bytes(changed)], NONCE).height == 1
        except ColumnsUnreadable:
            continue


def test_an_event_that_is_not_known_is_unreadable() -> None:
    """A name is looked up among the events, and never becomes part of a path."""
    contract = contracts().record("ConsentGranted")
    raw = raw_of(contract, random_event(contract, random.Random(1)), 0)
    reading = read_batch([raw], Origin(contract.topic, 0, 1), NONCE, needed_columns, [AT])
    context = FactContext(LogPartition(b"l" * 16, contract.topic, 0), b"h" * 32)
    fact = facts_of([raw], [AT], reading, context).facts[0]
    for name in (b"ConsentGrantex", b"../../passwdxx"):
        with pytest.raises(ColumnsUnreadable, match="does not know"):
            columns_of_facts([fact.replace(b"ConsentGranted", name)], NONCE)
