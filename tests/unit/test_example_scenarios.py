"""The worked scenarios in `examples/`: what they expect follows from the text of the law."""

from __future__ import annotations

from pathlib import Path

import pytest

from consent.scenario import read_scenarios
from consent.scenario_results import evaluate
from tests.decisions import packaged_rulebook

EXAMPLES = Path(__file__).parents[2] / "examples" / "scenarios"
FILES = sorted(EXAMPLES.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_examples_are_decided_as_the_law_says(path: Path) -> None:
    """Each expectation is met, and each scenario expects a verdict and says why."""
    differences = {}
    for scenario in read_scenarios(path.name, path.read_text()):
        assert scenario.why and scenario.expectation is not None
        assert scenario.expectation.verdict is not None
        result = evaluate(scenario, packaged_rulebook())
        if result.differences:
            differences[scenario.id] = result.differences
    assert differences == {}


def test_every_family_has_examples() -> None:
    """Enough of each to see how a family works."""
    counts = {path.stem: len(read_scenarios(path.name, path.read_text())) for path in FILES}
    assert len(counts) >= 11 and min(counts.values()) >= 8 and sum(counts.values()) >= 200
