"""What a row is compiled in: where its rule holds, and the rulebook's own calendars and lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from consent.calendar_days import ClosedDays

EVERYWHERE: Final = "*"
Path = tuple[str | int, ...]


class ParameterError(ValueError):
    """A parameter of a row means nothing: where it stands inside of the row, why, what to do."""

    def __init__(self, path: Path, message: str, remedy: str) -> None:
        super().__init__(message)
        self.path = path
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule holds: everywhere, in the countries of a group, a country, a subdivision."""

    countries: frozenset[str] | None
    subdivision: str | None

    def covers(self, jurisdiction: str) -> bool:
        """True if the rule holds somewhere in the jurisdiction, and so its declarations count."""
        country, _, subdivision = jurisdiction.partition("-")
        if self.countries is not None and country not in self.countries:
            return False
        return not self.subdivision or not subdivision or subdivision == self.subdivision

    def jurisdictions(self, states: tuple[str, ...]) -> tuple[str, ...]:
        """The candidate places as this rule names them: a subdivision, or whole countries."""
        countries = sorted({state[:2] for state in states})
        held = [one for one in countries if self.countries is None or one in self.countries]
        return tuple(f"{one}-{self.subdivision}" if self.subdivision else one for one in held)


@dataclass(frozen=True, slots=True)
class RuleContext:
    """The row's place, and what its parameters may name."""

    place: Place
    calendars: Mapping[str, ClosedDays] = field(default_factory=dict)
    registries: frozenset[str] = frozenset()


def known_registries(params: Mapping[str, Any], context: RuleContext) -> tuple[str, ...]:
    """The registries that a check names; ParameterError for one that nobody describes."""
    named = tuple(params.get("registries", ()))
    for index, list_id in enumerate(named):
        if list_id not in context.registries:
            message = f"registry {list_id!r} is not described"
            raise ParameterError(("registries", index), message, "Add it to `registries`.")
    return named


def known_registry(params: Mapping[str, Any], context: RuleContext) -> str:
    """The one registry that a condition names; ParameterError if nobody describes it."""
    list_id: str = params["registry"]
    if list_id not in context.registries:
        message = f"registry {list_id!r} is not described"
        raise ParameterError(("registry",), message, "Add it to `registries`.")
    return list_id
