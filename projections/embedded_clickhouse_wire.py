"""ClickHouse's HTTP dialect, as bytes: errors, statuses, content types and compression.

Pure functions and small objects without I/O; the front, its requests and its answers share them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import lz4.frame
import zstandard

from consent.errors import ConsentError

_CODE = re.compile(r"Code: (\d+)\. DB::Exception: ")
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]+)\)\s*$")
_VERSION = re.compile(r"\s*\(version [^()]*(?:\([^()]*\))?\)\.?\s*$")

# As the server maps them, but for the last: a full queue is no fault of the server's, and 503
# tells clients that the same read may be sent again.
_STATUS_OF_NAMES = (
    (401, "REQUIRED_PASSWORD"),
    (
        403,
        "UNKNOWN_USER WRONG_PASSWORD AUTHENTICATION_FAILED SET_NON_GRANTED_ROLE ACCESS_DENIED",
    ),
    (
        400,
        "BAD_ARGUMENTS CANNOT_COMPILE_REGEXP CANNOT_PARSE_TEXT CANNOT_PARSE_ESCAPE_SEQUENCE "
        "CANNOT_PARSE_QUOTED_STRING CANNOT_PARSE_DATE CANNOT_PARSE_DATETIME CANNOT_PARSE_NUMBER "
        "CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING CANNOT_PARSE_IPV4 CANNOT_PARSE_IPV6 "
        "CANNOT_PARSE_INPUT_ASSERTION_FAILED CANNOT_PARSE_UUID DUPLICATE_COLUMN ILLEGAL_COLUMN "
        "UNKNOWN_ELEMENT_IN_AST UNKNOWN_TYPE_OF_AST_NODE THERE_IS_NO_COLUMN TOO_DEEP_AST "
        "TOO_BIG_AST UNEXPECTED_AST_STRUCTURE SYNTAX_ERROR INCORRECT_DATA TYPE_MISMATCH "
        "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    ),
    (
        404,
        "UNKNOWN_TABLE UNKNOWN_FUNCTION UNKNOWN_IDENTIFIER UNKNOWN_TYPE UNKNOWN_STORAGE "
        "UNKNOWN_DATABASE UNKNOWN_SETTING UNKNOWN_DIRECTION_OF_SORTING "
        "UNKNOWN_AGGREGATE_FUNCTION UNKNOWN_FORMAT UNKNOWN_DATABASE_ENGINE "
        "UNKNOWN_TYPE_OF_QUERY UNKNOWN_ROLE",
    ),
    (408, "TIMEOUT_EXCEEDED"),
    (411, "HTTP_LENGTH_REQUIRED"),
    (413, "QUERY_IS_TOO_LARGE"),
    (415, "UNSUPPORTED_MEDIA_TYPE"),
    (501, "NOT_IMPLEMENTED"),
    (503, "SOCKET_TIMEOUT CANNOT_OPEN_FILE CANNOT_SCHEDULE_TASK TOO_MANY_SIMULTANEOUS_QUERIES"),
)
_STATUS = {name: status for status, names in _STATUS_OF_NAMES for name in names.split()}

_CONTENT_TYPES = {
    "tabseparated": "text/tab-separated-values; charset=UTF-8",
    "tsv": "text/tab-separated-values; charset=UTF-8",
    "csv": "text/csv; charset=UTF-8; header=absent",
    "csvwithnames": "text/csv; charset=UTF-8; header=present",
    "json": "application/json; charset=UTF-8",
    "jsoncompact": "application/json; charset=UTF-8",
    "jsoneachrow": "application/x-ndjson; charset=UTF-8",
    "native": "application/octet-stream",
    "rowbinary": "application/octet-stream",
    "arrow": "application/octet-stream",
    "arrowstream": "application/octet-stream",
    "parquet": "application/octet-stream",
}

_LZ4_LEVEL = 0
_ZSTD_LEVEL = 1
_ZLIB_LEVEL = 3
_CHUNK_BYTES = 1024 * 1024
_ZSTD_INPUT_BYTES = 4 * 1024


# Not frozen: contextlib assigns `__traceback__` to errors that pass through it.
@dataclass(eq=False)
class ClickHouseError(ConsentError):
    """An error as ClickHouse reports it: number, symbolic name and text."""

    code: int
    name: str
    detail: str

    def text(self, version: str) -> str:
        """The line that a server of this version sends."""
        return (
            f"Code: {self.code}. DB::Exception: {self.detail} ({self.name}) (version {version})\n"
        )

    def __str__(self) -> str:
        return f"{self.code} {self.name}: {self.detail}"


def error_from_text(text: str) -> ClickHouseError:
    """The error behind a message of the engine, which nests prefixes and versions at times."""
    matches = list(_CODE.finditer(text))
    if not matches:
        return ClickHouseError(1002, "UNKNOWN_EXCEPTION", text.strip())
    detail = _VERSION.sub("", text[matches[0].end() :].strip())
    name = _NAME.search(detail)
    if name is None:
        return ClickHouseError(int(matches[0].group(1)), "UNKNOWN_EXCEPTION", detail)
    return ClickHouseError(int(matches[0].group(1)), name.group(1), detail[: name.start()].rstrip())


def http_status(error: ClickHouseError) -> int:
    """HTTP status that ClickHouse answers an error with."""
    return _STATUS.get(error.name, 500)


def content_type(format_name: str) -> str:
    """Content type of an output format."""
    return _CONTENT_TYPES.get(format_name.lower(), "text/plain; charset=UTF-8")


def error_in_stream(error: ClickHouseError, version: str, tag: str) -> bytes:
    """What ends a body whose status was sent: the error between marks that clients look for."""
    message = error.text(version)
    size = len(message.encode())
    return f"\r\n__exception__\r\n{tag}\r\n{message}{size} {tag}\r\n__exception__\r\n".encode()


class Compressor(Protocol):
    """Incremental compression of one body."""

    def compress(self, data: bytes) -> bytes:
        """Bytes ready so far; may be empty."""

    def flush(self) -> bytes:
        """What ends the body."""


class _Lz4Compressor:
    """One LZ4 frame; flushed after every piece, so that a reader is never kept waiting."""

    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor(compression_level=_LZ4_LEVEL, auto_flush=True)
        self._begun = False

    def compress(self, data: bytes) -> bytes:
        begin = b"" if self._begun else self._frame.begin()
        self._begun = True
        return bytes(begin + self._frame.compress(data))

    def flush(self) -> bytes:
        begin = b"" if self._begun else self._frame.begin()
        return bytes(begin + self._frame.flush())


_COMPRESSORS: dict[str, Callable[[], Compressor]] = {
    "lz4": _Lz4Compressor,
    "zstd": lambda: zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj(),
    "gzip": lambda: zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS),
    "deflate": lambda: zlib.compressobj(_ZLIB_LEVEL),
}


def chosen_encoding(accept_encoding: str) -> str | None:
    """The encoding to answer with: the fastest of those accepted, None for none of them."""
    accepted = {
        name.strip().lower()
        for name, _, weight in (part.partition(";") for part in accept_encoding.split(","))
        if weight.replace(" ", "") not in ("q=0", "q=0.0")
    }
    return next((name for name in _COMPRESSORS if name in accepted), None)


def compressor(encoding: str) -> Compressor:
    """A compressor for one body; `encoding` is one that `chosen_encoding` returned."""
    return _COMPRESSORS[encoding]()


def decompress(data: bytes, encoding: str, bytes_max: int) -> bytes:
    """A request's body without its Content-Encoding; frames may follow each other.

    Raises ClickHouseError for an unknown encoding, for broken data and beyond `bytes_max`, which
    is checked while decompressing: a small body can't fill the memory.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return data
    readers = {
        "lz4": _lz4_pieces,
        "zstd": _zstd_pieces,
        "gzip": _zlib_pieces,
        "deflate": _zlib_pieces,
    }
    if encoding not in readers:
        raise ClickHouseError(
            89, "UNKNOWN_COMPRESSION_METHOD", f"Unknown compression method: {encoding}"
        )
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in readers[encoding](data):
            size += len(piece)
            if size > bytes_max:
                raise ClickHouseError(
                    229, "QUERY_IS_TOO_LARGE", f"Request body is over {bytes_max} bytes"
                )
            pieces.append(piece)
    except (RuntimeError, zstandard.ZstdError, zlib.error, EOFError) as broken:
        raise ClickHouseError(
            271, "CANNOT_DECOMPRESS", f"Request body is not valid {encoding}: {broken}"
        ) from None
    return b"".join(pieces)


