"""The registry of what rule files can ask for: kinds of checks, and exemptions by name.

A kind that is not here is refused when a rulebook is loaded. A new kind is a function that turns
its parameters into a `Check`, a line in KINDS, and its parameters in the JSON Schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from consent.call_facts import CallFacts
from consent.consent_check import compile_consent
from consent.fact_checks import compile_fact
from consent.findings import Check
from consent.list_check import compile_list_absent

KINDS: Final[Mapping[str, Callable[[Mapping[str, Any]], Check]]] = {
    "consent": compile_consent,
    "list_absent": compile_list_absent,
    "fact": compile_fact,
}

Condition = Callable[[CallFacts], bool]
"""True if an exemption saves the call. What is not known never saves one."""


def _consent(params: Mapping[str, Any]) -> Condition:
    kinds = frozenset(kind.upper() for kind in params["kinds"])
    return lambda facts: facts.agreed_since(facts.revoked_at, kinds) is not None


def _ongoing_contract(params: Mapping[str, Any]) -> Condition:
    return CallFacts.has_ongoing_contract


CONDITIONS: Final[Mapping[str, Callable[[Mapping[str, Any]], Condition]]] = {
    "consent": _consent,
    "ongoing_contract": _ongoing_contract,
}
