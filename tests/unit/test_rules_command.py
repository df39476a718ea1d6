"""`consent-ledger rules`: what of a rulebook a person is shown, and what is found wrong in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from consent.rulebook import Rulebook
from consent_ledger.cli.main import FINDING, USAGE, main
from consent_ledger.rule_changes import change_fields, changes
from consent_ledger.rule_rows import flattened
from tests.decisions import book_files, packaged_rulebook, rule
from tests.unit.test_command_line import run

PA = {"country": "US", "subdivision": "PA", "match": ["address"]}
ROWS = [
    rule(
        id="US-PA-HOURS",
        rev=1,
        jurisdiction=PA,
        effective={"from": "1996-12-04", "to": "2026-10-17"},
        check={"kind": "window", "params": {"days": {"mon-sun": [["08:00", "21:00"]]}}},
        on_fail={"effect": "deny", "reason": "QUIET_HOURS", "next": "window"},
        citation=["73 P.S. 2245(a)(1)"],
    ),
    rule(
        id="US-PA-HOURS",
        rev=2,
        title="None on Sundays",
        jurisdiction=PA,
        effective={"from": "2026-10-18", "to": None},
        check={
            "kind": "window",
            "params": {
                "days": {"mon-sat": [["09:00", "19:00"]], "sun": []},
                "closed_reason": "DAY_BANNED",
            },
        },
        on_fail={"effect": "deny", "reason": "QUIET_HOURS", "next": "window"},
        citation=["Act 47 of 2026"],
        unless=[{"code": "EBR", "when": {"ongoing_contract": {}}, "profiles": ["statutory"]}],
        note="A note for who reads it.",
        confidence="S",
    ),
    rule(id="US-ALL", confidence="K"),
    rule(
        id="EVERY-ONE",
        jurisdiction={"country": "*", "subdivision": None, "match": ["address"]},
    ),
    rule(
        id="GB-ONE",
        jurisdiction={"country": "GB", "subdivision": None, "match": ["address"]},
        status="pending",
        effective={"from": None, "to": None},
    ),
]


def folder_of(path: Path, *rows: dict[str, Any]) -> Path:
    """A folder with the files of a rulebook of these rows."""
    path.mkdir()
    for name, text in book_files(*rows).items():
        (path / name).write_text(text)
    return path


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A folder with the rows above."""
    return folder_of(tmp_path / "rules", *ROWS)


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Names of the rows that are listed as JSON."""
    assert main(["rules", "list", "--json", *arguments]) == 0
    return [json.loads(line)["rule"] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ([], ["EVERY-ONE@1", "GB-ONE@1", "US-ALL@1", "US-PA-HOURS@1", "US-PA-HOURS@2"]),
        (["--state", "US-PA"], ["US-PA-HOURS@1", "US-PA-HOURS@2"]),
        (["--state", "us-pa", "--at", "2026-10-18"], ["US-PA-HOURS@2"]),
        (["--state", "US-PA", "--at", "2026-10-17"], ["US-PA-HOURS@1"]),
        (["--country", "US"], ["US-ALL@1", "US-PA-HOURS@1", "US-PA-HOURS@2"]),
        (["--country", "GB", "--country", "*"], ["EVERY-ONE@1", "GB-ONE@1"]),
        (["--in", "US-TX"], ["EVERY-ONE@1", "US-ALL@1"]),
        (["--in", "US-PA", "--at", "2026-11-24"], ["EVERY-ONE@1", "US-ALL@1", "US-PA-HOURS@2"]),
        (["--in", "GB"], ["EVERY-ONE@1", "GB-ONE@1"]),
        (["--citation", "act 47"], ["US-PA-HOURS@2"]),
        (["--status", "pending"], ["GB-ONE@1"]),
        (["--reason", "DAY_BANNED"], ["US-PA-HOURS@2"]),
        (["--reason", "quiet_hours"], ["US-PA-HOURS@1", "US-PA-HOURS@2"]),
        (["--kind", "window", "--confidence", "S"], ["US-PA-HOURS@2"]),
        (["--confidence", "K"], ["US-ALL@1"]),
        (["--citation", "nowhere"], []),
    ],
)
def test_filters(
    options: list[str], wanted: list[str], rules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each filter alone and with others."""
    assert listed(capsys, "--rules", str(rules), *options) == wanted


