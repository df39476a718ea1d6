"""Just enough SQL for an HTTP front: what a statement is, its format, where inserted data begins.

Owns the lexing of a request's text and the list of doors that stay shut. Parses nothing else and
never runs anything: the engine judges the syntax.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from projections.embedded_clickhouse_wire import ClickHouseError

# The engine quotes with Unicode quotation marks as well; text must not hide behind them.
_TOKEN = re.compile(
    rb"""
      (?P<blank>[\s\x00]+ | --[^\n]* | \#[\ !][^\n]* | /\*.*?(?:\*/|\Z))
    | (?P<string>'(?:[^'\\]|\\.)*(?:'|\Z) | \xe2\x80\x98.*?(?:\xe2\x80\x99|\Z))
    | (?P<heredoc>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    | (?P<quoted>"(?:[^"\\]|\\.)*(?:"|\Z) | `(?:[^`\\]|\\.)*(?:`|\Z)
        | \xe2\x80\x9c.*?(?:\xe2\x80\x9d|\Z))
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>[0-9][A-Za-z0-9_.]*)
    | (?P<symbol>.)
    """,
    re.DOTALL | re.VERBOSE,
)
_OPENING = frozenset((b"(", b"[", b"{"))
_CLOSING = frozenset((b")", b"]", b"}"))

# An engine inside a process can reach the process's own files, commands and Python variables. A
# server's clients can't, so neither can ours. The engine's grants close most other doors.
_DOORS_SHUT = frozenset((b"file", b"python", b"executable", b"executablepool", b"eval"))
_READING = frozenset(
    (
        b"SELECT",
        b"WITH",
        b"FROM",
        b"(",
        b"SHOW",
        b"DESCRIBE",
        b"DESC",
        b"EXISTS",
        b"EXPLAIN",
        b"CHECK",
    )
)
_SELECTING = frozenset((b"SELECT", b"WITH", b"FROM", b"("))

_SYNTAX_ERROR = (62, "SYNTAX_ERROR")
_ACCESS_DENIED = (497, "ACCESS_DENIED")


class Kind(Enum):
    """What the front must do with a statement."""

    SELECT = "select"
    READ = "read"
    INSERT_DATA = "insert_data"
    CHANGE = "change"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement as the engine is to see it.

    For INSERT_DATA `sql` ends before FORMAT or VALUES and `data` is what follows; otherwise
    `data` is empty. `format_name` is the one written in the text, None when there is none.
    `plain_values`: the values must be read as literals, expressions among them refused.
    """

    kind: Kind
    sql: bytes
    format_name: str | None = None
    data: bytes = b""
    changes_session: bool = False
    changes_database: bool = False
    has_totals: bool = False
    plain_values: bool = False


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: bytes
    start: int
    end: int
    depth: int

    def is_word(self, word: bytes) -> bool:
        return self.kind == "word" and self.text.upper() == word


_FIRST_WORD = re.compile(rb"(?:[\s(]|--[^\n]*\n|/\*.*?\*/)*([A-Za-z]*)", re.DOTALL)


def seems_to_read(head: bytes, body: bytes) -> bool:
    """A quick guess by the first word, for queueing only: whether the request only reads."""
    match = _FIRST_WORD.match(head or body)
    return match is not None and match.group(1).upper() in _READING


def read_statement(head: bytes, body: bytes, query_bytes_max: int) -> Statement:
    """The statement of a request: `head` from its URL, `body` behind it.

    Inserted data is neither read nor, when the statement is in the URL, copied. Raises
    ClickHouseError for an empty or oversized text and for a door that is shut.
    """
    if not head:
        head, body = body, b""
    tokens = _tokens(head)
    first = next(tokens, None)
    if first is None:
        raise ClickHouseError(*_SYNTAX_ERROR, "Empty query")
    if first.is_word(b"INSERT"):
        insert = _read_insert(head, body, first, tokens, query_bytes_max)
        if insert is not None:
            return insert
    text = head + b"\n" + body if body else head
    if len(text) > query_bytes_max:
        raise ClickHouseError(
            *_SYNTAX_ERROR,
            f"Max query size exceeded (can be increased with the `max_query_size` setting): "
            f"{len(text)} bytes, {query_bytes_max} allowed",
        )
    whole = list(_tokens(text))
    _refuse_shut_doors(whole)
    return _read_other(text, whole)


def _tokens(text: bytes) -> Iterator[_Token]:
    depth = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "symbol"
        if kind == "blank":
            continue
        token_text = match.group()
        if token_text in _CLOSING:
            depth = max(0, depth - 1)
        yield _Token(kind, token_text, match.start(), match.end(), depth)
        if token_text in _OPENING:
            depth += 1