def _lz4_pieces(data: bytes) -> Iterator[bytes]:
    rest = data
    while rest:
        frame = lz4.frame.LZ4FrameDecompressor()
        yield frame.decompress(rest, max_length=_CHUNK_BYTES)
        while not frame.eof:
            if frame.needs_input:
                raise EOFError("the last frame is cut")
            yield frame.decompress(b"", max_length=_CHUNK_BYTES)
        rest = frame.unused_data or b""


def _zstd_pieces(data: bytes) -> Iterator[bytes]:
    # Its decompressor has no bound on output; short pieces of input are the bound.
    start = 0
    while start < len(data):
        frame = zstandard.ZstdDecompressor().decompressobj()
        while not frame.eof:
            if start >= len(data):
                raise EOFError("the last frame is cut")
            piece = data[start : start + _ZSTD_INPUT_BYTES]
            yield frame.decompress(piece)
            start += len(piece)
        start -= len(frame.unused_data)


def _zlib_pieces(data: bytes) -> Iterator[bytes]:
    rest = data
    while rest:
        member = zlib.decompressobj(32 + zlib.MAX_WBITS)
        while not member.eof:
            if not rest:
                raise EOFError("the last member is cut")
            yield member.decompress(rest, _CHUNK_BYTES)
            rest = member.unconsumed_tail
        rest = member.unused_data
