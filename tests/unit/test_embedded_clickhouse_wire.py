"""ClickHouse's HTTP dialect in bytes: errors, statuses, compression."""

from __future__ import annotations

import gzip
import zlib

import lz4.frame
import pytest
import zstandard
from clickhouse_connect.driver.transform import extract_exception_with_tag
from hypothesis import given
from hypothesis import strategies as st

from projections.embedded_clickhouse_wire import (
    ClickHouseError,
    chosen_encoding,
    compressor,
    decompress,
    error_from_text,
    error_in_stream,
    http_status,
)

ENCODINGS = ("lz4", "zstd", "gzip", "deflate")
BYTES_MAX = 1_000_000


@pytest.mark.parametrize(
    ("text", "code", "name", "detail"),
    [
        (
            "Code: 60. DB::Exception: Unknown table 't'. (UNKNOWN_TABLE)",
            60,
            "UNKNOWN_TABLE",
            "Unknown table 't'.",
        ),
        (
            "Code: 27. DB::Exception: Cannot parse (a): ok. (CANNOT_PARSE_TEXT) (version 26.9.2.1)",
            27,
            "CANNOT_PARSE_TEXT",
            "Cannot parse (a): ok.",
        ),
        (
            "Failed to create connection: Code: 81. DB::Exception: None such. (UNKNOWN_DATABASE) "
            "(version 26.9.2.1 (official build))",
            81,
            "UNKNOWN_DATABASE",
            "None such.",
        ),
        ("something else", 1002, "UNKNOWN_EXCEPTION", "something else"),
    ],
)
def test_error_from_text(text: str, code: int, name: str, detail: str) -> None:
    """Code, name and text are found in the engine's message."""
    error = error_from_text(text)
    assert (error.code, error.name, error.detail) == (code, name, detail)


def test_error_text_is_a_servers() -> None:
    """An error is written as a server of that version writes it."""
    error = ClickHouseError(60, "UNKNOWN_TABLE", "No t.")
    text = error.text("26.9.2.1")
    assert text == "Code: 60. DB::Exception: No t. (UNKNOWN_TABLE) (version 26.9.2.1)\n"
    again = error_from_text(text)
    assert (again.code, again.name, again.detail) == (60, "UNKNOWN_TABLE", "No t.")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("SYNTAX_ERROR", 400),
        ("UNKNOWN_TABLE", 404),
        ("ACCESS_DENIED", 403),
        ("TIMEOUT_EXCEEDED", 408),
        ("QUERY_IS_TOO_LARGE", 413),
        ("NOT_IMPLEMENTED", 501),
        ("TOO_MANY_SIMULTANEOUS_QUERIES", 503),
        ("READONLY", 500),
        ("MEMORY_LIMIT_EXCEEDED", 500),
    ],
)
def test_status(name: str, status: int) -> None:
    """Errors get the HTTP status that a server gives them."""
    assert http_status(ClickHouseError(1, name, "")) == status


def test_error_in_stream_is_found_by_the_official_client() -> None:
    """An error behind data is what clickhouse-connect looks for at the end of a body."""
    error = ClickHouseError(395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO", "é was not 0.")
    body = b"\x01\x02some data" + error_in_stream(error, "26.9.2.1", "abcdefghijklmnop")
    found = extract_exception_with_tag(body, "abcdefghijklmnop")
    assert found is not None
    assert found.strip().startswith("Code: 395. DB::Exception: é was not 0.")


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(pieces=st.lists(st.binary(max_size=2_000), max_size=8))
def test_compression_round_trip(encoding: str, pieces: list[bytes]) -> None:
    """Whatever is compressed piece by piece comes back whole, also as two bodies in a row."""
    machine = compressor(encoding)
    packed = b"".join(machine.compress(piece) for piece in pieces) + machine.flush()
    whole = b"".join(pieces)
    assert decompress(packed, encoding, BYTES_MAX) == whole
    if packed:
        assert decompress(packed + packed, encoding, BYTES_MAX) == whole + whole


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_other_implementations_compress_the_same(encoding: str) -> None:
    """Bodies that common libraries compress in one go are read."""
    data = b"0123456789" * 50_000
    packed = {
        "lz4": lz4.frame.compress(data),
        "zstd": zstandard.ZstdCompressor().compress(data),
        "gzip": gzip.compress(data),
        "deflate": zlib.compress(data),
    }[encoding]
    assert decompress(packed, encoding, BYTES_MAX) == data


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_cut_and_broken_bodies_are_refused(encoding: str) -> None:
    """A body that ends early, or is no such body, never passes for a shorter one."""
    machine = compressor(encoding)
    packed = machine.compress(bytes(range(256)) * 100) + machine.flush()
    for broken in (packed[:-3], packed[: len(packed) // 2], b"no such thing at all"):
        with pytest.raises(ClickHouseError) as refused:
            decompress(broken, encoding, BYTES_MAX)
        assert refused.value.name == "CANNOT_DECOMPRESS"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_small_body_cannot_fill_the_memory(encoding: str) -> None:
    """The limit counts bytes after decompression."""
    machine = compressor(encoding)
    packed = machine.compress(bytes(BYTES_MAX + 1)) + machine.flush()
    assert len(packed) < BYTES_MAX // 10
    with pytest.raises(ClickHouseError) as refused:
        decompress(packed, encoding, BYTES_MAX)
    assert refused.value.name == "QUERY_IS_TOO_LARGE"


def test_unknown_encoding_is_refused() -> None:
    """An encoding that is not spoken is an error, not garbage."""
    with pytest.raises(ClickHouseError, match="br"):
        decompress(b"x", "br", BYTES_MAX)


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip, deflate, br", "gzip"),
        ("gzip,zstd", "zstd"),
        ("lz4;q=0, gzip", "gzip"),
        ("LZ4", "lz4"),
    ],
)
def test_chosen_encoding(accepted: str, chosen: str | None) -> None:
    """The fastest of the accepted encodings is taken, and none that was not offered."""
    assert chosen_encoding(accepted) == chosen