def _read_insert(
    head: bytes, body: bytes, first: _Token, following: Iterator[_Token], query_bytes_max: int
) -> Statement | None:
    """An INSERT that brings its data, or None when it is of another kind."""
    seen = [first]
    format_at: int | None = None
    for token in following:
        if token.end > query_bytes_max or token.text == b";":
            break
        seen.append(token)
        if format_at is not None:
            return _insert_with_format(head, body, seen, format_at, query_bytes_max)
        if token.depth or token.kind != "word" or _names_table(seen):
            continue
        if token.is_word(b"SELECT") or token.is_word(b"WITH"):
            return None
        if token.is_word(b"VALUES"):
            data = _behind(head, body, token.end)
            return _insert_values(head[: token.start], data, seen, query_bytes_max)
        if token.is_word(b"FORMAT"):
            format_at = token.start
    if any(token.is_word(b"SELECT") for token in seen) or head[seen[-1].end :].strip(b"; \t\r\n"):
        return None
    return _insert_values(head[: seen[-1].end], body, seen, query_bytes_max)


def _names_table(seen: list[_Token]) -> bool:
    """Whether the last token is a name behind `INSERT INTO`, which may look like a keyword."""
    before = seen[-2]
    return before.text == b"." or (
        before.text.upper() in (b"INTO", b"TABLE", b"FUNCTION")
        and seen[-1].text.upper() not in (b"TABLE", b"FUNCTION")
    )


def _insert_with_format(
    head: bytes, body: bytes, seen: list[_Token], format_at: int, query_bytes_max: int
) -> Statement:
    name = seen[-1]
    data = _behind(head, body, _data_start(head, name.end))
    if name.text.lower() == b"values":
        return _insert_values(head[:format_at], data, seen, query_bytes_max)
    _refuse_shut_doors(seen)
    return Statement(Kind.INSERT_DATA, head[:format_at], name.text.decode(), data)


def _insert_values(sql: bytes, data: bytes, seen: list[_Token], query_bytes_max: int) -> Statement:
    """VALUES may hold expressions; those of longer data are switched off, for they go unread."""
    _refuse_shut_doors(seen)
    plain = len(data) > query_bytes_max
    if not plain:
        _refuse_shut_doors(list(_tokens(data)))
    return Statement(Kind.INSERT_DATA, sql, "Values", data, plain_values=plain)


def _data_start(text: bytes, position: int) -> int:
    """Where data begin behind a format name: blanks and at most one line end are skipped."""
    while position < len(text) and text[position : position + 1] in (b" ", b"\t", b"\f"):
        position += 1
    if text[position : position + 1] == b"\r":
        position += 1
    if text[position : position + 1] == b"\n":
        position += 1
    return position


def _behind(head: bytes, body: bytes, start: int) -> bytes:
    inline = head[start:]
    if not body:
        return inline
    return inline + b"\n" + body if inline.strip() else body


def _refuse_shut_doors(tokens: list[_Token]) -> None:
    for token, following in itertools.pairwise(tokens):
        name = token.text.strip(b'`"').lower()
        if following.text == b"(" and name in _DOORS_SHUT and token.kind in ("word", "quoted"):
            raise ClickHouseError(
                *_ACCESS_DENIED,
                f"`{name.decode()}` reaches into the embedding process and is not allowed",
            )
        if token.is_word(b"INTO") and following.is_word(b"OUTFILE"):
            raise ClickHouseError(*_ACCESS_DENIED, "INTO OUTFILE is not allowed over HTTP")
        if token.is_word(b"FROM") and following.is_word(b"INFILE"):
            raise ClickHouseError(*_ACCESS_DENIED, "FROM INFILE is not allowed over HTTP")


def _read_other(text: bytes, tokens: list[_Token]) -> Statement:
    first = tokens[0].text.upper()
    if first not in _READING:
        temporary = first == b"CREATE" and any(t.is_word(b"TEMPORARY") for t in tokens[1:4])
        uses = first == b"USE"
        sets = uses or temporary or first == b"SET"
        return Statement(Kind.CHANGE, text, changes_session=sets, changes_database=uses)
    inserts = any(t.is_word(b"INSERT") and t.depth == 0 for t in tokens)
    selects = first in _SELECTING and not inserts
    return Statement(
        kind=Kind.SELECT if selects else Kind.CHANGE if inserts else Kind.READ,
        sql=text,
        format_name=_format_written(tokens),
        has_totals=any(t.is_word(b"TOTALS") for t in tokens),
    )


def _format_written(tokens: list[_Token]) -> str | None:
    """Name behind the last `FORMAT` that can only be the output clause."""
    for position in range(len(tokens) - 2, -1, -1):
        token, name = tokens[position], tokens[position + 1]
        if not token.is_word(b"FORMAT") or token.depth or name.kind != "word":
            continue
        rest = tokens[position + 2 :]
        if not rest or rest[0].text == b";" or rest[0].is_word(b"SETTINGS"):
            return name.text.decode()
    return None
