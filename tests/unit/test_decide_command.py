"""`consent-ledger decide`, as a person and a program run it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from consent_ledger.cli.main import FINDING, USAGE, main
from tests.decisions import book_files, rule
from tests.unit.test_command_line import run

CASE = """\
scenarios:
- id: MORNING
  why: before it opens
  request:
    number: '+12125550142'
    at: '2026-11-24T16:00:00Z'
    seller: acme
    purpose: MARKETING
    mode: LIVE
    states: [US-NY]
    zones: [America/New_York]
  expect:
    verdict: deny
    reason: QUIET_HOURS
    next_allowed: '2026-11-24T17:00:00Z'
    rule: US-TEST
- id: AFTERNOON
  request:
    number: '+12125550142'
    at: '2026-11-24T18:00:00Z'
    seller: acme
    purpose: MARKETING
    mode: LIVE
    states: [US-NY]
    zones: [America/New_York]
"""
WINDOW = rule(
    check={"kind": "window", "params": {"days": {"mon-sun": [["12:00", "20:00"]]}}},
    on_fail={"effect": "deny", "reason": "QUIET_HOURS", "next": "window"},
)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A folder of rule files with one row: calls from noon to eight."""
    folder = tmp_path / "rules"
    folder.mkdir()
    for name, text in book_files(WINDOW).items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A scenario file of two cases, the second without an expectation."""
    path = tmp_path / "case.yaml"
    path.write_text(CASE)
    return path


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The JSON lines on standard output."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_json_lines_in_file_order(
    rules: Path, case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One object per scenario; exit code 0 if every expectation is met."""
    assert main(["decide", str(case), "--json", "--rules", str(rules)]) == 0
    morning, afternoon = printed(capsys)
    assert set(morning) == {
        "id",
        "verdict",
        "reason",
        "reasons",
        "rule",
        "next_allowed",
        "obligations",
        "trace",
        "passed",
    }
    assert (morning["id"], morning["verdict"], morning["passed"]) == ("MORNING", "deny", True)
    assert (morning["reason"], morning["rule"]) == ("QUIET_HOURS", "US-TEST@1")
    assert (afternoon["id"], afternoon["verdict"], afternoon["passed"]) == (
        "AFTERNOON",
        "allow",
        None,
    )
    assert afternoon["reason"] is None and afternoon["rule"] is None


def test_an_expectation_that_is_not_met(
    rules: Path, case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, `passed` false, and every scenario is told all the same."""
    case.write_text(CASE.replace("17:00:00Z", "17:30:00Z"))
    assert main(["decide", str(case), "--json", "--rules", str(rules)]) == FINDING
    assert [one["passed"] for one in printed(capsys)] == [False, None]
    assert main(["decide", str(case), "--rules", str(rules)]) == FINDING
    shown = " ".join(capsys.readouterr().out.split())
    assert "next_allowed: 2026-11-24T17:30:00Z expected" in shown
    assert "2 scenarios: 0 as expected, 1 not, 1 without an expectation" in shown


def test_standard_input(
    rules: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-` reads from there."""
    monkeypatch.setattr("sys.stdin", io.StringIO(CASE))
    assert main(["decide", "-", "--json", "--rules", str(rules)]) == 0
    assert len(printed(capsys)) == 2


def test_several_files_and_one_scenario(
    rules: Path, case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files one after the other; `--id` picks from all of them."""
    other = tmp_path / "other.yaml"
    other.write_text(CASE.replace("MORNING", "OTHER"))
    arguments = ["decide", str(case), str(other), "--json", "--rules", str(rules)]
    assert main(arguments) == 0
    assert [one["id"] for one in printed(capsys)] == ["MORNING", "AFTERNOON", "OTHER", "AFTERNOON"]
    assert main([*arguments, "--id", "OTHER"]) == 0
    assert [one["id"] for one in printed(capsys)] == ["OTHER"]
    assert main([*arguments, "--id", "NONE"]) == USAGE


def test_a_malformed_file(rules: Path, case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2; the error stream has file, line, field and remedy, nothing is decided."""
    case.write_text(CASE.replace("purpose: MARKETING", "purpose: SALES", 1))
    assert main(["decide", str(case), "--json", "--rules", str(rules)]) == USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    told = " ".join(captured.err.split())
    assert "case.yaml:8: 'SALES' is unknown at scenarios.0.request.purpose." in told
    assert "MARKETING" in told and "Traceback" not in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["decide", "missing.yaml"],
        ["decide"],
        ["decide", "{case}", "--rules", "missing"],
        ["decide", "{case}", "--rules", "{empty}"],
        ["decide", "{case}", "--add", "missing.yaml"],
    ],
)
def test_what_is_not_there(
    arguments: list[str], case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing file or folder is wrong usage, said in one line."""
    empty = tmp_path / "empty"
    empty.mkdir()
    given = [one.format(case=case, empty=empty) for one in arguments]
    assert main(given) == USAGE
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err


def test_a_rule_file_that_is_wrong(
    rules: Path, case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Is named with its line, with exit code 2."""
    rows = rules / "rows.yaml"
    rows.write_text(rows.read_text().replace("QUIET_HOURS", "QUIET_HOUR"))
    assert main(["decide", str(case), "--rules", str(rules)]) == USAGE
    assert "rows.yaml:" in capsys.readouterr().err


def test_a_rule_added_to_the_others(
    rules: Path, case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--add` puts a file beside those of the folder: a new row is tried without a copy of all."""
    new = tmp_path / "new.yaml"
    row = rule(id="US-NEW")
    new.write_text(json.dumps({"rules": [row]}))
    arguments = ["decide", str(case), "--json", "--rules", str(rules), "--add", str(new)]
    assert main(arguments) == FINDING
    morning, afternoon = printed(capsys)
    assert (morning["reasons"], afternoon["rule"]) == (["SECTOR_BAN", "QUIET_HOURS"], "US-NEW@1")


@pytest.mark.parametrize("columns", [80, 120])
def test_what_a_person_sees(rules: Path, case: Path, columns: int) -> None:
    """A table that fits the terminal, with the reason and the rule; `--explain` cites the law."""
    ended = run("decide", str(case), "--rules", str(rules), "--explain", COLUMNS=str(columns))
    assert ended.returncode == 0, ended.stderr
    assert max(map(len, ended.stdout.splitlines())) <= columns
    for word in ("MORNING", "before it opens", "DENY", "QUIET_HOURS", "US-TEST@1", "Nothing"):
        assert word in ended.stdout
    assert "next 2026-11-24T17:00:00Z" in ended.stdout


def test_the_rules_of_this_release(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without `--rules` the packaged rulebook decides."""
    case.write_text(CASE.split("  expect:")[0])
    assert main(["decide", str(case), "--json"]) == 0
    (one,) = printed(capsys)
    assert one["verdict"] == "allow" and "ANNOUNCE_ID" in one["obligations"]
    assert any(line["rule"] == "US-NY-HOURS@1" for line in one["trace"])
