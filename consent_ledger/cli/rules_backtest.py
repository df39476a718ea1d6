"""`consent-ledger rules backtest`: which recorded decisions another rulebook would flip."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from consent.errors import Rejected
from consent.instants import instant_text, parse_date, parse_instant
from consent.rulebook import Rulebook
from consent_ledger.backtest import Backtest, BacktestReport, Flip, Told
from consent_ledger.rule_files import load_rulebook
from consent_ledger.terminal import err, out

_DAY_US = 86_400_000_000
_SHOWN_MAX = 50


def backtest(
    since: Annotated[str, typer.Option("--from", help="Date or RFC 3339; decisions from then on.")],
    until: Annotated[
        str, typer.Option("--to", help="Date or RFC 3339; not this instant any more.")
    ],
    rulebook: Annotated[
        Path, typer.Option(help="Folder of rule files, or `packaged`, to decide by.")
    ],
    why: Annotated[
        str | None, typer.Option("--why", help="Why you look: a case or a request, never a person.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON line per flip, the summary last.")
    ] = False,
) -> None:
    """Decide the recorded calls of a period again by another rulebook, and list those that flip.

    Every decision is judged by what had happened in fact: that a call would not have been placed,
    or would have been, changes no later one. Lists that nobody looked up then are not known.
    """
    begin, end = _instant("--from", since), _instant("--to", until)
    if end <= begin:
        raise Rejected("NOT_LATER", "--to", until, "give a time after --from")
    wanted = load_rulebook(rulebook)
    started = time.monotonic()
    report, flips = _run(wanted, (begin, end), why, as_json)
    seconds = time.monotonic() - started
    if as_json:
        sys.stdout.write(json.dumps(_summary(report, seconds)) + "\n")
    else:
        _show(flips, report, seconds)


def _run(
    wanted: Rulebook, period: tuple[int, int], why: str | None, as_json: bool
) -> tuple[BacktestReport, list[Flip]]:
    """The report, and the first flips; as JSON all of them are printed as they are found."""
    # Not above: the other commands about rules need neither a store nor the wiring.
    from consent_ledger.bootstrap_store import store_parameters
    from consent_ledger.cli.access_reason import record_local_access
    from consent_ledger.keys import load_keys
    from consent_ledger.reconstruction import Reconstructor
    from consent_ledger.settings import load_settings
    from projections.clickhouse import Store
    from projections.past import Past

    settings = load_settings()
    store = Store.connect(store_parameters(settings))
    flips: list[Flip] = []
    try:
        begin, end = (instant_text(one) for one in period)
        named = {"report": "backtest", "from": begin, "to": end}
        record_local_access(store, settings, "report", why, None, named)
        past = Past(store)
        known = Reconstructor(past, load_keys(settings).history, load_rulebook(None))
        testing = Backtest(past, wanted, known.rulebook)
        with _progress(testing) as told:
            for flip in testing.run(*period, told):
                if as_json:
                    sys.stdout.write(json.dumps(_flip_fields(flip)) + "\n")
                elif len(flips) < _SHOWN_MAX:
                    flips.append(flip)
    finally:
        store.close()
    return testing.report, flips


@contextmanager
def _progress(testing: Backtest) -> Iterator[Told]:
    """A bar over the numbers with the rate of decisions, on a terminal only."""
    if not err.is_terminal:
        yield lambda done, total: None
        return
    columns = (
        TextColumn("deciding again"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=err, transient=True) as shown:
        task = shown.add_task("numbers", total=None, rate="")

        def told(done: int, total: int) -> None:
            rate = testing.report.decisions / max(time.monotonic() - started, 0.001)
            shown.update(task, completed=done, total=total, rate=f"{rate:,.0f} decisions/s")

        yield told


def _flip_fields(flip: Flip) -> dict[str, Any]:
    return {
        "decision_id": flip.decision_id,
        "decided_at": instant_text(flip.decided_at),
        "seller_id": flip.seller_id,
        "campaign_id": flip.campaign_id,
        "before": flip.before._asdict(),
        "after": flip.after._asdict(),
        "rule": flip.rule,
    }


def _summary(report: BacktestReport, seconds: float) -> dict[str, Any]:
    return {
        "decisions": report.decisions,
        "same": report.same,
        "reason_changed": report.reason_changed,
        "flipped": report.flipped,
        "unknown": report.unknown,
        "no_answer": report.no_answer,
        "not_reproduced": report.not_reproduced,
        "by_rule": [
            {"rule": rule, "before": before, "after": after, "decisions": count}
            for (rule, before, after), count in report.by_change.most_common()
        ],
        "unknown_by_rule": dict(report.unknown_lists.most_common()),
        "seconds": round(seconds, 3),
        "decisions_per_s": round(report.decisions / max(seconds, 0.001)),
    }


def _show(flips: list[Flip], report: BacktestReport, seconds: float) -> None:
    if flips:
        table = Table("decided", "seller", "before", "after", "decision", box=SIMPLE_HEAD)
        for flip in flips:
            before, after = (
                f"{one.verdict} {one.reason or ''}\n{one.rule or ''}"
                for one in (flip.before, flip.after)
            )
            decided = instant_text(flip.decided_at)
            table.add_row(decided, flip.seller_id, before, after, flip.decision_id)
        out.print(table)
        if report.flipped > len(flips):
            out.print(f"... and {report.flipped - len(flips):,} more; --json prints all")
        rules = Table("rule", "before", "after", "decisions", box=SIMPLE_HEAD)
        for (rule, before, after), count in report.by_change.most_common():
            rules.add_row(rule, before, after, f"{count:,}")
        out.print(rules)
    rate = report.decisions / max(seconds, 0.001)
    out.print(
        f"{report.decisions:,} decisions in {seconds:.1f} s ({rate:,.0f}/s): {report.flipped:,} "
        f"flip, {report.same:,} stay ({report.reason_changed:,} for another reason)"
    )
    for count, what in (
        (report.unknown, "depend on lists that were not looked up then"),
        (report.no_answer, "were no answers: the ledger was not fit to give one"),
        (report.not_reproduced, "don't come out as recorded under their own rulebook"),
    ):
        if count:
            out.print(f"{count:,} {what}; they are not judged")


def _instant(option: str, text: str) -> int:
    """An instant, or the first one of a date in UTC."""
    try:
        return parse_date(text) * _DAY_US if len(text) == len("2026-11-24") else parse_instant(text)
    except ValueError:
        remedy = "write it like 2026-11-24 or 2026-11-24T15:00:00Z"
        raise Rejected("INVALID_TIME", option, text[:40], remedy) from None
