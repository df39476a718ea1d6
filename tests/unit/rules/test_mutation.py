"""A sample of the mutation run: each change of a parameter fails some worked case."""

from __future__ import annotations

import pytest

from tests.decisions import packaged_files
from tests.mutation.workshop import Workshop
from tests.rule_cases import worked_cases

pytestmark = pytest.mark.slow

EVERY = 60


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    """The rulebook of this release and its cases."""
    return Workshop(packaged_files(), worked_cases())


def test_changed_parameters_are_noticed(workshop: Workshop) -> None:
    """Every so many-th change of the first seed; `make mutants` tries all of them."""
    mutants = [mutant for mutant in workshop.mutants(seed=1) if not mutant.equivalent]
    assert len(mutants) > 2000
    assert [str(mutant) for mutant in mutants[::EVERY] if workshop.killed_by(mutant) is None] == []


def test_every_rule_file_is_needed(workshop: Workshop) -> None:
    """No file can be left out without a case failing, or the rest being refused."""
    assert [name for name in workshop.files if workshop.without_file(name) is None] == []


def test_an_unchanged_row_survives(workshop: Workshop) -> None:
    """What changes nothing is not noticed: the run can tell."""
    mutant = next(workshop.mutants(seed=1))
    same = workshop.files[mutant.file].data["rules"][mutant.key]
    unchanged = type(mutant)(
        mutant.file, mutant.line, "rules", mutant.key, mutant.name, "nothing", same
    )
    assert workshop.killed_by(unchanged) is None