@pytest.mark.parametrize("options", [["--state", "TEXAS"], ["--at", "tomorrow"], ["--in", "?"]])
def test_filters_that_mean_nothing(
    options: list[str], rules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Are refused, and say how to write them."""
    assert main(["rules", "list", "--rules", str(rules), *options]) == USAGE
    assert "write it" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_fit(columns: int, rules: Path) -> None:
    """The list shows id, dates, title, citation, confidence, version and digest."""
    ended = run("rules", "list", "--rules", str(rules), COLUMNS=str(columns))
    assert ended.returncode == 0, ended.stderr
    assert max(map(len, ended.stdout.splitlines())) <= columns
    for word in (
        "US-PA-HOURS@2",
        "from 2026-10-18",
        "None on Sundays",
        "Act 47 of 2026",
        "not dated",
    ):
        assert word in ended.stdout
    digest = Rulebook.load({path.name: path.read_text() for path in rules.iterdir()}).digest
    assert "5 of 5 rows; rulebook 2026" in ended.stdout and digest.hex()[:16] in ended.stdout


def test_show(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of one row, with its sources and marks spelled out."""
    assert main(["rules", "show", "us-pa-hours@2", "--rules", str(rules)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "US-PA-HOURS@2 None on Sundays",
        "written in Act 47 of 2026",
        "US-PA, by address",
        "from 2026-10-18",
        "mon-sat: 09:00 to 19:00",
        "sun: closed",
        "closed_reason: DAY_BANNED",
        "deny QUIET_HOURS, until the next window",
        "EBR (statutory): ongoing_contract",
        "S: secondary sources only",
        "HOUSE: This project's own policy",
        "A note for who reads it.",
        "every call",
    ):
        assert words in shown, words
    assert "US-PA-HOURS@1" not in shown


def test_show_every_revision(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An id alone shows all of them."""
    assert main(["rules", "show", "US-PA-HOURS", "--rules", str(rules), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["rule"] for row in rows] == ["US-PA-HOURS@1", "US-PA-HOURS@2"]
    assert rows[1]["check"]["params"]["closed_reason"] == "DAY_BANNED"


def test_show_what_is_not_there(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt id is answered with the nearest one."""
    assert main(["rules", "show", "US-PA-HOUR", "--rules", str(rules)]) == USAGE
    assert 'did you mean "US-PA-HOURS"' in " ".join(capsys.readouterr().err.split())


def test_show_spells_out_calendars(capsys: pytest.CaptureFixture[str]) -> None:
    """A row that names a calendar shows its days."""
    assert main(["rules", "show", "US-PA-HOLIDAY@2"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Flag Day" in shown and "Election Day" in shown


def test_differences(tmp_path: Path, rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows that were added or removed, and each field that changed, with both values."""
    changed = {**ROWS[1], "check": {"kind": "window", "params": {"days": {"mon-sun": []}}}}
    changed["on_fail"] = {**ROWS[1]["on_fail"], "next": "on_event"}
    other = folder_of(tmp_path / "other", ROWS[0], changed, *ROWS[3:], rule(id="US-NEW"))
    assert main(["rules", "diff", str(rules), str(other), "--json"]) == 0
    found = {one["name"]: one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert {name: one["change"] for name, one in found.items()} == {
        "US-ALL@1": "removed",
        "US-NEW@1": "added",
        "US-PA-HOURS@2": "changed",
    }
    fields = {
        one["field"]: (one["before"], one["after"]) for one in found["US-PA-HOURS@2"]["fields"]
    }
    assert fields["on_fail.next"] == ("window", "on_event")
    assert fields["check.params.closed_reason"] == ("DAY_BANNED", None)
    assert fields["check.params.days.mon-sun"] == (None, [])
    assert main(["rules", "diff", str(rules), str(other)]) == 0
    shown = capsys.readouterr().out
    assert "1 added, 1 changed, 1 removed" in shown and "US-NEW@1" in shown


def test_no_difference(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rulebook does not differ from itself, and one folder is compared with this release."""
    assert main(["rules", "diff", str(rules), str(rules)]) == 0
    assert "no difference" in capsys.readouterr().out
    assert main(["rules", "diff", "packaged", "packaged", "--json"]) == 0
    assert capsys.readouterr().out == ""


def test_differences_beside_the_rows() -> None:
    """Reasons, sources and their order are compared as well."""
    files = book_files(rule())
    before = Rulebook.load(files)
    text = files["reasons.yaml"].replace(
        "It is outside the hours in which", "These are not hours at which"
    )
    after = Rulebook.load({**files, "reasons.yaml": text})
    (change,) = changes(before, after)
    assert (change.section, change.name, change.kind) == ("reasons", "QUIET_HOURS", "changed")
    assert [one.field for one in change.fields] == ["text"]
    assert change_fields(change)["fields"][0]["before"].startswith("It is outside")


def lint(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> tuple[int, list[Any]]:
    """Exit code and what was found, as JSON."""
    code = main(["rules", "lint", str(folder), "--json", *options])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_lint_warns(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a person should look at does not fail."""
    code, found = lint(capsys, rules, "--at", "2026-11-24")
    assert code == 0 and {one["severity"] for one in found} == {"warning"}
    abouts = {(one["about"], one["row"]) for one in found}
    assert ("from memory", "US-ALL@1") in abouts
    assert ("unused reasons", "FREQ_CAP") in abouts
    assert not {row for about, row in abouts if about == "ended"}


@pytest.mark.parametrize(
    ("given", "about"),
    [
        ({"known": {"from": "2026-01-01", "to": "2026-11-23"}}, "past known.to"),
        ({"effective": {"from": "2020-01-01", "to": "2026-11-23"}}, "ended"),
        ({"status": "pending"}, "pending past its date"),
        ({"status": "proposed"}, "pending past its date"),
        ({"confidence": "K"}, "from memory"),
    ],
)
def test_each_warning(
    given: dict[str, Any], about: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of them with file, line and row; none the day before."""
    folder = folder_of(tmp_path / "rules", rule(**given))
    _, found = lint(capsys, folder, "--at", "2026-11-24")
    (one,) = [one for one in found if one["row"] == "US-TEST@1"]
    assert (one["about"], one["file"]) == (about, "rows.yaml") and one["line"] > 1
    if about != "from memory":
        _, found = lint(capsys, folder, "--at", "2019-11-24")
        assert not [one for one in found if one["row"] == "US-TEST@1"]


def test_lint_reports_every_error(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not only the first: of each file and each row, with its line and what to do."""
    rows = json.loads((rules / "rows.yaml").read_text())["rules"]
    for row in rows:
        if row["id"] == "US-PA-HOURS":
            row["on_fail"] = {**row["on_fail"], "reason": "QUIET_HOUR"}
        if row["id"] == "US-ALL":
            row["source"] = ["NOWHERE"]
    (rules / "rows.yaml").write_text(json.dumps({"rules": rows}, indent=1))
    (rules / "more.yaml").write_text("rules:\n- {id: US-X, foo: 1}\n- {id: us}\n")
    code, found = lint(capsys, rules)
    errors = [one for one in found if one["severity"] == "error"]
    assert code == FINDING
    assert {one["file"] for one in errors} == {"more.yaml", "rows.yaml"}
    assert all(one["line"] >= 1 and one["remedy"] for one in errors)
    messages = " ".join(one["message"] for one in errors)
    assert "unknown key 'foo'" in messages and "'us' has the wrong form" in messages
    assert messages.count("QUIET_HOUR") == 2 and messages.count("NOWHERE") == 1
    assert len({(one["file"], one["line"]) for one in errors}) >= 5


def test_lint_of_a_clean_folder(capsys: pytest.CaptureFixture[str]) -> None:
    """The packaged rules have no error."""
    assert main(["rules", "lint", "--at", "2026-11-24"]) == 0
    assert "0 errors" in capsys.readouterr().out


def test_lint_names_rows_without_a_scenario(
    tmp_path: Path, rules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row counts as tested where a scenario names it, or where it denies."""
    scenario = {
        "id": "one",
        "request": {
            "number": "+12155550142",
            "at": "2026-11-24T16:00:00Z",
            "seller": "acme",
            "purpose": "MARKETING",
            "mode": "LIVE",
            "states": ["US-PA"],
            "zones": ["America/New_York"],
        },
        "expect": {"rule": "US-PA-HOURS"},
    }
    folder = tmp_path / "scenarios"
    folder.mkdir()
    (folder / "one.yaml").write_text(json.dumps({"scenarios": [scenario]}))
    _, found = lint(capsys, rules, "--scenarios", str(folder), "--at", "2026-11-24")
    untested = {one["row"] for one in found if one["about"] == "without a scenario"}
    assert untested == {"GB-ONE@1", "US-PA-HOURS@1"}


def test_version(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Version, digest, and how many rows decide."""
    assert main(["rules", "version", "--json", "--rules", str(rules)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["deciding"], len(found["digest"])) == (5, 4, 64)
    assert main(["rules", "version"]) == 0
    assert packaged_rulebook().digest.hex() in capsys.readouterr().out


def test_nested_values_by_their_path() -> None:
    """Mappings by keys, lists of mappings by place, plain lists whole."""
    nested = {"a": {"b": [1, 2], "c": [{"d": 1}, {"d": 2}]}, "e": {}, "f": None}
    assert dict(flattened(nested)) == {
        "a.b": [1, 2],
        "a.c[0].d": 1,
        "a.c[1].d": 2,
        "e": {},
        "f": None,
    }
