"""Rule files: what is refused, what the digest covers, and when rows are in force."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consent import call
from consent.conditions import CONDITIONS
from consent.contracts import contracts, data_path
from consent.errors import Corrupt, Rejected
from consent.evidence import ELEMENTS
from consent.fact_checks import FACTS
from consent.instants import parse_date, parse_instant
from consent.rule_kinds import KINDS
from consent.rule_source import RulebookError
from consent.rulebook import Rulebook
from consent.state import EMPTY
from tests.decisions import (
    book,
    book_files,
    decided,
    packaged_files,
    packaged_rulebook,
    request,
    rule,
)

SCHEMA = json.loads((data_path("schemas") / "rulebook.schema.json").read_text())


def refused(files: dict[str, str]) -> RulebookError:
    """The error with which a rulebook is refused."""
    with pytest.raises(RulebookError) as caught:
        Rulebook.load(files)
    return caught.value


def test_packaged_rules_load() -> None:
    """The shipped rules make a rulebook, and each row has a citation and a source."""
    rulebook = packaged_rulebook()
    assert len(rulebook.digest) == 32
    assert {rule.name for rule in rulebook.rules} >= {
        "US-FED-REVOKE@1",
        "US-FED-IDNC@2",
        "US-FED-PEC@1",
        "US-FED-PEWC@3",
        "DE-OPTIN@2",
        "DE-PROOF@1",
        "FR-OPTIN@2",
        "UK-AUTO@1",
        "POLICY-TZ@1",
    }
    assert all(rule.citation for rule in rulebook.rules)


def test_digest_covers_content_only() -> None:
    """Names of files, their order, and comments don't change the digest; a figure does."""
    files = packaged_files()
    renamed = {f"{99 - n}.yaml": "# note\n" + text for n, text in enumerate(files.values())}
    assert Rulebook.load(renamed).digest == packaged_rulebook().digest
    changed = files | {"fr.yaml": files["fr.yaml"].replace("days: 60", "days: 61")}
    assert Rulebook.load(changed).digest != packaged_rulebook().digest


def test_content_loads_again() -> None:
    """A stored content gives the same rulebook, and another content is refused as corrupt."""
    rulebook = packaged_rulebook()
    again = Rulebook.from_content(rulebook.content, rulebook.digest)
    assert again.digest == rulebook.digest
    assert [row.name for row in again.rules] == [row.name for row in rulebook.rules]
    assert decided(request(), EMPTY, again).outcomes != ()
    with pytest.raises(Corrupt):
        Rulebook.from_content(rulebook.content.replace(b"60", b"61"), rulebook.digest)


def edited(name: str, old: str, new: str) -> dict[str, str]:
    """The packaged files with one text replaced, once."""
    files = packaged_files()
    assert old in files[name]
    return files | {name: files[name].replace(old, new, 1)}


def line_of(files: dict[str, str], name: str, text: str) -> int:
    """Number of the first line that has a text."""
    return next(n for n, line in enumerate(files[name].splitlines(), 1) if text in line)


