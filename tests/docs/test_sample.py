"""The shipped sample is what the generator makes, and every event in it can be published."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from consent.area_tables import area_tables
from consent.call import NO_SURROUNDINGS, CallRequest
from consent.decision import decide
from consent.documents import DocumentRules, read_document
from consent.places import places_of_number
from consent.state import EMPTY
from consent_ledger.sample import HERO_CHECK, HERO_NUMBER, make_sample
from tests.decisions import DAY, grants, packaged_rulebook

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


@pytest.mark.parametrize("profile", ["STRICT", "STATUTORY"])
def test_no_hours_rule_covers_the_call_of_demo_and_tests(profile: str) -> None:
    """It is allowed with consent at any hour of a week in every US state, and denied without."""
    rulebook = packaged_rulebook()
    words = {name: HERO_CHECK[name] for name in ("purpose", "call_mode", "dial_mode", "party")}
    agreed = grants("PEWC", at=NOW - 30 * DAY, seller="acme", purposes=("INFORMATIONAL",))
    codes = {places.states[0]: code for code, places in area_tables().area_codes.items()}
    answers = set()
    for code in (code for state, code in codes.items() if state.startswith("US-")):
        places = places_of_number(f"+1{code}5550123")
        asked = CallRequest("acme", **words, profile=profile, **places._asdict())
        for hour in range(0, 7 * 24, 3):
            at = NOW + hour * DAY // 24
            for state in (agreed, EMPTY):
                decision = decide(asked, state, NO_SURROUNDINGS, rulebook, at)
                answers.add((state is agreed, decision.verdict, decision.reason))
    assert answers == {(True, "ALLOW", None), (False, "DENY", "CONSENT_PEC_MISSING")}


def test_the_sample_shows_what_the_demo_tells_of() -> None:
    """There are late events, repeated ones, and one person who agreed and never objected."""
    documents = make_sample().documents
    times = [str(document["occurred_at"]) for document in documents]
    assert sum(later < earlier for earlier, later in pairwise(times)) > 50
    assert len({str(document["event_id"]) for document in documents}) < len(documents)
    hero = {str(one["type"]) for one in documents if one.get("number") == HERO_NUMBER}
    assert hero == {"ConsentGranted", "NumberAttributesRecorded", "CallPlaced", "CallEnded"}
