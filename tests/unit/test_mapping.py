"""How rows become documents."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from consent.errors import Rejected
from consent_ledger.mapping import CsvForm, MappingFile, compile_mapping, load_mapping
from consent_ledger.row_files import csv_events, done_before, json_events


def mapping(**fields: Any) -> MappingFile:
    return compile_mapping({"version": 1, "records": [{"type": "CallEnded", "fields": fields}]})


def one(rule: Any, row: dict[str, Any]) -> Any:
    """What a rule makes of a row; the missing field if it was left out."""
    return next(mapping(disposition=rule).documents(row)).get("disposition", "(left out)")


@pytest.mark.parametrize(
    ("rule", "row", "expected"),
    [
        ("x", {}, "x"),
        ({"constant": ["a", "b"]}, {}, ["a", "b"]),
        ({"column": "c"}, {"c": " 7 "}, "7"),
        ({"column": "c"}, {"c": ""}, "(left out)"),
        ({"column": "c"}, {}, "(left out)"),
        ({"template": "{a}-{emp.rate}/{b}"}, {"a": "1", "emp.rate": "2"}, "1-2/"),
        ({"column": "c", "values": {"A": "X", "B": None}}, {"c": "A"}, "X"),
        ({"column": "c", "values": {"A": "X", "B": None}}, {"c": "B"}, "(left out)"),
        ({"column": "c", "values": {"1": True}}, {"c": "1"}, True),
        ({"column": "c", "values": {"A": "X"}, "otherwise": "Y"}, {"c": "?"}, "Y"),
        ({"column": "c", "values": {"": "none"}}, {"c": ""}, "none"),
        ({"column": "c", "split": "|"}, {"c": "a| b||"}, ["a", "b"]),
        (
            {"column": "c", "split": "|", "values": {"a": "A"}, "otherwise": None},
            {"c": "a|b"},
            ["A"],
        ),
        ({"column": "c", "as": "boolean"}, {"c": "Yes"}, True),
        ({"column": "c", "as": "boolean"}, {"c": "0"}, False),
        ({"column": "c", "as": "integer"}, {"c": "-12"}, -12),
        ({"column": "c", "as": "list"}, {"c": "a"}, ["a"]),
        ({"column": "c", "as": "text"}, {"c": 12}, "12"),
    ],
)
def test_values(rule: Any, row: dict[str, Any], expected: Any) -> None:
    """Each form of a rule gives what its description says."""
    assert one(rule, row) == expected


NEW_YORK = {"column": "c", "format": "%d.%m.%Y %H:%M", "zone": "America/New_York"}


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        (NEW_YORK, "22.11.2026 09:30", "2026-11-22T09:30:00-05:00"),
        (NEW_YORK, "22.07.2026 09:30", "2026-07-22T09:30:00-04:00"),
        ({**NEW_YORK, "ambiguous": "earlier"}, "01.11.2026 01:30", "2026-11-01T01:30:00-04:00"),
        ({**NEW_YORK, "ambiguous": "later"}, "01.11.2026 01:30", "2026-11-01T01:30:00-05:00"),
        ({"column": "c", "format": "epoch_ms"}, "1795341600500", "2026-11-22T10:00:00.500000Z"),
        ({"column": "c", "format": "epoch_s"}, "1795341600", "2026-11-22T10:00:00Z"),
        ({"column": "c", "format": "rfc3339"}, "2026-11-22T11:00:00+01:00", "2026-11-22T10:00:00Z"),
        ({"column": "c", "format": "%Y%m%d", "as": "date"}, "20261122", "2026-11-22"),
        ({"column": "c", "format": "%Y-%m-%d %z"}, "2026-11-22 +0100", "2026-11-22T00:00:00+01:00"),
        (
            {"column": "c", "format": "%Y-%m-%d", "zone": {"column": "z"}},
            "2026-11-22",
            "2026-11-22T00:00:00+01:00",
        ),
    ],
)
def test_times(rule: Any, text: str, expected: str) -> None:
    """Local times become times with their zone, also across changes of clocks."""
    assert one(rule, {"c": text, "z": "Europe/Berlin"}) == expected


@pytest.mark.parametrize(
    ("rule", "text", "reason"),
    [
        (NEW_YORK, "2026-11-22", "INVALID_TIME"),
        (NEW_YORK, "08.03.2026 02:30", "INVALID_TIME"),
        (NEW_YORK, "01.11.2026 01:30", "INVALID_TIME"),
        ({"column": "c", "format": "%Y-%m-%d"}, "2026-11-22", "INVALID_TIME"),
        ({"column": "c", "format": "%Y", "zone": "Mars/Base"}, "2026", "INVALID_TIME"),
        ({"column": "c", "format": "epoch_s"}, "soon", "INVALID_TIME"),
        ({"column": "c", "values": {"A": "X"}}, "B", "UNMAPPED_VALUE"),
        ({"column": "c", "as": "boolean"}, "perhaps", "WRONG_TYPE"),
        ({"column": "c", "as": "integer"}, "1.5", "WRONG_TYPE"),
    ],
)
def test_what_can_not_be_read_is_rejected(rule: Any, text: str, reason: str) -> None:
    """A value that a rule can't read, or a time that does not exist, rejects the row by field."""
    with pytest.raises(Rejected) as caught:
        one(rule, {"c": text})
    assert (caught.value.reason, caught.value.field) == (reason, "disposition")