@pytest.mark.parametrize(
    ("name", "old", "new", "culprit", "message", "remedy"),
    [
        ("fr.yaml", "rules:", "rules: [", "- id: FR-OPTIN", "not YAML", ""),
        ("fr.yaml", "  rev: 2\n", "  rev: 2\n  rev: 2\n", "", "there twice", "Keep one"),
        ("fr.yaml", "  confidence: P", "  confidense: P", "confidense", "confidense", "confidence"),
        ("fr.yaml", "per: seller", "perr: seller", "perr", "perr", "per"),
        ("fr.yaml", "  citation:", "  needs:", "", "there twice", ""),
        ("gb.yaml", "status: in_force", "status: forced", "status: forced", "forced", "in_force"),
        ("gb.yaml", "kind: consent", "kind: windows", "windows", "windows", "window"),
        ("gb.yaml", "kinds: [opt_in]", "kinds: []", "kinds: []", "empty", "at least one"),
        ("gb.yaml", "reason: CONSENT_SCOPE", "reason: NO_SUCH", "NO_SUCH", "NO_SUCH", "reasons"),
        ("gb.yaml", "reason: CONSENT_SCOPE", "reason: RECORD_MISSING", "RECORD_M", "no reason", ""),
        ("gb.yaml", "source: [F4]", "source: [F99]", "F99", "F99", "sources"),
        ("gb.yaml", "2003-12-11", "2003-13-11", "2003-13-11", "no date", "2026-11-22"),
        ("gb.yaml", "from: 2003-12-11", "from: null", "from: null", "has no date", "pending"),
        ("eu.yaml", "reason: AI_DISCLOSURE", "reason: AI_SAYS", "AI_SAYS", "no obligation", ""),
        (
            "eu.yaml",
            "country: EU, subdivision: null",
            "country: EU, subdivision: X",
            "X,",
            "no sub",
            "",
        ),
        ("eu.yaml", "fact: always_due", "fact: always", "fact: always}", "always", "always_due"),
        ("de.yaml", "recording_uri", "recordings", "recordings", "recordings", "recording_uri"),
        (
            "de.yaml",
            "to: 2022-05-27",
            "to: 2022-05-28",
            "from: 2022-05-28",
            "same days",
            "day before",
        ),
        ("de.yaml", "to: 2022-05-27", "to: null", "from: 2022-05-28", "same days", "day before"),
        ("de.yaml", "to: 2022-05-27", "to: 2001-01-01", "2001-01-01", "ends before", "inclusive"),
        ("de.yaml", "  rev: 2", "  rev: 1", "", "is also in", "own number"),
        ("de.yaml", "party: consumer}", "party: customer}", "customer", "customer", "consumer"),
        ("jurisdictions.yaml", "America/Chicago", "America/Chicagoo", "Chicagoo", "no IANA", ""),
        ("reasons.yaml", "code: SCRUB_STALE", "code: NATIONAL_DNC", "", "twice", ""),
        ("reasons.yaml", "group: ban", "group: bann", "bann", "bann", "ban"),
        ("rulebook.yaml", "version:", "versions:", "", "version", ""),
    ],
)
def test_wrong_files_are_refused(
    name: str, old: str, new: str, culprit: str, message: str, remedy: str
) -> None:
    """A file that is wrong is refused with its name, the line, what is wrong and what to do."""
    files = edited(name, old, new)
    error = refused(files)
    assert error.file == name
    assert message in error.message
    assert remedy in error.remedy
    if culprit:
        assert error.line == line_of(files, name, culprit)
    assert str(error).startswith(f"{name}:{error.line}: ")
    assert isinstance(error, Rejected)


@pytest.mark.parametrize("key", sorted(set(rule()) - {"unless", "note"}))
def test_missing_key_is_refused(key: str) -> None:
    """A row without one of its keys, as its citation, is refused at its line."""
    entry = rule()
    del entry[key]
    error = refused(book_files(rule(id="US-FINE"), entry))
    assert (error.file, key in error.message) == ("rows.yaml", True)
    text = book_files(rule(id="US-FINE"), entry)["rows.yaml"].splitlines()
    starts = [number for number, line in enumerate(text, 1) if line == "  {"]
    assert error.line == starts[1]


@pytest.mark.parametrize(
    "change",
    [
        {"citation": []},
        {"citation": [""]},
        {"on_fail": {"effect": "deny", "reason": "SECTOR_BAN"}},
        {"applies_when": {"purpose": []}},
        {"applies_when": []},
        {"applies_when": [{"sector": ["x"]}]},
        {"unless": [{"code": "X", "when": {"weather": {}}, "profiles": ["strict"]}]},
        {"check": {"kind": "list_absent", "params": {}}},
        {"check": {"kind": "consent", "params": {"kinds": ["pewc"], "max_age_days": 0}}},
        {"check": {"kind": "fact", "params": {}}},
        {"rev": 0},
        {"id": "lower-case"},
    ],
)
def test_wrong_rows_are_refused(change: dict[str, Any]) -> None:
    """A row whose form is wrong is refused."""
    assert refused(book_files(rule(**change))).file == "rows.yaml"


def test_missing_files_are_refused() -> None:
    """Without a version, or without the engine's own reasons, there is no rulebook."""
    assert "version" in refused({}).message
    assert "DATA_MISSING" in refused({"r.yaml": "rulebook: {version: '1', title: t}"}).message
    assert (
        "also in" in refused(book_files() | {"z.yaml": packaged_files()["rulebook.yaml"]}).message
    )


