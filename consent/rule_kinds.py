"""The registry of what rule files can ask for: kinds of checks.

A kind that is not here is refused when a rulebook is loaded. A new kind is a function that turns
its parameters into a `Check`, a line in KINDS, and its parameters in the JSON Schema. Conditions
of exemptions have a registry of their own, in `conditions`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from consent.cap_check import compile_cap
from consent.consent_check import CONSENT_REASONS, compile_consent
from consent.fact_checks import compile_fact
from consent.findings import Check
from consent.freshness_check import compile_freshness
from consent.holiday_check import compile_holiday
from consent.list_check import compile_list_absent
from consent.number_checks import REASSIGNMENT_REASONS
from consent.rate_check import compile_rate
from consent.rule_context import RuleContext
from consent.window_check import compile_day_ban, compile_window

KINDS: Final[Mapping[str, Callable[[Mapping[str, Any], RuleContext], Check]]] = {
    "window": compile_window,
    "day_ban": compile_day_ban,
    "holiday": compile_holiday,
    "list_absent": compile_list_absent,
    "consent": compile_consent,
    "cap": compile_cap,
    "freshness": compile_freshness,
    "rate": compile_rate,
    "fact": compile_fact,
}


def default_reasons(check: Mapping[str, Any]) -> Iterator[str]:
    """Reasons that a check gives beside its rule's own, where its parameters name no others."""
    params = check["params"]
    if check["kind"] == "consent":
        given = CONSENT_REASONS
    elif params.get("fact") == "not_reassigned":
        given = REASSIGNMENT_REASONS
    else:
        return
    yield from (reason for name, reason in given.items() if name not in params)
