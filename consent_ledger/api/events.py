"""`POST /v1/events`: events as JSON or as CloudEvents (structured, batch and binary mode).

Owns the forms of the request and the status of the answer; what becomes of an event is
`consent_ledger.api.acceptance`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from litestar import Controller, Response, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import QueryParameter

from consent_ledger.api.acceptance import Acceptance
from consent_ledger.api.authentication import signed_in
from consent_ledger.api.models import EventsAnswer, ItemResult, Wait
from consent_ledger.api.parts import ApiConfig, ApiRequest, config_of, parts_of
from consent_ledger.api.problems import FieldError, Problem, ProblemDocument, problem_response

_JSON: Final = "application/json"
_STRUCTURED: Final = "application/cloudevents+json"
_BATCH: Final = "application/cloudevents-batch+json"
_BINARY_PREFIX: Final = "ce-"

WaitParameter = Annotated[
    Wait | None,
    QueryParameter(
        name="wait",
        required=False,
        description="Answer only once dialers see the events (`projected`), or once history has "
        "them (`recorded`). Without it the answer comes when the broker has them.",
    ),
]

_EXAMPLE: Final = {
    "type": "ConsentWithdrawn",
    "event_id": "0b9f4c1e-6f0c-4c58-9d4b-3f1f7a3d2c10",
    "occurred_at": "2026-11-22T10:00:00Z",
    "number": "+14155550123",
    "seller_id": "acme",
    "source": {"system": "web-forms", "channel": "WEB", "actor": "CONSUMER"},
    "purposes": ["MARKETING"],
    "manner": "WEB_FORM",
    "evidence": {"wording": "Please do not call me again."},
}


class EventsController(Controller):
    """Events in."""

    path = "/v1/events"
    tags = ("events",)
    guards = (signed_in,)

    @post(
        summary="Publish events",
        status_code=200,
        responses={
            202: ResponseSpec(EventsAnswer, description="Accepted; the wait ended too early"),
            207: ResponseSpec(EventsAnswer, description="Some were rejected: see results"),
            422: ResponseSpec(ProblemDocument, description="All were rejected"),
            503: ResponseSpec(ProblemDocument, description="Send the same again"),
        },
        opt={"request_example": Example(value=_EXAMPLE)},
    )
    async def publish(
        self, request: ApiRequest, wait: WaitParameter = None
    ) -> Response[EventsAnswer] | Response[bytes]:
        """Take 1 to 1,000 events: an object or a list, in the ledger's form or as CloudEvents.

        Each is accepted, a duplicate, or rejected for itself, with the reason, the field and the
        remedy. Sending the same event again is always harmless.
        """
        config = config_of(request)
        documents = await _documents(request, config)
        waits = {each for each in (wait, config.answer_after) if each is not None}
        acceptance = await parts_of(request).acceptor.accept(documents, request.user, waits)
        return _answer(acceptance, wait or config.answer_after, config)


async def _documents(request: ApiRequest, config: ApiConfig) -> list[Any]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in (_JSON, _STRUCTURED, _BATCH):
        raise Problem("unsupported-media-type")
    content = await request.json()
    if request.headers.get("ce-specversion") is not None:
        content = _binary_cloud_event(request.headers, content)
    documents = content if isinstance(content, list) else [content]
    if not documents:
        raise Problem("invalid-request", "send at least one event")
    if len(documents) > config.events_per_request_max:
        detail = f"send at most {config.events_per_request_max} events in one request"
        raise Problem("too-many-items", detail)
    return documents


def _binary_cloud_event(headers: Mapping[str, str], data: Any) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        name[len(_BINARY_PREFIX) :]: value
        for name, value in headers.items()
        if name.startswith(_BINARY_PREFIX)
    }
    return {**attributes, "data": data}


def _answer(
    acceptance: Acceptance, wait: Wait | None, config: ApiConfig
) -> Response[EventsAnswer] | Response[bytes]:
    results = acceptance.results
    counts = _counts(results)
    unsafe = config.answer_after in acceptance.unmet
    if unsafe:
        results = [_unconfirmed(result) for result in results]
    if counts["unavailable"] or unsafe:
        return problem_response(Problem("unavailable", results=results, retry_after_s=1))
    if counts["rejected"] == len(results):
        errors = [
            FieldError(result.reason, result.field, result.value, result.remedy)
            for result in results
        ]
        return problem_response(Problem("rejected", errors=errors, results=results))
    answer = EventsAnswer(
        accepted=counts["accepted"],
        duplicate=counts["duplicate"],
        rejected=counts["rejected"],
        wait=wait,
        wait_met=not acceptance.unmet,
        results=results,
    )
    status = 207 if counts["rejected"] else 202 if acceptance.unmet else 200
    return Response(answer, status_code=status)


def _unconfirmed(result: ItemResult) -> ItemResult:
    """Where the log alone promises nothing, an event is accepted only once it was waited for."""
    if result.status not in ("accepted", "duplicate"):
        return result
    return ItemResult(
        position=result.position,
        status="unavailable",
        event_id=result.event_id,
        reason="NOT_RECORDED",
        remedy="send it again with the same event_id",
    )


def _counts(results: list[ItemResult]) -> dict[str, int]:
    counts = dict.fromkeys(("accepted", "duplicate", "rejected", "unavailable"), 0)
    for result in results:
        counts[result.status] += 1
    return counts
