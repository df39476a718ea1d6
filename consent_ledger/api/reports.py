"""`GET /v1/audit/reports/...`: what a regulator asks of the whole ledger, or of a seller."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from litestar import Controller, Response, get
from litestar.params import FromPath, QueryParameter

from consent.errors import Rejected
from consent.instants import parse_instant
from consent_ledger.api.accesses import Why
from consent_ledger.api.authentication import Principal, signed_in
from consent_ledger.api.parts import ApiRequest, parts_of
from consent_ledger.api.problems import Problem
from consent_ledger.report_files import FORMS, MEDIA_TYPES
from projections.report_catalogue import Report, packaged_reports
from projections.report_run import Question, run_report
from projections.report_tables import Period

_DAYS: Final = 30
_EARLIEST: Final = datetime(1970, 1, 2, tzinfo=UTC)
_LATEST: Final = datetime(2199, 1, 1, tzinfo=UTC)

Instant = str | None


class ReportsController(Controller):
    """Reports."""

    path = "/v1/audit/reports"
    tags = ("audit",)
    guards = (signed_in,)

    @get("/", summary="Which reports there are", sync_to_thread=False)
    def reports(self, request: ApiRequest) -> list[dict[str, Any]]:
        """Name, title, the provision that each answers, and what its columns mean."""
        request.user.require("auditor", "privacy")
        return [
            {
                "name": report.name,
                "title": report.title,
                "answers": report.answers,
                "notes": list(report.notes),
                "columns": {column.name: column.meaning for column in report.columns},
            }
            for report in packaged_reports().values()
        ]

    @get("/{name:str}", summary="One report", media_type="application/json")
    async def report(
        self,
        request: ApiRequest,
        name: FromPath[str],
        since: Annotated[Instant, QueryParameter(name="from", description="RFC 3339")] = None,
        until: Annotated[Instant, QueryParameter(name="to", description="RFC 3339")] = None,
        known_at: Annotated[Instant, QueryParameter(description="RFC 3339")] = None,
        seller: Annotated[str | None, QueryParameter(description="Of this seller only")] = None,
        form: Annotated[Literal["json", "csv", "parquet"], QueryParameter(name="format")] = "json",
        personal: Annotated[bool, QueryParameter(description="Numbers and names too")] = False,
        why: Why = None,
    ) -> Response[bytes]:
        """The rows of a report over a period, with query id, as-of times and checkpoint.

        Without `from` the 30 days before `to`, without `to` up to now. Personal columns take the
        role privacy. A key that is bound to sellers gets theirs only. What the answer rests on is
        in the JSON, in the Parquet file's metadata, and in the headers `Query-Id`, `Known-At` and
        `Checkpoint`.
        """
        request.user.require(*(("privacy",) if personal else ("auditor", "privacy")))
        report = packaged_reports().get(name)
        if report is None:
            raise Problem("not-found", "there is no such report")
        sellers = _sellers(request.user, report, seller)
        question = Question(_period(since, until, known_at), sellers, personal=personal)
        parts = parts_of(request)
        about = {"report": name, "personal": str(personal).lower()}
        await parts.accesses.record(request.user, "report", why, None, about)
        answer = await parts.store.run(run_report, report, question)
        made = answer.checkpoint
        headers = {
            "Query-Id": answer.query_id,
            "Known-At": question.period.known_at.isoformat(),
            "Checkpoint": "none" if made is None else f"{made.origin} {made.size} {made.root}",
            "Findings": str(answer.findings),
            "Cache-Control": "no-store",
        }
        return Response(FORMS[form](answer), media_type=MEDIA_TYPES[form], headers=headers)


def _sellers(principal: Principal, report: Report, seller: str | None) -> tuple[str, ...]:
    if report.whole_ledger:
        if principal.seller_ids is not None or seller is not None:
            raise Problem("forbidden", "this report is about the whole ledger, not about a seller")
        return ()
    if seller is not None:
        principal.for_seller(seller)
        return (seller,)
    return () if principal.seller_ids is None else tuple(sorted(principal.seller_ids))


def _period(since: str | None, until: str | None, known_at: str | None) -> Period:
    now = _instant(time.time_ns() // 1_000)
    last = now if until is None else _parsed("to", until)
    first = last - timedelta(days=_DAYS) if since is None else _parsed("from", since)
    if first >= last:
        raise Rejected("INVALID_PERIOD", "from", (since or "")[:60], "give one before `to`")
    return Period(first, last, now if known_at is None else _parsed("known_at", known_at))


def _parsed(field: str, text: str) -> datetime:
    try:
        at = _instant(parse_instant(text))
    except ValueError:
        at = _LATEST
    if not _EARLIEST <= at < _LATEST:
        remedy = "an instant as 2026-11-25T17:30:00Z, after 1970"
        raise Rejected("INVALID_TIME", field, "(not shown)", remedy)
    return at


def _instant(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
