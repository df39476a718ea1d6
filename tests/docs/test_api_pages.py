"""The pages on publishing and on the HTTP API say what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from ruamel.yaml import YAML

from consent.document_values import DocumentLimits
from consent.documents import DocumentRules, document_types, read_document
from consent.instants import parse_instant
from consent_ledger.api.authentication import ROLES, KeyFile
from consent_ledger.api.models import CheckAnswer, CheckRequest, RuleTrace
from consent_ledger.api.parts import ApiConfig
from consent_ledger.api.problems import PROBLEM_TYPES, ProblemDocument

DOCS = Path(__file__).parents[2] / "docs"
RULES = DocumentRules(parse_instant("2026-11-22T12:00:00Z"))


def blocks(page: str, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_the_example_event_is_accepted_as_it_stands() -> None:
    """The event in the page on publishing needs no change and gets no notice."""
    example = json.loads(blocks("publishing.md", "json")[0])
    draft = read_document(example, RULES, bytes(16))
    assert draft.record.name == "ConsentGranted"
    assert not draft.notices


def test_the_example_calls_of_curl_are_valid() -> None:
    """The bodies shown for curl are a valid event and a valid check."""
    bodies = re.findall(r"-d '(\{.*?\})'", (DOCS / "http.md").read_text(), re.DOTALL)
    event, check = (json.loads(body) for body in bodies)
    assert not read_document(event, RULES, bytes(16)).notices
    msgspec.convert(check, CheckRequest)


def test_the_example_answers_have_the_form_that_is_answered() -> None:
    """The answer to a check and the problem shown have exactly the fields that there are."""
    answer, line, problem = (json.loads(block) for block in blocks("http.md", "json"))
    shown = msgspec.convert(answer, CheckAnswer)
    assert set(answer) == {field.name for field in msgspec.structs.fields(shown)} - {"trace"}
    assert set(line) <= {field.name for field in msgspec.structs.fields(RuleTrace)}
    msgspec.convert(line, RuleTrace)
    msgspec.convert(problem, ProblemDocument)
    assert problem["title"] == PROBLEM_TYPES[problem["code"]].title


def test_every_outcome_is_described() -> None:
    """The table of outcomes has each one of the answer's."""
    page = (DOCS / "http.md").read_text().split("### Why")[1].split("## Timeline")[0]
    described = set(
        re.findall(r"`([A-Z_]+)`", "".join(re.findall(r"^\| (.*?) \|", page, re.MULTILINE)))
    )
    assert described == set(get_args(get_type_hints(RuleTrace)["outcome"]))


def test_every_problem_is_listed_with_its_status() -> None:
    """The table of problems is that of the code."""
    page = (DOCS / "http.md").read_text().split("## Problems")[1].split("## Limits")[0]
    listed: dict[str, int] = {}
    for codes, status in re.findall(r"^\| (.*?) \| (\d{3}) \|$", page, re.MULTILINE):
        listed.update((code, int(status)) for code in re.findall(r"`([a-z-]+)`", codes))
    assert listed == {code: kind.status for code, kind in PROBLEM_TYPES.items()}


def test_every_role_is_described() -> None:
    """The table of roles names each role once, and the file of keys shown is a valid one."""
    page = (DOCS / "http.md").read_text()
    assert re.findall(r"^\| (\w+) \| (?!none)", page, re.MULTILINE).count("role") == 1
    assert set(ROLES) <= set(re.findall(r"^\| (\w+) \|", page, re.MULTILINE))
    example = YAML(typ="safe").load(blocks("http.md", "yaml")[0])
    msgspec.convert(example, KeyFile)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("events, checks in one request | ", ApiConfig().events_per_request_max),
        ("events, checks in one request | ", ApiConfig().checks_per_request_max),
        ("requests at once | ", ApiConfig().requests_in_flight_max),
        ("requests a second and key | ", ApiConfig().requests_per_second_max),
        ("text outside evidence, in evidence | ", DocumentLimits().identifier_chars_max),
        ("items of a list | ", DocumentLimits().list_items_max),
    ],
)
def test_limits_are_those_of_the_code(words: str, value: Any) -> None:
    """Each limit in the page is the default of the code."""
    page = (DOCS / "http.md").read_text()
    assert page.split(words)[1].startswith(f"{value:,}")


def test_the_types_named_in_the_pages_exist() -> None:
    """No page names a type of event that can't be sent."""
    for page in ("publishing.md", "http.md", "bad-input.md"):
        for name in re.findall(r'"type": "(\w+)"', (DOCS / page).read_text()):
            assert name in document_types()
