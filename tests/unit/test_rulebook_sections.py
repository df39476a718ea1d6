"""What is refused in calendars, lists and parameters: file, line, what is wrong, what to do."""

from __future__ import annotations

from typing import Any

import pytest

from consent.reasons import UNAVAILABLE_REASONS
from consent.rule_source import RulebookError
from consent.rulebook import Rulebook

ROW = """
rules:
- id: US-TEST
  rev: 1
  title: A row
  citation: [Nothing]
  jurisdiction: {country: US, subdivision: null, match: [address]}
  effective: {from: 2020-01-01, to: null}
  known: {from: 2026-01-01, to: null}
  status: in_force
  applies_when: {}
  unless:
  - code: SAVED
    when:
      UNLESS
    profiles: [strict]
  check:
    kind: KIND
    params:
      PARAMS
  on_fail: {effect: deny, reason: SECTOR_BAN, next: on_event}
  on_missing: deny
  needs: []
  confidence: H
  source: [HOUSE]
"""
SECTIONS = """
registries:
- {id: a_list, jurisdiction: US, level: national, title: A list}
calendars:
  US-XX:
    title: Days
    days:
    - {name: New Year, on: "01-01"}
zones:
  US: [America/New_York, America/Chicago]
  US-TX: [America/Chicago]
"""
BOOK = """
rulebook: {version: "1", title: Rows of a test}
sources: {HOUSE: Nobody}
"""
CODES = (
    *("DATA_MISSING", "SECTOR_BAN", *UNAVAILABLE_REASONS),
    *("CONSENT_EVIDENCE_INCOMPLETE", "CONSENT_SCOPE", "CONSENT_EXPIRED"),
    *("RND_NO_DATA", "RND_STALE", "RND_QUERY_MISSING"),
)
DUE = "fact: always_due"
CONTRACT = "ongoing_contract: {}"


def refused(files: dict[str, str]) -> RulebookError:
    """The error with which a rulebook is refused."""
    with pytest.raises(RulebookError) as caught:
        Rulebook.load(files)
    return caught.value


def files(
    kind: str = "fact", params: str = DUE, unless: str = CONTRACT, sections: str = SECTIONS
) -> dict[str, str]:
    """A rulebook with one row, a list and a calendar."""
    row = ROW.replace("KIND", kind).replace("PARAMS", params).replace("UNLESS", unless)
    groups = {code: "unavailable" if code in UNAVAILABLE_REASONS else "data" for code in CODES}
    reasons = [f"- {{code: {code}, group: {group}, text: t}}" for code, group in groups.items()]
    return {
        "book.yaml": BOOK,
        "reasons.yaml": "\n".join(["reasons:", *reasons]),
        "row.yaml": row,
        "sections.yaml": sections,
    }


def line_of(text: str, needle: str) -> int:
    """Number of the line that has a text."""
    return next(n for n, line in enumerate(text.splitlines(), 1) if needle in line)


def test_these_files_are_fine() -> None:
    """What the cases below spoil can be loaded."""
    rulebook = Rulebook.load(files())
    assert [one.id for one in rulebook.registries] == ["a_list"]
    assert rulebook.registries_of(("US-TX",)) == rulebook.registries
    assert rulebook.registries_of(("FR",)) == ()
    assert rulebook.zones_of(("US-TX",)) == ("America/Chicago",)
    assert len(rulebook.zones_of(("US-CA",))) > 1


WEEK = '{mon-fri: [["09:00", "17:00"]], sat: [], sun: []}'


