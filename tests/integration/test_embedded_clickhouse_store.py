"""The ledger's store client: tokens, settings, errors, and what it asks of a server."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pytest

from projections.clickhouse import Store, StoreParameters
from projections.clickhouse_async import AsyncStore
from projections.errors import StoreRejected, StoreUnavailable, StoreUnsafe
from tests.stores import RunningFront

NUMBER = "+14155550123"
SAFE = (
    "SETTINGS non_replicated_deduplication_window = 100, fsync_after_insert = 1, "
    "fsync_part_directory = 1"
)


def numbers(*values: int) -> pa.Table:
    """Rows of the table `t`."""
    return pa.table({"a": pa.array(values, pa.uint64())})


@pytest.fixture
def table(store: Store) -> Store:
    """A store with a safe table `t`."""
    store.command(f"CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a {SAFE}")
    return store


def test_one_token_is_one_block(table: Store) -> None:
    """The same rows under the same token are stored once, under another token again."""
    for token in ("one", "one", "two", "one"):
        table.insert_arrow("t", numbers(1, 2), token)
    assert table.query_rows("SELECT count(), sum(a) FROM t") == [(4, 6)]


def test_many_chunks_are_one_part(table: Store) -> None:
    """A table of many chunks is one block, so one token covers all of it, on any server."""
    small_blocks = {"min_insert_block_size_rows": 1, "min_insert_block_size_bytes": 1}
    rows = pa.concat_tables([numbers(n) for n in range(200)])
    assert rows.column("a").num_chunks == 200
    table.insert_arrow("t", rows, "chunks", small_blocks)
    table.insert_arrow("t", rows, "chunks")
    assert table.query_rows("SELECT count(), uniqExact(_part) FROM t") == [(200, 1)]


def test_deleted_rows_are_gone(table: Store) -> None:
    """A deletion that was waited for leaves nothing of the rows in any active part."""
    table.insert_arrow("t", numbers(*range(100)), "token")
    table.command("ALTER TABLE t DELETE WHERE a < 40", settings={"mutations_sync": 2})
    assert table.query_rows("SELECT count(), min(a) FROM t") == [(60, 40)]
    parts = table.query_rows(
        "SELECT sum(rows) FROM system.parts WHERE active AND table = 't' "
        "AND database = {database:String}",
        {"database": table.database},
    )
    assert parts == [(60,)]


def test_inserts_are_refused_that_could_not_be_repeated(table: Store) -> None:
    """No token, or more rows than one block holds, is the caller's mistake."""
    with pytest.raises(ValueError, match="token"):
        table.insert_arrow("t", numbers(1), "")
    parameters = StoreParameters(url="http://unused", rows_max=1)
    with pytest.raises(ValueError, match="2 rows, 1 allowed"):
        Store(None, parameters, None).insert_arrow("t", numbers(1, 2), "x")  # type: ignore[arg-type]
    table.insert_arrow("t", numbers(), "nothing")
    assert table.query_rows("SELECT count() FROM t") == [(0,)]


def test_what_travels(clickhouse_front: RunningFront, store: Store) -> None:
    """Inserts say how they are to be stored; parameters are never in a URL."""
    store.command(f"CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a {SAFE}")
    with recorded(clickhouse_front) as (url, targets):
        watched = Store.connect(StoreParameters(url=url, database=store.database))
        watched.insert_arrow("t", numbers(1), "token-1")
        inserted = parse_qs(urlsplit(targets[-1]).query)
        found = watched.query_rows("SELECT {number:String}", {"number": NUMBER})
        arrow = watched.query_arrow("SELECT {number:String} AS number", {"number": NUMBER})
        watched.close()
    assert found == [(NUMBER,)]
    assert arrow["number"].to_pylist() == [NUMBER]
    assert inserted["async_insert"] == ["0"]
    assert inserted["insert_deduplicate"] == ["1"]
    assert inserted["deduplicate_insert"] == ["enable"]
    assert inserted["insert_deduplication_token"] == ["token-1"]
    assert float(inserted["max_execution_time"][0]) == 30
    assert not [target for target in targets if "4155550123" in target]


