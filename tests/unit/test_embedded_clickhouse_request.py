"""Understanding one HTTP request: credentials, parameters, forms, limits, sessions."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote_from_bytes, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.embedded_clickhouse_request import (
    Credentials,
    HttpRequest,
    QueryRequest,
    RequestLimits,
    authenticate,
    understand,
    url_parameters,
)
from projections.embedded_clickhouse_wire import ClickHouseError

LIMITS = RequestLimits(query_timeout_ms=60_000, query_bytes_max=1_000, body_bytes_max=100_000)
EXPECTED = Credentials("auditor", "s3cret:with:colons")


def ask(
    query: dict[str, str] | None = None,
    body: bytes = b"",
    method: str = "POST",
    **headers: str,
) -> QueryRequest:
    """What a request with these URL parameters, body and headers is understood as."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    text = urlencode(query or {}).encode()
    return understand(HttpRequest(method, text, named, body), LIMITS)


def basic(user: str, password: str) -> str:
    """An Authorization header."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        ({"authorization": basic("auditor", "s3cret:with:colons")}, {}),
        ({"x-clickhouse-user": "auditor", "x-clickhouse-key": "s3cret:with:colons"}, {}),
        ({}, {"user": "auditor", "password": "s3cret:with:colons"}),
    ],
)
def test_credentials_are_taken_from_each_place(
    headers: dict[str, str], parameters: dict[str, str]
) -> None:
    """Headers of ClickHouse, basic authentication and the URL all name a user."""
    authenticate(headers, parameters, EXPECTED)


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        ({}, {}),
        ({"authorization": basic("auditor", "wrong")}, {}),
        ({"authorization": basic("other", "s3cret:with:colons")}, {}),
        ({"authorization": "Basic %%%"}, {}),
        ({"authorization": "Bearer s3cret:with:colons"}, {}),
        ({"x-clickhouse-user": "auditor"}, {"password": "s3cret:with:colons"}),
        ({}, {"user": "auditor"}),
    ],
)
def test_wrong_credentials_are_refused(headers: dict[str, str], parameters: dict[str, str]) -> None:
    """Anything but the expected user and password is refused."""
    with pytest.raises(ClickHouseError) as refused:
        authenticate(headers, parameters, EXPECTED)
    assert refused.value.code == 516


@given(st.dictionaries(st.text(min_size=1, max_size=10), st.binary(max_size=40), max_size=5))
def test_url_parameters_keep_every_byte(pairs: dict[str, bytes]) -> None:
    """A parameter comes out as the bytes that went in, valid text or not."""
    text = "&".join(
        f"{quote_from_bytes(name.encode())}={quote_from_bytes(value)}"
        for name, value in pairs.items()
    )
    found = url_parameters(text.encode())
    encoded = {name: value.encode("utf-8", "surrogateescape") for name, value in found.items()}
    assert encoded == pairs


def test_settings_and_query_parameters_are_told_from_the_rest() -> None:
    """What is no parameter of the protocol is a setting for the engine."""
    request = ask(
        {"query": "SELECT 1", "database": "d", "param_a": "x", "max_threads": "1", "query_id": "q",
         "default_format": "JSON", "wait_end_of_query": "1", "role": "r"}
    )  # fmt: skip
    assert request.head == b"SELECT 1"
    assert (request.database, request.default_format, request.query_id) == ("d", "JSON", "q")
    assert dict(request.settings) == {
        "param_a": "x",
        "max_threads": "1",
        "max_execution_time": "60",
    }
    assert request.hold


def test_headers_name_format_and_database() -> None:
    """ClickHouse's own headers win over the URL."""
    request = ask(
        {"database": "d", "default_format": "JSON"},
        x_clickhouse_database="e",
        x_clickhouse_format="CSV",
        x_clickhouse_query_id="q",
    )
    assert (request.database, request.default_format, request.query_id) == ("e", "CSV", "q")


@pytest.mark.parametrize(
    ("asked", "given_s"),
    [(None, "60"), ("5", "5"), ("0", "60"), ("0.5", "0.5"), ("100000", "60"), ("x", "x")],
)
def test_no_statement_runs_longer_than_the_limit(asked: str | None, given_s: str) -> None:
    """A client may ask for less time than the limit, never for more; nonsense is the engine's."""
    settings = {} if asked is None else {"max_execution_time": asked}
    assert ask(settings).settings["max_execution_time"] == given_s


@pytest.mark.parametrize(
    ("method", "asked", "readonly"),
    [("GET", None, "2"), ("HEAD", None, "2"), ("GET", "1", "1"), ("POST", None, "0"),
     ("POST", "1", "1")],
)  # fmt: skip
def test_get_changes_nothing(method: str, asked: str | None, readonly: str) -> None:
    """GET implies readonly, and nobody can ask it away."""
    request = ask({} if asked is None else {"readonly": asked}, method=method)
    assert request.readonly == readonly
    assert "readonly" not in request.settings


def test_multipart_form() -> None:
    """Parameters too long for a URL come as fields of a form, bytes and line ends included."""
    value = "it's \r\n\t é \\ " + "x" * 5_000
    parts = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{content}\r\n'
        for name, content in (("query", "SELECT {s:String}"), ("param_s", value))
    )
    body = (parts + "--b--\r\n").encode()
    request = ask(body=body, content_type="multipart/form-data; boundary=b")
    assert request.head == b"SELECT {s:String}"
    assert request.settings["param_s"] == value
    assert request.body == b""


def test_external_data_are_refused() -> None:
    """A file in a form is not silently left out."""
    body = b'--b\r\nContent-Disposition: form-data; name="t"; filename="t"\r\n\r\n1\r\n--b--\r\n'
    with pytest.raises(ClickHouseError) as refused:
        ask(body=body, content_type="multipart/form-data; boundary=b")
    assert refused.value.name == "NOT_IMPLEMENTED"


@pytest.mark.parametrize("flag", ["compress", "decompress"])
def test_native_framing_is_refused(flag: str) -> None:
    """Compression that is not spoken is refused rather than left out."""
    with pytest.raises(ClickHouseError) as refused:
        ask({flag: "1"})
    assert refused.value.name == "NOT_IMPLEMENTED"


@pytest.mark.parametrize(
    ("settings", "accepted", "encoding"),
    [
        ({}, "lz4,zstd", "lz4"),
        ({"enable_http_compression": "1"}, "gzip", "gzip"),
        ({"enable_http_compression": "0"}, "gzip", None),
        ({"enable_http_compression": "1"}, "", None),
    ],
)
def test_response_compression(
    settings: dict[str, str], accepted: str, encoding: str | None
) -> None:
    """An answer is compressed when the client accepts it and does not forbid it."""
    assert ask(settings, accept_encoding=accepted).encoding == encoding


def test_sessions() -> None:
    """A session is named with its time-out; a wrong time-out is refused."""
    request = ask({"session_id": "s", "session_timeout": "30", "session_check": "1"})
    assert request.session is not None
    assert (request.session.name, request.session.timeout_s) == ("s", 30)
    assert request.session.must_exist
    assert ask({}).session is None
    with pytest.raises(ClickHouseError) as refused:
        ask({"session_id": "s", "session_timeout": "soon"})
    assert refused.value.name == "INVALID_SESSION_TIMEOUT"


def test_tags_are_ours_alone() -> None:
    """Two requests with one query id are told apart when one is cancelled."""
    first, second = ask({"query_id": "same"}), ask({"query_id": "same"})
    assert first.query_id == second.query_id
    assert first.tag != second.tag
