"""Every worked case of the law is decided as it is written down."""

from __future__ import annotations

import pytest

from tests.decisions import packaged_rulebook
from tests.rule_cases import CASES, Case, worked_cases


@pytest.mark.parametrize("case", worked_cases(), ids=lambda case: case.id)
def test_case_is_decided_as_stated(case: Case) -> None:
    """Verdict, reason, next instant, deciding rule, obligations and trace, where stated."""
    assert case.differences(packaged_rulebook()) == [], case.source


def test_ids_are_unique() -> None:
    """A case is named once, so that a failure says which."""
    ids = [case.id for case in worked_cases()]
    assert len(ids) == len(set(ids))


def test_every_case_states_something() -> None:
    """A case that expects nothing would always pass."""
    assert [
        case.id for case in worked_cases() if not (case.scenario.expectation or case.trace)
    ] == []


def test_cases_are_there() -> None:
    """The folder was found."""
    assert len(list(CASES.glob("*.yaml"))) > 10
