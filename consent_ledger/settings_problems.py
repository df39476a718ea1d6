"""What can be wrong with settings, in words: names, values that do not fit, and what helps."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from consent.errors import ConsentError, Rejected

PREFIX = "CONSENT_"

# What Kubernetes puts into every container for a service named consent-…; never ours.
_SERVICE_LINK = re.compile(r".*_(SERVICE_(HOST|PORT.*)|PORT(_\d+_(TCP|UDP).*)?)$")


@dataclass(eq=False)
class SettingsRejected(ConsentError):
    """Settings that can't be used; nothing was started. Holds every problem, not only the first."""

    problems: tuple[Rejected, ...]

    def __str__(self) -> str:
        return "\n".join(_sentence(problem) for problem in self.problems)


def variable_name(field_name: str) -> str:
    """Environment variable of a setting."""
    return PREFIX + field_name.upper()


def unknown_variables(
    environment: Mapping[str, str], fields: Mapping[str, FieldInfo]
) -> list[Rejected]:
    """Variables that begin as ours do and name no setting."""
    known = {variable_name(name) for name in fields}
    unknown = sorted(
        name
        for name in environment
        if name.startswith(PREFIX) and name not in known and not _SERVICE_LINK.match(name)
    )
    return [
        Rejected("there is no such setting", name, "", _closest(name, known)) for name in unknown
    ]


def problem_of(
    error: Any, environment: Mapping[str, str], fields: Mapping[str, FieldInfo]
) -> Rejected:
    """A validation error as a problem; the value of a secret is not shown."""
    name = str(error["loc"][0]) if error["loc"] else "settings"
    shown = name if name.startswith(("CONSENT_", "SCHEMA_")) else variable_name(name)
    field = fields.get(name)
    meaning = f"It means: {field.description}" if field and field.description else ""
    secret = field is not None and "SecretStr" in str(field.annotation)
    value = "hidden" if secret else environment.get(shown, "")
    return Rejected(str(error["msg"]).removeprefix("Value error, "), shown, value, meaning)


def _sentence(problem: Rejected) -> str:
    shown = f" ({problem.value_shown})" if problem.value_shown else ""
    return f"{problem.field}{shown}: {problem.reason}. {problem.remedy}"


def _closest(name: str, known: set[str]) -> str:
    own_parts = {one.removeprefix(PREFIX): one for one in known}
    near = difflib.get_close_matches(name.removeprefix(PREFIX), own_parts, n=1)
    if near:
        return f"Did you mean {own_parts[near[0]]}?"
    return "`consent-ledger settings` lists them all."
