"""Clients that know only ClickHouse servers work with the embedded front: official ones, curl."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import clickhouse_connect
import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError

from projections.clickhouse import Store
from tests.stores import RunningFront

COLUMNS = (
    "id UInt64, text String, day Date, at DateTime64(6, 'UTC'), tags Array(String), "
    "maybe Nullable(Int32), token UUID, kind LowCardinality(String), counts Map(String, UInt8), "
    "digest FixedString(4), amount Decimal(18, 4), flag Bool"
)
AT = dt.datetime(2026, 3, 29, 1, 59, 59, 123_456, tzinfo=dt.UTC)
ROW = (
    2**64 - 1,
    'it\'s "quoted"\\\n\t\u2019 é',
    dt.date(2026, 2, 28),
    AT,
    ["a'b", "c\\d", ""],
    None,
    uuid.UUID(int=7),
    "kind",
    {"k": 1},
    b"\x00\xff'\\",
    Decimal("12.3400"),
    True,
)


def connect(front: RunningFront, store: Store, compress: bool | str) -> Any:
    """The official client as users make it, on the database of this test."""
    return clickhouse_connect.get_client(
        host="127.0.0.1",
        port=front.port,
        database=store.database,
        compress=compress,
        tz_mode="aware",
    )


@pytest.fixture
def client(clickhouse_front: RunningFront, store: Store) -> Iterator[Any]:
    """The official client with its defaults."""
    with contextlib.closing(connect(clickhouse_front, store, compress=True)) as connected:
        yield connected


@pytest.fixture(params=[False, "lz4", "zstd", "gzip"], ids=str)
def each_client(
    request: pytest.FixtureRequest, clickhouse_front: RunningFront, store: Store
) -> Iterator[Any]:
    """The official client without compression and with each kind of it."""
    with contextlib.closing(connect(clickhouse_front, store, request.param)) as connected:
        yield connected


def test_rows_of_many_types_come_back(each_client: Any) -> None:
    """Rows of every type that the ledger uses are read as they were inserted."""
    each_client.command(f"CREATE TABLE t ({COLUMNS}) ENGINE = MergeTree ORDER BY id")
    names = [column.split()[0] for column in COLUMNS.replace("18, 4", "18").split(", ")]
    names = [name for name in names if name.isalpha()]
    summary = each_client.insert("t", [ROW] * 3, column_names=names)
    assert summary.written_rows == 3
    found = each_client.query("SELECT * FROM t")
    assert [tuple(row) for row in found.result_rows] == [ROW] * 3
    assert tuple(found.column_names) == tuple(names)


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("String", "it's \\ \n\r\t \u2019 {x:String} é"),
        ("String", ""),
        ("String", "'); DROP TABLE t; --"),
        ("UInt64", 2**64 - 1),
        ("Int32", -5),
        ("Float64", 1.5),
        ("Bool", True),
        ("Date", dt.date(2026, 2, 28)),
        ("DateTime64(6, 'UTC')", AT),
        ("UUID", uuid.UUID(int=9)),
        ("Nullable(Int32)", None),
        ("Nullable(String)", "x"),
        ("Array(String)", ["a'b", "c\\d\n", "é"]),
        ("Array(UInt8)", []),
        ("String", "long " * 20_000),
    ],
)
def test_parameters_of_a_statement(client: Any, type_name: str, value: object) -> None:
    """A typed parameter arrives as the value that was bound, whatever is in it."""
    found = client.query(f"SELECT {{value:{type_name}}}", parameters={"value": value})
    assert found.result_rows[0][0] == value


def test_arrow_in_and_out(each_client: Any) -> None:
    """Arrow tables go in and come out whole, small, large and empty."""
    each_client.command("CREATE TABLE t (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
    rows = pa.table({"a": pa.array(range(200_000), pa.uint64()), "b": ["x'y"] * 200_000})
    each_client.insert_arrow("t", rows)
    table = each_client.query_arrow("SELECT * FROM t ORDER BY a", use_strings=True)
    assert table.equals(rows.cast(table.schema))
    with each_client.query_arrow_stream("SELECT a FROM t ORDER BY a") as batches:
        streamed = [row for batch in batches for row in batch["a"].to_pylist()]
    assert streamed == list(range(200_000))
    for statement in ("SELECT * FROM t WHERE a > 1000000", "SELECT a, b FROM t WHERE 0"):
        empty = each_client.query_arrow(statement)
        assert (empty.num_rows, empty.schema.names) == (0, ["a", "b"])


@pytest.mark.parametrize(
    ("format_name", "data"),
    [
        ("CSV", b'1,"x"\n2,"y"\n'),
        ("TabSeparated", b"1\tx\n2\ty\n"),
        ("JSONEachRow", b'{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n'),
        ("RowBinary", b"\x01" + bytes(7) + b"\x01x" + b"\x02" + bytes(7) + b"\x01y"),
        ("Values", b"(1, 'x'), (1 + 1, lower('Y'))"),
    ],
)
def test_formats_in_and_out(client: Any, format_name: str, data: bytes) -> None:
    """Data in ClickHouse's formats are inserted and given back in the same formats."""
    client.command("CREATE TABLE t (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
    client.raw_insert("t", ["a", "b"], data, fmt=format_name)
    assert client.query("SELECT * FROM t ORDER BY a").result_rows == [(1, "x"), (2, "y")]
    if format_name != "Values":
        assert client.raw_query("SELECT * FROM t ORDER BY a", fmt=format_name) == data


def test_parquet_round_trip(client: Any) -> None:
    """A format that can't be streamed is given whole, and can be inserted again."""
    client.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    parquet = client.raw_query("SELECT number AS a FROM numbers(1000)", fmt="Parquet")
    client.raw_insert("t", ["a"], parquet, fmt="Parquet")
    assert client.command("SELECT sum(a) FROM t") == 499_500


def test_errors_have_code_and_name(client: Any) -> None:
    """An error of the engine arrives with ClickHouse's number, name and text."""
    for statement, code, name in (
        ("SELECT * FROM nowhere", 60, "UNKNOWN_TABLE"),
        ("SELECT nothing", 47, "UNKNOWN_IDENTIFIER"),
        ("SELEC 1", 62, "SYNTAX_ERROR"),
        ("SELECT 1 SETTINGS no_such_setting = 1", 115, "UNKNOWN_SETTING"),
        ("SELECT throwIf(1)", 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("CREATE TABLE t (a Int8) ENGINE = None", 56, "UNKNOWN_STORAGE"),
        ("SELECT 1; SELECT 2", 62, "SYNTAX_ERROR"),
        ("DROP TABLE IF EXISTS a; DROP TABLE IF EXISTS b", 62, "SYNTAX_ERROR"),
    ):
        with pytest.raises(DatabaseError) as refused:
            client.raw_query(statement)
        assert (refused.value.code, refused.value.name) == (code, name), statement


def test_an_error_in_the_middle_of_a_stream_is_raised(each_client: Any) -> None:
    """Rows that were sent before an error never look like the whole result."""
    statement = "SELECT throwIf(number = 3000000), number FROM numbers(5000000)"
    with (
        pytest.raises(StreamFailureError) as failed,
        each_client.query_rows_stream(statement, settings={"max_threads": 1}) as rows,
    ):
        for _ in rows:
            pass
    assert failed.value.code == 395


def test_broken_inserts_write_nothing(client: Any) -> None:
    """A body that can't be read, in its middle too, leaves the table as it was."""
    client.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    good = b"1\n" * 100_000
    for broken in (good + b"not a number\n", b"x\n"):
        with pytest.raises(DatabaseError):
            client.raw_insert("t", ["a"], broken, fmt="CSV")
    assert client.command("SELECT count() FROM t") == 0


def test_settings_reach_the_engine(client: Any) -> None:
    """Settings of a request are in force for it, and for it alone."""
    for name, value in (("max_threads", 1), ("max_block_size", 777), ("async_insert", 0)):
        shown = client.command(f"SELECT toString(getSetting('{name}'))", settings={name: value})
        assert str(shown) in (str(value), "false")
    assert client.command("SELECT getSetting('max_block_size')") != 777
    zoned = "SELECT toString(toDateTime(1767225600))"
    assert client.command(zoned, settings={"session_timezone": "America/New_York"}) == (
        "2025-12-31 19:00:00"
    )


def test_sessions_keep_what_was_set(client: Any) -> None:
    """SET, USE and temporary tables last for the session; settings of one request do not."""
    client.command("SET max_block_size = 999")
    assert client.command("SELECT getSetting('max_block_size')") == 999
    other = client.command("SELECT getSetting('max_block_size')", settings={"max_block_size": 5})
    assert (other, client.command("SELECT getSetting('max_block_size')")) == (5, 999)
    client.command("CREATE TEMPORARY TABLE mine (a UInt8)")
    client.raw_insert("mine", ["a"], b"1\n2\n", fmt="CSV")
    assert client.command("SELECT sum(a) FROM mine") == 3
    database = client.database
    client.command("USE system", use_database=False)
    assert client.command("SELECT currentDatabase()", use_database=False) == "system"
    assert client.command("SELECT currentDatabase()") == database


def test_summary_counts_rows(client: Any) -> None:
    """The summary says what was read and what was written."""
    client.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    written = client.raw_insert("t", ["a"], b"1\n2\n3\n", fmt="CSV")
    assert written.written_rows == 3
    read = client.query("SELECT * FROM t")
    assert int(read.summary["read_rows"]) == 3
    assert read.query_id


def test_the_asynchronous_client(clickhouse_front: RunningFront, store: Store) -> None:
    """The official asynchronous client runs many statements at once and mixes nothing up."""

    async def run() -> list[int]:
        client = await clickhouse_connect.get_async_client(
            host="127.0.0.1",
            port=clickhouse_front.port,
            database=store.database,
            autogenerate_session_id=False,
        )
        await client.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        await asyncio.gather(*(client.insert("t", [[n]], ["a"]) for n in range(20)))
        found = await asyncio.gather(
            *(
                client.query("SELECT {n:UInt64}, count() FROM t", parameters={"n": n})
                for n in range(40)
            )
        )
        await client.close()
        assert all(result.result_rows[0][1] == 20 for result in found)
        return [result.result_rows[0][0] for result in found]

    assert asyncio.run(run()) == list(range(40))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(clickhouse_front: RunningFront, store: Store) -> None:
    """The examples of ClickHouse's manual work with curl."""
    url = f"{clickhouse_front.url}/?database={store.database}"

    def curl(*arguments: str, data: bytes = b"") -> bytes:
        command = ["curl", "-sS", "--compressed", *arguments]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    assert curl(f"{clickhouse_front.url}/ping") == b"Ok.\n"
    assert curl(clickhouse_front.url) == b"Ok.\n"
    create = "CREATE TABLE t (a UInt8, b String) ENGINE = MergeTree ORDER BY a"
    assert curl(url, "-d", create) == b""
    insert = f"{url}&query=INSERT%20INTO%20t%20FORMAT%20CSV"
    assert curl(insert, "--data-binary", "@-", data=b"1,x\n2,y\n") == b""
    assert curl(f"{url}&param_a=2", "-d", "SELECT b FROM t WHERE a = {a:UInt8}") == b"y\n"
    assert curl(f"{url}&query=SELECT%20count()%20FROM%20t%20FORMAT%20JSONEachRow") == (
        b'{"count()":2}\n'
    )
    assert curl(f"{url}&default_format=JSONEachRow", "-d", "SELECT 1 AS x") == b'{"x":1}\n'
    status = curl("-o", "/dev/null", "-w", "%{http_code}", url, "-d", "SELECT * FROM nowhere")
    assert status == b"404"
    assert b"READONLY" in curl(f"{url}&query=DROP%20TABLE%20t")
    assert (
        b"X-ClickHouse-Exception-Code: 60".lower()
        in curl("-i", url, "-d", "SELECT * FROM nowhere").lower()
    )
