"""What a statement is, where its data begin, and which doors stay shut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.embedded_clickhouse_sql import Kind, Statement, read_statement, seems_to_read
from projections.embedded_clickhouse_wire import ClickHouseError

QUERY_BYTES_MAX = 4_096


def read(head: str | bytes, body: bytes = b"") -> Statement:
    """The statement of a request with this query in its URL and this body."""
    text = head.encode() if isinstance(head, str) else head
    return read_statement(text, body, QUERY_BYTES_MAX)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("SELECT 1", Kind.SELECT),
        ("  -- why\n/* so */ # and\n select 1", Kind.SELECT),
        ("WITH 1 AS x SELECT x", Kind.SELECT),
        ("(SELECT 1)", Kind.SELECT),
        ("FROM t SELECT a", Kind.SELECT),
        ("SHOW TABLES", Kind.READ),
        ("EXPLAIN SELECT 1", Kind.READ),
        ("DESCRIBE TABLE t", Kind.READ),
        ("CREATE TABLE t (a Int8) ENGINE = Memory", Kind.CHANGE),
        ("INSERT INTO t SELECT 1", Kind.CHANGE),
        ("INSERT INTO t (a) (SELECT 1)", Kind.CHANGE),
        ("INSERT INTO t WITH 1 AS x SELECT x", Kind.CHANGE),
        ("WITH 1 AS x INSERT INTO t SELECT x", Kind.CHANGE),
        ("INSERT INTO t; DROP TABLE t", Kind.CHANGE),
        ("SET a = 1", Kind.CHANGE),
        ("INSERT INTO t VALUES (1)", Kind.INSERT_DATA),
    ],
)
def test_kind(text: str, kind: Kind) -> None:
    """The first words tell a statement's kind, whatever comes before them."""
    assert read(text).kind is kind


@pytest.mark.parametrize(
    ("head", "body", "sql", "format_name", "data"),
    [
        ("", b"INSERT INTO t (a, b) FORMAT Native\n\x00\xff'", b"INSERT INTO t (a, b) ", "Native",
         b"\x00\xff'"),
        ("INSERT INTO t FORMAT CSV", b"1\n2\n", b"INSERT INTO t ", "CSV", b"1\n2\n"),
        ("", b"INSERT INTO t FORMAT CSV\r\n\n1", b"INSERT INTO t ", "CSV", b"\n1"),
        ("", b"INSERT INTO t FORMAT CSV 1", b"INSERT INTO t ", "CSV", b"1"),
        ("INSERT INTO t FORMAT CSV\n1", b"2", b"INSERT INTO t ", "CSV", b"1\n2"),
        ("INSERT INTO t", b"(1)", b"INSERT INTO t", "Values", b"(1)"),
        ("insert into t values", b"(1)", b"insert into t ", "Values", b"(1)"),
        ("INSERT INTO format VALUES (1)", b"", b"INSERT INTO format ", "Values", b" (1)"),
        ("INSERT INTO values.format FORMAT TSV", b"1", b"INSERT INTO values.format ", "TSV", b"1"),
        ("INSERT INTO TABLE FUNCTION null('a Int8') VALUES (1)", b"",
         b"INSERT INTO TABLE FUNCTION null('a Int8') ", "Values", b" (1)"),
        ("INSERT INTO t (format, `values`) SETTINGS async_insert = 0 FORMAT JSONEachRow", b"{}",
         b"INSERT INTO t (format, `values`) SETTINGS async_insert = 0 ", "JSONEachRow", b"{}"),
    ],
)  # fmt: skip
def test_inserted_data(head: str, body: bytes, sql: bytes, format_name: str, data: bytes) -> None:
    """An INSERT is cut before FORMAT or VALUES, and its data are given on untouched."""
    statement = read(head, body)
    assert (statement.kind, statement.sql) == (Kind.INSERT_DATA, sql)
    assert (statement.format_name, statement.data) == (format_name, data)