@pytest.mark.parametrize(
    "text", ["", "- a", "a: &x [*x]", "? [a]\n: b", "\x00", "rules: !!python/object:os.system {}"]
)
def test_hostile_text_is_refused(text: str) -> None:
    """Text that is no rule file, or winds up in itself, is refused and not followed."""
    assert refused(book_files() | {"x.yaml": text}).file == "x.yaml"


def test_shadow_rows_may_overlap() -> None:
    """Revisions that don't decide may be dated over those that do."""
    rulebook = book(rule(), rule(rev=2, status="pending"), rule(rev=3, status="vacated"))
    assert [row.rev for row in rulebook.rules] == [1, 2, 3]


def test_known_on_leaves_out_later_rows() -> None:
    """Rows whose text was collected after a date are left out, and the digest says so."""
    rulebook = book(rule(), rule(id="US-LATER", known={"from": "2026-06-01", "to": None}))
    earlier = rulebook.known_on(parse_date("2026-05-31"))
    assert [row.id for row in earlier.rules] == ["US-TEST"]
    assert earlier.digest != rulebook.digest
    assert rulebook.known_on(parse_date("2026-06-01")).digest == rulebook.digest


@pytest.mark.parametrize(
    ("zones", "before", "after"),
    [
        (("America/New_York",), "2026-08-11T03:59:59.999999Z", "2026-08-11T04:00:00Z"),
        (("America/Los_Angeles",), "2026-08-11T06:59:59.999999Z", "2026-08-11T07:00:00Z"),
        # Either candidate is enough for a restriction.
        (
            ("America/New_York", "America/Denver"),
            "2026-08-11T03:59:59.999999Z",
            "2026-08-11T04:00:00Z",
        ),
        # No zone known: the zone of the country in which the day begins first, Guam.
        ((), "2026-08-10T13:59:59.999999Z", "2026-08-10T14:00:00Z"),
    ],
)
def test_rows_begin_at_local_midnight(zones: tuple[str, ...], before: str, after: str) -> None:
    """A row is in force from the first local midnight of its first day, to the microsecond."""
    rulebook = book(rule(effective={"from": "2026-08-11", "to": None}))
    asked = request(states=("US",), zones=zones)
    assert decided(asked, EMPTY, rulebook, parse_instant(before)).allowed
    assert not decided(asked, EMPTY, rulebook, parse_instant(after)).allowed


def test_last_day_is_inclusive() -> None:
    """A row is in force on its last day, and not after its local midnight."""
    rulebook = book(rule(effective={"from": "2020-01-01", "to": "2026-08-10"}))
    asked = request(zones=("America/New_York",))
    last = parse_instant("2026-08-11T04:00:00Z")
    assert not decided(asked, EMPTY, rulebook, last - 1).allowed
    assert decided(asked, EMPTY, rulebook, last).allowed


def test_one_revision_hands_over_to_the_next() -> None:
    """At every instant around a change exactly one of two following revisions is in force."""
    rulebook = book(
        rule(effective={"from": "2020-01-01", "to": "2026-10-31"}),
        rule(rev=2, effective={"from": "2026-11-01", "to": None}),
    )
    midnight = parse_instant("2026-11-01T04:00:00Z")  # still summer time in New York
    asked = request(zones=("America/New_York",))
    for step in (-3_600_000_000, -1, 0, 1, 3_600_000_000):
        decision = decided(asked, EMPTY, rulebook, midnight + step)
        assert [line.rule.rev for line in decision.outcomes] == [1 if step < 0 else 2]


def enum_of(record: str, name: str) -> list[str]:
    """Symbols of an enum field, without UNKNOWN."""
    fields = contracts().record(record).schema["fields"]
    symbols = next(field["type"]["symbols"] for field in fields if field["name"] == name)
    return [symbol for symbol in symbols if symbol != "UNKNOWN"]


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("purpose", call.PURPOSES),
        ("call_mode", call.CALL_MODES),
        ("dial_mode", call.DIAL_MODES),
        ("party", call.PARTIES),
        ("profile", call.PROFILES),
        ("sector", call.SECTORS),
        ("message_class", call.MESSAGE_CLASSES),
    ],
)
def test_words_are_those_of_the_event(field: str, words: tuple[str, ...]) -> None:
    """A request knows exactly the words that a recorded decision can hold."""
    assert list(words) == enum_of("DialDecision", field)


