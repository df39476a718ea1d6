"""With a schema registry, its ids are used on the wire, and only those."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
from consent.codec import decode, encode
from consent.contracts import adopt_schema_ids, contracts, packaged_contracts
from consent.errors import Unreadable
from consent.intake import Origin, read_batch
from tests.contract.examples import examples
from types import SimpleNamespace

ids = {(r.subject, r.version): 100_000 + r.schema_id for r in packaged_contracts().records}
packaged = encode("DncAdded", next(e for e in examples("valid") if "internal" in str(e)).fields())
adopt_schema_ids(ids)
assert contracts().by_id(8) is None
for example in examples("valid"):
    fields = example.fields()
    value = encode(example.record.name, fields)
    assert int.from_bytes(value[1:5], "big") == 100_000 + packaged_contracts().record(
        example.record.name
    ).schema_id
    assert decode(value)[1] == fields
try:
    decode(packaged)
except Unreadable as unreadable:
    assert unreadable.reason == "UNKNOWN_SCHEMA_ID"
else:
    raise AssertionError("a packaged id was still read")
event = next(e for e in examples("valid") if str(e) == "DncAdded/valid-internal").fields()
record = SimpleNamespace(
    offset=0, timestamp=event["occurred_at"] // 1000 + 1, key=event["number"].encode(),
    value=encode("DncAdded", event), headers=(),
)
reading = read_batch([record], Origin("dnc-updates", 0, 1), bytes(16))
assert [group.record.name for group in reading.groups] == ["DncAdded"], reading
"""


def test_adopted_ids_are_written_and_read() -> None:
    """After adopting a registry's ids every record is framed with them, and packaged ids are
    unknown."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
