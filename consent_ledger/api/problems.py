"""Problem documents (RFC 9457): the one shape of every answer that is not a success.

Owns which problems there are, their status and their wording. Every error of every endpoint goes
through here, the framework's own included. Never repeats a number, an e-mail address or evidence.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from consent.errors import Rejected, Retryable

log = structlog.get_logger(__name__)

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem; `meaning` is what `GET /problems/{code}` tells."""

    status: int
    title: str
    meaning: str


PROBLEM_TYPES: Final[Mapping[str, ProblemType]] = {
    "invalid-request": ProblemType(
        400, "The request can't be read", "The body is no JSON, or not of the form that is asked."
    ),
    "unauthenticated": ProblemType(
        401, "No valid key", "Send a key that this ledger knows: `Authorization: Bearer <key>`."
    ),
    "forbidden": ProblemType(
        403, "Not for this key", "The key's roles or its sellers do not allow this."
    ),
    "not-found": ProblemType(404, "No such address", "See /docs for what there is."),
    "method-not-allowed": ProblemType(405, "Not by this method", "See /docs for the method."),
    "body-too-large": ProblemType(
        413, "The body is too large", "Send fewer items, or refer to documents instead."
    ),
    "too-many-items": ProblemType(413, "Too many items", "Send fewer items in one request."),
    "unsupported-media-type": ProblemType(
        415, "Not this media type", "Send application/json, or CloudEvents in JSON."
    ),
    "rejected": ProblemType(
        422,
        "Not accepted",
        "Nothing of this was accepted. `errors` and `results` say which field, why, and what to "
        "do; sending the same again gives the same answer.",
    ),
    "too-many-requests": ProblemType(
        429, "Too many requests", "Send the same again after `Retry-After` seconds."
    ),
    "internal": ProblemType(
        500, "A fault of ours", "It was logged. Sending the same again is harmless."
    ),
    "unavailable": ProblemType(
        503,
        "Not available now",
        "Something behind this is away. Send the same again, with the same ids, after "
        "`Retry-After` seconds: what did arrive is counted once.",
    ),
}
_BY_STATUS: Final[Mapping[int, str]] = {
    400: "invalid-request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    413: "body-too-large",
    415: "unsupported-media-type",
    422: "rejected",
    429: "too-many-requests",
    503: "unavailable",
}


class FieldError(msgspec.Struct, omit_defaults=True):
    """What is wrong with one field, and what to do about it."""

    reason: str
    field: str = ""
    value: str = ""
    remedy: str = ""


class ProblemDocument(msgspec.Struct, omit_defaults=True):
    """RFC 9457. `code` is the last part of `type`, for programs that compare."""

    type: str
    title: str
    status: int
    code: str
    detail: str = ""
    errors: list[FieldError] = []
    results: list[Any] = []


class Problem(Exception):
    """An answer that is a problem. `retry_after_s` becomes the header `Retry-After`."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        errors: Sequence[FieldError] = (),
        results: Sequence[Any] = (),
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.results = results
        self.retry_after_s = retry_after_s


def field_error(rejected: Rejected) -> FieldError:
    """The error of one field from the domain's own."""
    return FieldError(rejected.reason, rejected.field, rejected.value_shown, rejected.remedy)


def document_of(problem: Problem) -> ProblemDocument:
    """The body of a problem."""
    kind = PROBLEM_TYPES[problem.code]
    return ProblemDocument(
        type=f"/problems/{problem.code}",
        title=kind.title,
        status=kind.status,
        code=problem.code,
        detail=problem.detail or kind.meaning,
        errors=list(problem.errors),
        results=list(problem.results),
    )


def headers_of(problem: Problem) -> dict[str, str]:
    """Headers that go with a problem."""
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    if problem.code == "unauthenticated":
        headers["WWW-Authenticate"] = 'Bearer realm="consent-ledger"'
    return headers


def problem_response(problem: Problem) -> Response[bytes]:
    """A problem as an answer."""
    return Response(
        content=msgspec.json.encode(document_of(problem)),
        status_code=PROBLEM_TYPES[problem.code].status,
        media_type=PROBLEM_MEDIA_TYPE,
        headers=headers_of(problem),
    )


def problem_message(problem: Problem) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, body and headers of a problem, for whoever answers without the framework."""
    body = msgspec.json.encode(document_of(problem))
    headers = {
        "content-type": PROBLEM_MEDIA_TYPE,
        "content-length": str(len(body)),
        **headers_of(problem),
    }
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return PROBLEM_TYPES[problem.code].status, body, raw


def problem_of(error: Exception, path: str) -> Problem:
    """What to answer after an error of ours; logs those that an operator should know of."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Rejected):
        return Problem("rejected", errors=[field_error(error)])
    if isinstance(error, Retryable):
        log.warning("request_unavailable", error=type(error).__name__)
        return Problem("unavailable", retry_after_s=1)
    # Frames only: the message and the locals of an unforeseen error may hold what was sent.
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("request_failed", path=path, error=type(error).__name__, at=frames)
    return Problem("internal")


def _answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    return problem_response(problem_of(error, request.url.path))


def _answer_validation(
    _request: Request[Any, Any, Any], problem: ValidationException
) -> Response[bytes]:
    extra = problem.extra if isinstance(problem.extra, list) else []
    errors = [
        FieldError("INVALID", str(entry.get("key", "")), "", str(entry.get("message", "")))
        for entry in extra
        if isinstance(entry, dict)
    ]
    return problem_response(Problem("invalid-request", errors=errors))


def _answer_http(request: Request[Any, Any, Any], problem: HTTPException) -> Response[bytes]:
    code = _BY_STATUS.get(problem.status_code)
    if code is None:
        code = "invalid-request" if problem.status_code < 500 else "internal"
    answer = problem_response(Problem(code))
    if code == "method-not-allowed":
        answer.headers["Allow"] = ", ".join(_methods_of(request))
    return answer


def _methods_of(request: Request[Any, Any, Any]) -> list[str]:
    routes = (route for route in request.app.routes if route.path == request.url.path)
    return sorted({method for route in routes for method in getattr(route, "methods", ())})


EXCEPTION_HANDLERS: Final[ExceptionHandlersMap] = {
    ValidationException: _answer_validation,
    HTTPException: _answer_http,
    Exception: _answer_error,
}