@contextmanager
def recorded(front: RunningFront) -> Iterator[tuple[str, list[str]]]:
    """An address that leads to the front, and the target of every request that came by."""
    targets: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket, requests: bool) -> None:
        while data := source.recv(65_536):
            line = data.split(b"\r\n", 1)[0].split(b" ")
            if requests and len(line) == 3 and line[2].startswith(b"HTTP/"):
                targets.append(line[1].decode())
            sink.sendall(data)
        sink.close()

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", front.port))
            for source, sink, requests in ((client, server, True), (server, client, False)):
                threading.Thread(target=pump, args=(source, sink, requests), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", targets
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_types_of_results(store: Store) -> None:
    """Times have their zone, bytes stay bytes, parameters of many types arrive."""
    at = dt.datetime(2026, 3, 29, 1, 2, 3, 456_789, tzinfo=dt.UTC)
    rows = store.query_rows(
        "SELECT {at:DateTime64(6, 'UTC')}, {names:Array(String)}, {nothing:Nullable(String)}",
        {"at": at, "names": ["a'b", "é"], "nothing": None},
    )
    assert rows == [(at, ["a'b", "é"], None)]
    raw = store.query_rows("SELECT unhex('00ff27')", formats={"String": "bytes"})
    assert raw == [(b"\x00\xff'",)]
    arrow = store.query_arrow("SELECT unhex('00ff27') AS b", strings_as_bytes=True)
    assert arrow["b"].to_pylist() == [b"\x00\xff'"]
    assert store.command("SELECT 7") == 7


@pytest.mark.parametrize(
    ("query", "code", "name"),
    [
        ("SELECT * FROM nowhere WHERE number = {number:String}", 60, "UNKNOWN_TABLE"),
        ("SELECT throwIf({number:String} != '')", 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("SELECT toDate({number:String})", 38, "CANNOT_PARSE_DATE"),
    ],
)
def test_refusals_keep_code_and_name_and_hide_values(
    store: Store, query: str, code: int, name: str
) -> None:
    """What can't help to repeat is StoreRejected; printing it shows no value of the statement."""
    with pytest.raises(StoreRejected) as refused:
        store.query_rows(query, {"number": NUMBER})
    assert (refused.value.code, refused.value.name) == (code, name)
    assert name in str(refused.value)
    assert NUMBER not in f"{refused.value} {refused.value!r}"
    assert refused.value.__cause__ is None
    assert name in refused.value.detail


def test_passing_errors_are_told_apart(store: Store) -> None:
    """A time-out is worth another try."""
    with pytest.raises(StoreUnavailable) as unavailable:
        store.query_rows(
            "SELECT sum(number) FROM system.numbers", settings={"max_execution_time": 0.2}
        )
    assert unavailable.value.name == "TIMEOUT_EXCEEDED"


def test_nobody_answers() -> None:
    """A server that is not there is StoreUnavailable, at once, with no address in the text."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(StoreUnavailable) as unavailable:
        Store.connect(StoreParameters(url=f"http://127.0.0.1:{port}"))
    assert str(unavailable.value) == "store unavailable during connect: NewConnectionError"


def test_a_server_that_hangs(clickhouse_front: RunningFront) -> None:
    """A server that accepts and never answers is given up after the time-out."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        parameters = StoreParameters(
            url=f"http://127.0.0.1:{port}",
            connect_timeout_ms=200,
            query_timeout_ms=1,
            insert_timeout_ms=1,
            read_grace_ms=200,
        )
        with pytest.raises(StoreUnavailable):
            Store.connect(parameters)


def test_the_asynchronous_store(table: Store) -> None:
    """Calls run beside each other and leave the event loop free."""

    async def run() -> list[int]:
        asynchronous = AsyncStore(table, threads_max=4)
        await asyncio.gather(
            *(asynchronous.insert_arrow("t", numbers(n), f"token-{n}") for n in range(12))
        )
        rows = await asynchronous.query_rows("SELECT a FROM t ORDER BY a")
        arrow = await asynchronous.query_arrow("SELECT a FROM t ORDER BY a")
        assert arrow["a"].to_pylist() == [row[0] for row in rows]
        assert await asynchronous.ping()
        assert await asynchronous.command("SELECT count() FROM t") == 12
        return [row[0] for row in rows]

    assert asyncio.run(run()) == list(range(12))


def test_a_safe_server_passes(table: Store) -> None:
    """The embedded front, with tables as the ledger makes them, may hold the history."""
    table.check_server(["t"])


def test_unsafe_tables_are_all_named(store: Store) -> None:
    """Each table that would lose or double rows is a problem of its own."""
    store.command("CREATE TABLE doubles (a UInt64) ENGINE = MergeTree ORDER BY a")
    store.command(
        "CREATE TABLE loses (a UInt64) ENGINE = MergeTree ORDER BY a SETTINGS "
        "non_replicated_deduplication_window = 100, fsync_after_insert = 0"
    )
    store.command("CREATE TABLE forgets (a UInt64) ENGINE = Memory")
    with pytest.raises(StoreUnsafe) as unsafe:
        store.check_server(["doubles", "loses", "forgets", "nowhere"])
    assert set(unsafe.value.problems) == {
        "table doubles has non_replicated_deduplication_window = 0",
        "table loses has fsync_after_insert = 0",
        "table forgets has engine Memory, which does not keep what it acknowledges",
        "table nowhere does not exist",
    }
