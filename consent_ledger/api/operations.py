"""Addresses for those who run the ledger: health, readiness, metrics, and what a problem means."""

from __future__ import annotations

import msgspec
from litestar import MediaType, Response, get
from litestar.params import FromPath

from consent_ledger.api.metrics import ApiMetrics
from consent_ledger.api.parts import ApiRequest, parts_of
from consent_ledger.api.problems import PROBLEM_TYPES, Problem


class Health(msgspec.Struct):
    """`ok`; anything else is a problem document."""

    status: str


@get("/healthz", summary="Is the process alive?", tags=["operations"], sync_to_thread=False)
def healthz() -> Health:
    """200 as long as the process answers at all; nothing behind it is asked."""
    return Health("ok")


@get("/readyz", summary="Can it answer checks?", tags=["operations"], sync_to_thread=False)
def readyz(request: ApiRequest) -> Health:
    """200 when the view is loaded and fresh and the log is reachable, else 503 and what is not."""
    unready = parts_of(request).unready()
    if unready:
        raise Problem("unavailable", "; ".join(unready), retry_after_s=1)
    return Health("ok")


@get(
    "/metrics",
    summary="Metrics for Prometheus",
    tags=["operations"],
    media_type=MediaType.TEXT,
    sync_to_thread=False,
)
def metrics(request: ApiRequest) -> Response[bytes]:
    """Counters and timings in Prometheus' text format."""
    measured: ApiMetrics = request.app.state.metrics
    media_type = "text/plain; version=0.0.4; charset=utf-8"
    return Response(measured.text(), media_type=media_type)


@get(
    "/problems/{code:str}",
    summary="What a problem means",
    tags=["operations"],
    media_type=MediaType.TEXT,
    sync_to_thread=False,
)
def problem(code: FromPath[str]) -> str:
    """What the `type` of a problem document points to."""
    kind = PROBLEM_TYPES.get(code)
    if kind is None:
        raise Problem("not-found", "there is no such problem")
    return f"{kind.title} (HTTP {kind.status})\n\n{kind.meaning}\n"