def test_ids_are_the_rows_own() -> None:
    """The same columns give the same id, other columns or another namespace another one."""
    rule = {"uuid5": ["a", "b"]}
    first = one(rule, {"a": "1", "b": "23"})
    assert first == one(rule, {"a": "1", "b": "23", "c": "x"})
    assert first != one(rule, {"a": "12", "b": "3"})
    assert first != one({**rule, "namespace": "calls"}, {"a": "1", "b": "23"})


def test_one_row_may_be_several_events() -> None:
    """Every record whose conditions hold gives a document, with the shared fields in each."""
    compiled = compile_mapping(
        {
            "version": 1,
            "region_default": "US",
            "fields": {"number": {"column": "phone"}, "source.system": "crm"},
            "records": [
                {"type": "CallPlaced", "fields": {"call_id": {"column": "id"}}},
                {"type": "DncAdded", "when": [{"column": "status", "in": ["DNC"]}]},
                {"type": "CallEnded", "when": [{"column": "status", "not_in": ["DNC"]}]},
            ],
        }
    )
    documents = list(compiled.documents({"phone": "(415) 555-0123", "id": 7, "status": "DNC"}))
    common = {"number": "+14155550123", "source": {"system": "crm"}}
    assert documents == [
        {"type": "CallPlaced", "call_id": 7, **common},
        {"type": "DncAdded", **common},
    ]
    assert compiled.columns == {"phone", "id", "status"}


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("version: 2\nrecords: [{type: CallEnded}]", "version"),
        ("version: 1", "(the whole file)"),
        ("version: 1\nrecords: [{type: CallEndet}]", "records.type"),
        ("version: 1\nrecords: [{type: CallEnded, fields: {call_id: {colum: a}}}]", "records.0"),
        ("version: 1\nrecords: [{type: CallEnded, fields: {Call: a}}]", "records.0"),
        ("version: 1\nfoo: 1\nrecords: [{type: CallEnded}]", "(the whole file)"),
        ("version: [", ""),
    ],
)
def test_a_mapping_that_can_not_be_used_is_refused(
    tmp_path: Path, content: str, place: str
) -> None:
    """A mapping file that its schema does not allow is refused, naming the place."""
    path = tmp_path / "mapping.yaml"
    path.write_text(content)
    with pytest.raises(Rejected) as caught:
        load_mapping(path)
    assert caught.value.reason == "INVALID_MAPPING"
    assert caught.value.field.startswith(place)


def test_a_missing_column_is_named() -> None:
    """A file without a column that the mapping reads is refused before anything is sent."""
    compiled = mapping(call_id={"column": "call_id"})
    with pytest.raises(Rejected) as caught:
        list(csv_events(io.StringIO("callid,x\n1,2\n"), compiled, CsvForm()))
    assert (caught.value.reason, caught.value.field) == ("MISSING_COLUMN", "call_id")
    assert 'did you mean "callid"?' in caught.value.remedy


def test_bad_rows_do_not_end_the_file() -> None:
    """A row that can't be read is rejected with its line; those after it are read."""
    compiled = mapping(call_id={"column": "id"})
    text = 'id,x\n1,"a\nb"\n2,b,c\n3,\udcff\n4,d\n'
    events = list(csv_events(io.StringIO(text, newline=""), compiled, CsvForm()))
    read = [(event.line, event.document and event.document["call_id"]) for event in events]
    assert read == [(3, "1"), (4, None), (5, None), (6, "4")]
    assert [event.problem and event.problem.reason for event in events][1:3] == ["INVALID_ROW"] * 2


def test_bad_lines_do_not_end_the_file() -> None:
    """A line that is no JSON object is rejected with its number; those after it are read."""
    lines = ['{"a": 1}', "", "{", "[1]", '{"a": NaN}', '{"a": "\\ud800"}', '{"a": "\\u00e9"}']
    events = list(json_events(io.StringIO("\n".join(lines)), None))
    assert [(event.line, event.document) for event in events] == [
        (1, {"a": 1}),
        (3, None),
        (4, None),
        (5, None),
        (6, None),
        (7, {"a": "é"}),
    ]


def test_a_results_file_tells_what_is_done(tmp_path: Path) -> None:
    """Accepted and duplicate events are done; rejected ones and a line cut off are not."""
    results = tmp_path / "results.jsonl"
    lines = [
        '{"event_id": "A", "status": "accepted"}',
        '{"event_id": "b", "status": "duplicate"}',
        '{"event_id": "c", "status": "rejected"}',
        '{"event_id": "d", "stat',
    ]
    results.write_text("\n".join(lines))
    assert done_before(results) == {"a", "b"}
    assert done_before(tmp_path / "none") == frozenset()


def test_the_example_in_the_page_is_valid() -> None:
    """The mapping shown in the page on publishing compiles."""
    page = (Path(__file__).parents[2] / "docs" / "publishing.md").read_text()
    block = page.split("```yaml\n", 1)[1].split("```", 1)[0]
    assert compile_mapping(YAML(typ="safe").load(block)).columns