@pytest.mark.parametrize(
    ("text", "format_name"),
    [
        ("SELECT 1 FORMAT JSON", "JSON"),
        ("SELECT 1 format Native;", "Native"),
        ("SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "CSV"),
        ("SELECT a AS format FROM t", None),
        ("SELECT 'x FORMAT JSON'", None),
        ("SELECT * FROM (SELECT 1 FORMAT JSON)", None),
    ],
)
def test_format_written(text: str, format_name: str | None) -> None:
    """Only the output clause names the format."""
    assert read(text).format_name == format_name


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM file('/etc/passwd')",
        "SELECT FILE ('/etc/passwd')",
        "SELECT file/* x */('/etc/passwd')",
        "SELECT `file`('/etc/passwd')",
        "SELECT \"file\"('/etc/passwd')",
        "SELECT * FROM Python(secret)",
        "SELECT * FROM executable('ls', 'TSV', 'a String')",
        "SELECT * FROM eval('SELECT 1')",
        "CREATE DICTIONARY d (a String) SOURCE(FILE(path '/etc/passwd'))",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV",
        "INSERT INTO t VALUES (file('/etc/passwd'))",
        "INSERT INTO t FORMAT Values (file('/etc/passwd'))",
        "INSERT INTO FUNCTION file('/tmp/x') VALUES (1)",
        "SELECT \u2018 ' \u2019, file('/etc/passwd') -- '",
    ],
)
def test_shut_doors(text: str) -> None:
    """Nothing in a statement reaches the process's files, commands or variables."""
    with pytest.raises(ClickHouseError) as refused:
        read(text)
    assert refused.value.name == "ACCESS_DENIED"


@pytest.mark.parametrize(
    "text",
    ["SELECT 'a\\', file('b')'", "SELECT 1 -- file('b')", "SELECT $$ file('b') $$", "SELECT file"],
)
def test_words_that_only_look_like_doors(text: str) -> None:
    """A name in a literal, in a comment or without arguments is harmless."""
    assert read(text).kind is Kind.SELECT


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_literals_open_no_door_and_are_none(value: str) -> None:
    """A quoted literal, whatever it holds, is neither a door nor a statement."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    statement = read(f"SELECT 'file({escaped}) FORMAT JSON', 1")
    assert statement.kind is Kind.SELECT
    assert statement.format_name is None
    with pytest.raises(ClickHouseError):
        read(f"SELECT '{escaped}', file('x')")


@given(st.binary(max_size=200))
def test_data_are_never_read(data: bytes) -> None:
    """Bytes behind an input format's name come out as they went in."""
    assert read("INSERT INTO t FORMAT RowBinary", data).data == data
    assert read(b"", b"INSERT INTO t FORMAT RowBinary\n" + data).data == data


def test_long_values_are_read_as_literals_only() -> None:
    """Values too long to look through must not hold expressions."""
    long = b"(1)," * QUERY_BYTES_MAX
    assert read("INSERT INTO t VALUES", long).plain_values
    assert not read("INSERT INTO t VALUES", b"(1)").plain_values
    assert not read("INSERT INTO t FORMAT CSV", long).plain_values


@pytest.mark.parametrize("text", ["", "  ", "-- nothing", "/* nothing */"])
def test_empty(text: str) -> None:
    """A request without a statement is refused as ClickHouse does."""
    with pytest.raises(ClickHouseError) as refused:
        read(text)
    assert refused.value.code == 62


def test_size_of_the_statement_is_bounded() -> None:
    """A statement over the limit is refused; inserted data do not count."""
    with pytest.raises(ClickHouseError, match="query size"):
        read("SELECT " + "1," * QUERY_BYTES_MAX + "1")
    assert read("INSERT INTO t FORMAT CSV", b"1\n" * QUERY_BYTES_MAX).kind is Kind.INSERT_DATA


@pytest.mark.parametrize(
    ("text", "changes", "moves"),
    [
        ("SET a = 1", True, False),
        ("USE d", True, True),
        ("CREATE TEMPORARY TABLE t (a Int8)", True, False),
        ("CREATE TABLE t (a Int8) ENGINE = Memory", False, False),
        ("SELECT 1", False, False),
    ],
)
def test_session_changes(text: str, changes: bool, moves: bool) -> None:
    """Statements that a session must remember are known as such."""
    statement = read(text)
    assert (statement.changes_session, statement.changes_database) == (changes, moves)


@pytest.mark.parametrize(
    ("head", "body", "reads"),
    [
        (b"", b"-- c\nSELECT 1", True),
        (b"", b"(select 1)", True),
        (b"SHOW TABLES", b"", True),
        (b"INSERT INTO t FORMAT CSV", b"SELECT", False),
        (b"", b"ALTER TABLE t DELETE WHERE 1", False),
        (b"", b"", False),
    ],
)
def test_queue_of_a_statement(head: bytes, body: bytes, reads: bool) -> None:
    """The first word sends reads and changes to queues of their own."""
    assert seems_to_read(head, body) is reads
