"""A past moment as a person reads it: the verdict, then what was known, then what was late."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from consent_ledger.api.reconstruct_models import (
    PastDecision,
    PastEvent,
    ReconstructAnswer,
    ReplayAnswer,
)
from consent_ledger.explanation import explain, explanation_view
from consent_ledger.terminal import out

_STYLES: Final = {"allow": "bold green", "deny": "bold red", "unavailable": "bold yellow"}
_SECTIONS: Final = {
    "grants": "consent",
    "withdrawals": "withdrawn",
    "dnc": "do-not-call entry",
    "refusals": "refused",
    "relationships": "relationship",
    "attempts": "call or permit",
    "outcomes": "last outcome",
    "attributes": "known of the number",
    "reassignments": "reassignment asked",
    "legal_holds": "legal hold",
    "erased": "erased",
}


def show_past(answer: ReconstructAnswer) -> None:
    """A number at a moment."""
    out.print(Text(f"At {answer.at}, as known at {answer.known_at}", style="bold"))
    if answer.decision is not None:
        _show_decision(answer.decision)
    _show_rules(answer)
    _show_state(answer)
    if answer.late:
        out.print(Text("\nHad happened by then, and arrived afterwards:", style="bold"))
        _show_events(answer.late)
        _show_changes(answer.late_changes)
    later = answer.later
    if later is not None:
        out.print(Text(f"\nAs known at {later.known_at}", style="bold"))
        if not later.arrived:
            out.print("Nothing about that moment arrived in between.")
        _show_events(later.arrived)
        _show_changes(later.changes)
        if later.decision is not None:
            said = "changed" if later.verdict_changed else "did not change"
            out.print(f"The answer {said}:")
            _show_decision(later.decision)


def show_replay(answer: ReplayAnswer) -> None:
    """A recorded decision made again."""
    found = f"from {answer.facts} facts under rulebook {answer.rulebook[:16]}"
    if answer.same:
        out.print(Text("SAME", style="bold green"))
        out.print(f"The decision comes out as it was recorded, {found}.")
    else:
        out.print(Text("DIFFERENT", style="bold red"))
        out.print(f"The decision does not come out as it was recorded, {found}.")
    out.print(f"recorded: {answer.verdict} {answer.reason or ''} at {answer.decided_at}")
    if answer.difference is not None:
        one = answer.difference
        out.print(f"first difference: {one.place}", markup=False, soft_wrap=True)
        out.print(f"  recorded  {_word(one.recorded)}", markup=False, soft_wrap=True)
        out.print(f"  again     {_word(one.again)}", markup=False, soft_wrap=True)
    for one in answer.made_by:
        text = f"made by another {one.place}: {_word(one.recorded)}; here {_word(one.again)}"
        out.print(text, markup=False, soft_wrap=True)


def _show_decision(decision: PastDecision) -> None:
    out.print(Text(decision.verdict.upper(), style=_STYLES[decision.verdict]))
    for reason in decision.reasons:
        out.print(f"  {reason.code}: {reason.text}", soft_wrap=True)
    for obligation in decision.obligations:
        out.print(f"  do: {obligation.text} ({obligation.code})", soft_wrap=True)
    if decision.next_allowed:
        out.print(f"  next allowed: {decision.next_allowed}")
    if decision.trace:
        trace = [msgspec.to_builtins(line) for line in decision.trace]
        codes = [reason.code for reason in decision.reasons]
        out.print(explanation_view(explain(trace, decision.rule, codes)))


def _show_rules(answer: ReconstructAnswer) -> None:
    since = answer.rulebook.activated_at
    used = f"in use since {since}" if since else "not recorded as in use"
    out.print(f"rulebook {answer.rulebook.version}, digest {answer.rulebook.digest[:16]}, {used}")
    linked = answer.linked_numbers
    others = f", and {linked} other numbers of the person" if linked else ""
    out.print(f"{answer.facts} {'fact' if answer.facts == 1 else 'facts'}{others}")
    for note in answer.notes:
        out.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    for event_id in answer.repeated_event_ids:
        out.print(f"note: event {event_id} was recorded with different contents", style="yellow")


def _show_state(answer: ReconstructAnswer) -> None:
    if not answer.state:
        out.print("Nothing was known of this number.")
        return
    table = Table("what", "since", "details", box=SIMPLE_HEAD, pad_edge=False)
    for section, entries in answer.state.items():
        for entry in entries:
            since = str(entry.get("at", ""))
            rest = {name: value for name, value in entry.items() if name != "at"}
            table.add_row(_SECTIONS[section], since, _details(rest))
    out.print(table)


def _show_events(events: Sequence[PastEvent]) -> None:
    if not events:
        return
    table = Table("recorded", "happened", "from", "what", box=SIMPLE_HEAD, pad_edge=False)
    for event in events:
        table.add_row(event.recorded_at, event.occurred_at, event.source_system, event.summary)
    out.print(table)


def _show_changes(changes: Iterable[Mapping[str, Any]]) -> None:
    for change in changes:
        key = {
            name: value
            for name, value in change.items()
            if name not in ("section", "before", "after")
        }
        what = _SECTIONS[change["section"]]
        before = "nothing" if change["before"] is None else _details(change["before"])
        after = "nothing" if change["after"] is None else _details(change["after"])
        text = f"{what} ({_details(key)}): {before} -> {after}"
        out.print(text, markup=False, soft_wrap=True)


def _details(entry: Mapping[str, Any]) -> str:
    shown = (
        f"{name.replace('_', ' ')} {_word(value)}"
        for name, value in entry.items()
        if name != "event_id" and value not in (None, False, "", [])
    )
    return ", ".join(shown)


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return "nothing" if value is None else str(value)
