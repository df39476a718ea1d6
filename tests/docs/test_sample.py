"""The shipped sample is what the generator makes, and every event in it can be published."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from consent.documents import DocumentRules, read_document
from consent_ledger.sample import HERO_NUMBER, make_sample

FILE = Path(__file__).parents[2] / "examples" / "sample" / "events.jsonl"
README = FILE.with_name("README.md").read_text()
# 2026-11-22T00:00:00Z in µs; the sample ends before it.
NOW = 1_795_305_600_000_000


def test_the_shipped_file_is_the_generated_one() -> None:
    """examples/sample/events.jsonl is what generate.py prints, and the README counts it right."""
    sample = make_sample()
    shipped = [json.loads(line) for line in FILE.read_text().splitlines()]
    assert shipped == list(sample.documents)
    for count in (len(shipped), sample.late, sample.repeated):
        assert f"{count:,}" in README


def test_every_document_is_accepted_without_a_notice() -> None:
    """Nothing in the sample is refused or set aside, and nothing is about a real number."""
    for document in make_sample().documents:
        draft = read_document(document, DocumentRules(now=NOW), salt=b"s" * 16)
        assert draft.notices == ()
        number = draft.fields.get("number")
        assert number is None or (number[5:10] == "55501" and len(number) == 12)


def test_the_sample_shows_what_the_demo_tells_of() -> None:
    """There are late events, repeated ones, and one person who agreed and never objected."""
    documents = make_sample().documents
    times = [str(document["occurred_at"]) for document in documents]
    assert sum(later < earlier for earlier, later in pairwise(times)) > 50
    assert len({str(document["event_id"]) for document in documents}) < len(documents)
    hero = {str(one["type"]) for one in documents if one.get("number") == HERO_NUMBER}
    assert hero == {"ConsentGranted", "NumberAttributesRecorded", "CallPlaced", "CallEnded"}
