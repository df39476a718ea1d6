"""The page for auditors names what there is."""

from __future__ import annotations

import re
from pathlib import Path

from projections.report_catalogue import packaged_reports

PAGE = (Path(__file__).parents[2] / "docs" / "auditing.md").read_text()


def test_every_report_has_its_row() -> None:
    """Each once, and none that is not there."""
    section = PAGE.split("## Reports")[1]
    assert sorted(re.findall(r"(?m)^\| `([a-z-]+)` \|", section)) == sorted(packaged_reports())


def test_every_report_says_what_it_is() -> None:
    """Title, provision and a meaning for every column; names are not used twice."""
    for report in packaged_reports().values():
        assert report.title and report.answers
        names = [column.name for column in report.columns]
        assert len(set(names)) == len(names) > 0
        if report.finding not in ("rows", "none"):
            assert report.finding in names
