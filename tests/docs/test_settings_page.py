"""The settings page says what the code does."""

from __future__ import annotations

from pathlib import Path

from consent_ledger.settings import Settings, group_of, unit_of
from consent_ledger.settings_page import settings_page

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
UNITS = {"_ms": "ms", "_bytes_max": "bytes", "_records_max": "records", "_files_max": "files"}


def test_the_page_is_the_generated_one() -> None:
    """docs/settings.md is what `consent-ledger settings --markdown` prints today."""
    assert PAGE.read_text() == settings_page()


def test_every_setting_is_explained() -> None:
    """Each setting has a group, a full sentence, and the unit that its name promises."""
    for name, field in Settings.model_fields.items():
        assert group_of(field), name
        assert field.description and field.description.endswith((".", "etc.")), name
        for suffix, unit in UNITS.items():
            if name.endswith(suffix):
                assert unit_of(field) == unit, name
