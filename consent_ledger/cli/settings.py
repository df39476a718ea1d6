"""`consent-ledger settings`: list every setting, its default and its value."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import SecretStr
from rich.table import Table

from consent_ledger.settings import Settings, load_settings, unit_of, variable_name
from consent_ledger.settings_page import settings_page
from consent_ledger.terminal import out


def command(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the documentation page instead.")
    ] = False,
) -> None:
    """List every setting, its default and its value. Secrets are not shown."""
    if markdown:
        typer.echo(settings_page(), nl=False)
        return
    settings = load_settings()
    table = Table("variable", "value", "unit", "set")
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        shown = "(hidden)" if isinstance(value, SecretStr) else "" if value is None else str(value)
        given = "yes" if name in settings.model_fields_set else ""
        table.add_row(variable_name(name), shown, unit_of(field), given)
    out.print(table)