def test_schema_and_code_know_the_same() -> None:
    """Kinds, facts and conditions that editors offer are those that the engine has."""
    definitions = SCHEMA["$defs"]
    assert set(definitions["check"]["properties"]["kind"]["enum"]) == set(KINDS)
    assert set(definitions["params_fact"]["properties"]["fact"]["enum"]) == set(FACTS)
    assert set(definitions["condition"]["properties"]) == set(CONDITIONS)
    assert definitions["element"]["enum"] == list(ELEMENTS)
    scope = definitions["scope"]["properties"]
    for part, words in (
        ("purpose", call.PURPOSES),
        ("mode", call.CALL_MODES),
        ("dial", call.DIAL_MODES),
        ("profile", call.PROFILES),
        ("sector", call.SECTORS),
        ("message_class", call.MESSAGE_CLASSES),
    ):
        items = scope[part]["items"]
        known = definitions[part] if "$ref" in items else items
        assert known["enum"] == [word.lower() for word in words]
    kinds = [word.lower() for word in enum_of("ConsentGranted", "consent_kind")]
    assert definitions["consent_kind"]["enum"] == kinds


def test_reasons_have_the_agreed_order() -> None:
    """Every code of the catalogue is there, and permanent reasons come before passing ones."""
    reasons = packaged_rulebook().reasons
    order = [
        "DATA_MISSING",
        "REGISTRATION_MISSING",
        "CALLER_ID_INVALID",
        "RING_FLOOR",
        "RECORDING_NOTICE_UNAVAILABLE",
        "CONSENT_REVOKED_ALL",
        "CONSENT_REVOKED",
        "INTERNAL_DNC",
        "INTERNAL_DNC_PARTY",
        "SCRUB_STALE",
        "NATIONAL_DNC",
        "STATE_DNC",
        "MOBILE_BAN",
        "SECTOR_BAN",
        "EMERGENCY_BAN",
        "PROTECTED_LINE",
        "CONSENT_PEC_MISSING",
        "CONSENT_PEWC_MISSING",
        "CONSENT_OPTIN_MISSING",
        "CONSENT_EVIDENCE_INCOMPLETE",
        "CONSENT_SCOPE",
        "CONSENT_EXPIRED",
        "RND_REASSIGNED",
        "RND_STALE",
        "RND_NO_DATA",
        "RND_QUERY_MISSING",
        "FREQ_CAP",
        "PRERECORDED_CAP",
        "REFUSAL_COOLDOWN",
        "ABANDON_COOLDOWN_72H",
        "PKG_NOTICE_CAP",
        "ABANDON_CAP",
        "HOLIDAY_BAN",
        "DAY_BANNED",
        "QUIET_HOURS",
        "QUIET_HOURS_POLICY",
    ]
    denying = [reason.code for reason in reasons.reasons.values() if reasons.denies(reason.code)]
    assert denying == order
    assert [reasons.rank(code) for code in denying] == sorted(map(reasons.rank, denying))
    assert set(reasons.reasons) - set(order) == {
        "VIEW_STALE",
        "VIEW_UNLOADED",
        "REGISTRY_UNLOADED",
        "PARTY_TOO_LARGE",
        "DECISION_UNRECORDED",
        "EBR_EXPIRED",
        "REVOCATION_SLA",
        "SAFE_HARBOR_GAP",
        "RECORD_MISSING",
        "CONFIRM_TEXT_LATE",
    }
    assert list(reasons.obligations) == [
        "ANNOUNCE_ID",
        "OPT_OUT_2S",
        "RECORDING_NOTICE",
        "AI_DISCLOSURE",
        "STATE_PURPOSE_30S",
        "END_CALL_10S",
    ]
    assert reasons.text("QUIET_HOURS").endswith(".")
    assert reasons.text("NO_SUCH_CODE") == "NO_SUCH_CODE"
