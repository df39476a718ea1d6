"""The page that lists every setting, generated from `consent_ledger.settings` alone."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from consent_ledger.settings import Settings, group_of, unit_of, variable_name

_HEAD = """# Settings

Every process reads its settings from environment variables, once, at start. An empty variable
counts as not set. A variable that begins with `CONSENT_` and is not listed here is refused, so that
a misspelled name can't leave a default in force. Units are at the end of the name.

This page is generated: `consent-ledger settings --markdown > docs/settings.md`.
"""


def settings_page() -> str:
    """The page as Markdown, ending with a newline."""
    groups: dict[str, list[str]] = {}
    for name, field in Settings.model_fields.items():
        row = (
            f"| `{variable_name(name)}` | {default_text(field)} | {_values(field)} "
            f"| {field.description} |"
        )
        groups.setdefault(group_of(field), []).append(row)
    head = "| variable | default | values | meaning |\n|---|---|---|---|\n"
    parts = [f"\n## {group}\n{head}" + "\n".join(rows) + "\n" for group, rows in groups.items()]
    return _HEAD + "".join(parts)


def default_text(field: FieldInfo) -> str:
    """Default of a setting as the page shows it."""
    default = field.default
    if default is None:
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, int):
        return f"{default:,}"
    return f"`{default}`"


def _values(field: FieldInfo) -> str:
    if unit := unit_of(field):
        return unit
    kinds = list(get_args(field.annotation) or (field.annotation,))
    texts = [kind for kind in kinds if isinstance(kind, str)]
    if texts:
        return ", ".join(f"`{text}`" for text in texts)
    if SecretStr in kinds:
        return "secret"
    if Path in kinds:
        return "path"
    return "port" if int in kinds else "text"
