"""One HTTP request, understood: credentials, statement, settings, formats, sessions.

Takes method, headers, URL and body, returns a QueryRequest or raises ClickHouseError; no I/O.
"""

from __future__ import annotations

import binascii
import hmac
import uuid
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import unquote_to_bytes

from projections.embedded_clickhouse_wire import (
    ClickHouseError,
    chosen_encoding,
    decompress,
)

# Parameters of a URL that are no settings of the engine, as the server has them.
_RESERVED = frozenset(
    (
        "buffer_size",
        "client_protocol_version",
        "close_session",
        "compress",
        "database",
        "decompress",
        "default_format",
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "session_check",
        "session_id",
        "session_timeout",
        "stacktrace",
        "user",
        "wait_end_of_query",
    )
)
_DEFAULT_FORMAT = "TabSeparated"


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Bounds of one request, in bytes and milliseconds."""

    body_bytes_max: int = 256 * 1024**2
    body_timeout_ms: int = 120_000
    query_bytes_max: int = 256 * 1024
    query_timeout_ms: int = 600_000


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who may ask; an empty password is one as well."""

    user: str = "default"
    password: str = ""


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """The session that a request asks for."""

    name: str
    timeout_s: int | None
    must_exist: bool
    close: bool


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request before it is understood; header names are in lower case."""

    method: str
    query_string: bytes
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """A request that can be run. `settings` holds query parameters as `param_<name>` too.

    `tag` is ours alone, `query_id` may be the client's and used twice.
    """

    tag: str
    query_id: str
    head: bytes
    body: bytes
    settings: Mapping[str, str]
    database: str
    default_format: str
    encoding: str | None
    readonly: str
    hold: bool
    cancel_when_gone: bool
    query_bytes_max: int
    session: SessionRequest | None


def authenticate(
    headers: Mapping[str, str], parameters: Mapping[str, str], expected: Credentials
) -> None:
    """Raise ClickHouseError 516 unless the request names the expected user and password.

    Read in ClickHouse's order: `X-ClickHouse-User` and `-Key`, basic authentication, URL.
    """
    user, password = "default", ""
    authorization = headers.get("authorization", "")
    if "x-clickhouse-user" in headers or "x-clickhouse-key" in headers:
        user = headers.get("x-clickhouse-user", user)
        password = headers.get("x-clickhouse-key", "")
    elif authorization.lower().startswith("basic "):
        try:
            decoded = b64decode(authorization[6:].strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            decoded = ""
        user, _, password = decoded.partition(":")
    elif "user" in parameters or "password" in parameters:
        user = parameters.get("user", user)
        password = parameters.get("password", "")
    same_user = hmac.compare_digest(user.encode(), expected.user.encode())
    same_password = hmac.compare_digest(password.encode(), expected.password.encode())
    if not (same_user and same_password):
        raise ClickHouseError(
            516,
            "AUTHENTICATION_FAILED",
            "Authentication failed: password is incorrect, or there is no user with such name.",
        )


def url_parameters(query_string: bytes) -> dict[str, str]:
    """Parameters of a URL; the last of a name counts. Bytes that are not UTF-8 survive."""
    parameters = {}
    for pair in query_string.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name:
            parameters[_text(_unquoted(name))] = _text(_unquoted(value))
    return parameters


def understand(request: HttpRequest, limits: RequestLimits) -> QueryRequest:
    """The query of a request. Costs a copy of the body when it is compressed or a form."""
    headers = request.headers
    parameters = url_parameters(request.query_string)
    for flag in ("compress", "decompress"):
        if _flag(parameters, flag):
            raise ClickHouseError(
                48,
                "NOT_IMPLEMENTED",
                f"`{flag}=1` is not supported: use HTTP compression",
            )
    body = decompress(request.body, headers.get("content-encoding", ""), limits.body_bytes_max)
    kind = headers.get("content-type", "").lower()
    if kind.startswith("multipart/form-data"):
        parameters.update(_form_fields(headers["content-type"], body))
        body = b""
    settings = {name: value for name, value in parameters.items() if name not in _RESERVED}
    idempotent = request.method in ("GET", "HEAD")
    asked = settings.pop("readonly", "0")
    encoding = None
    if _flag(settings, "enable_http_compression", default=True):
        encoding = chosen_encoding(headers.get("accept-encoding", ""))
    return QueryRequest(
        tag=_new_id(),
        query_id=parameters.get("query_id")
        or headers.get("x-clickhouse-query-id", "")
        or _new_id(),
        head=_bytes(parameters.get("query", "")),
        body=body,
        settings=settings | {"max_execution_time": _time_allowed(settings, limits)},
        database=headers.get("x-clickhouse-database", parameters.get("database", "")),
        default_format=headers.get("x-clickhouse-format")
        or parameters.get("default_format")
        or _DEFAULT_FORMAT,
        encoding=encoding,
        readonly="2" if idempotent and asked == "0" else asked,
        hold=_flag(parameters, "wait_end_of_query") or _flag(settings, "http_wait_end_of_query"),
        cancel_when_gone=idempotent
        or _flag(settings, "cancel_http_readonly_queries_on_client_close"),
        query_bytes_max=max(
            limits.query_bytes_max, min(_number(settings, "max_query_size"), limits.body_bytes_max)
        ),
        session=_session(parameters),
    )


def _session(parameters: Mapping[str, str]) -> SessionRequest | None:
    name = parameters.get("session_id", "")
    if not name:
        return None
    timeout = parameters.get("session_timeout")
    if timeout is not None and not timeout.isdecimal():
        raise ClickHouseError(
            374, "INVALID_SESSION_TIMEOUT", f"Invalid session timeout: '{timeout}'"
        )
    return SessionRequest(
        name=name,
        timeout_s=None if timeout is None else int(timeout),
        must_exist=parameters.get("session_check") == "1",
        close=_flag(parameters, "close_session"),
    )


def _time_allowed(settings: Mapping[str, str], limits: RequestLimits) -> str:
    """Seconds that the engine gives a statement: the client's wish, never beyond the limit."""
    longest_s = limits.query_timeout_ms / 1000
    try:
        wished_s = float(settings.get("max_execution_time", "0"))
    except ValueError:
        return settings["max_execution_time"]
    return f"{min(wished_s, longest_s) if wished_s > 0 else longest_s:g}"


def _form_fields(kind: str, body: bytes) -> dict[str, str]:
    """Text fields of a form: how clients send parameters that are too long for a URL."""
    head = b"Content-Type: " + kind.encode() + b"\r\n\r\n"
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    fields = {}
    for part in message.iter_parts() if message.is_multipart() else ():
        if part.get_filename() is not None:
            raise ClickHouseError(48, "NOT_IMPLEMENTED", "External data are not supported")
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            fields[name] = _text(content)
    return fields


def _flag(parameters: Mapping[str, str], name: str, default: bool = False) -> bool:
    value = parameters.get(name)
    return default if value is None else value.lower() in ("1", "true")


def _number(parameters: Mapping[str, str], name: str) -> int:
    value = parameters.get(name, "")
    return int(value) if value.isdecimal() else 0


def _new_id() -> str:
    return str(uuid.uuid4())


def _unquoted(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