@pytest.mark.parametrize(
    ("kind", "params", "culprit", "message", "remedy"),
    [
        ("window", "days: {mon-sat: [], sat: [], sun: []}", "mon-sat", "sat is there", "once"),
        ("window", "days: {mon-fri: []}", "mon-fri", "sat, sun missing", "closed"),
        (
            "window",
            'days: {mon-sun: [["09:00", "09:00"]]}',
            "09:00",
            "ends before it begins",
            "midnight",
        ),
        (
            "window",
            'days: {mon-sun: [["09:00", "12:00"], ["11:00", "13:00"]]}',
            "09:00",
            "begins before the one before",
            "order",
        ),
        ("window", 'days: {mon-sun: [["9:00", "12:00"]]}', "9:00", "wrong form", "24:00"),
        ("window", 'days: {mon-sun: [["09:00", "24:30"]]}', "24:30", "wrong form", "24:00"),
        ("window", 'days: {monday: [["09:00", "12:00"]]}', "monday", "monday", ""),
        ("window", f"days: {WEEK}\n      also_in: [Mars/A]", "Mars/A", "no IANA zone", "Correct"),
        ("window", f"days: {WEEK}\n      closed_reason: NO", "closed_r", "no reason", "reasons"),
        ("window", f"days: {WEEK}\n      opens: x", "opens", "unknown key", ""),
        ("holiday", "calendars: [US-YY]", "US-YY", "'US-YY' is not described", "calendars"),
        ("holiday", "{}", "params:", "empty", ""),
        ("list_absent", "registries: [b_list]", "b_list", "'b_list' is not", "registries"),
        (
            "freshness",
            "{registries: [b_list], max_age_days: 31}",
            "b_list",
            "'b_list' is not",
            "registries",
        ),
        ("cap", "{max: 3, per: seller}", "params:", "hours or of days", "exactly"),
        ("cap", "{max: 3, per: seller, hours: 1, days: 1}", "params:", "hours or", ""),
        ("cap", "{max: 0, per: seller, hours: 1}", "max: 0", "0", ""),
        ("rate", "{numerator: abandoned}", "params:", "missing", "Add"),
        ("fact", "fact: not_reassigned\n      stale_reason: NO", "stale_re", "no reason", ""),
        ("fact", "fact: ring_floor", "params", "seconds", "Add"),
    ],
)
def test_parameters_that_mean_nothing(
    kind: str, params: str, culprit: str, message: str, remedy: str
) -> None:
    """A parameter that means nothing is refused at its line."""
    given = files(kind, params)
    error = refused(given)
    assert (error.file, error.line) == ("row.yaml", line_of(given["row.yaml"], culprit))
    assert message in error.message
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("unless", "culprit", "message"),
    [
        ("listed_less_than: {registry: b_list, days: 28}", "b_list", "'b_list' is not described"),
        (
            "consent_since_listing: {registry: b_list, kinds: [opt_in]}",
            "b_list",
            "'b_list' is not described",
        ),
        (
            "any:\n      - ongoing_contract: {}\n      - all:\n"
            "        - listed_less_than: {registry: b_list, days: 28}",
            "b_list",
            "'b_list' is not described",
        ),
        ("relationship: {kinds: [friendship]}", "friendship", "'friendship' is unknown"),
        ("sector: [energy]", "energy", "'energy' is unknown"),
        ("line: [unknown, fax]", "fax", "'fax' is unknown"),
        ("weather: {}", "weather", "unknown key 'weather'"),
    ],
)
def test_conditions_that_mean_nothing(unless: str, culprit: str, message: str) -> None:
    """So is a condition, however deep it stands."""
    given = files(unless=unless)
    error = refused(given)
    assert (error.file, error.line) == ("row.yaml", line_of(given["row.yaml"], culprit))
    assert message in error.message


@pytest.mark.parametrize(
    ("old", "new", "culprit", "message"),
    [
        ("America/Chicago", "America/Chicagoo", "Chicagoo", "no IANA zone"),
        ("id: a_list", "id: A list", "A list,", "wrong form"),
        ("level: national", "level: county", "county", "'county' is unknown"),
        (
            "- {name: New",
            "- {name: N, on: '01-02', easter: 1}\n    - {name: New",
            "'01-02'",
            "exactly one way",
        ),
        ('on: "01-01"', 'on: "13-01"', "13-01", "wrong form"),
        ('on: "01-01"', "nth: 1, weekday: mon", "nth: 1", "exactly one"),
        ('on: "01-01"', 'on: "01-01", years: [2027, 2026]', "2027", "ends before it begins"),
        ('on: "01-01"', 'on: "01-01", counties: [Baldwin]', "Baldwin", "wrong form"),
        ('on: "01-01"', 'on: "01-01", shift: {sat: 7}', "sat: 7", "7"),
    ],
)
def test_sections_that_mean_nothing(old: str, new: str, culprit: str, message: str) -> None:
    """Zones, lists and calendars are checked whether a row names them or not."""
    given = files(sections=SECTIONS.replace(old, new))
    error = refused(given)
    assert error.file == "sections.yaml"
    assert error.line == line_of(given["sections.yaml"], culprit)
    assert message in error.message


@pytest.mark.parametrize("section", ["registries", "calendars"])
def test_sections_say_nothing_twice(section: str) -> None:
    """A list or a calendar is described in one file only."""
    begins = SECTIONS.index(section)
    ends = SECTIONS.index("\n", begins + len(section) + 2)
    again: Any = SECTIONS[begins:ends]
    if section == "calendars":
        again = 'calendars:\n  US-XX: {title: t, days: [{name: n, on: "01-01"}]}\n'
    error = refused(files() | {"twice.yaml": again})
    assert "is also in" in error.message
    assert error.remedy == "Keep one of them."


def test_default_reasons_must_be_described() -> None:
    """A reason that a check gives by itself must be in the catalogue like one that a row names."""
    given = files("consent", "kinds: [pewc]")
    kept = [line for line in given["reasons.yaml"].splitlines() if "CONSENT_EXPIRED" not in line]
    error = refused(given | {"reasons.yaml": "\n".join(kept)})
    assert "CONSENT_EXPIRED" in error.message
    assert error.file == "row.yaml"


def test_content_holds_calendars_and_lists() -> None:
    """Calendars and lists are content: they come back from it, and change the digest."""
    rulebook = Rulebook.load(files("holiday", "calendars: [US-XX]"))
    again = Rulebook.from_content(rulebook.content, rulebook.digest)
    assert again.registries == rulebook.registries
    for old, new in (("01-01", "01-02"), ("A list", "The list"), ("Chicago", "Denver")):
        changed = files("holiday", "calendars: [US-XX]", sections=SECTIONS.replace(old, new))
        assert Rulebook.load(changed).digest != rulebook.digest
